"""One open generation: its tables, and the columns of them that are kept in memory.

Ids are kept (12 to 40 bytes a row), because every search needs them. Other columns are read for the
rows that are asked for.

A generation that follows another one in the same process carries on what that one keeps: it reads
the columns of new fragments only, and which rows were deleted.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.keyed import Ids, Keyed, KeyedTexts, Mask
from retrieval.store.lake.tables.layout import Carried, Layout
from retrieval.store.lake.tables.mapped import MappedVectors, Pages
from retrieval.store.lake.tables.pointer import Pointer
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    DOCUMENTS,
    SCHEMAS,
    TABLE_NAMES,
    TEXTS,
    VECTORS,
    lance_errors,
    new_session,
    open_table,
    see,
    vector_schema,
)
from retrieval.store.records import SegmentInfo

_BLOCK_ROWS: Final = 1 << 16
"""Number of vectors to score at a time: 100 MB at 384 dimensions."""
_KEY_BYTES: Final = 8
"""Number of bytes of content keys that are kept in memory; candidates are compared as a whole."""
MATRIX_BYTES: Final = 256 << 20
"""Maximum size of the matrix of all vectors that is kept in memory."""
_MATRIX: Final = "matrix"
"""Name of the matrix of all vectors among what is kept in memory."""
_MAPPED: Final = "mapped"
"""Name of the vectors in files that are mapped into memory among what is kept."""
_PASSAGE: Final = ("id", "document_id", "ordinal", "vector_id", "text_id")
"""Columns of ``Places``."""

Derived = TypeVar("Derived")
Read = TypeVar("Read")


class Places(NamedTuple):
    """The ids of all passages in order of their rows, int64 [n] each."""

    ids: Ids
    """Ascending in order of indexing."""
    documents: Ids
    ordinals: Ids
    vectors: Ids
    texts: Ids


class Kept(NamedTuple):
    """What a generation has in memory at one moment."""

    pointer: Pointer
    tables: Mapping[str, Any]
    """Open tables of the store."""
    layouts: Mapping[str, Layout]
    columns: Mapping[tuple[str, str], Any]
    keyed: Mapping[tuple[str, str], Keyed | KeyedTexts]
    derived: Mapping[str, Any]


class TableCopies(Protocol):
    """Copies of tables on this machine."""

    def open(self, name: str, session: Any) -> Any:  # noqa: ANN401
        """Open a table from its copy with Lance's cache; None if there is none."""
        ...

    def give_up(self, name: str, reason: str) -> None:
        """Delete the copy of a table because it is damaged."""
        ...


