"""The connection under the client: channel, deadlines, retries, errors."""

import ipaddress
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from retrieval.client.errors import service_error
from retrieval.client.retries import SERVICE_CONFIG, StreamAttempts
from retrieval.errors import InvalidArgument, ServiceError

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_LONGEST_TIMEOUT_SECONDS = 365 * 86_400.0
"""Longer timeouts, infinite ones too, become this one: gRPC counts in a 64-bit integer."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted; PEM files."""

    ca: Path | None = None
    """Whom to trust to sign the server's certificate; None = those that the system trusts."""
    cert: Path | None = None
    """The client's own certificate, for servers that ask for one."""
    key: Path | None = None
    """Its private key."""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel.

        Raises:
            InvalidArgument: a file can't be read, or one of certificate and key is missing.
        """
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("a client's certificate and its key go together", field="cert")
        try:
            ca, key, cert = (
                path.read_bytes() if path else None for path in (self.ca, self.key, self.cert)
            )
        except OSError as error:
            raise InvalidArgument(
                f"can't read {error.filename}: {error.strerror}", field="tls"
            ) from error
        return grpc.ssl_channel_credentials(ca, key, cert)


class Endpoint:
    """Where a server is, how to reach it, and how long its answers may take."""

    def __init__(
        self, target: str, *, timeout: float, tls: Tls | None = None, token: str = ""
    ) -> None:
        """Prepare to connect; the first call does.

        Args:
            target: the server's address, ``HOST:PORT``.
            timeout: most seconds that one call may take, retries counted; at most a year.
            tls: how to encrypt; None = not at all.
            token: sent with every call; empty = none.

        Raises:
            InvalidArgument: no target, a timeout that is not above 0, a token that others could
                read on its way, or certificates that can't be read.
        """
        if not target:
            raise InvalidArgument("no target: give the server's HOST:PORT", field="target")
        if not timeout > 0:
            raise InvalidArgument(f"timeout is {timeout}; it must be above 0", field="timeout")
        self.target = target
        self.timeout = min(timeout, _LONGEST_TIMEOUT_SECONDS)
        if token and tls is None and not _is_loopback(target):
            raise InvalidArgument(
                f"the token would go to {target} for everyone on the way to read: use TLS",
                field="token",
            )
        if not token.isascii() or not token.isprintable():
            raise InvalidArgument("the token has characters that no token has", field="token")
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.options = _channel_options(target)
        self.credentials = tls.credentials() if tls else None

    def error(self, error: grpc.RpcError) -> ServiceError:
        """The exception to raise for a failed call."""
        return service_error(error, target=self.target, timeout=self.timeout)


class Connection(Endpoint):
    """A channel to a server, for threads that wait."""

    def __init__(
        self, target: str, *, timeout: float, tls: Tls | None = None, token: str = ""
    ) -> None:
        """Prepare to connect; see ``Endpoint``."""
        super().__init__(target, timeout=timeout, tls=tls, token=token)
        if self.credentials is None:
            self.channel = grpc.insecure_channel(target, options=self.options)
        else:
            self.channel = grpc.secure_channel(target, self.credentials, options=self.options)

    def call(
        self, method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> ResponseT:
        """Send a request and wait for the answer.

        Raises:
            ServiceError: it failed; ``ServiceUnavailable`` where no server answered.
        """
        try:
            return method(request, timeout=self.timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.error(error) from error

    def stream(
        self, method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> Iterator[ResponseT]:
        """Send a request and yield what is streamed back; closing the generator hangs up.

        Raises:
            ServiceError: it failed, at its start or on the way.
        """
        attempts, begun = StreamAttempts(self.timeout), False
        while True:
            responses = method(request, timeout=attempts.seconds_left, metadata=self.metadata)
            try:
                for response in responses:
                    begun = True
                    yield response
            except grpc.RpcError as error:
                pause = None if begun else attempts.pause_after(error)
                if pause is None:
                    raise self.error(error) from error
            else:
                return
            finally:
                responses.cancel()  # type: ignore[no-untyped-call]  # bare in grpc-stubs
            time.sleep(pause)


def _channel_options(target: str) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
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
