"""What all routes share: the server behind them, who asks, and answers in JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response

from retrieval.gateway.upstream import Caller, Upstream, caller_of


@dataclass(frozen=True, slots=True)
class Gateway:
    """The server behind the routes, and how long a request may take there."""

    upstream: Upstream
    timeout: float

    def caller(self, request: Request, *, timeout: float | None = None) -> Caller:
        """Return who asks, as the headers of the request say.

        Args:
            request: the HTTP request.
            timeout: seconds that it may take; None for the usual limit.

        Raises:
            Refused: a token or a time limit that no client sends.
        """
        return caller_of(
            request.scope["headers"],
            request_id=request.scope["state"]["request_id"],
            timeout=self.timeout if timeout is None else timeout,
        )


def as_json(content: object, *, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    """Return an answer in JSON; numbers that are not finite become null."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
    return Response(body, status, {**headers}, media_type="application/json")
