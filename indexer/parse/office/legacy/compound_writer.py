"""Write a compound file ([MS-CFB]) that holds a single stream.

Calamine follows the chains of sectors of any file, also those that go in a circle, and reserves as
much memory as a damaged header says. A file written here has neither.
"""

import struct
from typing import Final

from indexer.parse.office.legacy.compound import MAGIC

_SECTOR: Final = 4096
"""Size of a sector in version 4. The header lists enough of them for a stream of 450 MB."""
_NUMBERS: Final = _SECTOR // 4
_LISTED: Final = 109
"""Number of sectors with the chains that the header has room for."""
_FREE, _END, _CHAINS = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_NO_SECTOR: Final = 0
"""Number of sectors of the kinds that are not needed."""


def compound_of(name: str, data: bytes) -> bytes:
    """Return a compound file of one stream, which gets zeros at its end.

    Args:
        name: the name of the stream, at most 31 characters.
        data: the stream, at most 450 MB.
    """
    # Shorter streams are kept elsewhere, so the stream fills its sectors. The root needs a sector
    # of its own, and the directory is in the last one.
    count = max(1, -(-len(data) // _SECTOR))
    root, directory = count, count + 1
    tables = -(-(count + 2) // (_NUMBERS - 1))
    chains = [*range(1, count), _END, _END, _END, *[_CHAINS] * tables]
    chains += [_FREE] * (tables * _NUMBERS - len(chains))
    listed = [*range(directory + 1, directory + 1 + tables)]
    header = struct.pack(
        "<8s16xHHHHH6x9I109I",
        *(MAGIC, 0x3E, 4, 0xFFFE, 12, 6),
        *(1, tables, directory, 0, _SECTOR, _END, _NO_SECTOR, _END, _NO_SECTOR),
        *(*listed, *[_FREE] * (_LISTED - tables)),
    )
    entries = _entry("Root Entry", 5, root, 0, child=1) + _entry(name, 2, 0, count * _SECTOR)
    parts = [header, data.ljust(count * _SECTOR, b"\0"), bytes(_SECTOR), entries]
    sectors = [part.ljust(-(-len(part) // _SECTOR) * _SECTOR, b"\0") for part in parts]
    return b"".join((*sectors, struct.pack(f"<{len(chains)}I", *chains)))


def _entry(name: str, kind: int, start: int, size: int, *, child: int = _FREE) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    return struct.pack("<64sHBB3I36xIQ", text, len(text), kind, 1, _FREE, _FREE, child, start, size)
