"""One file → what is in it: read, compared with what the index knows, parsed and chunked.

This runs in a process of its own (see ``indexer.readers.pool``): it needs no model, and no index.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from indexer.chunking.chunk import chunk_document
from indexer.decoding.decompress import MAX_FILE_BYTES
from indexer.files.sidecar import with_sidecar
from indexer.files.unpack import Member, unpack
from indexer.files.walk import Patterns
from indexer.parse.formats import ParseOptions, is_container, parse
from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    Skipped,
    SourceFile,
    TokenCounter,
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A member of a container is about to be parsed."""

    uri: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file whose content is what the index has, whatever its modification time says."""

    source: SourceFile
    """The file as it was when it was read."""
    consumed: int
    """Bytes that were read for it: its own, or those of its container since the document before."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document that is new, or has changed."""

    source: SourceFile
    """The file as it was when it was read."""
    sha256: str
    """Hex digest of the file's bytes, and its sidecar's."""
    document: Document
    chunks: list[Chunk]
    consumed: int
    """As in ``Unchanged``."""


Outcome = Unchanged | Parsed | Skipped
"""What became of a document."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read."""

    counter: TokenCounter
    """Tokenizer of the model that the chunks are for."""
    settings: ChunkSettings
    patterns: Patterns
    """Which members of containers are wanted."""


def read(
    found: SourceFile, known: Mapping[str, str], reading: Reading, after: int = 0
) -> Iterator[Outcome | Begun]:
    """Read a file, and cut what it holds into chunks.

    Args:
        found: the file.
        known: URI → ``Parsed.sha256`` of the documents that the index has of it.
        reading: how.
        after: members of a container to pass over.

    Yields:
        what became of the file; or of each member of a container, told before it is parsed, and
        of the container itself where not all of it could be read.
    """
    if not is_container(found.uri):
        yield _guarded(found, partial(_read_file, found, known.get(found.uri, ""), reading))
        return
    consumed = 0
    members = _guarded_members(found, unpack(found, reading.patterns))
    for number, member in enumerate(members):
        if isinstance(member, Skipped):
            if number >= after:
                yield member
            continue
        read, consumed = member.consumed - consumed, member.consumed
        if number >= after:
            yield Begun(member.source.uri)
            sha256 = known.get(member.source.uri, "")
            act = partial(_read_data, member.source, member.data, b"", sha256, reading)
            outcome = _guarded(member.source, act)
            yield outcome if isinstance(outcome, Skipped) else replace(outcome, consumed=read)


def _guarded(source: SourceFile, act: Callable[[], Outcome]) -> Outcome:
    """Read a document; whatever its parser comes to grief with is a reason to skip it."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001 -- one strange file must not end the build
        return Skipped(source.uri, source.root, *_trouble(error))


def _guarded_members(
    source: SourceFile, members: Iterator[Member | Skipped]
) -> Iterator[Member | Skipped]:
    """Members, until the container itself brings the reader to grief."""
    try:
        yield from members
    except Exception as error:  # noqa: BLE001 -- as above
        yield Skipped(source.uri, source.root, *_trouble(error))


def _trouble(error: Exception) -> tuple[SkipReason, str]:
    """What to skip a file for, by what was raised."""
    if isinstance(error, SkipDocument):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return SkipReason.OVER_LIMIT, "takes too much memory"
    if isinstance(error, RecursionError):
        return SkipReason.DAMAGED, "nested too deeply"
    return SkipReason.CRASHED, f"{type(error).__name__}: {error}"


def _read_file(found: SourceFile, known_sha256: str, reading: Reading) -> Outcome:
    source, data, fields = _read_with_sidecar(found)
    return _read_data(source, data, fields, known_sha256, reading)


def _read_data(
    source: SourceFile, data: bytes, fields: bytes, known_sha256: str, reading: Reading
) -> Outcome:
    """Parse and cut a file, unless it is what the index has.

    Args:
        source: the file.
        data: its bytes.
        fields: its sidecar's, if it has one.
        known_sha256: digest of both in the index.
        reading: how.

    Raises:
        SkipDocument: there is nothing to index.
    """
    sha256 = hashlib.sha256(data + fields).hexdigest()
    if sha256 == known_sha256:
        return Unchanged(source, source.size)
    document = parse(source.uri, data, ParseOptions(reading.settings.text_fields))
    if source.sidecar:
        document = with_sidecar(document, fields)
    chunks = chunk_document(document, reading.counter, reading.settings)
    return Parsed(source, sha256, document, chunks, source.size)


def _read_with_sidecar(found: SourceFile) -> tuple[SourceFile, bytes, bytes]:
    """A file as it is now, its bytes, and its sidecar's, if it has one.

    Raises:
        SkipDocument: one of the two can't be read, or has grown beyond the limit.
    """
    source, data = _read(found)
    if source.sidecar is None:
        return source, data, b""
    beside, fields = _read(source.sidecar)
    return replace(source, sidecar=beside), data, fields


def _read(found: SourceFile) -> tuple[SourceFile, bytes]:
    """A file's bytes, and its size and time as they were when it was opened.

    Raises:
        SkipDocument: it can't be read, or has grown beyond the limit.
    """
    with read_errors_as_skips(), found.path.open("rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SkipDocument(SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes")
    return replace(found, size=len(data), mtime_ns=status.st_mtime_ns), data
