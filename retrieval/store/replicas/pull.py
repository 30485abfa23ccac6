"""Bring the newest published generation of an index to a folder of this disk.

The folder is an index like any other, but for its database: each generation has a file of its own,
and ``index.db`` is a link to that of the present one. To exchange the link is the one step at which
the folder changes from a whole generation to the next. Files of vectors and words have names that
no two contents share, so those of several generations lie side by side. Readers keep what they have
open, and an interrupted pull leaves files that the next one uses or removes.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from retrieval.errors import IndexDamaged, NotAnIndex, NotFound, StorageError
from retrieval.store.disk.lexical.segment_files import load_state, view_name, write_view
from retrieval.store.disk.tables.database import DATABASE_NAME, REPLICA_NAME, sqlite_errors
from retrieval.store.disk.tables.identity import read_identity
from retrieval.store.disk.tables.locks import BUILD_LOCK, COMMIT_LOCK, LOCK_NAMES, build_lock
from retrieval.store.disk.tables.schema import NAMED_FILES_QUERY
from retrieval.store.durable_files import replacing, storage_error, sync
from retrieval.store.lake.place import COMMITS
from retrieval.store.objects import Bucket
from retrieval.store.replicas.manifest import (
    BLOCK_BYTES,
    BLOCKS,
    FILES,
    Manifest,
    PublishedFile,
    list_numbers,
    read_manifest,
)

_PARTIAL: Final = ".partial"
"""Suffix of a file that is being fetched."""
_THREADS: Final = 8
"""Blocks that are fetched at a time: each request waits for the network most of the time."""
_ATTEMPTS: Final = 3
"""Generations to begin with until one is whole: a publisher may delete one that is being pulled."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """Result of ``pull``."""

    number: int
    """Of the manifest."""
    generation: int
    is_new: bool
    """False if the folder had that generation already."""
    size: int
    """Bytes of the whole generation."""
    fetched: int
    """Bytes that were fetched; the rest was there already."""


def pull(
    url: str, folder: Path, *, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Pulled:
    """Bring the newest generation of a published index to a folder.

    Args:
        url: where the index was published; see ``Bucket``.
        folder: a copy that was pulled before, or an empty or missing folder.
        progress: called with the bytes that are done, and those of all that is fetched.

    Raises:
        InvalidArgument: the address is malformed.
        NotAnIndex: nothing was published there, or the folder holds something else.
        IndexLocked: another process pulls into this folder.
        IndexDamaged, IndexVersionError: what was published is damaged, or of a newer version.
        StorageError: the disk or the store refuses.
    """
    bucket = Bucket(url)
    with _os_errors(folder):
        _check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with build_lock(folder):
            for _ in range(_ATTEMPTS):
                try:
                    return _pull(bucket, folder, progress)
                except NotFound:  # a publisher has deleted it meanwhile
                    continue
    raise StorageError(f"generations of {url} are deleted faster than they can be pulled")


def is_replica(folder: Path) -> bool:
    """Whether a folder is a copy that ``pull`` has made, which nobody else may write to."""
    return (folder / REPLICA_NAME).exists()


def _check_folder(folder: Path) -> None:
    """Refuse a folder with other content than a pulled copy."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not is_replica(folder) and DATABASE_NAME in names:
        raise NotAnIndex(f"{folder} holds an index of its own; pull into a new or empty folder")
    if strangers := sorted(name for name in names if not _is_ours(name)):
        raise NotAnIndex(
            f"{folder} is not empty (it holds {strangers[0]!r}); pull into a new or empty folder"
        )


def _is_ours(name: str) -> bool:
    starts = ("vectors-", "ann-", "lexical-", "index-", DATABASE_NAME, REPLICA_NAME)
    return name.startswith(starts) or name in LOCK_NAMES


def _pull(bucket: Bucket, folder: Path, progress: Callable[[int, int], None]) -> Pulled:
    numbers = list_numbers(bucket)
    if not numbers:
        if bucket.list(COMMITS):
            raise NotAnIndex(
                f"{bucket.url} holds an index in Lance tables, which servers open where it is; "
                "leave --pull out"
            )
        raise NotAnIndex(
            f"no index was published to {bucket.url}; publish one with: "
            f"indexer publish {bucket.url}"
        )
    before = _present(folder)
    manifest = read_manifest(bucket, numbers[-1])
    if manifest == before:
        return Pulled(manifest.number, manifest.generation.generation, False, manifest.size, 0)
    fetched = _Fetched(bucket, folder, before, manifest, progress)
    fetched.files()
    database = fetched.database()
    sync(folder)
    view = _make_view(folder, database, manifest)
    _switch(folder, database, manifest)
    _clean_up(folder, [manifest, before] if before else [manifest], view)
    return Pulled(
        manifest.number, manifest.generation.generation, True, manifest.size, fetched.done
    )


def _present(folder: Path) -> Manifest | None:
    """Return the manifest of the generation that is here; None if there is none, or not whole."""
    try:
        manifest = Manifest.from_json((folder / REPLICA_NAME).read_bytes(), REPLICA_NAME)
        linked = (folder / DATABASE_NAME).readlink().name
    except (OSError, IndexDamaged):
        return None
    whole = all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size
        for file in manifest.files
    )
    there = linked == _database_name(manifest) and (folder / linked).exists()
    return manifest if whole and there else None


def _database_name(manifest: Manifest) -> str:
    return f"index-{manifest.number}-{manifest.generation.commit_id}.db"


