"""Tables of a lake, and how they are changed.

Every change of a table makes a version of it. A pointer names the version that a generation reads;
versions after that one, which an interrupted writer has left, are undone by the next writer before
it changes the table.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.optimize import Compaction
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, RetrievalError, StorageError
from retrieval.store.disk.tables.rows import CHUNK_COLUMNS
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.pointer import overtaken
from retrieval.store.lake.tables.records import RECORD
from retrieval.store.objects import failed, refused

DOCUMENTS: Final = "documents"
TEXTS: Final = "texts"
CHUNKS: Final = "chunks"
VALUES: Final = "values"
VECTORS: Final = "vectors"
SKIPPED: Final = "skipped"
CONTAINERS: Final = "containers"

_WORDS = pa.string()
_WHOLE = pa.int64()

_NUMBERS: Final = frozenset(
    {
        *("ordinal", "vector_id", "char_start", "char_end", "line_start", "line_end"),
        *("token_count", "page_start", "page_end"),
    }
)
"""Columns of a chunk that are numbers."""

_DOCUMENT: Final = {
    "id": _WHOLE,
    **dict.fromkeys(("uri", "root", "title", "format", "encoding", "metadata"), _WORDS),
    **dict.fromkeys(("size", "mtime_ns", "sidecar_size", "sidecar_mtime_ns"), _WHOLE),
    "sha256": _WORDS,
    **dict.fromkeys(("char_count", "chunk_count"), _WHOLE),
    **dict.fromkeys(("path", "extension"), _WORDS),
    "digest": pa.binary(),
    RECORD: pa.binary(),
}

SCHEMAS: Final[Mapping[str, Any]] = {
    DOCUMENTS: pa.schema(_DOCUMENT),
    TEXTS: pa.schema({"document_id": _WHOLE, "part": _WHOLE, "text": pa.large_string()}),
    CHUNKS: pa.schema(
        {
            "id": _WHOLE,
            "document_id": _WHOLE,
            **{name: _WHOLE if name in _NUMBERS else _WORDS for name in CHUNK_COLUMNS},
            "text_id": _WHOLE,
            # Hash of the title and headings; with the vector, it identifies the text.
            "header": pa.binary(),
            "digest": pa.binary(),
            RECORD: pa.binary(),
        }
    ),
    # A row for each value of metadata. A number is in one of the last two columns: integers of 64
    # bits do not fit into floating-point numbers.
    VALUES: pa.schema(
        {
            "document_id": _WHOLE,
            "key": _WORDS,
            "place": _WHOLE,
            "kind": _WHOLE,
            "text": _WORDS,
            "whole": _WHOLE,
            "real": pa.float64(),
        }
    ),
    SKIPPED: pa.schema(dict.fromkeys(("uri", "root", "reason", "detail"), _WORDS)),
    CONTAINERS: pa.schema(
        {"uri": _WORDS, "root": _WORDS, "size": _WHOLE, "mtime_ns": _WHOLE, "rules": _WORDS}
    ),
}
"""Schemas of all tables but that of the vectors, which depends on their length."""

TABLE_NAMES: Final = (*SCHEMAS, VECTORS)

_DIGEST_BYTES: Final = 8
_INDEX_CACHE_BYTES: Final = 4 << 30
"""Maximum size of an approximate index in memory: 60 million vectors at 384 dimensions. Of a larger
one, each search reads again what the searches before it have displaced."""
_METADATA_CACHE_BYTES: Final = 64 << 20
"""Maximum size of what is kept of the tables' files, such as places of columns. Lance's default is
a gigabyte for each table."""
_JOINING: Final = ("BaseOperation", "Rewrite")
"""Names of the changes that joining files makes; the first stands for those without rows."""
_INDEXING: Final = ("CreateIndex",)
"""Names of the changes that making, extending or dropping an index makes."""
_DELETED_AT_ONCE: Final = 50_000
"""Number of values in one deletion, which is a set of 400 KB."""


def vector_schema(dim: int) -> Any:  # noqa: ANN401 -- pyarrow has no types
    """Return the schema of the table of vectors."""
    return pa.schema(
        {
            "id": _WHOLE,
            "content_key": pa.binary(),
            "truncated": pa.bool_(),
            "digest": pa.binary(),
            "vector": pa.list_(pa.float32(), dim),
        }
    )


def vector_digest(vector_id: int, content_key: bytes, vector: NDArray[np.float32]) -> bytes:
    """Return the checksum of a row of vectors."""
    data = vector_id.to_bytes(8, "little") + content_key + vector.astype("<f4").tobytes()
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def new_session() -> Any:  # noqa: ANN401
    """Return a cache for the tables of one index, which later generations share."""
    return lance.Session(
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )


def dataset(
    place: Place,
    name: str,
    version: int | None = None,
    session: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Open the newest version of a table or a given one; raise what Lance raises."""
    return lance.dataset(
        place.table_uri(name),
        version=version,
        storage_options=place.storage_options,
        session=session,
    )


