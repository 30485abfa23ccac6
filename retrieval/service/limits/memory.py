"""Giving the memory of large messages back to the system.

The C library keeps freed memory for the next blocks of that size. What models free is wanted again
at once (``retrieval.gte.cpu``); the pieces of a large message are not.
``RETRIEVAL_SERVER_OFF=trim`` leaves the memory with the C library; see ``switches``.
"""

import asyncio
import sys
from collections.abc import Callable
from ctypes import CDLL, c_size_t
from functools import cache
from typing import Final

from retrieval.service.limits.switches import is_on
from retrieval.service.scheduling.threads import AnyFuture

_WORTHWHILE: Final = 16 << 20
"""Bytes that must have been freed before a trim: it takes milliseconds, and models then fault
their pages in again."""
_PAUSE_SECONDS: Final = 1.0
"""From the first release to the trim, so that one trim serves many messages."""


class Trimmer:
    """Gives the memory of large messages back, a moment after they are gone.

    Belongs to the event loop: not thread-safe.
    """

    def __init__(self, trim: Callable[[], None] | None = None) -> None:
        """Wait for something to give back.

        Args:
            trim: gives freed memory back to the system; None for the C library's way, if there is
                one and the environment does not turn it off.

        Raises:
            InvalidArgument: the environment turns something unknown off.
        """
        self._trim = trim or (trim_memory if is_on("trim") else None)
        self._freed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: AnyFuture | None = None

    def freed(self, size: int) -> None:
        """Note that a message of this many bytes is gone."""
        self._freed += size
        if self._freed >= _WORTHWHILE and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._start)

    def close(self) -> None:
        """Stop trimming."""
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        self._timer, self._freed = None, 0
        if self._trim is not None:
            # A trim locks the C library's arenas one after the other, each for a moment.
            self._trimming = asyncio.get_running_loop().run_in_executor(None, self._trim)


def trim_memory() -> None:
    """Give all freed memory of the process back to the system, if the C library is glibc."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes = [c_size_t]
    return trim
