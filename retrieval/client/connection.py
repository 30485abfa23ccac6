"""The connection under the client: channel, deadlines, retries, errors."""

import ipaddress
import json
from collections.abc import Iterator
from typing import TypeVar

import grpc

from retrieval.client.errors import service_error
from retrieval.errors import InvalidArgument

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

# Every request can be repeated without harm, and UNAVAILABLE is what may pass by itself.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": f"retrieval.v1.{service}"}
                for service in ("SearchService", "EmbeddingService", "IndexService")
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class Connection:
    """A channel to a server, and how long its answers may take."""

    def __init__(self, target: str, *, timeout: float) -> None:
        """Prepare to connect; the first call does.

        Args:
            target: the server's address, ``HOST:PORT``.
            timeout: most seconds that one call may take, retries counted.

        Raises:
            InvalidArgument: no target, or a timeout that is not above 0.
        """
        if not target:
            raise InvalidArgument("no target: give the server's HOST:PORT", field="target")
        if not timeout > 0:
            raise InvalidArgument(f"timeout is {timeout}; it must be above 0", field="timeout")
        self.target = target
        self.timeout = timeout
        self.channel = grpc.insecure_channel(target, options=_channel_options(target))

    def call(
        self, method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> ResponseT:
        """Send a request and wait for the answer.

        Raises:
            ServiceError: it failed; ``ServiceUnavailable`` where no server answered.
        """
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise service_error(error, target=self.target, timeout=self.timeout) from error

    def stream(
        self, method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> Iterator[ResponseT]:
        """Send a request and yield what is streamed back; closing the generator hangs up.

        Raises:
            ServiceError: it failed, at its start or on the way.
        """
        responses = method(request, timeout=self.timeout)
        try:
            yield from responses
        except grpc.RpcError as error:
            raise service_error(error, target=self.target, timeout=self.timeout) from error
        finally:
            responses.cancel()  # type: ignore[no-untyped-call]  # bare in grpc-stubs


def _channel_options(target: str) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # The server limits its answers.
        ("grpc.max_receive_message_length", -1),
        # A server that was just started is found at once, not after gRPC's usual seconds.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _is_loopback(target):
        # A proxy for the outside world knows nothing of this machine's own addresses.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