def write(place: Place, name: str, rows: Any, mode: str) -> Any:  # noqa: ANN401
    """Create a table or overwrite it; raise what Lance raises."""
    return lance.write_dataset(
        rows, place.table_uri(name), mode=mode, storage_options=place.storage_options
    )


_WRAPPING: Final = re.compile(r"^(External error: |LanceError\(\w+\): |Generic [\w ]+ error: )+")
_SOURCE: Final = re.compile(r", /\S+\.rs:\d+:\d+")
_PATHS: Final = re.compile(r"\S*/\S*")
_OVERTAKEN: Final = ("conflict", "contention", "incompatible transaction", "concurrent writers")
"""Words of the engine's errors about a change that doesn't follow on the newest version."""
_UNREACHABLE: Final = (
    "generic s3",
    "generic gcs",
    "generic microsoftazure",
    "http error",
    "timed out",
)
_REFUSED: Final = ("403 forbidden", "401 unauthorized", "accessdenied", "lacked the necessary")
_MISSING: Final = ("404 not found", "not found:")


def _of_the_store(place: Place, error: Exception) -> RetrievalError | None:
    """Return the error for an object store that fails; None if it only lacks an object."""
    text = _without_path(place, str(error))
    if any(sign in text for sign in _REFUSED):
        return refused(place.address, error)
    if "nosuchbucket" in text:
        return failed(place.address, error)
    if any(sign in text for sign in _UNREACHABLE) and not any(sign in text for sign in _MISSING):
        return failed(place.address, error)
    return None


def see(place: Place) -> str:
    """Return the advice at the end of an error about a table."""
    return f"see what is wrong with: indexer verify --index {place.address}"


def _reason(error: BaseException) -> str:
    """Return what Lance says, without its wrapping and the places in its source code."""
    first = str(error).partition("\n")[0] or type(error).__name__
    return _WRAPPING.sub("", _SOURCE.sub("", first))


def _without_path(place: Place, text: str) -> str:
    """Return a text in lower case without the path of an index, whose words may be any."""
    path = str(place.local) if place.local is not None else place.address.partition("://")[2]
    without = text.lower()
    # Lance names paths without their first part: the bucket, or the root.
    for one in (path, path.partition("/")[2]):
        without = without.replace(f"{one}/{TABLES}".lower(), "")
    return without


def _is_overtaken(place: Place, reason: str) -> bool:
    """Whether the engine refused a change because of another writer's."""
    words = _PATHS.sub("", _without_path(place, reason))
    return any(sign in words for sign in _OVERTAKEN)


@contextmanager
def lance_errors(place: Place) -> Iterator[None]:
    """Turn the errors of Lance into ours, naming the index.

    Raises:
        IndexLocked: another writer has changed a table at the same time.
        IndexDamaged: a version or a file is missing or malformed.
        StorageError: the tables can't be read or written.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        reason = _reason(error)
        if _is_overtaken(place, reason):
            raise overtaken(place) from error
        if place.local is None and (found := _of_the_store(place, error)):
            raise found from error
        if "No space left" in reason or isinstance(error, PermissionError):
            raise StorageError(
                f"can't use {place.address}: {reason}; what was committed before is untouched"
            ) from error
        raise _damaged(place, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # it can't be imported
            raise
        raise _damaged(place, error) from error


def _damaged(place: Place, error: BaseException) -> IndexDamaged:
    return IndexDamaged(
        f"a table of {place.address} can't be read or written: {_reason(error)}; {see(place)}",
        file=TABLES,
    )


def open_table(
    place: Place,
    name: str,
    version: int,
    session: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Open one version of a table."""
    with lance_errors(place):
        return dataset(place, name, version, session)


