"""Settings of the whole process that make a program of ours faster, or let it run at all.

They are for processes that are the project's own, such as ``retrieval serve`` and ``indexer
build``; in any other process loading a model changes nothing (``retrieval.domain.own_process``).
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL
from functools import cache
from typing import Final

from retrieval.gte.cpu.switches import is_on

# Parameters of mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

_KEPT: Final = 256 << 20
"""Free bytes that may stay at the end of a heap; glibc has at most as many heaps as threads."""
_LARGEST: Final = 64 << 20
"""Smallest block in bytes that returns to the system when it is freed: states of long texts."""

_CHOSEN: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables with which a user sets the same parameters."""

_COMPILER_FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable that names the folder for what torch compiles."""


def tune_process(device: str) -> None:
    """Set this process up for a model on ``"cpu"`` or ``"cuda"``; call it before loading one."""
    do_without_temporary_files()
    if device == "cpu" and is_on("malloc"):
        keep_freed_memory()


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep the memory that operators free, in this process, from now on.

    Every operator allocates memory for its result. By default glibc returns blocks of that size to
    the system when they are freed, and the pages of the next operator's result must be zeroed and
    mapped again: a fifth of the time of a small model in int8 (docs/encoder.md has the figures).

    Nothing changes if the environment sets these parameters already, or if the C library is not
    glibc.

    Returns:
        whether glibc will keep it.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOSEN):
        return False
    mallopt = getattr(CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _LARGEST))


def do_without_temporary_files() -> None:
    """Name a folder for torch's compiler if no temporary file can be made (read-only containers).

    Parts of torch import the compiler, which makes that folder on import although nothing is
    compiled here. An existing setting in the environment is kept.
    """
    if _COMPILER_FOLDER in os.environ:
        return
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ[_COMPILER_FOLDER] = os.sep


@contextmanager
def compiler_folder_unchanged() -> Iterator[None]:
    """Undo what torch's compiler does to the environment if it is imported in this context.

    Work on the meta device may import it, and its import names its folder.
    """
    was_named = _COMPILER_FOLDER in os.environ
    try:
        yield
    finally:
        if not was_named:
            os.environ.pop(_COMPILER_FOLDER, None)
