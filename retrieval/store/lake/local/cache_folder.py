"""The folder of this machine that keeps copies of what is on object stores."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from retrieval.errors import InvalidArgument

VARIABLE: Final = "RETRIEVAL_CACHE_DIR"
"""Environment variable that names the folder."""
SIZE_VARIABLE: Final = "RETRIEVAL_CACHE_SIZE"
"""Environment variable with the maximum size of the folder."""
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(I?)B?", re.IGNORECASE)
_DEFAULT_SHARE: Final = 0.5
"""Without a setting, the folder may take this part of what it holds and of the free space."""


def cache_folder() -> Path:
    """Return the folder of copies: ``$RETRIEVAL_CACHE_DIR``, or a folder of this user's caches.

    All that is in it can be deleted while no program uses it.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "gte-retrieval"


def folder_of(index_id: str) -> Path:
    """Return the folder of copies of one index."""
    return cache_folder() / index_id


def cache_limit() -> int:
    """Return the maximum size of the folder in bytes: ``$RETRIEVAL_CACHE_SIZE``, such as ``20GB``.

    Files of words are always copied, and count. Tables are copied as far as there is room; 0 means
    never. Without the variable, it is half of what the folder holds and could hold.

    Raises:
        InvalidArgument: the variable is no size.
        OSError: the disk can't be asked.
    """
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    if not text:
        return int(_DEFAULT_SHARE * (folder_size(cache_folder()) + _free(cache_folder())))
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidArgument(
            f"{SIZE_VARIABLE} must be a size such as 20GB or 500MB, or 0, not {text!r}",
            field=SIZE_VARIABLE,
        )
    number, unit, binary = found.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))


def folder_size(folder: Path) -> int:
    """Return the total size of the files in a folder; others may be changing them."""
    return sum(size for _, size in files_in(folder))


def files_in(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield all files in a folder with their sizes; others may be changing them."""
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            with suppress(FileNotFoundError):  # listed, then removed
                yield path, path.lstat().st_size


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