def is_there(place: Place, name: str) -> bool:
    """Whether there is a table with any version."""
    try:
        dataset(place, name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Joined:
    """Files that were written in place of others, and that no version of the table has yet."""

    results: Sequence[Any]
    sources: Set[tuple[tuple[str, ...], str]]
    """Data files and deletions of the fragments that they were made from."""

    @property
    def files(self) -> int:
        """Number of the fragments that they were made from."""
        return len(self.sources)


class TableChange:
    """Changes one table from a named version on; other writers' changes in between are found."""

    def __init__(self, place: Place, name: str, named: int | None, schema: Any) -> None:  # noqa: ANN401
        """Begin; nothing is changed yet.

        Args:
            place: the index.
            name: the table.
            named: its version in the newest generation; None if it has none.
            schema: its columns.
        """
        self._place = place
        self._name = name
        self._schema = schema
        self._named = named
        self._table: Any = None

    @property
    def version(self) -> int | None:
        """The version that the next generation is to name."""
        return self._named if self._table is None else int(self._table.version)

    def delete(self, column: str, values: Sequence[object]) -> None:
        """Delete the rows whose column has one of some values.

        Raises:
            IndexLocked: another writer has changed the table meanwhile.
        """
        if self._named is None and self._table is None:
            return
        for start in range(0, len(values), _DELETED_AT_ONCE):
            some = pa.array(values[start : start + _DELETED_AT_ONCE])
            with lance_errors(self._place):
                table = self._begun()
                before = int(table.version)
                # Lance would repeat the deletion on another writer's version.
                table.delete(pc.field(column).isin(some), conflict_retries=0)
            self._check(before)

    def delete_rows(self, addresses: Sequence[int]) -> None:
        """Delete rows of the named version by their addresses; no column is read for it.

        Raises:
            IndexLocked: another writer has changed the table meanwhile.
        """
        for start in range(0, len(addresses), _DELETED_AT_ONCE):
            some = ", ".join(map(str, addresses[start : start + _DELETED_AT_ONCE]))
            with lance_errors(self._place):
                table = self._begun()
                before = int(table.version)
                table.delete(f"_rowaddr IN ({some})", conflict_retries=0)
            self._check(before)

    def append(self, rows: Any) -> None:  # noqa: ANN401
        """Append rows, a table of Arrow.

        Raises:
            IndexLocked: another writer has changed the table meanwhile.
        """
        if not rows.num_rows:
            return
        rows = rows.cast(self._schema)
        with lance_errors(self._place):
            if self._named is None and self._table is None:
                self._table = self._created(rows)
                return
            table = self._begun()
            before = int(table.version)
            self._table = lance.write_dataset(rows, table, mode="append")
        self._check(before)

    def table(self) -> Any:  # noqa: ANN401
        """Return the table as it is after the changes so far."""
        with lance_errors(self._place):
            return self._begun()

    def apply(self, change: Callable[[Any], Any]) -> None:
        """Make at most one version by a function that changes the index of the table.

        Raises:
            IndexLocked: another writer has changed the table meanwhile.
        """
        with lance_errors(self._place):
            table = self._begun()
            before = int(table.version)
            change(table)
            table.checkout_latest()
            # Lance may have found nothing to change, and the next version be another writer's.
            versions = range(before + 1, int(table.version) + 1)
            is_own = all(_operation(table, version) in _INDEXING for version in versions)
        if not is_own:
            raise overtaken(self._place)
        self._check(before)

    def join(self, made: "Joined") -> None:
        """Put joined files in place of those that they were made from.

        Raises:
            IndexLocked: another writer has changed the table meanwhile.
        """
        with lance_errors(self._place):
            table = self._begun()
            before = int(table.version)
            Compaction.commit(table, made.results)
            versions = range(before + 1, int(table.version) + 1)
            is_joining = all(_operation(table, version) in _JOINING for version in versions)
        if not is_joining:
            raise overtaken(self._place)

    def _created(self, rows: Any) -> Any:  # noqa: ANN401
        try:
            return write(self._place, self._name, rows, "create")
        except OSError:
            if not is_there(self._place, self._name):
                raise
        # An interrupted writer has left a table that no generation names.
        return write(self._place, self._name, rows, "overwrite")

    def _begun(self) -> Any:  # noqa: ANN401
        """Return the table at the named version, after undoing what came after it."""
        if self._table is None:
            table = dataset(self._place, self._name)
            if int(table.version) != self._named:
                table = dataset(self._place, self._name, self._named)
                table.restore()
            self._table = table
        return self._table

    def _check(self, before: int) -> None:
        """Refuse a change that came after another writer's."""
        if int(self._table.version) > before + 1:
            raise overtaken(self._place)


def _operation(table: Any, version: int) -> str:  # noqa: ANN401
    """Return Lance's name of the change that made a version; raise what Lance raises."""
    try:
        return type(table.read_transaction(version).operation).__name__
    except TypeError as error:
        # Lance 14 fails to return a joining that has moved the rows of an index.
        if "RewrittenIndex" in str(error):
            return "Rewrite"
        raise


def rows_of(schema: Any, rows: Iterable[Sequence[object]]) -> Any:  # noqa: ANN401
    """Return rows, each in the order of the schema's columns, as a table of Arrow."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(list(column), one.type) for column, one in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def clean_tables(place: Place, kept: Sequence[Mapping[str, int]], until: float) -> None:
    """Remove old versions of tables that no kept generation names.

    Younger versions stay: a writer may be about to name them.

    Args:
        place: the index.
        kept: the versions of tables that each generation names.
        until: time in seconds since 1970 until which a version was written that may be removed.
    """
    for name in TABLE_NAMES:
        versions = {tables[name] for tables in kept if name in tables}
        if not versions:
            continue
        with lance_errors(place):
            table = dataset(place, name)
            # The engine keeps tagged versions. All tags are of this store.
            tagged = {int(tag["version"]): label for label, tag in table.tags.list().items()}
            for version in versions - tagged.keys():
                table.tags.create(f"generation-{version}", version)
            # Later generations name later versions. So a cleaner that was slow removes no tag that
            # another one has made meanwhile.
            for version in [one for one in tagged if one < min(versions)]:
                table.tags.delete(tagged[version])
            table.cleanup_old_versions(
                older_than=timedelta(seconds=time.time() - until),
                error_if_tagged_old_versions=False,
            )
