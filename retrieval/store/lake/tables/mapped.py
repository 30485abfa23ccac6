"""Vectors in Lance's files on this machine, mapped into memory.

Lance reads rows one by one, at about 15 µs a row, and hybrid search scores hundreds of rows for a
query. It writes vectors without compression, one after another, and tells in a file's metadata
where they begin. So they can be read from there without a copy, as from the files of the store on
disk. Whether that holds is checked for each file; for all others, rows are read by Lance.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from lance.file import LanceFileReader
from numpy.typing import NDArray

from retrieval.store.lake.tables.keyed import Ids
from retrieval.store.lake.tables.layout import Fragment, Layout

_COLUMN: Final = "vector"
_NUMBER_BYTES: Final = 4

Vectors = NDArray[np.float32]
Pages = Sequence[Vectors]
"""The vectors of one file, in order, in one or more parts."""


class MappedVectors:
    """The vectors of one version of a table; safe to share between threads."""

    def __init__(self, layout: Layout, dim: int, files: Mapping[str, Pages]) -> None:
        """Use ``of``."""
        self._layout = layout
        self._dim = dim
        self.files = files
        """The vectors of each data file, by its name. Files never change."""

    @classmethod
    def of(
        cls,
        table: Any,  # noqa: ANN401
        layout: Layout,
        dim: int,
        known: Mapping[str, Pages],
    ) -> Self | None:
        """Map the vectors of a table; raise what Lance raises.

        Args:
            table: the table.
            layout: its layout.
            dim: length of a vector.
            known: files that were mapped before.

        Returns:
            the vectors; None if the table is not on this machine, or a file holds them in another
            form than one after another.
        """
        folder = Path(table.uri) / "data"
        if not folder.is_dir():
            return None
        files = {}
        for one in layout.fragments:
            if len(one.files) != 1:
                return None
            (name,) = one.files
            pages = known.get(name)
            if pages is None:
                pages = _pages(folder / name, one, dim)
            if pages is None:
                return None
            files[name] = pages
        mapped = cls(layout, dim, files)
        return mapped if mapped._is_as_read_by(table) else None

    def take(self, rows: Ids) -> Vectors:
        """Return the vectors of n rows, float32 [n, dim], in their order."""
        found = np.empty((len(rows), self._dim), np.float32)
        for fragment, chosen, places in self._layout.places_of(rows):
            start = 0
            for page in self.files[fragment.files[0]]:
                here = (places >= start) & (places < start + len(page))
                if here.any():
                    found[chosen[here]] = page[places[here] - start]
                start += len(page)
        return found

    def _is_as_read_by(self, table: Any) -> bool:  # noqa: ANN401
        """Whether Lance reads the same from the ends of each fragment."""
        ends = np.cumsum([0, *(one.rows for one in self._layout.fragments)])
        rows = np.unique(np.concatenate([ends[:-1], ends[1:] - 1]))
        rows = rows[(rows >= 0) & (rows < self._layout.rows)]
        if not len(rows):
            return True
        column = table.take(rows.tolist(), columns=[_COLUMN]).column(_COLUMN)
        read = np.array(column.to_pylist(), np.float32)
        return bool(self.take(rows).tobytes() == read.tobytes())


def _pages(path: Path, fragment: Fragment, dim: int) -> Pages | None:
    """Map the vectors of a file; return None if they are not one after another."""
    meta = LanceFileReader(str(path)).metadata()
    if _COLUMN not in meta.schema.names or len(meta.columns) != len(meta.schema.names):
        return None
    pages = []
    for page in meta.columns[meta.schema.names.index(_COLUMN)].pages:
        # A page of compressed vectors, or of some that are missing, has several buffers.
        if len(page.buffers) != 1 or page.buffers[0].size % (_NUMBER_BYTES * dim):
            return None
        (place,) = page.buffers
        shape = (place.size // (_NUMBER_BYTES * dim), dim)
        pages.append(np.memmap(path, "<f4", "r", place.position, shape))
    return pages if sum(map(len, pages)) == fragment.written else None
