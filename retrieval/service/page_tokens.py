"""Page tokens: opaque texts that ask for the next page; and page sizes.

A token holds the generation that it was made from, a digest of that index, where the next page
starts, and a digest that binds all of it to the request. So the server notices a token that was
altered, or used with another request.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass

from retrieval.domain.records import GenerationId
from retrieval.errors import InvalidArgument, StaleGeneration

_DIGEST_BYTES = 16
"""Enough against careless reuse; a token gives no access, so nobody gains by forging one."""
_INDEX_BYTES = 8
"""Tells one index from another that happens to have the same generation."""
_HEADER = struct.Struct(f">Q{_INDEX_BYTES}s{_DIGEST_BYTES}s")
"""Generation, digest of its ids, and digest of all; the rest of the token is the position."""
_OFFSET = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class PageScope:
    """What a page token is bound to."""

    request: bytes
    """The request without its page size and token, in the same bytes for equal requests."""
    identity: GenerationId | None
    """Generation that the answer comes from; None if it comes from none."""

    def token_after(self, position: int | str) -> str:
        """Return the token of the page that starts after a position.

        Args:
            position: how many items come before the page, or the key of the last one.
        """
        raw = _OFFSET.pack(position) if isinstance(position, int) else position.encode()
        number, index = self._generation
        packed = _HEADER.pack(number, index, self._digest(number, index, raw)) + raw
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    @property
    def _generation(self) -> tuple[int, bytes]:
        """Number of the generation, and a digest of the ids of its index and commit."""
        identity = self.identity or GenerationId("", 0, "")
        ids = f"{identity.index_id} {identity.commit_id}".encode()
        return identity.generation, hashlib.blake2b(ids, digest_size=_INDEX_BYTES).digest()

    def offset(self, token: str) -> int:
        """Return how many items come before a token's page; 0 for the empty token.

        Raises:
            InvalidArgument: the token is malformed, or belongs to another request.
            StaleGeneration: the token belongs to this request, but to another generation.
        """
        if not token:
            return 0
        raw = self._position(token)
        if len(raw) != _OFFSET.size:
            raise _not_a_token()
        offset: int = _OFFSET.unpack(raw)[0]
        return offset

    def key(self, token: str) -> str:
        """Return the key of the last item before a token's page; empty for the empty token.

        Raises:
            InvalidArgument: the token is malformed, or belongs to another request.
            StaleGeneration: the token belongs to this request, but to another generation.
        """
        if not token:
            return ""
        try:
            return self._position(token).decode()
        except UnicodeDecodeError as error:
            raise _not_a_token() from error

    def _position(self, token: str) -> bytes:
        try:
            packed = base64.b64decode(
                token + "=" * (-len(token) % 4), altchars=b"-_", validate=True
            )
            generation, index, digest = _HEADER.unpack_from(packed)
        except (ValueError, struct.error) as error:
            raise _not_a_token() from error
        position = packed[_HEADER.size :]
        if digest != self._digest(generation, index, position):
            raise InvalidArgument(
                "page_token belongs to another request: only page_size may change between pages",
                field="page_token",
            )
        now, index_now = self._generation
        if (generation, index) != (now, index_now):
            other = " of another index" if generation == now else ""
            raise StaleGeneration(
                f"page_token is of generation {generation} of the collection, which is now at "
                f"{now}{other}: start again from the first page",
                token_generation=str(generation),
                generation=str(now),
            )
        return position

    def _digest(self, generation: int, index: bytes, position: bytes) -> bytes:
        state = hashlib.blake2b(self.request, digest_size=_DIGEST_BYTES)
        state.update(_HEADER.pack(generation, index, b"") + position)
        return state.digest()


def _not_a_token() -> InvalidArgument:
    return InvalidArgument(
        "page_token is malformed: give a next_page_token unchanged",
        field="page_token",
    )


def page_size(requested: int, *, default: int, maximum: int, field: str = "page_size") -> int:
    """Return how many items to answer.

    Args:
        requested: the request's value; 0 means ``default``.
        default: used if the request names no size.
        maximum: largest size.
        field: of the request, for the error.

    Raises:
        InvalidArgument: the size is negative or above ``maximum``.
    """
    if not 0 <= requested <= maximum:
        raise InvalidArgument(
            f"{field} is {requested}; it must be from 1 to {maximum}, or 0 for {default}",
            field=field,
        )
    return requested or default
