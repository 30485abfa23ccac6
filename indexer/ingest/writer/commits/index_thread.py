"""A thread with a writer of its own: only one thread may use a writer."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from retrieval.errors import UserError
from retrieval.store import Location, Writer, open_writer

Result = TypeVar("Result")


class IndexThread:
    """Calls functions with a writer of one index, one after the other, in a thread of its own."""

    def __init__(
        self, place: Location, name: str, opened: Callable[[Writer], None] = lambda _: None
    ) -> None:
        """Open nothing yet.

        Args:
            place: the index.
            name: of the thread.
            opened: called with each writer that is opened; it may raise an error for the caller.
        """
        self._place = place
        self._opened = opened
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._writer: Writer | None = None

    def call(self, function: Callable[[Writer], Result]) -> "Future[Result]":
        """Call a function in the thread; return what becomes its result."""
        return self._executor.submit(self._call, function)

    def close(self) -> None:
        """Wait for the call in progress, drop those that wait, and close the index's files."""
        self._executor.submit(self._close_writer)
        self._executor.shutdown(wait=True)

    def _call(self, function: Callable[[Writer], Result]) -> Result:
        if self._writer is not None and self._writer.is_replaced:
            self._close_writer()
        if self._writer is None:
            writer = open_writer(self._place, create=False, shared=True)
            try:
                self._opened(writer)
            except BaseException:
                writer.close()
                raise
            self._writer = writer
        try:
            return function(self._writer)
        except UserError:  # the writer is as it was
            raise
        except BaseException:
            self._close_writer()  # whatever state it is in
            raise

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
