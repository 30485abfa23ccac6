"""Cursors: opaque texts that ask for what an answer had no room for, and for the next page."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Final

from retrieval.errors import InvalidArgument

_DIGEST_CHARS: Final = 12
"""Enough against mistakes; a cursor gives no access."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the results of a search."""

    page_token: str = ""
    """Asks the server for the page."""
    page_size: int = 0
    """Results on the page; 0 for as many as the search asks for."""
    shown: int = 0
    """Results of the page that earlier answers have shown."""


def to_cursor(position: Position, *request: object) -> str:
    """Return a cursor for the same request only.

    Args:
        position: where to go on.
        request: what was asked for, as values of JSON.
    """
    content = [
        *(position.page_token, position.page_size, position.shown),
        _digest(position, request),
    ]
    packed = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def from_cursor(cursor: str, *request: object) -> Position:
    """Return where a cursor goes on; an empty one stands for the beginning.

    Raises:
        InvalidArgument: it is no cursor, or of another request.
    """
    if not cursor:
        return Position()
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        token, size, shown, digest = json.loads(base64.urlsafe_b64decode(padded))
        position = Position(str(token), int(size), int(shown))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgument(
            "this cursor is none that was given out: leave it out for the first results",
            field="cursor",
        ) from error
    if digest != _digest(position, request):
        raise InvalidArgument(
            "this cursor is of another search: repeat the arguments of that search with it, or "
            "leave it out for the first results",
            field="cursor",
        )
    return position


def _digest(position: Position, request: tuple[object, ...]) -> str:
    about = json.dumps([position.page_token, position.page_size, position.shown, *request]).encode()
    return hashlib.sha256(about).hexdigest()[:_DIGEST_CHARS]
