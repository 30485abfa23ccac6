"""Failures that come again and again, logged once."""

import logging


class Complaints:
    """Logs a failure once until another one of the same subject, or a success."""

    def __init__(self, log: logging.Logger) -> None:
        """Start without any.

        Args:
            log: gets the lines, as warnings.
        """
        self._log = log
        self._last: dict[str, str] = {}

    def add(self, subject: str, what: str) -> None:
        """Log a failure that will be tried again.

        Args:
            subject: such as a collection.
            what: the line, without an end.
        """
        if self._last.get(subject) != what:
            self._last[subject] = what
            self._log.warning("%s; trying again", what)

    def settle(self, subject: str) -> bool:
        """Forget what was logged about a subject; return whether there was something."""
        return self._last.pop(subject, None) is not None
