"""The log: a JSON object a line, each with the id of the request that it is about."""

import json
import logging
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["json", "text"]

REQUEST_ID = "x-request-id"
"""Header that a client may give a request's id in, and that every answer names it in."""

_MAX_ID_CHARS = 128

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that is being answered, here and in the threads that work for it."""


def take_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id that a client gave, if it is short and printable, else a new one."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str):
            fits = 0 < len(value) <= _MAX_ID_CHARS and value.isascii() and value.isprintable()
            return value if fits else _new_id()
    return _new_id()


def _new_id() -> str:
    return secrets.token_hex(8)


def set_up_logging(form: LogFormat, level: str) -> None:
    """Log to standard error.

    Args:
        form: a JSON object a line, or lines for people.
        level: ``"debug"`` (query texts, too), ``"info"`` or ``"warning"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("retrieval").setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than gRPC's finding that a client went away just before its answer.

    That has a line of its own, which says how the request ended.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not str(error).startswith('Failed "execute_batch"')


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ``time``, ``level``, ``message``, and what was logged with."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter.format``."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if request := request_id.get():
            entry["request_id"] = request
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
