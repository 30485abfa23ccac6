"""The folder of this machine that keeps copies of what is on object stores."""

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "RETRIEVAL_CACHE_DIR"
"""Environment variable that names the folder."""


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