class _Fetched:
    """Fetches what a generation needs and the folder lacks."""

    def __init__(
        self,
        bucket: Bucket,
        folder: Path,
        before: Manifest | None,
        manifest: Manifest,
        progress: Callable[[int, int], None],
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._before = before
        self._manifest = manifest
        self._progress = progress
        self._missing = [file for file in manifest.files if not self._is_there(file)]
        known = set(before.blocks) if before else set()
        new = sum(digest not in known for digest in manifest.blocks)
        self._whole = sum(file.size for file in self._missing) + new * BLOCK_BYTES
        self.done = 0
        """Bytes that were fetched."""
        progress(0, self._whole)

    def _is_there(self, file: PublishedFile) -> bool:
        """Whether a file is in the folder; only whole and checked ones have their final names."""
        path = self._folder / file.name
        return path.is_file() and path.stat().st_size == file.size

    def _count(self, size: int) -> None:
        self.done += size
        self._progress(self.done, max(self._whole, self.done))

    def files(self) -> None:
        """Fetch the files of vectors and words."""
        for file in self._missing:
            partial = self._folder / f"{file.name}{_PARTIAL}"
            name, digest = f"{FILES}/{file.sha256}", hashlib.sha256()
            with replacing(self._folder / file.name, partial) as out:
                for piece in self._bucket.stream(name):
                    digest.update(piece)
                    out.write(piece)
                    self._count(len(piece))
                if digest.hexdigest() != file.sha256:
                    raise _altered(self._bucket, name)

    def database(self) -> Path:
        """Put the database together from blocks; return its file."""
        path = self._folder / _database_name(self._manifest)
        partial = path.with_name(f"{path.name}{_PARTIAL}")
        old = _OldBlocks(self._folder, self._before)
        with (
            replacing(path, partial) as out,
            closing(old),
            ThreadPoolExecutor(_THREADS) as threads,
        ):
            for start in range(0, len(self._manifest.blocks), _THREADS):
                some = self._manifest.blocks[start : start + _THREADS]
                here = [old.read(digest) for digest in some]
                lacking = [digest for digest, block in zip(some, here, strict=True) if not block]
                fetched = dict(zip(lacking, threads.map(self._block, lacking), strict=True))
                for digest, block in zip(some, here, strict=True):
                    out.write(block or fetched[digest])
                self._count(sum(map(len, fetched.values())))
            if out.tell() != self._manifest.database_bytes:
                raise _altered(self._bucket, "database")
        return path

    def _block(self, digest: str) -> bytes:
        name = f"{BLOCKS}/{digest}"
        block = self._bucket.read(name)
        if hashlib.sha256(block).hexdigest() != digest:
            raise _altered(self._bucket, name)
        return block


class _OldBlocks:
    """The blocks of the database that the folder has already."""

    def __init__(self, folder: Path, manifest: Manifest | None) -> None:
        self._file: IO[bytes] | None = None
        self._places = dict[str, int]()
        if manifest is not None:
            with suppress(OSError):
                self._file = (folder / _database_name(manifest)).open("rb")
                self._places = {digest: at for at, digest in enumerate(manifest.blocks)}

    def read(self, digest: str) -> bytes:
        """Return a block; empty if it is not here, or has changed."""
        at = self._places.get(digest)
        if at is None or self._file is None:
            return b""
        self._file.seek(at * BLOCK_BYTES)
        block = self._file.read(BLOCK_BYTES)
        return block if hashlib.sha256(block).hexdigest() == digest else b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _altered(bucket: Bucket, name: str) -> IndexDamaged:
    return IndexDamaged(
        f"{name} in {bucket.url} is not what was published; publish the index again with --replace"
    )


def _make_view(folder: Path, database: Path, manifest: Manifest) -> str:
    """Make the folder through which the lexical index is opened; return its name.

    Raises:
        IndexDamaged: the database is not that of the generation.
    """
    address = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection, sqlite_errors(folder):
        identity = read_identity(folder, connection)
        named = {row[0] for row in connection.execute(NAMED_FILES_QUERY)}
        state = load_state(connection)
    if identity != manifest.generation or named != {file.name for file in manifest.files}:
        raise IndexDamaged(f"{database} does not fit its manifest; publish again with --replace")
    if state is None:
        return ""
    write_view(folder, state)
    return view_name(state.meta)


def _switch(folder: Path, database: Path, manifest: Manifest) -> None:
    """Make the folder that of another generation, for good."""
    note = folder / f"{REPLICA_NAME}{_PARTIAL}"
    with replacing(folder / REPLICA_NAME, note) as out:
        out.write(manifest.to_json())
    link = folder / f"{DATABASE_NAME}{_PARTIAL}"
    link.unlink(missing_ok=True)
    link.symlink_to(database.name)
    link.rename(folder / DATABASE_NAME)
    sync(folder)


def _clean_up(folder: Path, manifests: Sequence[Manifest], view: str) -> None:
    """Remove files of older generations.

    Args:
        folder: the copy.
        manifests: of the present generation, and of the last one, which somebody may be opening.
        view: name of the folder of the present lexical index. A reader of the last one that does
            not find its folder makes another.
    """
    keep = {REPLICA_NAME, DATABASE_NAME, BUILD_LOCK, COMMIT_LOCK, view}
    for manifest in manifests:
        keep |= {file.name for file in manifest.files}
        database = _database_name(manifest)
        keep |= {database, f"{database}-wal", f"{database}-shm"}
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


@contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(f"can't write {folder}: {error.strerror}", error) from error
