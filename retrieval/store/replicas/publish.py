"""Write a generation of an index on this disk to an object store."""

import errno
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from retrieval.domain.records import GenerationId
from retrieval.errors import Conflict, DiskFull, IndexDamaged, InvalidArgument, StorageError
from retrieval.store.disk.files.open_files import OpenFiles
from retrieval.store.disk.files.vector_file import file_sha256
from retrieval.store.disk.reading.snapshot import open_whole
from retrieval.store.disk.tables.database import DATABASE_NAME, sqlite_errors
from retrieval.store.disk.tables.identity import read_identity
from retrieval.store.disk.writing.commit import utc_now
from retrieval.store.objects import Bucket
from retrieval.store.replicas.manifest import (
    BLOCK_BYTES,
    BLOCKS,
    FILES,
    Manifest,
    PublishedFile,
    name_of,
    read_manifests,
)

DEFAULT_KEEP: Final = 3
"""Generations that stay. A copy that is being pulled needs its own until it is whole."""
_THREADS: Final = 8
"""Objects that are sent at a time: most requests are of one block, and wait for the network."""
_ORPHAN_AGE: Final = timedelta(days=1)
"""Age of an object that no manifest names when it is deleted: another process may be sending it."""

_FILES_QUERY: Final = """
    SELECT file, bytes, sha256 FROM segments UNION ALL SELECT file, bytes, sha256 FROM ann_files
    UNION ALL SELECT file, bytes, sha256 FROM lexical_files ORDER BY file
"""


@dataclass(frozen=True, slots=True)
class Published:
    """Result of ``publish``."""

    number: int
    """Of the manifest."""
    generation: int
    is_new: bool
    """False if the generation was there already."""
    size: int
    """Bytes of the whole generation."""
    sent: int
    """Bytes that were sent for it; the rest was there already."""
    deleted: int
    """Number of older generations that were deleted."""


def publish(
    folder: Path,
    url: str,
    *,
    keep: int = DEFAULT_KEEP,
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Published:
    """Publish the newest generation of an index; others may write to it meanwhile.

    Args:
        folder: the index.
        url: where to; see ``Bucket``.
        keep: number of generations that stay there, this one included; ≥ 1.
        replace: whether to publish although another index, or a newer generation, was published
            there last.
        progress: called with the bytes that are done, and those of all that is to be sent.

    Raises:
        InvalidArgument: the address or ``keep`` is out of range, or what was published there last
            is not an earlier generation of this index.
        Conflict: another process has published at the same time.
        NotAnIndex, IndexVersionError, IndexDamaged: the index can't be read.
        StorageError: the disk or the store refuses.
    """
    if keep < 1:
        raise InvalidArgument(f"keep is {keep}; it must be at least 1", field="keep")
    bucket = Bucket(url)
    with _opened(folder) as (connection, files):
        with sqlite_errors(folder):
            identity = read_identity(folder, connection)
        there = read_manifests(bucket)
        newest = there[max(there)] if there else None
        if newest is not None and newest.generation == identity:
            return Published(newest.number, identity.generation, False, newest.size, 0, 0)
        if newest is not None and not replace:
            _check_successor(url, newest.generation, identity)
        # Only the newest: another process may be deleting what only older ones need.
        known = newest.objects if newest else frozenset()
        with _database_copy(folder, connection) as database:
            number = newest.number + 1 if newest else 1
            manifest = _describe(number, identity, folder, connection, database)
            jobs = _jobs(bucket, manifest, files, database)
            sent = _send((job for job in jobs if job.name not in known), progress)
    if not bucket.create(name_of(number), manifest.to_json()):
        raise Conflict(f"another process has published to {url} at the same time; run this again")
    deleted = _clean_up(bucket, {**there, number: manifest}, keep)
    return Published(number, identity.generation, True, manifest.size, sent, deleted)


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[sqlite3.Connection, OpenFiles]]:
    connection, files = open_whole(folder)
    with closing(connection), files:
        yield connection, files


def _check_successor(url: str, last: GenerationId, now: GenerationId) -> None:
    """Refuse to replace a generation that this one does not follow."""
    if last.index_id != now.index_id:
        raise InvalidArgument(
            f"{url} holds generations of another index ({last.index_id[:8]}…); publish to another "
            f"address, or give --replace",
            field="url",
        )
    if last.generation >= now.generation:
        raise InvalidArgument(
            f"{url} holds generation {last.generation} of this index, and this copy of it has "
            f"generation {now.generation}; give --replace to publish it nevertheless",
            field="url",
        )


