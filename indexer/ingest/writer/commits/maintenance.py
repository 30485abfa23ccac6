"""The thread that merges and indexes what many small commits have written."""

import logging
import time
from pathlib import Path
from threading import Condition, Thread
from typing import Final

from retrieval.errors import RetrievalError
from retrieval.store import Maintained, Writer, open_writer

LOG = logging.getLogger("retrieval.ingest")

_REST: Final = 10.0
"""Share of time for maintenance: after each look it rests for this many times as long as that took,
so that searches keep most of the processor."""
_MIN_REST_SECONDS: Final = 0.5
_SETTLED_SECONDS: Final = 3.0
"""Time after the last commit to look once more: servers read that generation by then, so the
write-ahead log can be copied to its end, and begins anew with the next commit."""
_RETRY_SECONDS: Final = 30.0
"""Rest after a failure, such as a full disk."""


class Maintenance:
    """Does what is due after commits, beside them."""

    def __init__(self, folder: Path) -> None:
        """Start the thread.

        Args:
            folder: the index.
        """
        self._folder = folder
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
        while self._wait_until_due():
            started = time.monotonic()
            rest = _MIN_REST_SECONDS
            try:
                with open_writer(self._folder, create=False, shared=True) as writer:
                    self._work(writer)
                rest = max(rest, _REST * (time.monotonic() - started))
            except RetrievalError as error:
                LOG.warning("the index is not maintained: %s", error.message)
                rest = _RETRY_SECONDS
                self.committed()
            with self._changed:
                self._changed.wait_for(lambda: self._closed, rest)

    def _wait_until_due(self) -> bool:
        """Wait for the next commit, or until the last one has settled; return False at the end."""
        with self._changed:
            seconds = None if self._settled else _SETTLED_SECONDS
            self._settled = not self._changed.wait_for(lambda: self._due or self._closed, seconds)
            self._due = False
            return not self._closed

    def _work(self, writer: Writer) -> None:
        while not self._closed and (done := writer.maintain()) != Maintained():
            LOG.debug("maintained %s: merged %d segments", self._folder.name, done.merged)
