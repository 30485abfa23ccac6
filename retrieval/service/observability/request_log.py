"""Log lines: a JSON object each, with the id of the request that it is about."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["json", "text"]

MAX_MESSAGE_BYTES = 700
"""Limit for an error's message. Message and details travel in headers, where gRPC allows 8 KiB in
all; there a byte of the message can take 3 (percent-encoded), and the details repeat it twice."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the present request, in its task and in the threads that work for it."""


def set_up_logging(form: LogFormat, level: str) -> None:
    """Log to standard error.

    Args:
        form: ``"json"`` for one JSON object a line, ``"text"`` for people.
        level: ``"debug"`` (includes query texts), ``"info"`` or ``"warning"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for package in ("retrieval", "indexer"):  # a door may be in the second
        logging.getLogger(package).setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it names the processor's instructions


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for gRPC's error that a client went away just before its answer.

    The request's own line says how it ended.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not str(error).startswith('Failed "execute_batch"')


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: ``time``, ``level``, ``message`` and its fields."""

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


def one_line(text: str, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Return a text that fits a header or a log: short, without control characters.

    Args:
        text: may quote what a stranger sent.
        max_bytes: limits the result in UTF-8; a longer text ends in an ellipsis.
    """
    printable = text
    if not text.isprintable():
        printable = "".join(char if char.isprintable() else " " for char in text)
    encoded = printable.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode("utf-8")
    return encoded[: max_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"