@contextmanager
def _database_copy(folder: Path, connection: sqlite3.Connection) -> Iterator[Path]:
    """Copy the database as the open transaction sees it, page by page, to a temporary file."""
    with tempfile.TemporaryDirectory(prefix="retrieval-publish-") as name:
        copy = Path(name) / DATABASE_NAME
        try:
            with closing(sqlite3.connect(copy)) as target, sqlite_errors(folder):
                connection.backup(target)
        except StorageError as error:
            if not shutil.disk_usage(name).free:
                raise DiskFull(
                    f"no room for a copy of {folder / DATABASE_NAME} in {name}; set TMPDIR to a "
                    "folder with room"
                ) from error
            raise
        yield copy


def _describe(
    number: int,
    identity: GenerationId,
    folder: Path,
    connection: sqlite3.Connection,
    database: Path,
) -> Manifest:
    with sqlite_errors(folder):
        rows = connection.execute(_FILES_QUERY).fetchall()
    with database.open("rb") as file:
        blocks = tuple(hashlib.sha256(block).hexdigest() for block in _blocks(file.read))
    return Manifest(
        number=number,
        generation=identity,
        published_at=utc_now(),
        database_bytes=database.stat().st_size,
        blocks=blocks,
        files=tuple(PublishedFile(*row) for row in rows),
    )


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while block := read(BLOCK_BYTES):
        yield block


class _Job(NamedTuple):
    """An object to send."""

    name: str
    size: int
    send: Callable[[], None]


def _jobs(bucket: Bucket, manifest: Manifest, files: OpenFiles, database: Path) -> Iterator[_Job]:
    """Yield all objects of a generation."""
    for one in manifest.files:
        name = f"{FILES}/{one.sha256}"
        yield _Job(name, one.size, partial(_send_file, bucket, name, one, files))
    for at, digest in enumerate(manifest.blocks):
        name = f"{BLOCKS}/{digest}"
        size = min(BLOCK_BYTES, manifest.database_bytes - at * BLOCK_BYTES)
        yield _Job(name, size, partial(_send_block, bucket, name, database, at))


def _send(jobs: Iterable[_Job], progress: Callable[[int, int], None]) -> int:
    """Send objects in threads, each once; return their bytes."""
    once = {job.name: job for job in jobs}
    whole, done = sum(job.size for job in once.values()), 0
    progress(0, whole)
    with ThreadPoolExecutor(_THREADS) as threads:
        sending = {threads.submit(job.send): job.size for job in once.values()}
        try:
            for sent in as_completed(sending):
                sent.result()
                done += sending[sent]
                progress(done, whole)
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    return whole


def _send_file(bucket: Bucket, name: str, file: PublishedFile, files: OpenFiles) -> None:
    path = files.path(file.name)
    try:
        digest = file_sha256(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _damaged(file) from error
        raise StorageError(f"can't read {file.name}: {error.strerror}") from error
    if digest != file.sha256:
        raise _damaged(file)
    bucket.write(name, path)


def _damaged(file: PublishedFile) -> IndexDamaged:
    return IndexDamaged(
        f"{file.name} is missing or has changed; `indexer verify` tells what to do", file=file.name
    )


def _send_block(bucket: Bucket, name: str, database: Path, at: int) -> None:
    with database.open("rb") as file:
        file.seek(at * BLOCK_BYTES)
        bucket.write(name, file.read(BLOCK_BYTES))


def _clean_up(bucket: Bucket, manifests: Mapping[int, Manifest], keep: int) -> int:
    """Delete the oldest generations, and what only they need; return how many were deleted."""
    numbers = sorted(manifests)
    old, kept = numbers[:-keep], numbers[-keep:]
    # The manifests go first: nobody begins to pull what is about to lose its objects.
    bucket.delete([name_of(number) for number in old])
    needed = frozenset[str]().union(*(manifests[number].objects for number in kept))
    gone = frozenset[str]().union(*(manifests[number].objects for number in old)) - needed
    limit = datetime.now(UTC) - _ORPHAN_AGE
    for folder in (FILES, BLOCKS):
        orphans = {
            f"{folder}/{one.name}" for one in bucket.list(folder) if one.modified < limit
        } - needed
        mine = {name for name in gone if name.startswith(f"{folder}/")}
        bucket.delete(sorted(mine | orphans))
    return len(old)
