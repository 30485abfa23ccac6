"""7z archives, read by py7zr, which the extra ``archives`` installs.

The members of an archive are mostly compressed as one stream, so it is decompressed from start to
end once, by a thread that hands over one member at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from queue import Empty, Queue
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, Any, Final

from indexer.decoding.decompress import MAX_FILE_BYTES
from indexer.parse.containers import MAX_UNPACKED_BYTES, Entry
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage

if TYPE_CHECKING:
    from py7zr import SevenZipFile

_WAIT_SECONDS: Final = 0.1
"""Time between two looks of a waiting thread at whether the other one has ended."""


def sevenzip_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the files of a 7z archive.

    Args:
        file: the archive, seekable.

    Raises:
        SkipDocument: the archive is damaged, or needs a password.
    """
    from py7zr import SevenZipFile
    from py7zr.exceptions import PasswordRequired

    with parser_errors_as_damage():
        try:
            archive = SevenZipFile(file)
        except PasswordRequired as error:
            raise SkipDocument(SkipReason.ENCRYPTED) from error
        if archive.needs_password():
            raise SkipDocument(SkipReason.ENCRYPTED)
        members = [
            member for member in archive.files if not (member.is_directory or member.is_socket)
        ]
        inside = [member for member in members if _is_inside(member.filename)]
    extraction = _Extraction(archive, [member.filename for member in inside])
    try:
        for member in members:
            with parser_errors_as_damage():
                size = int(member.uncompressed or 0)
                is_link = member.is_symlink or member.is_junction
                problem = (SkipReason.NOT_REGULAR, "a link") if is_link else None
                read = partial(extraction.read, _key(member.filename), size)
                yield Entry(member.filename, size, _time(member), read, problem=problem)
    finally:
        extraction.stop()


def _is_inside(name: str) -> bool:
    """Whether a path stays in the archive; py7zr refuses the whole archive for one that doesn't."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts


def _key(name: str) -> str:
    """Return the name that py7zr gives to what it writes a member to."""
    return PurePosixPath(name).as_posix()


def _time(member: Any) -> int:  # noqa: ANN401  (of py7zr, which has no types for it)
    """Return the modification time in nanoseconds; 0 if the archive has none."""
    written = member.lastwritetime
    if written is None:
        return 0
    moment = written.as_datetime()
    return int(moment.timestamp()) * 10**9 if isinstance(moment, datetime) else 0


class _Extraction:
    """A thread that decompresses an archive, and what it has decompressed."""

    def __init__(self, archive: "SevenZipFile", names: Sequence[str]) -> None:
        """Prepare to decompress.

        Args:
            archive: the archive.
            names: the members to hand over, in the order of the archive.
        """
        self._archive = archive
        self._names = names
        self._done: Queue[tuple[str, bytes] | Exception | None] = Queue(maxsize=1)
        self._stopped = Event()
        self._thread: Thread | None = None
        self.total = 0
        """Number of bytes decompressed so far."""

    def read(self, key: str, size: int) -> bytes:
        """Return a member's bytes, at most ``MAX_FILE_BYTES + 1``; members before it are dropped.

        Args:
            key: identifies the member; see ``_key``.
            size: its size, as the archive gives it.

        Raises:
            SkipDocument: the archive is damaged, or unpacks to too much.
        """
        if not size:
            return b""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        while (found := self._done.get()) is not None:
            if isinstance(found, Exception):
                raise found
            if found[0] == key:
                return found[1]
        raise SkipDocument(SkipReason.DAMAGED, "a member is missing")

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        while self._thread is not None and self._thread.is_alive():
            with suppress(Empty):
                self._done.get(timeout=_WAIT_SECONDS)

    def add(self, key: str, data: bytes) -> None:
        """Hand over a member, once the one before has been taken."""
        self._done.put((key, data))

    def check(self, size: int) -> None:
        """Count decompressed bytes, and end the decompression if it is to end.

        Raises:
            SkipDocument: the archive unpacks to too much, or nobody reads on.
        """
        self.total += size
        if self._stopped.is_set() or self.total > MAX_UNPACKED_BYTES:
            detail = f"more than {MAX_UNPACKED_BYTES} bytes unpacked"
            raise SkipDocument(SkipReason.OVER_LIMIT, detail)

    def _run(self) -> None:
        outcome: Exception | None = None
        try:
            with parser_errors_as_damage():
                self._archive.extract(targets=self._names, factory=_writers(self))
        except (SkipDocument, MemoryError, RecursionError) as error:
            outcome = error
        self._done.put(outcome)


def _writers(extraction: _Extraction) -> Any:  # noqa: ANN401  (a class that is made here)
    """Return the factory of what py7zr writes members to."""
    from py7zr.io import Py7zIO, WriterFactory

    class Member(Py7zIO):
        def __init__(self, key: str) -> None:
            self._key = key
            self._data = bytearray()
            self._size = 0

        def write(self, s: bytes | bytearray) -> int:
            extraction.check(len(s))
            self._size += len(s)
            self._data += s[: MAX_FILE_BYTES + 1 - len(self._data)]
            return len(s)

        def read(self, size: int | None = None) -> bytes:  # noqa: ARG002
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return self._size

        def close(self) -> None:
            data, self._data = bytes(self._data), bytearray()
            if self._size:
                extraction.add(self._key, data)

    class Writers(WriterFactory):
        def create(self, filename: str) -> Member:
            return Member(filename)

    return Writers()
