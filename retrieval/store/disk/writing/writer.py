"""The writer of an index: one process at a time, one transaction for each commit."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from retrieval.domain.languages import DEFAULT_LANGUAGE, NO_LANGUAGE
from retrieval.domain.records import (
    ChunkSettings,
    ContainerStamp,
    FileStamp,
    IndexInfo,
    ModelIdentity,
    RootInfo,
    Skipped,
)
from retrieval.errors import IndexDamaged, ModelMismatch, NotAnIndex, StorageError
from retrieval.store.disk.files.vector_file import remove_stray_files
from retrieval.store.disk.info import load_info, load_roots, load_segments
from retrieval.store.disk.lexical.lexical_writer import lexical_is_due, update_lexical
from retrieval.store.disk.lexical.segment_files import load_state, view_name, write_view
from retrieval.store.disk.tables.database import (
    LOOKUP_BATCH,
    connect_for_writing,
    is_index,
    not_an_index,
    sqlite_errors,
)
from retrieval.store.disk.tables.identity import new_id
from retrieval.store.disk.tables.schema import NAMED_FILES_QUERY
from retrieval.store.disk.tables.writer_lock import LOCK_NAME, writer_lock
from retrieval.store.disk.writing.commit import DiskCommit, utc_now
from retrieval.store.disk.writing.maintenance import compact, maintain
from retrieval.store.records import KnownFile, Maintained, SegmentInfo


class DiskWriter:
    """Only writer of an index; a context manager that holds the writer's lock."""

    def __init__(self, folder: Path, database: Database, resources: ExitStack) -> None:
        """Use ``open``."""
        self.folder = folder
        self._database = database
        self._connection = database.conn
        self._resources = resources

    @classmethod
    def open(cls, folder: Path, *, create: bool = True) -> "DiskWriter":
        """Open an index for writing, or create one in a missing or empty folder.

        Files that no commit names, left by an interrupted run, are removed.

        Args:
            folder: the index.
            create: whether to create the index if it does not exist.

        Raises:
            NotAnIndex: the folder holds other files or another program's database, or no index
                although ``create`` is false.
            IndexLocked: another process is writing it.
            IndexVersionError, IndexDamaged, StorageError: see ``database``.
        """
        if not create and not is_index(folder):
            raise not_an_index(folder)
        check_free(folder)
        _make_folder(folder)
        with ExitStack() as stack:
            stack.enter_context(writer_lock(folder))
            database = connect_for_writing(folder)
            stack.callback(database.close)
            stack.callback(_checkpoint, database.conn)
            writer = cls(folder, database, stack.pop_all())
            try:
                writer.remove_strays()
                with suppress(StorageError, IndexDamaged):  # readers work without a view
                    writer._keep_view()
            except BaseException:
                writer.close()
                raise
            return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock and discard uncommitted changes."""
        self._resources.close()

    @property
    def info(self) -> IndexInfo | None:
        """Description and counts of the index; None until ``set_model`` was called once."""
        with sqlite_errors(self.folder):
            if not self._connection.execute("SELECT count(*) FROM index_info").fetchone()[0]:
                return None
            return load_info(self.folder, self._connection)

    def set_model(
        self, model: ModelIdentity, chunking: ChunkSettings, language: str = DEFAULT_LANGUAGE
    ) -> None:
        """Set the model and the chunk settings of a new index; they can't be changed later.

        Args:
            model: the model that embeds the texts.
            chunking: how documents are cut into chunks.
            language: language of the texts; only used if the index is new. See
                ``Commit.set_language``.

        Raises:
            ModelMismatch: the index was made with another model or other chunk settings.
        """
        info = self.info
        if info is not None:
            _check_same(self.folder, info, model, chunking)
            return
        now = utc_now()
        with sqlite_errors(self.folder), self._database.atomic():
            row = {_MODEL_COLUMNS.get(key, key): value for key, value in asdict(model).items()}
            row |= {"id": 1, "generation": 0, **asdict(chunking)}
            row |= {"index_id": new_id(), "commit_id": new_id()}
            row["text_fields"] = json.dumps(chunking.text_fields)
            row |= {"language": language, "created_at": now, "updated_at": now}
            self._database.table("index_info").insert(row)

    def roots(self) -> dict[str, RootInfo]:
        """Return every root that was ever indexed, by name."""
        with sqlite_errors(self.folder):
            return load_roots(self._connection)

    def known_files(self, root: str) -> dict[str, KnownFile]:
        """Return the records of all documents under a root, by URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                """SELECT uri, id, sha256, size, mtime_ns, sidecar_size, sidecar_mtime_ns
                   FROM documents WHERE root = ?""",
                [root],
            )
            return {
                uri: KnownFile(document_id, sha256, FileStamp(*stamp))
                for uri, document_id, sha256, *stamp in rows
            }

    def find_vectors(self, content_keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the vector ids of the texts that have a vector already, by content key."""
        keys = list(dict.fromkeys(content_keys))
        found: dict[bytes, int] = {}
        with sqlite_errors(self.folder):
            for start in range(0, len(keys), LOOKUP_BATCH):
                batch = keys[start : start + LOOKUP_BATCH]
                marks = ", ".join("?" * len(batch))
                found.update(
                    self._connection.execute(
                        f"SELECT content_key, id FROM vectors WHERE content_key IN ({marks})",
                        batch,
                    )
                )
        return found

    def skipped(self, root: str) -> list[Skipped]:
        """Return the files that the last build skipped under a root, in order of URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                "SELECT uri, root, reason, detail FROM skipped WHERE root = ? ORDER BY uri", [root]
            )
            return [Skipped(*row) for row in rows]

    def containers(self, root: str) -> dict[str, ContainerStamp]:
        """Return the stamps of what need not be read again under a root, by URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                "SELECT uri, size, mtime_ns, rules FROM containers WHERE root = ?", [root]
            )
            return {uri: ContainerStamp(*stamp) for uri, *stamp in rows}

    def truncated_chunks(self) -> int:
        """Count the chunks in the index that were longer than the model takes."""
        with sqlite_errors(self.folder):
            row = self._connection.execute(
                "SELECT count(*) FROM chunks c JOIN vectors v ON v.id = c.vector_id "
                "WHERE v.truncated"
            ).fetchone()
            return int(row[0])

    @contextmanager
    def commit(self) -> Iterator[DiskCommit]:
        """Stage changes; leaving the block commits all of them, or none after an exception."""
        with sqlite_errors(self.folder), self._database.atomic():
            yield DiskCommit(self.folder, self._database)
            update_lexical(self.folder, self._connection, self._language)
            self._keep_view()
            self._connection.execute(
                "UPDATE index_info SET generation = generation + 1, commit_id = ?, updated_at = ?",
                [new_id(), utc_now()],
            )
        self.remove_strays()

    @property
    def lexical_is_due(self) -> bool:
        """Whether the lexical index lags behind the passages; any commit then updates it."""
        with sqlite_errors(self.folder):
            return lexical_is_due(self._connection, self._language)

    @property
    def _language(self) -> str:
        row = self._connection.execute("SELECT language FROM index_info").fetchone()
        return str(row[0]) if row else NO_LANGUAGE

    def maintain(self) -> Maintained:
        """Do the maintenance that is due after a build; see ``maintenance``."""
        return maintain(self)

    def compact(self) -> Maintained:
        """Merge all segments and index the result; see ``maintenance``."""
        return compact(self)

    def segments(self) -> list[SegmentInfo]:
        """Return every segment, oldest first."""
        with sqlite_errors(self.folder):
            return load_segments(self._connection.execute)

    def rows_of(self, segment_id: int) -> NDArray[np.int64]:
        """Return the rows of a segment whose vectors are still in the index, in order."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                "SELECT row FROM vectors WHERE segment_id = ? ORDER BY row", [segment_id]
            )
            return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def remove_strays(self) -> None:
        """Delete files that no commit names: replaced ones, and those of an interrupted run."""
        with sqlite_errors(self.folder):
            keep = {row[0] for row in self._connection.execute(NAMED_FILES_QUERY)}
            metas = self._connection.execute("SELECT meta FROM lexical_index").fetchall()
            remove_stray_files(self.folder, keep=keep | {view_name(meta) for (meta,) in metas})

    def _keep_view(self) -> None:
        """Write the view of the lexical index that the current transaction names.

        Raises:
            StorageError: the view can't be written.
        """
        state = load_state(self._connection)
        if state is None:
            return
        try:
            write_view(self.folder, state.meta, [file.name for file in state.files])
        except OSError as error:
            raise StorageError(
                f"can't write the lexical index of {self.folder}: {error.strerror}; "
                f"what was committed before is untouched"
            ) from error


