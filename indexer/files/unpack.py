"""Unpack containers: choose their members by the same rules as files in folders.

The URI of a member is that of its container, a ``/``, and its path in the container. Containers may
hold containers. Members that are skipped are reported with the reason, like files.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Final

from indexer.decoding.decompress import MAX_FILE_BYTES
from indexer.files import sidecar
from indexer.files.discover import Patterns, generated_member, path_text, why_skipped
from indexer.parse.base.unknown import looks_readable
from indexer.parse.containers import DAMAGE, MAX_UNPACKED_BYTES, Entry
from indexer.parse.formats import (
    ReadAs,
    content_decides,
    extension_of,
    holds_files,
    is_container,
    open_container,
)
from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips
from retrieval.domain.records import Skipped, SourceFile

MAX_MEMBERS: Final = 1_000_000
"""Maximum number of members of a container, inner containers included."""
MAX_NESTING: Final = 3
"""Maximum depth of containers in each other: each level holds one member in memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a container."""

    source: SourceFile
    """Its ``path`` is that of the outermost container."""
    data: bytes
    consumed: int
    """Position in the outermost container, in bytes of the file as it is on disk, once this member
    has been read."""


def unpack(
    source: SourceFile,
    patterns: Patterns,
    *,
    generated: bool = False,
    read_as: ReadAs = (),
    opened: Callable[[], IO[bytes]] | None = None,
) -> Iterator[Member | Skipped]:
    """Yield the members of a container, in its order, or the files attached to a message.

    If the container is damaged or exceeds a limit, a ``Skipped`` with its own URI follows the
    members that could be read.

    Args:
        source: the container.
        patterns: matched against paths in the root, as if containers were folders.
        generated: whether to yield what programs generate; see ``indexer.files.generated``.
        read_as: formats of extensions that the user chose.
        opened: opens the container; None to open its path.
    """
    try:
        with read_errors_as_skips(), opened() if opened else source.path.open("rb") as file:
            unpacking = _Unpacking(source, patterns, generated, read_as)
            yield from unpacking.run(source.uri, file, 1, file.tell)
    except SkipDocument as skip:
        yield Skipped(source.uri, source.root, skip.reason, skip.detail)
    except _OverLimitError as error:
        yield Skipped(source.uri, source.root, SkipReason.OVER_LIMIT, str(error))


class _OverLimitError(Exception):
    """Raised when a container exceeds a limit; ends the outermost container, from any depth."""


@dataclass(slots=True)
class _Unpacking:
    """One pass through a container and the containers in it."""

    source: SourceFile
    patterns: Patterns
    generated: bool
    read_as: ReadAs
    seen: set[str] = field(default_factory=set)
    """URIs of the members that were read."""
    members: int = 0
    size: int = 0
    """Total size in bytes of the members so far."""
    consumed: int = 0
    """As in ``Member``."""

    def run(
        self, uri: str, file: IO[bytes], depth: int, consumed: Callable[[], float]
    ) -> Iterator[Member | Skipped]:
        """Yield the members of a container, and of the containers in it.

        Args:
            uri: URI of the container.
            file: the container, open for reading.
            depth: number of containers that its members are in.
            consumed: returns the position in the outermost container, in bytes, that corresponds
                to the present position in ``file``.
        """
        try:
            with read_errors_as_skips(DAMAGE):
                for entry in open_container(uri, file, self.read_as):
                    yield from self._visit(uri, entry, depth, consumed)
        except SkipDocument as skip:
            yield Skipped(uri, self.source.root, skip.reason, skip.detail)

    def _visit(
        self, container: str, entry: Entry, depth: int, consumed: Callable[[], float]
    ) -> Iterator[Member | Skipped]:
        parts = PurePosixPath(path_text(entry.name)).parts
        uri = "/".join((container, *(part for part in parts if not part.startswith("/"))))
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise _OverLimitError(f"more than {MAX_MEMBERS} members")
        if problem := self._problem(uri, parts, entry, depth):
            yield Skipped(uri, self.source.root, *problem)
            return
        self.seen.add(uri)
        data = entry.read()
        before, after = self.consumed, max(self.consumed, int(consumed()))
        self.size += len(data)
        if self.size > MAX_UNPACKED_BYTES:
            raise _OverLimitError(f"more than {MAX_UNPACKED_BYTES} bytes unpacked")
        if len(data) > MAX_FILE_BYTES:
            problem = SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes"
            yield Skipped(uri, self.source.root, *problem)
        elif is_container(uri, self.read_as):
            inner = io.BytesIO(data)
            each = (after - before) / max(1, len(data))
            yield from self.run(uri, inner, depth + 1, lambda: before + each * inner.tell())
            self.consumed = after
        else:
            self.consumed = after
            yield Member(self._source_of(uri, entry, len(data)), data, after)
            if holds_files(uri, self.read_as) and depth <= MAX_NESTING:
                yield from self.run(uri, io.BytesIO(data), depth + 1, lambda: after)

    def _problem(
        self, uri: str, parts: tuple[str, ...], entry: Entry, depth: int
    ) -> tuple[SkipReason, str] | None:
        """Return why to skip a member without reading it; None if it is to be read."""
        if not parts or parts[0].startswith("/") or ".." in parts:
            return SkipReason.OUTSIDE_ROOT, path_text(entry.name)
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return SkipReason.HIDDEN, ""
        if uri in self.seen:
            return SkipReason.DUPLICATE_NAME, "the container has another member of that name"
        if detail := self.patterns.excluded(uri.partition("/")[2], folder=False):
            return SkipReason.EXCLUDED, detail
        if not self.generated and (detail := generated_member(parts)):
            return SkipReason.GENERATED, detail
        return entry.problem or self._why_skipped(uri, entry, depth)

    def _why_skipped(self, uri: str, entry: Entry, depth: int) -> tuple[SkipReason, str] | None:
        """Return why a member can't be indexed, without reading all of it; None if it can."""
        if uri.endswith(sidecar.SUFFIX):
            return SkipReason.LONE_SIDECAR, "sidecars are not read in containers"
        if problem := why_skipped(uri, entry.size, MAX_FILE_BYTES, self.read_as):
            return problem
        if is_container(uri, self.read_as) and depth >= MAX_NESTING:
            return SkipReason.OVER_LIMIT, f"containers are {MAX_NESTING} deep at most"
        unsure = content_decides(uri, self.read_as)
        if unsure and entry.head and not looks_readable(uri, entry.head()):
            return SkipReason.UNSUPPORTED, extension_of(uri)
        return None

    def _source_of(self, uri: str, entry: Entry, size: int) -> SourceFile:
        return SourceFile(
            path=self.source.path,
            uri=uri,
            root=self.source.root,
            size=size,
            mtime_ns=entry.mtime_ns or self.source.mtime_ns,
            container=self.source.uri,
        )
