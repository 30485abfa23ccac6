"""SQL functions for filters: parts of a URI, and patterns.

Pattern matching never backtracks over more than one ``**`` or ``*``, so it can't take exponential
time.
"""

import fnmatch
import re
import sqlite3
from functools import lru_cache
from pathlib import PurePosixPath

_ANY_FOLDERS = "**"


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that conditions call."""
    for function in (filter_glob, filter_path_glob):
        connection.create_function(function.__name__, 2, function, deterministic=True)


def filter_path(uri: str) -> str:
    """Return a document's path within its root: its URI without the root's name."""
    return uri.partition("/")[2] or uri


def filter_extension(uri: str) -> str:
    """Return the extension of a document's file, in lower case and without its dot."""
    return PurePosixPath(uri).suffix[1:].lower()


def filter_glob(pattern: str, text: str | None) -> bool:
    """Whether a pattern of ``*``, ``?`` and ``[...]`` matches a whole text; never for None."""
    return text is not None and bool(_pattern(pattern).fullmatch(text))


def filter_path_glob(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path part by part; ``**`` stands for any number of parts."""
    patterns, parts = pattern.split("/"), path.split("/")
    at = part = 0
    # The last "**", and the part from which it was last tried. Backtracking to that one suffices.
    any_folders, tried = -1, 0
    while part < len(parts):
        if at < len(patterns) and patterns[at] == _ANY_FOLDERS:
            any_folders, tried = at, part
            at += 1
        elif at < len(patterns) and _pattern(patterns[at]).fullmatch(parts[part]):
            at, part = at + 1, part + 1
        elif any_folders >= 0:
            tried += 1
            at, part = any_folders + 1, tried
        else:
            return False
    return all(rest == _ANY_FOLDERS for rest in patterns[at:])


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    # With several stars, the expression that fnmatch makes does not backtrack into earlier stars.
    return re.compile(fnmatch.translate(pattern))