_MODEL_COLUMNS = {
    "name": "model_name",
    "source": "model_source",
    "location": "model_location",
    "revision": "model_revision",
    "fingerprint": "model_fingerprint",
}


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Move commits from the write-ahead log into ``index.db``, as far as open readers allow."""
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA busy_timeout = 0")  # don't wait for readers
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check_free(folder: Path) -> None:
    """Refuse a folder unless it is an index, empty or missing; change nothing.

    Raises:
        NotAnIndex: the folder holds other files, or is a file itself.
        StorageError: the folder can't be read.
    """
    if folder.exists() and not folder.is_dir():
        raise NotAnIndex(f"{folder} is a file; an index is a folder")
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"can't read {folder}: {error.strerror}") from error
    strangers = sorted(set(names) - {LOCK_NAME})
    if strangers and not is_index(folder):
        raise NotAnIndex(
            f"{folder} is not an index and not empty (it holds {strangers[0]!r}); "
            f"give --index a new or empty folder"
        )


def _make_folder(folder: Path) -> None:
    """Create an index's folder if it does not exist.

    Raises:
        StorageError: the folder can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {folder}: {error.strerror}") from error


def _check_same(
    folder: Path, info: IndexInfo, model: ModelIdentity, chunking: ChunkSettings
) -> None:
    """Refuse a model or settings other than those that an index was made with.

    Raises:
        ModelMismatch: the model or a setting differs; the message names it and the way out.
    """
    if info.model.fingerprint != model.fingerprint:
        raise ModelMismatch(
            f"{folder} was made with {info.model.name} ({info.model.dtype}), not with "
            f"{model.name} ({model.dtype}): build into another folder with --index, "
            f"or leave --model and --dtype out",
            index_fingerprint=info.model.fingerprint,
            model_fingerprint=model.fingerprint,
        )
    for field in fields(ChunkSettings):
        wanted, recorded = getattr(chunking, field.name), getattr(info.chunking, field.name)
        if wanted != recorded:
            raise ModelMismatch(
                f"{folder} was made with {field.name} {recorded!r}, not {wanted!r}: build into "
                f"another folder with --index, or leave the option out"
            )
