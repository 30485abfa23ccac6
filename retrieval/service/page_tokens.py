"""Page tokens: opaque texts that ask for the next page; and page sizes.

A token holds a digest of the index that it was made from, what came on the pages before, and a
digest that binds all of it to the request. So the server notices a token that was altered, or used
with another request. It keeps nothing for a token, and every server of the index can read it. A
token is good for every generation: the next page leaves out what came before.
"""

import base64
import hashlib
import struct
import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.domain.search_options import MAX_OFFSET
from retrieval.errors import InvalidArgument, StaleGeneration

_DIGEST_BYTES = 16
"""Enough against careless reuse; a token gives no access, so nobody gains by forging one."""
_INDEX_BYTES = 8
"""Tells one index from another."""
_HEADER = struct.Struct(f">{_INDEX_BYTES}s{_DIGEST_BYTES}s")
"""Digest of the index's id, and digest of all; the rest of the token is the position."""

Entry = tuple[int, int]
"""An entry of a list of passages: the id of its document, and its ordinal."""

_ENTRY_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class PageScope:
    """What a page token is bound to."""

    request: bytes
    """The request without its page size and token, in the same bytes for equal requests."""
    index_id: str = ""
    """Id of the index that the answer comes from; empty if it comes from none."""

    def token_after(self, position: str | AbstractSet[Entry]) -> str:
        """Return the token of the page that starts after a position.

        Args:
            position: the key of the last item before the page, or all entries of the pages before.
        """
        raw = position.encode() if isinstance(position, str) else _packed(position)
        packed = _HEADER.pack(self._index, self._digest(self._index, raw)) + raw
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    @property
    def _index(self) -> bytes:
        return hashlib.blake2b(self.index_id.encode(), digest_size=_INDEX_BYTES).digest()

    def entries(self, token: str) -> frozenset[Entry]:
        """Return the entries of the pages before a token's page; none for the empty token.

        Raises:
            InvalidArgument: the token is malformed, or belongs to another request.
            StaleGeneration: the token belongs to this request, but to another index.
        """
        return _unpacked(self._position(token)) if token else frozenset()

    def key(self, token: str) -> str:
        """Return the key of the last item before a token's page; empty for the empty token.

        Raises:
            InvalidArgument: the token is malformed, or belongs to another request.
            StaleGeneration: the token belongs to this request, but to another index.
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
            index, digest = _HEADER.unpack_from(packed)
        except (ValueError, struct.error) as error:
            raise _not_a_token() from error
        position = packed[_HEADER.size :]
        if digest != self._digest(index, position):
            raise InvalidArgument(
                "page_token belongs to another request: only page_size may change between pages",
                field="page_token",
            )
        if index != self._index:
            raise StaleGeneration(
                "page_token is of an index that another one has replaced: start again from the "
                "first page"
            )
        return position

    def _digest(self, index: bytes, position: bytes) -> bytes:
        state = hashlib.blake2b(self.request, digest_size=_DIGEST_BYTES)
        state.update(index + position)
        return state.digest()


def _packed(entries: AbstractSet[Entry]) -> bytes:
    """Return entries as bytes: about 3 for each of a thousand, and 2 for each of ten thousand."""
    rows = np.array(sorted(entries), dtype=np.int64).reshape(-1, 2)
    gaps = np.diff(rows[:, 0], prepend=0).astype(">i8").tobytes()
    ordinals = rows[:, 1].astype(">i4").tobytes()
    # First the highest byte of each number, and so on: most of these are zero.
    return zlib.compress(_transposed(gaps, 8) + _transposed(ordinals, 4))


def _unpacked(packed: bytes) -> frozenset[Entry]:
    """Return the entries in the result of ``_packed``.

    Raises:
        InvalidArgument: the bytes are something else.
    """
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(packed, (MAX_OFFSET + 1_000) * _ENTRY_BYTES)
    except zlib.error as error:
        raise _not_a_token() from error
    count, rest = divmod(len(raw), _ENTRY_BYTES)
    if rest or not reader.eof:
        raise _not_a_token()
    gaps = np.frombuffer(_transposed(raw[: 8 * count], count), dtype=">i8")
    ordinals = np.frombuffer(_transposed(raw[8 * count :], count), dtype=">i4")
    return frozenset(zip(np.cumsum(gaps).tolist(), ordinals.tolist(), strict=True))


def _transposed(raw: bytes, columns: int) -> bytes:
    """Return a matrix of bytes with this number of columns, read column by column."""
    return np.frombuffer(raw, np.uint8).reshape(-1, max(1, columns)).T.tobytes()


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
