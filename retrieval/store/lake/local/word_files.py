"""Files of the lexical index: on a disk in a folder of the index, else in copies on this machine.

On an object store, the name of an object includes the hash of its content. So two writers that give
different files the same name, as the engine does with removals, never replace each other's. A copy
is checked against the pointer's record when it is made, and by its size and a sample when it is
opened.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from retrieval.errors import IndexDamaged, NotFound, StorageError
from retrieval.store.disk.files.vector_file import LEXICAL, WrittenFile, file_sha256
from retrieval.store.disk.lexical.segment_files import LexicalRecord, check_file, write_view
from retrieval.store.lake.local.cache_folder import folder_of
from retrieval.store.lake.place import WORDS, Place

_THREADS: Final = 8
"""Files to send or fetch at a time: most are small, and wait for the network."""
_HASH_DIGITS: Final = 16
UNUSED_SECONDS: Final = 3600.0
"""A copy that no opened generation has named for this long is deleted. Another process that opens a
generation keeps its files open from then on."""
_WRITING: Final = "writing"


class WordFiles:
    """The files of the lexical index of one place, as a reader sees them."""

    def __init__(self, place: Place, index_id: str) -> None:
        """Use the files of an index."""
        self._place = place
        self.folder = place.local / WORDS if place.local else folder_of(index_id) / WORDS
        """The folder on this machine in which they are opened."""

    def fetch(self, files: Sequence[WrittenFile]) -> None:
        """Have files in the folder, if they come from an object store.

        Raises:
            IndexDamaged: an object is missing, or is not what the pointer recorded.
            StorageError: the folder can't be written, or the store not be read.
        """
        if self._place.local is not None:
            return
        with _disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            missing = [file for file in files if not self._has(file)]
            _all_of(missing, self._download)

    def forget(self, files: Sequence[WrittenFile]) -> None:
        """Delete copies that were not used for long; keep the given ones."""
        if self._place.local is not None:
            return
        kept, limit = {file.name for file in files}, time.time() - UNUSED_SECONDS
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):  # another process deletes, too
                    if path.name not in kept and path.stat().st_mtime < limit:
                        path.unlink()

    def is_whole(self, file: WrittenFile) -> bool:
        """Whether a file in the place, not in a copy of it, is what the pointer recorded."""
        try:
            if self._place.local is None:
                return self._digest(file) == (file.size, file.sha256)
            path = self.folder / file.name
            return path.stat().st_size == file.size and file_sha256(path) == file.sha256
        except (OSError, NotFound):
            return False

    def _has(self, file: WrittenFile) -> bool:
        """Whether the folder has a file; the time of its use is noted."""
        try:
            check_file(self.folder, file)
            os.utime(self.folder / file.name)
        except (FileNotFoundError, IndexDamaged):
            return False
        return True

    def _digest(self, file: WrittenFile, keep: Callable[[memoryview], object] = len) -> object:
        """Read an object; return its size and SHA-256."""
        size, digest = 0, hashlib.sha256()
        for piece in self._place.bucket.stream(object_name(file)):
            size += len(piece)
            digest.update(piece)
            keep(piece)
        return size, digest.hexdigest()

    def _download(self, file: WrittenFile) -> None:
        made = self.folder / f"{secrets.token_hex(8)}.tmp"
        try:
            with made.open("xb") as copy:
                found = self._digest(file, copy.write)
            if found != (file.size, file.sha256):
                raise self._damaged(file, "it is not what was written")
            made.rename(self.folder / file.name)
        except NotFound as error:
            raise self._damaged(file, "it is missing") from error
        finally:
            made.unlink(missing_ok=True)

    def _damaged(self, file: WrittenFile, what: str) -> IndexDamaged:
        where = self._place.objects.where(object_name(file))
        return IndexDamaged(f"{where}: {what}", file=object_name(file))


def object_name(file: WrittenFile) -> str:
    """Return the name of a file's object."""
    return f"{WORDS}/{file.name}.{file.sha256[:_HASH_DIGITS]}"


