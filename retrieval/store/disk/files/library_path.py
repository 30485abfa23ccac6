"""Names of files for libraries that know only names in UTF-8."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPEN_FILES = Path("/proc/self/fd")
"""Where Linux shows a process its open files: a file can be opened by its number there, whatever
its name is, and even if it has none any more."""


@contextmanager
def library_path(path: Path) -> Iterator[str]:
    """A name by which a library written in another language can open a file or folder.

    Args:
        path: may hold bytes that are not UTF-8, which Python keeps as surrogates.

    Yields:
        the path itself if it is valid UTF-8; else another name of the same file, which holds
        for as long as the block runs.

    Raises:
        OSError: there is no file.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield str(OPEN_FILES / str(descriptor))
        finally:
            os.close(descriptor)
    else:
        yield name
