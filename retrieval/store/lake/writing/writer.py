"""A writer of a lake: each commit writes versions of tables and publishes a pointer to them."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from retrieval.domain.languages import DEFAULT_LANGUAGE
from retrieval.domain.records import ChunkSettings, ModelIdentity
from retrieval.errors import IndexLocked, NotAnIndex, RetrievalError, StorageError
from retrieval.store.disk.tables.identity import new_id
from retrieval.store.disk.tables.locks import LOCK_NAMES, build_lock, commit_lock
from retrieval.store.disk.writing.commit import utc_now
from retrieval.store.disk.writing.writer import check_same
from retrieval.store.durable_files import sync
from retrieval.store.lake.local.word_files import WrittenWords
from retrieval.store.lake.place import COMMITS, TABLES, WORDS, Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import (
    Pointer,
    boot_time,
    generations,
    is_lake,
    newest,
    not_a_lake,
    pointer_name,
    put_pointer,
    read_pointer,
    with_table_ids,
)
from retrieval.store.lake.writing.cleaning import WRITE_SECONDS
from retrieval.store.lake.writing.commit import LakeCommit
from retrieval.store.lake.writing.lookups import Changes, LakeLookups
from retrieval.store.lake.writing.maintenance import compact, is_crowded, maintain, relieve
from retrieval.store.lake.writing.turns import build_turn, commit_turn
from retrieval.store.location import index_in
from retrieval.store.records import Maintained

_MARK: Final = "made"
"""Name of an object beside the pointers, so that an index without a commit is one, too."""

_FOLDERS: Final = (COMMITS, TABLES, WORDS)

_log = logging.getLogger(__name__)


class LakeWriter(LakeLookups):
    """Writer of a lake; see ``retrieval.store.api.Writer``."""

    def __init__(self, place: Place, resources: ExitStack, *, shared: bool) -> None:
        """Use ``open``."""
        super().__init__(Changes())
        self.place = place
        self.shared = shared
        self._resources = resources
        self._opened: Generation | None = None
        pointer = newest(place)
        self._index_id = pointer.index_id if pointer else ""
        self._words: WrittenWords | None = None

    @classmethod
    def open(cls, place: Place, *, create: bool = True, shared: bool = False) -> "LakeWriter":
        """Open an index for writing, or create one in a missing or empty folder.

        Raises:
            NotAnIndex: the folder holds something else, or no index although ``create`` is false.
            IndexLocked: another process builds the index.
            IndexVersionError, IndexDamaged, StorageError: see ``newest``.
        """
        if not create and not is_lake(place):
            raise not_a_lake(place)
        check_free(place)
        _make(place)
        with ExitStack() as stack:
            if not shared:
                local = place.local
                stack.enter_context(build_turn(place) if local is None else build_lock(local))
            writer = cls(place, stack, shared=shared)
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

    def close(self) -> None:
        """See ``Writer``."""
        if self._words is not None:
            self._words.close()
        self._resources.close()

    @property
    def is_replaced(self) -> bool:
        """See ``Writer``."""
        try:
            pointer = newest(self.place)
        except NotAnIndex:
            return True
        return bool(self._index_id) and (pointer is None or pointer.index_id != self._index_id)

    def _base(self) -> Generation | None:
        """Return the newest generation; it is opened anew if it has changed."""
        numbers = generations(self.place)
        if not numbers:
            return None
        if self._opened is None or self._opened.pointer.generation != numbers[-1]:
            pointer = read_pointer(self.place, numbers[-1])
            self._opened = Generation(self.place, pointer, self._opened)
        return self._opened

    def set_model(
        self, model: ModelIdentity, chunking: ChunkSettings, language: str = DEFAULT_LANGUAGE
    ) -> None:
        """See ``Writer``."""
        pointer = newest(self.place)
        if pointer is None:
            now = utc_now()
            made = Pointer(0, new_id(), new_id(), now, now, model, chunking, language)
            with suppress(IndexLocked):  # another writer has just set it
                put_pointer(self.place, made)
            pointer = read_pointer(self.place, 0)
        self._index_id = pointer.index_id
        check_same(self.place.address, pointer.info, model, chunking)

    @contextmanager
    def commit(self) -> Iterator[LakeCommit]:
        """See ``Writer``.

        Raises:
            IndexLocked: another writer did not finish its commit, or was faster; nothing was
                changed.
            NotAnIndex: ``set_model`` was never called.
            StorageError: the index can't be written, or another one has taken its place.
        """
        with self.locked() as base:
            commit = LakeCommit(self.place, base, self.word_files(base))
            yield commit
            started = boot_time()
            pointer = commit.written()
            if pointer is not None:
                self.publish(base, pointer, started)
        if pointer is not None and is_crowded(base, pointer):
            try:
                relieve(self)
            except RetrievalError as error:
                _log.warning(
                    "Committed generation %d of %s, but could not join its small files, which "
                    "the next commit tries again: %s",
                    pointer.generation,
                    self.place.address,
                    error.message,
                )

    def newest(self) -> Generation | None:
        """Return the newest generation; None if there is none yet."""
        return self._base()

    @contextmanager
    def locked(self) -> Iterator[Generation]:
        """Hold the commit lock; yield the newest generation."""
        with self.turn():
            if self.is_replaced:
                raise StorageError(
                    f"another index has taken the place of {self.place.address} since it was "
                    "opened; open it again"
                )
            base = self._base()
            if base is None:
                raise NotAnIndex(f"{self.place.address} has no model yet: call set_model first")
            yield base

    def turn(self) -> AbstractContextManager[None]:
        """Wait for other writers; on an object store, the tables decide between two at once."""
        local = self.place.local
        return commit_turn(self.place) if local is None else commit_lock(local)

    def word_files(self, base: Generation) -> WrittenWords:
        """Return the files of words of the index of a generation."""
        if self._words is None:
            self._words = WrittenWords(self.place, base.pointer.index_id)
        return self._words

    def publish(self, base: Generation, pointer: Pointer, started: float) -> None:
        """Flush the tables to the disk and publish a generation.

        Args:
            base: the generation before it.
            pointer: the generation.
            started: time of ``boot_time`` before the first of its tables was written.

        Raises:
            IndexLocked: another writer was faster.
            StorageError: the generation can't be published, or comes too late.
        """
        pointer = with_table_ids(pointer, base.pointer)
        if self.place.local is None:
            if boot_time() - started > WRITE_SECONDS:
                raise StorageError(
                    f"a commit to {self.place.address} took longer than "
                    f"{WRITE_SECONDS / 60:.0f} minutes to write, so others may have removed what "
                    "it wrote; nothing was changed; commit less at once"
                )
            put_pointer(self.place, pointer)
            return
        before = base.pointer.tables
        for name, version in pointer.tables.items():
            if before.get(name) != version:
                folder = self.place.folder
                _flush(
                    folder / TABLES / f"{name}.lance",
                    folder / pointer_name(pointer.generation - 1),
                )
        put_pointer(self.place, pointer)

    # Maintenance.

    def maintain(self) -> Maintained:
        """See ``Writer``: joins small files, and removes generations that nobody needs."""
        return maintain(self)

    def compact(self) -> Maintained:
        """See ``Writer``: also makes damaged or outdated words anew."""
        return compact(self)


def _make(place: Place) -> None:
    """Make the folders of an index, or mark a place on an object store as one."""
    if place.local is None:
        place.objects.create(f"{COMMITS}/{_MARK}", b"")
        return
    try:
        for name in _FOLDERS:
            (place.local / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {place}: {error.strerror}") from error


def check_free(place: Place) -> None:
    """Refuse a folder unless it is an index, empty or missing; change nothing.

    Raises:
        NotAnIndex: the folder holds something else, or is a file.
        StorageError: the folder can't be read.
    """
    if place.local is None:
        _check_free_prefix(place)
        return
    folder = place.local
    if folder.exists() and not folder.is_dir():
        raise NotAnIndex(f"{place} is a file; an index is a folder")
    try:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise StorageError(f"can't read {place}: {error.strerror}") from error
    strangers = sorted(names - LOCK_NAMES)
    if strangers and not is_lake(place):
        held = index_in(folder)
        if held is not None:
            raise NotAnIndex(
                f"{folder} holds an index of another kind: give --index {held}, or a new or empty "
                "folder"
            )
        raise NotAnIndex(
            f"{place} is not an index and not empty (it holds {strangers[0]!r}); "
            "give --index a new or empty folder"
        )


def _check_free_prefix(place: Place) -> None:
    """Refuse an address of an object store unless it is an index, or nothing is under it."""
    if is_lake(place) or (stranger := place.bucket.first()) is None:
        return
    published = not_a_lake(place)
    if "--pull" in published.message:
        raise published
    raise NotAnIndex(
        f"{place} is not an index and not empty (it holds {stranger!r}); "
        "give --index a new or empty prefix"
    )


def _flush(table: Path, after: Path) -> None:
    """Flush the files of a table that are newer than another file to the disk.

    Raises:
        StorageError: they can't be flushed.
    """
    try:
        since = after.stat().st_mtime_ns if after.exists() else 0
        for folder, _, names in os.walk(table):
            flushed = False
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):  # another writer's temporary file
                    if path.stat().st_mtime_ns >= since:
                        sync(path)
                        flushed = True
            if flushed:
                sync(Path(folder))
        sync(table.parent)
    except OSError as error:
        raise StorageError(
            f"can't flush {table}: {error.strerror}; what was committed before is untouched"
        ) from error
