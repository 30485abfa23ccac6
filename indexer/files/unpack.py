"""Containers → the files in them, by the same rules as files in folders.

A member's URI is that of its container, ``/``, and its path in there. Containers may lie in
containers. Whatever a member is skipped for is told, as for a file.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Final

from indexer.decoding.decompress import MAX_FILE_BYTES
from indexer.files import sidecar
from indexer.files.walk import Patterns, path_text, unfit
from indexer.parse.containers import DAMAGE, Entry
from indexer.parse.formats import is_container, open_container
from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips
from retrieval.domain.records import Skipped, SourceFile

MAX_UNPACKED_BYTES: Final = 16 << 30
"""Most bytes of all members of a container, those in containers in it included."""
MAX_MEMBERS: Final = 1_000_000
"""Most members of a container, counted likewise."""
MAX_NESTING: Final = 3
"""Containers in containers in containers."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a container."""

    source: SourceFile
    """``path`` is the outermost container's."""
    data: bytes
    consumed: int
    """Bytes of the outermost container that have been read up to its end, as far as that shows: the
    position in the file, which is compressed if the file is."""


def unpack(source: SourceFile, patterns: Patterns) -> Iterator[Member | Skipped]:
    """Yield the members of a container, in its order.

    A container that is damaged, or goes over a limit, gives a ``Skipped`` of its own URI after what
    could be read of it.

    Args:
        source: the container.
        patterns: what is wanted; matched against paths in the root, as if containers were folders.
    """
    try:
        with read_errors_as_skips(), source.path.open("rb") as file:
            yield from _Unpacking(source, patterns).run(source.uri, file, 1, file.tell)
    except SkipDocument as skip:
        yield Skipped(source.uri, source.root, skip.reason, skip.detail)
    except _OverLimitError as error:
        yield Skipped(source.uri, source.root, SkipReason.OVER_LIMIT, str(error))


class _OverLimitError(Exception):
    """The container holds more than is taken from one: the end of it, however deep this is met."""


@dataclass(slots=True)
class _Unpacking:
    """One walk through a container and all in it."""

    source: SourceFile
    patterns: Patterns
    seen: set[str] = field(default_factory=set)
    """URIs of the members that were read."""
    members: int = 0
    size: int = 0
    """Bytes of the members so far."""
    consumed: int = 0
    """See ``Member.consumed``."""

    def run(
        self, uri: str, file: IO[bytes], depth: int, consumed: Callable[[], float]
    ) -> Iterator[Member | Skipped]:
        """Yield what is in the container of that URI, and in containers in it.

        Args:
            uri: the container's.
            file: the container, open for reading.
            depth: in how many containers its members are.
            consumed: how many bytes of the outermost container are read, now that the file is
                where it is.
        """
        try:
            with read_errors_as_skips(DAMAGE):
                for entry in open_container(uri, file):
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
        elif is_container(uri):
            inner = io.BytesIO(data)
            each = (after - before) / max(1, len(data))
            yield from self.run(uri, inner, depth + 1, lambda: before + each * inner.tell())
            self.consumed = after
        else:
            self.consumed = after
            yield Member(self._source_of(uri, entry, len(data)), data, after)

    def _problem(
        self, uri: str, parts: tuple[str, ...], entry: Entry, depth: int
    ) -> tuple[SkipReason, str] | None:
        """Why a member is left out, as far as that shows before it is read."""
        if not parts or parts[0].startswith("/") or ".." in parts:
            return SkipReason.OUTSIDE_ROOT, path_text(entry.name)
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return SkipReason.HIDDEN, ""
        if uri in self.seen:
            return SkipReason.DUPLICATE_NAME, "the container has another member of that name"
        if detail := self.patterns.excluded(uri.partition("/")[2], folder=False):
            return SkipReason.EXCLUDED, detail
        return entry.problem or _unfit(uri, entry.size, depth)

    def _source_of(self, uri: str, entry: Entry, size: int) -> SourceFile:
        return SourceFile(
            path=self.source.path,
            uri=uri,
            root=self.source.root,
            size=size,
            mtime_ns=entry.mtime_ns or self.source.mtime_ns,
            container=self.source.uri,
        )


def _unfit(uri: str, size: int, depth: int) -> tuple[SkipReason, str] | None:
    """Why a member of that name and size can't be indexed; None if it can."""
    if uri.endswith(sidecar.SUFFIX):
        return SkipReason.LONE_SIDECAR, "not read in a container"
    if problem := unfit(uri, size, MAX_FILE_BYTES):
        return problem
    if is_container(uri) and depth == MAX_NESTING:
        return SkipReason.OVER_LIMIT, f"containers are {MAX_NESTING} deep at most"
    return None
