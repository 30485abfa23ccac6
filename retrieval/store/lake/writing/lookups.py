"""What writers and commits look up: the newest generation, and within a commit also its changes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.domain.records import (
    ContainerStamp,
    DocumentRow,
    FileStamp,
    IndexInfo,
    RootInfo,
    Skipped,
)
from retrieval.store.disk.tables.rows import DOCUMENT_COLUMNS, read_document
from retrieval.store.disk.writing.lookups import after_prefix
from retrieval.store.filters.language import Filter
from retrieval.store.lake.filtering import VALUE_COLUMNS, Stored, passing
from retrieval.store.lake.tables.generation import Generation, key_number
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    CONTAINERS,
    DOCUMENTS,
    SCHEMAS,
    SKIPPED,
    VALUES,
    VECTORS,
)
from retrieval.store.records import KnownFile, SegmentInfo

_STAMP: Final = ("size", "mtime_ns", "sidecar_size", "sidecar_mtime_ns")
_KNOWN: Final = ("uri", "id", "sha256", *_STAMP)

Row = Mapping[str, Any]


@dataclass(slots=True)
class Put:
    """A document that a commit adds, replaces or touches."""

    id: int
    row: dict[str, Any]
    """Its row in the table of documents."""
    chunks: Sequence[tuple[Any, ...]] = ()
    """Rows of the table of chunks without the ids of chunks and texts, which come with the commit.
    """
    texts: Sequence[tuple[Any, ...]] = ()
    values: Sequence[tuple[Any, ...]] = ()
    is_touched: bool = False
    """Whether only its row changes; chunks, texts and values are then those of the generation."""


@dataclass(slots=True)
class Changes:
    """The changes of a commit so far."""

    removed: set[int] = field(default_factory=set)
    """Ids of documents of the generation that are replaced, touched or removed."""
    dropped: set[int] = field(default_factory=set)
    """Those of them whose passages go, too: all but the touched ones."""
    puts: dict[str, Put] = field(default_factory=dict)
    vectors: dict[bytes, int] = field(default_factory=dict)
    """New vectors by content key."""
    truncated: set[int] = field(default_factory=set)
    """Ids of new vectors of texts that were longer than the model takes."""
    roots: dict[str, RootInfo] | None = None
    skipped: dict[str, Skipped] | None = None
    containers: dict[str, tuple[str, ContainerStamp]] | None = None


class _Staged:
    """Documents of a commit, for filters."""

    def __init__(self, puts: Sequence[Put], generation: Generation | None) -> None:
        self._puts = puts
        self._generation = generation

    @property
    def ids(self) -> NDArray[np.int64]:
        return np.array([put.id for put in self._puts], np.int64)

    def column(self, name: str) -> Any:  # noqa: ANN401
        return pa.array([put.row[name] for put in self._puts], SCHEMAS[DOCUMENTS].field(name).type)

    def values(self, keys: Sequence[str]) -> Any:  # noqa: ANN401
        schema = SCHEMAS[VALUES]
        rows = [value for put in self._puts for value in put.values if value[1] in keys]
        columns = list(zip(*rows, strict=True)) or [()] * len(schema)
        table = pa.table(
            [pa.array(list(one), kind.type) for one, kind in zip(columns, schema, strict=True)],
            schema=schema,
        ).select(list(VALUE_COLUMNS))
        touched = [put.id for put in self._puts if put.is_touched]
        if not touched or self._generation is None:
            return table
        stored = Stored(self._generation).values(keys)
        kept = stored.filter(pc.is_in(stored["document_id"], pa.array(touched, pa.int64())))
        return pa.concat_tables([table, kept])


class LakeLookups:
    """Looks up documents, roots and vectors; see ``retrieval.store.api.Lookups``."""

    def __init__(self, changes: Changes) -> None:
        """Look up a generation (see ``_base``) with changes."""
        self._changes = changes

    def _base(self) -> Generation | None:
        """Return the generation to look up; None before the model is set."""
        raise NotImplementedError

    @property
    def info(self) -> IndexInfo | None:
        """See ``Lookups``."""
        base = self._base()
        return None if base is None else base.pointer.info

    def newest_generation(self) -> int:
        """See ``Lookups``."""
        base = self._base()
        return 0 if base is None else base.pointer.generation

    def segments(self) -> list[SegmentInfo]:
        """See ``Lookups``."""
        base = self._base()
        return [] if base is None else base.segments()

    # Roots, and files that are not documents.

    def roots(self) -> dict[str, RootInfo]:
        """See ``Lookups``."""
        base = self._base()
        found = self._changes.roots
        if found is None:
            found = dict(base.pointer.roots) if base else {}
        return dict(sorted(found.items()))

    def root(self, name: str) -> RootInfo | None:
        """See ``Lookups``."""
        return self.roots().get(name)

    def skipped(self, root: str) -> list[Skipped]:
        """See ``Lookups``."""
        return sorted(
            (one for one in self._skipped().values() if one.root == root), key=lambda one: one.uri
        )

    def skipped_in(self, uri: str) -> list[Skipped]:
        """See ``Lookups``."""
        below = f"{uri}/"
        found = [one for at, one in self._skipped().items() if at == uri or at.startswith(below)]
        return sorted(found, key=lambda one: one.uri)

    def containers(self, root: str) -> dict[str, ContainerStamp]:
        """See ``Lookups``."""
        return {uri: stamp for uri, (of, stamp) in self._containers().items() if of == root}

    def pushed_container(self, uri: str) -> tuple[str, ContainerStamp] | None:
        """See ``Lookups``."""
        ends = [at for at, character in enumerate(uri) if character == "/"]
        roots, containers = self.roots(), self._containers()
        for above in (*(uri[:end] for end in ends), uri):
            if found := containers.get(above):
                root = roots.get(found[0])
                if root and root.is_pushed:
                    return above, found[1]
        return None

    def _skipped(self) -> dict[str, Skipped]:
        if self._changes.skipped is not None:
            return self._changes.skipped
        base = self._base()
        return {} if base is None else stored_skipped(base)

    def _containers(self) -> dict[str, tuple[str, ContainerStamp]]:
        if self._changes.containers is not None:
            return self._changes.containers
        base = self._base()
        return {} if base is None else stored_containers(base)

    # Documents.

    def known_files(self, root: str) -> dict[str, KnownFile]:
        """See ``Lookups``."""
        found = {}
        base = self._base()
        if base is not None:
            table = base.read(DOCUMENTS, _KNOWN, pc.field("root") == root)
            for uri, document_id, sha256, *stamp in _tuples(table, _KNOWN):
                if document_id not in self._changes.removed:
                    found[uri] = KnownFile(document_id, sha256, FileStamp(*stamp))
        for uri, put in self._changes.puts.items():
            if put.row["root"] == root:
                found[uri] = _known(put.row)
        return found

    def known_file(self, uri: str) -> KnownFile | None:
        """See ``Lookups``."""
        row = self._row(uri, _KNOWN)
        return _known(row) if row else None

    def document_row(self, uri: str) -> DocumentRow | None:
        """See ``Lookups``."""
        columns = ("id", "mtime_ns", "digest", *DOCUMENT_COLUMNS)
        row = self._row(uri, columns)
        return read_document([row[name] for name in columns]) if row else None

    def _row(self, uri: str, columns: Sequence[str]) -> Row | None:
        """Return columns of a document; None if there is none of that URI."""
        if put := self._changes.puts.get(uri):
            return put.row
        base = self._base()
        at = base.find_uri(uri) if base else None
        if base is None or at is None:
            return None
        (row,) = base.take(
            DOCUMENTS, np.array([at]), ["id", *columns] if "id" not in columns else columns
        ).to_pylist()
        found: Row = row
        return None if found["id"] in self._changes.removed else found

    def count_built(self, prefix: str = "", filter: Filter | None = None) -> int:
        """See ``Lookups``."""
        pushed = self._pushed_roots()
        return sum(root not in pushed for _, root in self._chosen(prefix, filter))

    def pushed_documents(self, prefix: str = "", filter: Filter | None = None) -> list[str]:
        """See ``Lookups``."""
        pushed = self._pushed_roots()
        return sorted(uri for uri, root in self._chosen(prefix, filter) if root in pushed)

    def _pushed_roots(self) -> set[str]:
        return {name for name, root in self.roots().items() if root.is_pushed}

    def _chosen(self, prefix: str, filter: Filter | None) -> Iterator[tuple[str, str]]:
        """Yield URI and root of the documents with a prefix that pass a filter."""
        base = self._base()
        if base is not None:
            rows = base.rows_by_uri(prefix, after_prefix(prefix))
            ids = base.numbers(DOCUMENTS, "id")
            keep = ~np.isin(ids[rows], list(self._changes.removed))
            if filter is not None:
                keep &= passing(filter.tree, Stored(base))[rows]
            uris, roots = base.column(DOCUMENTS, "uri"), base.column(DOCUMENTS, "root")
            for row in rows[keep].tolist():
                yield uris[row].as_py(), roots[row].as_py()
        puts = [put for uri, put in self._changes.puts.items() if uri.startswith(prefix)]
        mask = np.ones(len(puts), bool)
        if filter is not None and puts:
            mask = passing(filter.tree, _Staged(puts, base))
        for put, passes in zip(puts, mask, strict=True):
            if passes:
                yield put.row["uri"], put.row["root"]

    # Vectors.

    def find_vectors(self, content_keys: Iterable[bytes]) -> dict[bytes, int]:
        """See ``Lookups``."""
        keys = list(dict.fromkeys(content_keys))
        found = {key: self._changes.vectors[key] for key in keys if key in self._changes.vectors}
        base = self._base()
        if base is None or not keys:
            return found
        numbers = np.unique(np.array([key_number(key) for key in keys], np.int64))
        rows = np.sort(base.content_keys.rows_of(numbers))
        wanted = set(keys)
        for key, vector_id in _tuples(
            base.take(VECTORS, rows, ["content_key", "id"]), ("content_key", "id")
        ):
            found |= {key: vector_id} if key in wanted else {}
        return found

    def truncated_chunks(self, document_id: int | None = None) -> int:
        """See ``Lookups``."""
        count = 0
        base = self._base()
        long: set[int] = set(self._changes.truncated)
        if base is not None:
            flags = base.column(VECTORS, "truncated").to_numpy(zero_copy_only=False)
            ids = base.numbers(VECTORS, "id")[flags.astype(bool)]
            long.update(ids.tolist())
            these = (
                np.empty(0, np.int64)
                if document_id in self._changes.dropped
                else base.passages_of(document_id)
                if document_id is not None
                else base.by_vector.rows_of(ids)
            )
            gone = base.rows_of(CHUNKS, self._changes.dropped)
            kept = np.setdiff1d(these, gone, assume_unique=True)
            count += int(np.isin(base.places.vectors[kept], ids).sum())
        vector = SCHEMAS[CHUNKS].get_field_index("vector_id") - 1
        for put in self._changes.puts.values():
            if document_id in (None, put.id):
                count += sum(chunk[vector] in long for chunk in put.chunks)
        return count


def _known(row: Row) -> KnownFile:
    return KnownFile(row["id"], row["sha256"], FileStamp(*(row[name] for name in _STAMP)))


def stored_skipped(base: Generation) -> dict[str, Skipped]:
    """Return the skipped files of a generation by URI; they must not be changed."""

    def read() -> dict[str, Skipped]:
        rows = _rows(base, SKIPPED, ("uri", "root", "reason", "detail"))
        return {row[0]: Skipped(*row) for row in rows}

    return base.derive(SKIPPED, read)


def stored_containers(base: Generation) -> dict[str, tuple[str, ContainerStamp]]:
    """Return the containers of a generation by URI; they must not be changed."""

    def read() -> dict[str, tuple[str, ContainerStamp]]:
        rows = _rows(base, CONTAINERS, ("uri", "root", "size", "mtime_ns", "rules"))
        return {uri: (root, ContainerStamp(*stamp)) for uri, root, *stamp in rows}

    return base.derive(CONTAINERS, read)


def _rows(base: Generation, name: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return _tuples(base.read(name, columns), columns)


def _tuples(table: Any, columns: Sequence[str]) -> list[tuple[Any, ...]]:  # noqa: ANN401
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))
