"""One open generation: its tables, and the columns of them that are kept in memory.

Ids are kept (12 to 40 bytes a row), because every search needs them. Other columns are read for the
rows that are asked for.
"""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.pointer import Pointer
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    DOCUMENTS,
    SCHEMAS,
    TEXTS,
    VECTORS,
    lance_errors,
    open_table,
    vector_schema,
)
from retrieval.store.records import SegmentInfo

Ids = NDArray[np.int64]

_BLOCK_ROWS: Final = 1 << 16
"""Number of vectors to score at a time: 100 MB at 384 dimensions."""


class Keyed:
    """Finds rows by a key, such as an id; several rows may have the same."""

    def __init__(self, keys: Ids) -> None:
        """Sort the keys, int64 [rows]."""
        self._keys = keys
        in_order = bool((keys[:-1] <= keys[1:]).all())
        self._order = None if in_order else np.argsort(keys, kind="stable")
        self._sorted = keys if self._order is None else keys[self._order]

    def rows(self, key: int) -> Ids:
        """Return the rows with a key, in order."""
        first, end = np.searchsorted(self._sorted, [key, key + 1])
        return np.arange(first, end) if self._order is None else self._order[first:end]

    def find(self, keys: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Return a row with each of n keys that there are, and whether each key is there."""
        if not len(self._sorted):
            return np.empty(0, np.int64), np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        inside = self._sorted[at] == keys
        found = at[inside]
        return found if self._order is None else self._order[found], inside


class Places(NamedTuple):
    """The ids of all passages in order of indexing, int64 [n] each."""

    rows: Ids
    """Their rows in the table."""
    documents: Ids
    ordinals: Ids
    vectors: Ids
    texts: Ids


class Generation:
    """One generation; safe to share between threads."""

    def __init__(self, place: Place, pointer: Pointer) -> None:
        """Open a generation; its tables are opened when they are needed."""
        self.place = place
        self.pointer = pointer
        self._tables: dict[str, Any] = {}
        self._columns: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()
        self.cache: dict[str, Keyed] = {}
        """What a writer derives from columns of the generation."""

    # Tables.

    def check(self) -> None:
        """Open every table.

        Raises:
            IndexDamaged: a table is missing.
        """
        for name in self.pointer.tables:
            self.table(name)

    def schema(self, name: str) -> Any:  # noqa: ANN401
        """Return the columns of a table."""
        return vector_schema(self.pointer.model.dim) if name == VECTORS else SCHEMAS[name]

    def table(self, name: str) -> Any:  # noqa: ANN401
        """Return a table at the version of this generation; None if it has no rows yet."""
        version = self.pointer.tables.get(name)
        if version is None:
            return None
        with self._lock:
            if name not in self._tables:
                self._tables[name] = open_table(self.place, name, version)
            return self._tables[name]

    def read(self, name: str, columns: Sequence[str], condition: Any = None) -> Any:  # noqa: ANN401
        """Read columns of all rows, or of those that pass a condition."""
        table = self.table(name)
        if table is None:
            return self._none(name, columns)
        with lance_errors(self.place):
            return table.to_table(columns=list(columns), filter=condition)

    def take(self, name: str, rows: Ids, columns: Sequence[str]) -> Any:  # noqa: ANN401
        """Read columns of some rows, in their order; each row at most once."""
        table = self.table(name)
        if table is None or not len(rows):
            return (
                self.read(name, columns, pc.scalar(False))
                if table is None
                else self._none(name, columns)
            )
        with lance_errors(self.place):
            return table.take(rows.tolist(), columns=list(columns))

    def _none(self, name: str, columns: Sequence[str]) -> Any:  # noqa: ANN401
        return pa.schema([self.schema(name).field(column) for column in columns]).empty_table()

    def column(self, name: str, column: str) -> Any:  # noqa: ANN401
        """Return a whole column as one Arrow array; it is kept in memory."""
        return self.columns(name, [column])[0]

    def columns(self, name: str, columns: Sequence[str]) -> list[Any]:
        """Return whole columns; see ``column``. Those that are missing are read at once."""
        with self._lock:
            missing = [column for column in columns if (name, column) not in self._columns]
            if missing:
                table = self.read(name, missing)
                for column in missing:
                    self._columns[name, column] = table.column(column).combine_chunks()
            return [self._columns[name, column] for column in columns]

    def numbers(self, name: str, column: str) -> Ids:
        """Return a whole column of numbers, int64 [rows]; it is kept in memory."""
        found: Ids = self.column(name, column).to_numpy(zero_copy_only=False)
        return found

    # Documents.

    @cached_property
    def document_rows(self) -> Keyed:
        """Rows of documents by their ids."""
        return Keyed(self.numbers(DOCUMENTS, "id"))

    @cached_property
    def _by_uri(self) -> tuple[Any, NDArray[np.uint64]]:
        uris = self.column(DOCUMENTS, "uri")
        return uris, pc.sort_indices(uris).to_numpy()

    def find_uri(self, uri: str) -> int | None:
        """Return the row of a document; None if there is none of that URI."""
        at = self._at(uri)
        uris, order = self._by_uri
        if at < len(order) and uris[order[at]].as_py() == uri:
            return int(order[at])
        return None

    def rows_by_uri(self, first: str = "", end: str | None = None) -> Ids:
        """Return the rows of documents from one URI up to before another, in order of URI."""
        _, order = self._by_uri
        found: Ids = order[self._at(first) : None if end is None else self._at(end)].astype(
            np.int64
        )
        return found

    def _at(self, uri: str) -> int:
        uris, order = self._by_uri
        return bisect_left(range(len(order)), uri, key=lambda at: uris[order[at]].as_py())

    # Passages.

    @cached_property
    def places(self) -> Places:
        """The ids of all passages."""
        columns = ("document_id", "ordinal", "vector_id", "text_id")
        self.columns(CHUNKS, ["id", *columns])  # with one read
        order = np.argsort(self.numbers(CHUNKS, "id"), kind="stable")
        return Places(order, *(self.numbers(CHUNKS, one)[order] for one in columns))

    @cached_property
    def _by_document(self) -> tuple[Ids, Ids]:
        """Passages in order of document and ordinal, and their documents in this order."""
        places = self.places
        order = np.lexsort((places.ordinals, places.documents))
        return order, places.documents[order]

    @cached_property
    def by_vector(self) -> Keyed:
        """Passages (see ``places``) by the ids of their vectors."""
        return Keyed(self.places.vectors)

    @cached_property
    def by_text(self) -> Keyed:
        """Passages (see ``places``) by the ids of their texts."""
        return Keyed(self.places.texts)

    def passages_of(self, document_id: int, first: int = 0, last: int | None = None) -> Ids:
        """Return a document's passages (see ``places``) from one ordinal to another, in order."""
        order, documents = self._by_document
        start, end = np.searchsorted(documents, [document_id, document_id + 1])
        found = order[start:end]
        return found[max(0, first) : None if last is None else max(0, last + 1)]

    @cached_property
    def shared_vectors(self) -> Ids:
        """Ids of the vectors that several texts share."""
        places = self.places
        pairs = np.unique(np.stack([places.vectors, places.texts], axis=1), axis=0)
        vectors, counts = np.unique(pairs[:, 0], return_counts=True)
        return vectors[counts > 1]

    @cached_property
    def text_rows(self) -> Keyed:
        """Rows of parts of texts by the ids of their documents."""
        return Keyed(self.numbers(TEXTS, "document_id"))

    # Vectors.

    @cached_property
    def vector_rows(self) -> Keyed:
        """Rows of vectors by their ids."""
        return Keyed(self.numbers(VECTORS, "id"))

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Whether a passage uses each vector, bool [rows]."""
        return np.isin(self.numbers(VECTORS, "id"), self.places.vectors)

    def matrix(self, table: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the column of vectors of an Arrow table, float32 [n, dim]."""
        column = table.column("vector").combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.chunks else column
        flat: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, self.pointer.model.dim)

    def vectors(self, vector_ids: Ids) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors that there are, float32 [m, dim], and which of n ids these are."""
        rows, inside = self.vector_rows.find(vector_ids)
        if not len(rows):
            return np.empty((0, self.pointer.model.dim), np.float32), inside
        distinct, at = np.unique(rows, return_inverse=True)
        return self.matrix(self.take(VECTORS, distinct, ["vector"]))[at], inside

    def blocks(self) -> Any:  # noqa: ANN401
        """Yield all vectors in order of their rows, float32 [n, dim] each."""
        table = self.table(VECTORS)
        if table is None:
            return
        with lance_errors(self.place):
            for batch in table.to_batches(columns=["vector"], batch_size=_BLOCK_ROWS):
                yield self.matrix(pa.Table.from_batches([batch]))

    def segments(self) -> list[SegmentInfo]:
        """Return the table of vectors as a segment; nothing if it is empty."""
        counts = self.pointer.counts
        if not counts.vectors:
            return []
        return [
            SegmentInfo(
                id=1,
                file=f"{TABLES}/{VECTORS}.lance",
                rows=counts.vectors,
                unused=counts.unused_vectors,
                size=4 * self.pointer.model.dim * counts.vectors,
                ann=None,
                missed=None,
                ann_file="",
                ann_size=0,
                ann_sha256="",
            )
        ]

    def damaged(self, what: str) -> IndexDamaged:
        """Return the error for rows that do not fit together."""
        return IndexDamaged(
            f"{self.place.address} is damaged: {what}; restore it from a backup, or build the "
            "index anew",
            file=TABLES,
        )
