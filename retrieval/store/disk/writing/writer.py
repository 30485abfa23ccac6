"""A writer of an index: each commit is one transaction under the commit lock."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlite_utils import Database

from retrieval.domain.languages import DEFAULT_LANGUAGE, NO_LANGUAGE
from retrieval.domain.records import (
    ChunkSettings,
    IndexInfo,
    ModelIdentity,
)
from retrieval.errors import (
    IndexDamaged,
    IndexLocked,
    InvalidArgument,
    ModelMismatch,
    NotAnIndex,
    StorageError,
)
from retrieval.store.disk.files.vector_file import remove_stray_files
from retrieval.store.disk.lexical.lexical_merge import TOO_MANY_SEGMENTS, made_anew
from retrieval.store.disk.lexical.lexical_merge import Prepared as PreparedLexical
from retrieval.store.disk.lexical.lexical_writer import lexical_is_due, update_lexical
from retrieval.store.disk.lexical.segment_files import (
    LexicalRecord,
    load_state,
    segments_of,
    view_name,
    write_view,
)
from retrieval.store.disk.tables.database import (
    REPLICA_NAME,
    connect_for_writing,
    is_index,
    not_an_index,
    sqlite_errors,
)
from retrieval.store.disk.tables.filter_functions import register_functions
from retrieval.store.disk.tables.identity import file_identity, new_id
from retrieval.store.disk.tables.locks import LOCK_NAMES, build_lock, commit_lock
from retrieval.store.disk.tables.schema import NAMED_FILES_QUERY
from retrieval.store.disk.writing.commit import DiskCommit, utc_now
from retrieval.store.disk.writing.lookups import Lookups
from retrieval.store.disk.writing.maintenance import compact, maintain, merge_tiny, merge_words
from retrieval.store.durable_files import storage_error
from retrieval.store.location import index_in
from retrieval.store.records import Maintained


class DiskWriter(Lookups):
    """Writer of an index; a context manager. Only one thread may use it.

    Each commit takes the commit lock, so any number of shared writers and one other can write to an
    index at the same time.
    """

    def __init__(
        self, folder: Path, database: Database, resources: ExitStack, *, shared: bool
    ) -> None:
        """Use ``open``."""
        super().__init__(folder, database.conn)
        self.shared = shared
        self._database = database
        self._resources = resources
        self._place = file_identity(folder)

    @classmethod
    def open(cls, folder: Path, *, create: bool = True, shared: bool = False) -> "DiskWriter":
        """Open an index for writing, or create one in a missing or empty folder.

        Files that no commit names, left by an interrupted run, are removed.

        Args:
            folder: the index.
            create: whether to create the index if it does not exist.
            shared: whether builds and other shared writers may write between this one's commits.

        Raises:
            NotAnIndex: the folder holds other files or another program's database, or no index
                although ``create`` is false.
            InvalidArgument: the folder is a copy that is pulled from an object store.
            IndexLocked: another process builds the index, or does not finish its commit.
            IndexVersionError, IndexDamaged, StorageError: see ``database``.
        """
        if not create and not is_index(folder):
            raise not_an_index(folder)
        check_free(folder)
        if (folder / REPLICA_NAME).exists():
            raise InvalidArgument(
                f"{folder} is a copy that is pulled from an object store, and would be "
                "overwritten: write to the index that is published there",
                field="index",
            )
        _make_folder(folder)
        with ExitStack() as stack:
            if not shared:
                stack.enter_context(build_lock(folder))
            with commit_lock(folder):
                database = connect_for_writing(folder)
                stack.callback(database.close)
                stack.callback(_checkpoint, database.conn, shared=shared)
                if shared:
                    database.conn.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
                register_functions(database.conn)
                writer = cls(folder, database, stack, shared=shared)
                writer.remove_strays()
                with suppress(StorageError, IndexDamaged):  # readers work without a view
                    writer._keep_view()
            writer._resources = stack.pop_all()
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

    @property
    def is_replaced(self) -> bool:
        """See ``Writer``."""
        try:
            return file_identity(self.folder) != self._place
        except NotAnIndex:
            return True

    def close(self) -> None:
        """Release all locks and discard uncommitted changes."""
        self._resources.close()

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
        if self.info is None:
            with self._transaction():
                if self.info is None:  # else another writer has just set it
                    self._insert_model(model, chunking, language)
        info = self.info
        if info is not None:
            check_same(self.folder, info, model, chunking)

    def _insert_model(self, model: ModelIdentity, chunking: ChunkSettings, language: str) -> None:
        now = utc_now()
        row = {_MODEL_COLUMNS.get(key, key): value for key, value in asdict(model).items()}
        row |= {"id": 1, "generation": 0, **asdict(chunking)}
        row |= {"index_id": new_id(), "commit_id": new_id()}
        row["text_fields"] = json.dumps(chunking.text_fields)
        row |= {"language": language, "created_at": now, "updated_at": now}
        self._database.table("index_info").insert(row)

    @contextmanager
    def commit(self) -> Iterator[DiskCommit]:
        """Stage changes; leaving the block commits all of them, or none after an exception.

        A commit without changes makes no generation.

        Raises:
            IndexLocked: another writer did not finish its commit; nothing was changed.
            StorageError: the index can't be written, or another one has taken its place.
        """
        with self._transaction() as connection:
            before, lexical = connection.total_changes, self.lexical_segments()
            commit = DiskCommit(self.folder, connection)
            yield commit
            if self.shared and commit.added_vectors:
                merge_tiny(commit)
            update_lexical(self.folder, connection, self._language)
            if connection.total_changes == before:
                commit.generation -= 1
                return
            self._keep_view(lexical)
            connection.execute(
                "UPDATE index_info SET generation = ?, commit_id = ?, updated_at = ?",
                [commit.generation, new_id(), utc_now()],
            )
        # The commit stands whether or not segments can be merged now.
        with suppress(StorageError, IndexDamaged, IndexLocked):
            state = self.lexical_segments()
            if state and len(segments_of(state.meta)) > TOO_MANY_SEGMENTS:
                merge_words(self)

    def lexical_segments(self) -> LexicalRecord | None:
        """Return the record of the lexical index; None if there is none, or if it is damaged."""
        with sqlite_errors(self.folder), suppress(IndexDamaged):
            return load_state(self._connection)
        return None

    def lexical_anew(self) -> AbstractContextManager[PreparedLexical]:
        """Index all texts anew, outside a commit; see ``made_anew``."""
        return made_anew(self.folder, self._connection, self._language)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the commit lock and a transaction; commit at the end, or roll back.

        Files that the tables no longer name are removed, and so are those of a transaction that
        failed.
        """
        connection = self._connection
        with commit_lock(self.folder), sqlite_errors(self.folder):
            if self.is_replaced:
                raise StorageError(
                    f"another index has taken the place of {self.folder} since it was opened; "
                    f"open it again"
                )
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                with suppress(StorageError, IndexDamaged):
                    self.remove_strays()
                    self._keep_view()
                raise
            # The commit stands even if a file that it replaced can't be removed yet.
            with suppress(StorageError, IndexDamaged):
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
        done = maintain(self)
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return done

    def compact(self) -> Maintained:
        """Merge all segments and index the result; see ``maintenance``."""
        return compact(self)

    def remove_strays(self) -> None:
        """Delete files that no commit names: replaced ones, and those of an interrupted run."""
        with sqlite_errors(self.folder):
            keep = {row[0] for row in self._connection.execute(NAMED_FILES_QUERY)}
            metas = self._connection.execute("SELECT meta FROM lexical_index").fetchall()
            remove_stray_files(self.folder, keep=keep | {view_name(meta) for (meta,) in metas})

    def _keep_view(self, before: LexicalRecord | None = None) -> None:
        """Write the view of the lexical index that the current transaction names.

        Args:
            before: see ``write_view``.

        Raises:
            StorageError: the view can't be written.
        """
        state = load_state(self._connection)
        if state is None:
            return
        try:
            write_view(self.folder, state, before)
        except OSError as error:
            raise storage_error(
                f"can't write the lexical index of {self.folder}: {error.strerror}; "
                "what was committed before is untouched",
                error,
            ) from error


_MODEL_COLUMNS = {
    "name": "model_name",
    "source": "model_source",
    "location": "model_location",
    "revision": "model_revision",
    "fingerprint": "model_fingerprint",
}


_LOG_PAGES = 16_384
"""Length of the write-ahead log at which a commit of a shared writer copies it into the database,
which flushes that to the disk while others wait; 64 MiB. ``maintain`` does so outside commits."""


def _checkpoint(connection: sqlite3.Connection, *, shared: bool) -> None:
    """Move commits from the write-ahead log into ``index.db``, as far as open readers allow.

    Only a writer that is not shared also cuts the log, because other writers wait for that.
    """
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA busy_timeout = 0")  # don't wait for readers
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # copies while others commit
        if not shared:
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
    strangers = sorted(set(names) - LOCK_NAMES)
    if strangers and not is_index(folder):
        held = index_in(folder)
        if held is not None:
            raise NotAnIndex(
                f"{folder} holds an index of another kind: give --index {held}, or a new or empty "
                "folder"
            )
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


def check_same(
    folder: Path | str, info: IndexInfo, model: ModelIdentity, chunking: ChunkSettings
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
