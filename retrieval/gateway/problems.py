"""Errors over HTTP: problem details (RFC 9457), with the server's reasons and messages.

A status of gRPC and its reason become a status of HTTP by one table. The forms of others (OpenAI,
TEI, Dify) have the same members beside those of problem details.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from retrieval.errors import InvalidArgument, RetrievalError, ServiceError

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "CANCELLED": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP's status for each of gRPC's. Any other is 500, and 502 if no server of ours answered."""

REASONS: Final[Mapping[str, int]] = {
    "OVERLOADED": 503,
    "DISK_FULL": 507,
    "ANSWER_TOO_LARGE": 400,
    "MESSAGE_TOO_LARGE": 413,
}
"""Reasons whose status is another one than that of their gRPC status."""

_RETRY_SECONDS: Final = {429: 1, 503: 1, 507: 5}
"""``Retry-After`` for errors that pass, where the server does not say."""

_REASON_OF_STATUS: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TOO_SLOW",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "INVALID_ARGUMENT",
    431: "HEADERS_TOO_LARGE",
}
"""Reasons of errors that a web framework finds by itself."""


OWN_REASONS: Final = (
    *_REASON_OF_STATUS.items(),
    (403, "FOREIGN_ORIGIN"),
    (404, "MODEL_NOT_FOUND"),
    (413, "MESSAGE_TOO_LARGE"),
    (413, "TEXT_TOO_LONG"),
    (421, "FOREIGN_HOST"),
    (501, "NOT_WRITABLE"),
    (503, "UNAVAILABLE"),
    (504, "DEADLINE_EXCEEDED"),
)
"""Statuses and reasons that the gateway itself gives, for the documentation."""

_OPENAI_TYPES: Final[Mapping[int, str]] = {
    **dict.fromkeys((400, 404, 405, 409, 413, 421, 422), "invalid_request_error"),
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_TEI_TYPES: Final[Mapping[int, str]] = {
    **dict.fromkeys((400, 404, 409, 413, 422), "Validation"),
    **dict.fromkeys((429, 503), "Overloaded"),
    **dict.fromkeys((401, 403), "Unauthorized"),
}
_DIFY_CODES: Final[Mapping[int, int]] = {401: 1001, 403: 1002, 404: 2001}
"""Dify's own codes for a token that is missing or malformed or may not, and for no collection."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, as it is answered."""

    status: int
    reason: str
    """As ``ErrorInfo.reason``, in UPPER_SNAKE_CASE."""
    detail: str
    """One line for people."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """As ``ErrorInfo.metadata``."""
    retry_after: int | None = None
    """Seconds; None if a retry does not help."""

    def body(self, path: str) -> dict[str, Any]:
        """Return the members of problem details, and those that clients of a path read.

        Args:
            path: of the request.
        """
        return {
            **self._of_others(path),
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "metadata": dict(self.metadata),
        }

    def _of_others(self, path: str) -> dict[str, Any]:
        if path.startswith(("/v1/embeddings", "/v1/models")):
            error = {"message": self.detail, "type": _OPENAI_TYPES.get(self.status, "server_error")}
            return {"error": {**error, "param": self.metadata.get("field"), "code": self.reason}}
        if path in ("/v1/rerank", "/v2/rerank"):
            return {"message": self.detail}
        if path in ("/embed", "/rerank"):
            return {"error": self.detail, "error_type": _TEI_TYPES.get(self.status, "Backend")}
        if path.startswith("/retrieval"):
            return {"error_code": _DIFY_CODES.get(self.status, 500), "error_msg": self.detail}
        return {}

    def headers(self) -> dict[str, str]:
        """Return the headers that go with the error."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers


class Refused(Exception):
    """Ends a request with a problem; every other error of a request becomes a problem, too."""

    def __init__(self, problem: Problem) -> None:
        """End with this."""
        super().__init__(problem.detail)
        self.problem = problem


def of_service(error: ServiceError, *, retry_seconds: float | None, ours: bool) -> Problem:
    """Return the problem of a request that the server refused, or that did not reach it.

    Args:
        error: as the client raises it.
        retry_seconds: when to try again, if the server says so.
        ours: whether one of our servers made the error.
    """
    status = REASONS.get(error.service_reason) or STATUSES.get(error.status, 500 if ours else 502)
    retry = _RETRY_SECONDS.get(status)
    if retry_seconds is not None:
        retry = max(1, math.ceil(retry_seconds))
    metadata = error.metadata if ours else {}
    return Problem(status, error.service_reason or error.status, error.message, metadata, retry)


def of_error(error: RetrievalError) -> Problem:
    """Return the problem of a request that the gateway refused before it asked the server."""
    if isinstance(error, InvalidArgument):
        return Problem(400, error.reason, error.message, error.metadata)
    return internal()


def of_status(status: int, detail: str) -> Problem:
    """Return the problem of an error that has nothing but a status of HTTP and a message."""
    return Problem(status, _REASON_OF_STATUS.get(status, "INVALID_ARGUMENT"), detail)


def internal() -> Problem:
    """Return the problem of an error that is nobody's fault but the gateway's."""
    return Problem(500, "INTERNAL", "internal error: the gateway's log says more")