class WrittenWords:
    """The files of the lexical index of one place, as a writer changes them.

    On a disk these are the files of the index. For an object store they are made in a folder of
    this writer's own, because another one may give its files the same names, and sent from there.
    """

    def __init__(self, place: Place, index_id: str) -> None:
        """Use the files of an index; nothing is made yet."""
        self._place = place
        self._index_id = index_id
        self._read = WordFiles(place, index_id)
        self._made: tuple[Path, int] | None = None
        self._held: dict[str, str] = {}
        """Name and SHA-256 of each file in the writer's own folder."""

    @property
    def folder(self) -> Path:
        """The folder in which files are made."""
        if self._place.local is not None:
            return self._read.folder
        if self._made is None:
            with _disk_errors(folder_of(self._index_id)):
                self._made = _own_folder(folder_of(self._index_id) / _WRITING)
        return self._made[0]

    def prepare(self, record: Sequence[WrittenFile], needed: Sequence[WrittenFile]) -> None:
        """Have those files of a record in the folder that a change needs.

        Args:
            record: all files of the lexical index; others are removed from the writer's own folder.
            needed: those that the engine will open.

        Raises:
            IndexDamaged, StorageError: see ``WordFiles.fetch``.
        """
        if self._place.local is not None:
            return
        named = {file.name: file.sha256 for file in record}
        with _disk_errors(self.folder):
            for name in [name for name, digest in self._held.items() if named.get(name) != digest]:
                (self.folder / name).unlink(missing_ok=True)
                del self._held[name]
            missing = [file for file in needed if file.name not in self._held]
            self._read.fetch(missing)
            for file in missing:
                _link(self._read.folder / file.name, self.folder / file.name)
                self._held[file.name] = file.sha256

    def publish(self, before: Sequence[WrittenFile], made: Sequence[WrittenFile]) -> None:
        """Send the files that a change has made.

        Raises:
            StorageError: the store can't be written, or refuses.
        """
        if self._place.local is not None:
            return
        known = {object_name(file) for file in before}
        new = [file for file in made if object_name(file) not in known]
        self._held.update((file.name, file.sha256) for file in new)
        bucket, folder = self._place.bucket, self.folder
        _all_of(new, lambda file: bucket.write(object_name(file), folder / file.name))

    def discard(self, files: Sequence[WrittenFile]) -> None:
        """Remove files that no generation will name from the writer's own folder.

        Those of the index itself are left to cleaning.
        """
        if self._place.local is not None:
            return
        for file in files:
            self._held.pop(file.name, None)
            with suppress(OSError):  # removed with the folder
                (self.folder / file.name).unlink(missing_ok=True)

    def write_view(self, record: LexicalRecord) -> None:
        """Make the links by which readers of a disk open a lexical index; others don't see them."""
        if self._place.local is not None:
            with suppress(OSError):  # readers work without them
                write_view(self.folder, record)

    def close(self) -> None:
        """Remove the writer's own folder."""
        if self._made is not None:
            path, lock = self._made
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            self._made = None
            self._held.clear()


def _own_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder that this process holds a lock on; remove those of killed processes."""
    parent.mkdir(parents=True, exist_ok=True)
    for path in parent.iterdir():
        if (lock := _locked(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
    while True:
        made = parent / f"{LEXICAL}{secrets.token_hex(8)}"
        made.mkdir()
        # Another process may take it for a killed one's until the lock is held.
        if (lock := _locked(made)) is not None and made.exists():
            return made, lock


def _locked(path: Path) -> int | None:
    """Lock a folder; None if another process has locked or removed it."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk has no such names."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _all_of(files: Sequence[WrittenFile], act: Callable[[WrittenFile], None]) -> None:
    """Do something with files in threads; raise the first error after all have ended."""
    if not files:
        return
    with ThreadPoolExecutor(min(_THREADS, len(files))) as threads:
        for done in [threads.submit(act, file) for file in files]:
            done.result()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"can't keep copies of words in {folder}: {error.strerror}; make room, or set "
            "RETRIEVAL_CACHE_DIR to another folder"
        ) from error
