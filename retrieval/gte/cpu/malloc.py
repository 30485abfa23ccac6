"""Memory between one operator and the next, on the CPU.

An operator's result takes fresh memory, and glibc gives blocks of that size back to the system as
soon as they are free. The next operator's pages must then be zeroed and mapped again, one by one: a
fifth of the time of a small model in int8 (docs/encoder.md has the figures).
"""

import os
import sys
from ctypes import CDLL
from functools import cache
from typing import Final

# Of mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

_KEPT: Final = 256 << 20
"""Bytes at the end of a heap that may be free; there are as many heaps as threads, or fewer."""
_LARGEST: Final = 64 << 20
"""Bytes of a block from which on it is the system's again when it is free: states of long texts."""

_CHOSEN: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep what operators free, in this process, from now on.

    Left as it is where the environment says how memory is to be kept (the variables of
    ``mallopt(3)``), or where the C library is not glibc.

    Returns:
        whether it will.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOSEN):
        return False
    mallopt = getattr(CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _LARGEST))
