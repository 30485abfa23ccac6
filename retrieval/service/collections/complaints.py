"""Failures that come again and again, each logged once."""

import logging
from collections import defaultdict
from typing import Final

MAX_DIFFERENT: Final = 8
"""Limits the different failures that are logged in a row: a message may differ every time."""


class Complaints:
    """Logs each failure of a subject once until it succeeds."""

    def __init__(self, log: logging.Logger) -> None:
        """Start without any.

        Args:
            log: gets the lines, as warnings.
        """
        self._log = log
        self._logged: defaultdict[str, set[str]] = defaultdict(set)
        """Subject → failures that were logged since its last success."""

    def add(self, subject: str, what: str, error: Exception | None = None) -> None:
        """Log a failure that will be tried again.

        Args:
            subject: such as a collection.
            what: the line, without an end.
            error: the cause, if its traceback is to be logged.
        """
        logged = self._logged[subject]
        if what in logged or len(logged) >= MAX_DIFFERENT:
            return
        logged.add(what)
        self._log.warning("%s; trying again", what, exc_info=error)

    def settle(self, subject: str) -> bool:
        """Forget what was logged about a subject; return whether there was something."""
        return bool(self._logged.pop(subject, None))
