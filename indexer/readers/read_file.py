"""Read one file: compare it with what the index knows, parse it, and cut it into chunks.

Runs in a reader process (see ``indexer.readers.pool``), without the model and without the index.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from indexer.chunking.chunk import chunk_document
from indexer.decoding.decompress import MAX_FILE_BYTES
from indexer.files.discover import Patterns
from indexer.files.sidecar import with_sidecar
from indexer.files.unpack import Member, unpack
from indexer.parse.formats import ParseOptions, holds_files, is_container, parse
from indexer.readers.messages import Begun, Job, Outcome, Parsed, Unchanged
from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips
from retrieval.domain.records import ChunkSettings, Skipped, SourceFile, TokenCounter


@dataclass(frozen=True, slots=True)
class Reading:
    """Settings that hold for all files that a process reads."""

    counter: TokenCounter
    """Tokenizer of the model that the chunks are for."""
    settings: ChunkSettings
    options: ParseOptions
    """How files are read."""
    patterns: Patterns
    """Patterns that choose the members of containers."""
    generated: bool = False
    """Whether to read members that programs generate."""


def read_file(job: Job, reading: Reading) -> Iterator[Outcome | Begun]:
    """Read a file, and cut its documents into chunks.

    Yields:
        the outcome of the file; for a container, ``Begun`` and an outcome for each member, and an
        outcome of the container itself if not all of it could be read. A file with attachments,
        which are its members, comes before them, with ``Begun``.
    """
    found = job.source
    read_as = reading.options.reading.read_as
    first = consumed = 0
    if not is_container(found.uri, read_as):
        act = partial(_read_document, job, reading)
        if not holds_files(found.uri, read_as):
            yield _guarded(found, act)
            return
        if job.after == 0:
            yield Begun(found.uri)
            yield _guarded(found, act)
        first, consumed = 1, found.size
    unpacked = unpack(
        found, reading.patterns, generated=reading.generated, read_as=read_as, opened=job.open
    )
    members = _guarded_members(found, unpacked)
    for number, member in enumerate(members, first):
        if isinstance(member, Skipped):
            if number >= job.after:
                yield member
            continue
        since, consumed = member.consumed - consumed, member.consumed
        if number >= job.after:
            yield Begun(member.source.uri)
            sha256 = job.known.get(member.source.uri, "")
            act = partial(_parse_data, member.source, member.data, b"", sha256, reading)
            outcome = _guarded(member.source, act)
            yield outcome if isinstance(outcome, Skipped) else replace(outcome, consumed=since)


def with_bytes(job: Job) -> Job | Skipped:
    """Return a job with the bytes of its file, for a reader elsewhere; or why they can't be read.

    The outcomes are those of the job without them, if the file holds no others.
    """
    try:
        source, data, fields = read_source(job.source)
    except Exception as error:  # noqa: BLE001 -- as in _guarded
        return Skipped(job.source.uri, job.source.root, *_reason_for(error))
    return replace(job, source=source, data=data, fields=fields)


def _guarded(source: SourceFile, act: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of an action, or the reason to skip the file if the action fails."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001 -- one strange file must not end the build
        return Skipped(source.uri, source.root, *_reason_for(error))


def _guarded_members(
    source: SourceFile, members: Iterator[Member | Skipped]
) -> Iterator[Member | Skipped]:
    """Yield members, and at the end the reason to skip the container if reading it fails."""
    try:
        yield from members
    except Exception as error:  # noqa: BLE001 -- as above
        yield Skipped(source.uri, source.root, *_reason_for(error))


def _reason_for(error: Exception) -> tuple[SkipReason, str]:
    """Return the reason to skip a file, by the exception that was raised."""
    if isinstance(error, SkipDocument):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return SkipReason.OVER_LIMIT, "takes too much memory"
    if isinstance(error, RecursionError):
        return SkipReason.DAMAGED, "nested too deeply"
    return SkipReason.CRASHED, f"{type(error).__name__}: {error}"


def _read_document(job: Job, reading: Reading) -> Outcome:
    known_sha256 = job.known.get(job.source.uri, "")
    if job.data is not None:
        return _parse_data(job.source, job.data, job.fields, known_sha256, reading)
    source, data, fields = read_source(job.source)
    return _parse_data(source, data, fields, known_sha256, reading)


def _parse_data(
    source: SourceFile, data: bytes, fields: bytes, known_sha256: str, reading: Reading
) -> Outcome:
    """Parse a file and cut it into chunks, unless the index has the same bytes.

    Args:
        source: the file.
        data: bytes of the file.
        fields: bytes of the sidecar; empty if there is none.
        known_sha256: digest of both in the index; empty if the index has no such document.
        reading: settings.

    Raises:
        SkipDocument: there is nothing to index.
    """
    sha256 = hashlib.sha256(data + fields).hexdigest()
    if sha256 == known_sha256:
        return Unchanged(source, source.size)
    document = parse(source.uri, data, reading.options)
    if source.sidecar:
        document = with_sidecar(document, fields)
    chunks = chunk_document(document, reading.counter, reading.settings)
    if not chunks:
        raise SkipDocument(SkipReason.NO_TEXT, "all of it is comments or encoded data")
    return Parsed(source, sha256, document, chunks, source.size)


def read_source(found: SourceFile) -> tuple[SourceFile, bytes, bytes]:
    """Return a file as it is now, its bytes, and those of its sidecar, which may be empty.

    Raises:
        SkipDocument: one of the two can't be read, or has grown beyond the limit.
    """
    source, data = _read(found)
    if source.sidecar is None:
        return source, data, b""
    sidecar, fields = _read(source.sidecar)
    return replace(source, sidecar=sidecar), data, fields


def _read(found: SourceFile) -> tuple[SourceFile, bytes]:
    """Return a file as it was when it was opened, and its bytes.

    Raises:
        SkipDocument: the file can't be read, or has grown beyond the limit.
    """
    with read_errors_as_skips(), found.path.open("rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SkipDocument(SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes")
    return replace(found, size=len(data), mtime_ns=status.st_mtime_ns), data
