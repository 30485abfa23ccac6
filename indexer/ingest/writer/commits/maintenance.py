"""The thread that merges and indexes what many small commits have written."""

import logging
import time
from threading import Condition, Thread
from typing import Final

from retrieval.errors import RetrievalError
from retrieval.store import Location, Maintained, Writer, open_writer

LOG = logging.getLogger("retrieval.ingest")

_REST: Final = 10.0
"""Share of a core for maintenance: after each look it rests for this many times as long as that
used a core, so that searches keep most of the processor."""
_MIN_REST_SECONDS: Final = 0.5
_SETTLED_SECONDS: Final = 3.0
"""Time after the last commit to look once more: servers read that generation by then, so the
write-ahead log can be copied to its end, and begins anew with the next commit."""
_IDLE_SECONDS: Final = 60.0
"""Time without work after which the index's files are closed. Each opening and closing moves the
database's log into it, so they are kept open while there are commits."""
_RETRY_SECONDS: Final = 30.0
"""Rest after a failure, such as a full disk."""


class Maintenance:
    """Does what is due after commits, beside them."""

    def __init__(self, place: Location) -> None:
        """Start the thread.

        Args:
            place: the index.
        """
        self._place = place
        self._due = True  # the process before this one may have left something
        self._settled = True
        self._closed = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="maintenance", daemon=True)
        self._thread.start()

    def committed(self) -> None:
        """Say that there was a commit."""
        with self._changed:
            self._due = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread once its present step is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        writer: Writer | None = None
        while (due := self._wait_until_due()) is not None:
            if not due and writer is not None:
                writer.close()
                writer = None
            if not due:
                continue
            started = time.thread_time()
            rest = _MIN_REST_SECONDS
            try:
                if writer is None:
                    writer = open_writer(self._place, create=False, shared=True)
                self._work(writer)
                rest = max(rest, _REST * (time.thread_time() - started))
            except RetrievalError as error:
                LOG.warning("the index is not maintained: %s", error.message)
                rest = _RETRY_SECONDS
                self.committed()
                if writer is not None:
                    writer.close()
                    writer = None
            with self._changed:
                self._changed.wait_for(lambda: self._closed, rest)
        if writer is not None:
            writer.close()

    def _wait_until_due(self) -> bool | None:
        """Wait for the next commit; return False if there is none for long, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closed, _IDLE_SECONDS)
            due, self._due = self._due, False
            return None if self._closed else due

    def _work(self, writer: Writer) -> None:
        while not self._closed and (done := writer.maintain()) != Maintained():
            LOG.debug("maintained %s: merged %d segments", self._place, done.merged)