class Generation:
    """One generation; safe to share between threads."""

    def __init__(
        self,
        place: Place,
        pointer: Pointer,
        before: "Generation | None" = None,
        copies: TableCopies | None = None,
    ) -> None:
        """Open a generation; its tables are opened when they are needed.

        Args:
            place: the index.
            pointer: the generation.
            before: an older generation of the index, whose columns in memory are carried on. The
                object itself is not kept.
            copies: copies of its tables on this machine.

        Raises:
            IndexDamaged: a table can't be read.
        """
        self.place = place
        self.pointer = pointer
        self._copies = copies
        self._copied: set[str] = set()
        self.given_up = 0
        """Number of copies that turned out to be damaged."""
        self._tables: dict[str, Any] = {}
        self._layouts: dict[str, Layout] = {}
        self._columns: dict[tuple[str, str], Any] = {}
        self._keyed: dict[tuple[str, str], Keyed | KeyedTexts] = {}
        self._derived: dict[str, Any] = {}
        self._mapped_before: Mapping[str, Pages] = {}
        self._lock = threading.RLock()
        is_older = before is not None and _is_older(before, self)
        # Lance caches what it has read of indexes and files in a session.
        self._session: Any = before._session if before and is_older else new_session()
        if before is not None and is_older:
            self._carry(before._kept())

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
                self._tables[name] = self._opened(name, version)
            return self._tables[name]

    def _opened(self, name: str, version: int) -> Any:  # noqa: ANN401
        """Open a table from its copy if there is one."""
        table = self._copies.open(name, self._session) if self._copies else None
        if table is None:
            return open_table(self.place, name, version, self._session)
        self._copied.add(name)
        return table

    def reopen(self, name: str) -> None:
        """Open a table from its copy, which has been made."""
        with self._lock:
            if name not in self._copied:
                self._tables.pop(name, None)
                self._forget_mapped(name)

    def _forget_mapped(self, name: str) -> None:
        """Forget what was mapped from the files of a table that is read from others now."""
        if name == VECTORS:
            self._derived.pop(_MAPPED, None)
            self._mapped_before = {}

    def read_again(self, error: IndexDamaged, names: Sequence[str], seen: int) -> bool:
        """Delete the copies of some tables, because one is damaged, and read from the store.

        Args:
            error: how the damage was found.
            names: the tables that were read.
            seen: ``given_up`` before they were read.

        Returns:
            whether it makes sense to read again.
        """
        with self._lock:
            for name in names:
                self._give_up(name, error)
            return self.given_up != seen

    def _give_up(self, name: str, error: IndexDamaged) -> None:
        if self._copies is not None and name in self._copied:
            self._copies.give_up(name, error.message)
            self._copied.discard(name)
            del self._tables[name]
            self._forget_mapped(name)
            self.given_up += 1

    def read_from(self, name: str, read: Callable[[Any], Read]) -> Read:
        """Read from a table that has rows; read from the store if its copy turns out damaged.

        Args:
            name: the table.
            read: function that reads from it, and may raise what Lance raises.

        Raises:
            IndexDamaged, StorageError: the store can't be read either.
        """
        seen, table = self.given_up, self.table(name)
        try:
            with lance_errors(self.place):
                return read(table)
        except IndexDamaged as error:
            with self._lock:
                self._give_up(name, error)
            if self.given_up == seen:
                raise
        with lance_errors(self.place):
            return read(self.table(name))

    def read(self, name: str, columns: Sequence[str], condition: Any = None) -> Any:  # noqa: ANN401
        """Read columns of all rows, or of those that pass a condition."""
        if self.table(name) is None:
            return self._none(name, columns)
        return self.read_from(
            name, lambda table: table.to_table(columns=list(columns), filter=condition)
        )

    def take(self, name: str, rows: Ids, columns: Sequence[str]) -> Any:  # noqa: ANN401
        """Read columns of some rows, in their order; each row at most once."""
        if self.table(name) is None or not len(rows):
            return self._none(name, columns)
        return self.read_from(name, lambda table: table.take(rows.tolist(), columns=list(columns)))

    def _none(self, name: str, columns: Sequence[str]) -> Any:  # noqa: ANN401
        return pa.schema([self.schema(name).field(column) for column in columns]).empty_table()

    def column(self, name: str, column: str) -> Any:  # noqa: ANN401
        """Return a whole column as one Arrow array; it is kept in memory.

        Of content keys, only the first bytes are kept, as a number.
        """
        return self.columns(name, [column])[0]

    def columns(self, name: str, columns: Sequence[str]) -> list[Any]:
        """Return whole columns; see ``column``. Those that are missing are read at once."""
        with self._lock:
            missing = [column for column in columns if (name, column) not in self._columns]
            if missing:
                self.layout(name)  # a later generation needs it when files may be gone
                table = self.read(name, missing)
                for column in missing:
                    self._columns[name, column] = _in_memory(table, column)
            return [self._columns[name, column] for column in columns]

    def numbers(self, name: str, column: str) -> Ids:
        """Return a whole column of numbers, int64 [rows]; it is kept in memory."""
        numbers = self.column(name, column)
        if numbers.null_count:  # all are written; damage may make them look as if they were not
            raise IndexDamaged(
                f"column {column} of table {name} of {self.place.address} has gaps; "
                f"{see(self.place)}",
                file=f"{TABLES}/{name}.lance",
            )
        found: Ids = numbers.to_numpy(zero_copy_only=False)
        return found

    def keyed(self, name: str, column: str) -> Keyed:
        """Return the rows of a table by a column of numbers; they are kept in memory."""
        with self._lock:
            found = self._keyed.get((name, column))
            if not isinstance(found, Keyed):
                found = self._keyed[name, column] = Keyed(self.numbers(name, column))
            return found

    def layout(self, name: str) -> Layout:
        """Return the fragments of a table; none if it has no rows yet."""
        is_there = self.table(name) is not None
        with self._lock:
            if name not in self._layouts:
                self._layouts[name] = self.read_from(name, Layout.of) if is_there else Layout([])
            return self._layouts[name]

    @property
    def most_fragments(self) -> int:
        """Number of fragments of the table that has most, of the tables that were looked at."""
        with self._lock:
            return max((len(one.fragments) for one in self._layouts.values()), default=0)

    def derive(self, what: str, make: Callable[[], Derived]) -> Derived:
        """Make something of the rows once, and keep it in memory.

        If ``what`` is the name of a table, it is carried on until the table changes.
        """
        with self._lock:
            if what not in self._derived:
                self._derived[what] = make()
            found: Derived = self._derived[what]
            return found

    # What an older generation has in memory already.

    def _kept(self) -> Kept:
        """Return what a later generation can take over, while searches go on."""
        with self._lock:
            return Kept(
                self.pointer,
                # The files of a copy may be deleted when this generation is closed.
                {name: one for name, one in self._tables.items() if name not in self._copied},
                self._layouts.copy(),
                self._columns.copy(),
                self._keyed.copy(),
                self._derived.copy(),
            )

    def _carry(self, before: Kept) -> None:
        """Take over what an older generation has in memory."""
        carried = {}
        for name in sorted({name for name, _ in before.columns}):
            carried[name] = self._carry_table(before, name)
        for (name, column), keyed in before.keyed.items():
            kept = carried[name].kept
            if isinstance(keyed, KeyedTexts):
                self._keyed[name, column] = keyed.carried(kept, self.column(name, column))
            else:
                self._keyed[name, column] = keyed.carried(kept, self.numbers(name, column))
        for name, made in before.derived.items():
            if name in TABLE_NAMES and _is_same(before.pointer, self.pointer, name):
                self._derived[name] = made
        if "used" in before.derived or "shared" in before.derived:
            vectors = carried[VECTORS].kept if VECTORS in carried else None
            self._carry_uses(before, carried[CHUNKS].kept, vectors)
        if VECTORS in carried:
            self._carry_matrix(before, carried[VECTORS])
        if mapped := before.derived.get(_MAPPED):
            self._mapped_before = mapped.files

    def _carry_table(self, before: Kept, name: str) -> Carried:
        """Carry on the columns of a table; return which of its rows are left, and what is new."""
        columns = [column for table, column in before.columns if table == name]
        old_layout = before.layouts[name]
        if _is_same(before.pointer, self.pointer, name):
            if name in before.tables:
                self._tables[name] = before.tables[name]
            self._layouts[name] = old_layout
            self._columns |= {(name, column): before.columns[name, column] for column in columns}
            return Carried(None, ())

        def read(table: Any) -> tuple[Layout, Carried, Any]:  # noqa: ANN401
            layout = Layout.of(table, old_layout)
            carried = layout.since(old_layout)
            fragments = [table.get_fragment(number) for number in carried.new]
            if not fragments:
                return layout, carried, self._none(name, columns)
            return layout, carried, table.scanner(columns=columns, fragments=fragments).to_table()

        self._layouts[name], carried, new = self.read_from(name, read)
        for column in columns:
            old = before.columns[name, column]
            kept = old if carried.kept is None else old.filter(pa.array(carried.kept))
            added = _in_memory(new, column)
            self._columns[name, column] = pa.concat_arrays([kept, added]) if len(added) else kept
        return carried

    def _carry_uses(self, before: Kept, passages: Mask | None, vectors: Mask | None) -> None:
        """Carry on which vectors are used, and which are shared by several texts.

        Args:
            before: the older generation.
            passages: which of its passages are left; None for all.
            vectors: which of its vectors are left; None for all.
        """
        old: Ids = before.columns[CHUNKS, "vector_id"].to_numpy(zero_copy_only=False)
        gone = old[:0] if passages is None else old[~passages]
        new = self.places.vectors[len(old) - len(gone) :]
        touched = np.unique(np.concatenate([gone, new]))
        if "used" in before.derived:
            mask = before.derived["used"] if vectors is None else before.derived["used"][vectors]
            used = np.zeros(len(self.numbers(VECTORS, "id")), bool)
            used[: len(mask)] = mask
            rows, inside = self.vector_rows.find(touched)
            used[rows] = self.by_vector.counts(touched[inside]) > 0
            self._derived["used"] = used
        if "shared" in before.derived:
            untouched = np.setdiff1d(before.derived["shared"], touched, assume_unique=True)
            shared = self._shared(self.by_vector.rows_of(touched))
            self._derived["shared"] = np.sort(np.concatenate([untouched, shared]))

    def _carry_matrix(self, before: Kept, vectors: Carried) -> None:
        """Carry on the matrix of all vectors, if it is in memory and still searched."""
        size = 4 * self.pointer.model.dim * self.pointer.counts.vectors
        if self.pointer.ann is not None or size > MATRIX_BYTES:
            return
        matrix = before.derived.get(_MATRIX)
        if matrix is not None and (vectors.kept is not None or vectors.new):
            kept = matrix if vectors.kept is None else matrix[vectors.kept]
            matrix = np.concatenate([kept, *self.blocks(vectors.new)])
        if matrix is not None:
            self._derived[_MATRIX] = matrix

    # Documents.

    @property
    def document_rows(self) -> Keyed:
        """Rows of documents by their ids."""
        return self.keyed(DOCUMENTS, "id")

    @property
    def _by_uri(self) -> KeyedTexts:
        with self._lock:
            found = self._keyed.get((DOCUMENTS, "uri"))
            if not isinstance(found, KeyedTexts):
                found = self._keyed[DOCUMENTS, "uri"] = KeyedTexts(self.column(DOCUMENTS, "uri"))
            return found

    def find_uri(self, uri: str) -> int | None:
        """Return the row of a document; None if there is none of that URI."""
        return self._by_uri.find(uri)

    def rows_by_uri(self, first: str = "", end: str | None = None) -> Ids:
        """Return the rows of documents from one URI up to before another, in order of URI."""
        return self._by_uri.between(first, end)

    def rows_of(self, name: str, document_ids: Collection[int]) -> Ids:
        """Return the rows of some documents in a table, in order."""
        if not document_ids:
            return np.empty(0, np.int64)
        keyed = self.keyed(name, "id" if name == DOCUMENTS else "document_id")
        return np.sort(keyed.rows_of(np.array(sorted(document_ids), np.int64)))

    # Passages.

    @property
    def places(self) -> Places:
        """The ids of all passages."""
        self.columns(CHUNKS, _PASSAGE)  # with one read
        return Places(*(self.numbers(CHUNKS, one) for one in _PASSAGE))

    @property
    def by_vector(self) -> Keyed:
        """Passages, i.e. rows of chunks, by the ids of their vectors."""
        return self.keyed(CHUNKS, "vector_id")

    @property
    def by_text(self) -> Keyed:
        """Passages, i.e. rows of chunks, by the ids of their texts."""
        return self.keyed(CHUNKS, "text_id")

    @property
    def by_document(self) -> Keyed:
        """Passages, i.e. rows of chunks, by the ids of their documents."""
        return self.keyed(CHUNKS, "document_id")

    def passages_of(self, document_id: int, first: int = 0, last: int | None = None) -> Ids:
        """Return a document's passages from one ordinal to another, in order."""
        found = self.by_document.rows(document_id)
        found = found[np.argsort(self.places.ordinals[found], kind="stable")]
        return found[max(0, first) : None if last is None else max(0, last + 1)]

    def in_order(self, passages: Ids) -> Ids:
        """Return passages in order of indexing, which is not that of rows after some merges."""
        return passages[np.argsort(self.places.ids[passages], kind="stable")]

    @property
    def shared_vectors(self) -> Ids:
        """Ids of the vectors that several texts share, in order."""
        return self.derive("shared", lambda: self._shared(self.by_vector.every))

    def _shared(self, passages: Ids) -> Ids:
        """Return the vectors that several texts share, of passages in order of their vectors."""
        vectors, texts = self.places.vectors[passages], self.places.texts[passages]
        is_first = np.ones(len(vectors), bool)
        is_first[1:] = vectors[1:] != vectors[:-1]
        first = np.flatnonzero(is_first)
        others = texts != texts[first][np.cumsum(is_first) - 1]
        return np.unique(vectors[others])

    @property
    def text_rows(self) -> Keyed:
        """Rows of parts of texts by the ids of their documents."""
        return self.keyed(TEXTS, "document_id")

    # Vectors.

    @property
    def vector_rows(self) -> Keyed:
        """Rows of vectors by their ids."""
        return self.keyed(VECTORS, "id")

    @property
    def content_keys(self) -> Keyed:
        """Rows of vectors by the beginnings of their content keys; see ``key_number``."""
        return self.keyed(VECTORS, "content_key")

    @property
    def used(self) -> Mask:
        """Whether a passage uses each vector, bool [rows]."""
        return self.derive("used", lambda: self.by_vector.counts(self.numbers(VECTORS, "id")) > 0)

    def matrix(self, table: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the column of vectors of an Arrow table, float32 [n, dim]."""
        return as_matrix(table.column("vector"))

    def vectors(self, vector_ids: Ids) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors that there are, float32 [m, dim], and which of n ids these are."""
        rows, inside = self.vector_rows.find(vector_ids)
        if not len(rows):
            return np.empty((0, self.pointer.model.dim), np.float32), inside
        if self.mapped:
            return self.mapped.take(rows), inside
        distinct, at = np.unique(rows, return_inverse=True)
        return self.matrix(self.take(VECTORS, distinct, ["vector"]))[at], inside

    @property
    def mapped(self) -> MappedVectors | None:
        """All vectors, mapped into memory; None if that is not possible."""
        return self.derive(_MAPPED, self._map)

    def _map(self) -> MappedVectors | None:
        if self.table(VECTORS) is None:
            return None
        layout, dim = self.layout(VECTORS), self.pointer.model.dim
        return self.read_from(
            VECTORS, lambda table: MappedVectors.of(table, layout, dim, self._mapped_before)
        )

    @property
    def has_all_vectors(self) -> bool:
        """Whether the matrix of all vectors is in memory."""
        with self._lock:
            return _MATRIX in self._derived

    def all_vectors(self) -> NDArray[np.float32]:
        """Return all vectors in order of their rows, float32 [rows, dim]; they stay in memory."""
        none = np.empty((0, self.pointer.model.dim), np.float32)
        return self.derive(_MATRIX, lambda: np.concatenate([none, *self.blocks()]))

    def blocks(self, fragments: Collection[int] | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield vectors in order of their rows, float32 [n, dim] each.

        Args:
            fragments: numbers of the fragments to read, in order; None for all.
        """
        if self.table(VECTORS) is None:
            return
        read = 0
        while True:
            seen = self.given_up
            try:
                for block in self._blocks_after(read, fragments):
                    read += len(block)
                    yield block
            except IndexDamaged as error:
                if not self.read_again(error, [VECTORS], seen):
                    raise
            else:
                return

    def _blocks_after(
        self, rows: int, fragments: Collection[int] | None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what ``blocks`` yields after a number of rows."""
        table = self.table(VECTORS)
        with lance_errors(self.place):
            some = None if fragments is None else [table.get_fragment(one) for one in fragments]
            scan = table.scanner(columns=["vector"], batch_size=_BLOCK_ROWS, fragments=some)
            for batch in scan.to_batches():
                block = self.matrix(pa.Table.from_batches([batch]))
                if len(block) > rows:
                    yield block[rows:]
                rows = max(0, rows - len(block))

    def segments(self) -> list[SegmentInfo]:
        """Return the table of vectors as a segment; nothing if it is empty."""
        counts, ann, missed = self.pointer.counts, self.pointer.ann, self.pointer.missed
        if not counts.vectors:
            return []
        return [
            SegmentInfo(
                id=1,
                file=f"{TABLES}/{VECTORS}.lance",
                rows=counts.vectors,
                unused=counts.unused_vectors,
                size=4 * self.pointer.model.dim * counts.vectors,
                ann=ann.settings if ann else None,
                missed=missed.settings if missed else None,
                ann_file=f"{TABLES}/{VECTORS}.lance" if ann else "",
                ann_size=ann.size if ann else 0,
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


def key_number(content_key: bytes) -> int:
    """Return the number that stands for a content key in memory; others may have the same."""
    return int.from_bytes(content_key[:_KEY_BYTES].ljust(_KEY_BYTES, b"\0"), "little", signed=True)


def _in_memory(table: Any, column: str) -> Any:  # noqa: ANN401
    """Return a column as it is kept in memory, one Arrow array.

    Its texts may have more than 2 GiB together, which a usual array of texts can't.
    """
    if column != "content_key":
        found = table.column(column)
        is_text = pa.types.is_string(found.type)
        return _one(found.cast(pa.large_string()) if is_text else found)
    first = _one(pc.binary_slice(table.column(column), 0, _KEY_BYTES))
    if len(first) and pc.all(pc.equal(pc.binary_length(first), _KEY_BYTES)).as_py():
        _, offsets, data = first.buffers()
        start = int(np.frombuffer(offsets, "<i4")[first.offset])
        return pa.array(np.frombuffer(data, "<i8", len(first), start))
    return pa.array([key_number(key) for key in first.to_pylist()], pa.int64())


def as_matrix(column: Any) -> NDArray[np.float32]:  # noqa: ANN401
    """Return a column of vectors, a chunked array of Arrow, as float32 [n, dim]."""
    flat: NDArray[np.float32] = _one(column).flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, column.type.list_size)


def _one(column: Any) -> Any:  # noqa: ANN401
    """Return a column of an Arrow table as one array."""
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        return pa.concat_arrays(found.chunks) if found.chunks else pa.array([], found.type)
    return found


def _is_older(before: Generation, after: Generation) -> bool:
    """Whether a generation is an earlier one of the same index, or the same.

    If the index was restored from a backup meanwhile, numbers of versions may stand for others.
    Lance caches by these numbers, so nothing is shared then.
    """
    old, new = before.pointer, after.pointer
    return (
        (before.place, old.index_id) == (after.place, new.index_id)
        and old.generation <= new.generation
        and all(
            version < new.tables.get(name, 0) or _is_same(old, new, name)
            for name, version in old.tables.items()
        )
    )


def _is_same(before: Pointer, after: Pointer, name: str) -> bool:
    """Whether two generations have the same version of a table, or both have none."""
    there = name in before.tables
    return there == (name in after.tables) and (
        not there or before.table_id(name) == after.table_id(name)
    )
