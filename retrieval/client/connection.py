"""The connection of a client: channel, TLS, deadlines, retries, errors.

Every request can be repeated without harm, so requests are retried after failures that pass. gRPC
retries requests with one answer by itself. It must not retry streams: with retries, a stream that
meets a restarting server may wait forever and miss its deadline (grpcio 1.85.3). So a stream is
retried here, until its first message has arrived.
"""

import copy
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import grpc

from retrieval.client.errors import service_error
from retrieval.client.target import check_target, is_loopback
from retrieval.client.values import number
from retrieval.domain.arguments import check_text, kind_of
from retrieval.errors import ClientClosed, InvalidArgument, NotServing, ServiceError

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_MAX_TIMEOUT = 365 * 86_400.0
"""Seconds; gRPC takes much larger values for a deadline that has passed."""
_MAX_INT32 = 2**31 - 1
_METADATA_NAME = re.compile("[a-z0-9_.-]+")

RETRYABLE = ("UNAVAILABLE", "CANCELLED")
"""Statuses that pass by themselves. With ``CANCELLED`` gRPC ends requests that an overloaded server
never saw; a request that its caller gave up is not retried, whatever its status."""

MAX_ATTEMPTS = 4
"""With pauses of 0.1, 0.2 and 0.4 seconds: enough for a burst of load to pass."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Pauses double from the first to the longest."""

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service}
                for service in (
                    "retrieval.v1.SearchService",
                    "retrieval.v1.EmbeddingService",
                    "retrieval.v1.RerankService",
                    "retrieval.v1.IndexService",
                    "indexer.v1.IngestService",
                )
            ],
            "retryPolicy": {
                "maxAttempts": MAX_ATTEMPTS,
                "initialBackoff": f"{_FIRST_PAUSE_SECONDS}s",
                "maxBackoff": f"{_LONGEST_PAUSE_SECONDS}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": RETRYABLE,
            },
        },
        {
            "name": [
                {"service": "retrieval.v1.SearchService", "method": "StreamSearch"},
                {"service": "indexer.v1.IngestService", "method": "PutDocuments"},
            ]
        },
    ]
}
"""https://github.com/grpc/grpc/blob/master/doc/service_config.md"""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to encrypt a connection; PEM files."""

    ca: Path | None = None
    """Authorities to trust for the server's certificate; None for those that the system trusts."""
    cert: Path | None = None
    """The client's own certificate, for servers that need one."""
    key: Path | None = None
    """Private key of ``cert``."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for a channel.

        Raises:
            InvalidArgument: a file can't be read, or the certificate or its key is missing.
        """
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("a client's certificate and its key go together", field="cert")
        self._check()
        ca, key, cert = (
            Path(path).read_bytes() if path else None for path in (self.ca, self.key, self.cert)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)

    def _check(self) -> None:
        """Load the files with Python's own TLS, because gRPC would not tell what is wrong."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        named = ", ".join(str(path) for path in (self.ca, self.cert, self.key) if path)
        try:
            for path in (self.ca, self.cert, self.key):
                if path:
                    Path(path).read_bytes()
            if self.ca:
                context.load_verify_locations(self.ca)
            if self.cert and self.key:
                context.load_cert_chain(self.cert, self.key, password=_no_passphrase)
        except ssl.SSLError as error:
            raise InvalidArgument(
                f"can't use the TLS files {named}: {error.reason or error}", field="tls"
            ) from error
        except OSError as error:
            raise InvalidArgument(
                f"can't read {error.filename}: {error.strerror}", field="tls"
            ) from error
        except ValueError as error:
            raise InvalidArgument(
                f"can't use the TLS files {named}: {error}", field="tls"
            ) from error


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; use a key without one")


def check_timeout(timeout: float) -> float:
    """Return a time limit in seconds, unless it can't be one.

    Raises:
        InvalidArgument: it is not a number above 0 and up to a year.
    """
    seconds = number(timeout, field="timeout")
    if seconds is None or not 0 < seconds <= _MAX_TIMEOUT:
        raise InvalidArgument(
            f"timeout is {timeout}; it must be above 0 and at most {_MAX_TIMEOUT:.0f} seconds",
            field="timeout",
        )
    return seconds


@dataclass(slots=True)
class _Closing:
    """Whether a connection is closed."""

    done: bool = False


class Endpoint:
    """Where a server is, how to reach it, and how long an answer may take."""

    def __init__(
        self, target: str, *, timeout: float, tls: Tls | None = None, token: str = ""
    ) -> None:
        """Prepare to connect; the first call connects.

        Args:
            target: the server's address, ``HOST:PORT``.
            timeout: limits one call, retries included, in seconds; at most a year.
            tls: how to encrypt; None for no encryption.
            token: sent with every call; empty for none.

        Raises:
            InvalidArgument: a malformed target, a timeout out of range, a token that would travel
                unencrypted, or certificates that can't be read.
        """
        check_target(target)
        check_timeout(timeout)
        if tls is not None and not isinstance(tls, Tls):
            raise InvalidArgument(
                f"tls is {kind_of(tls)}; give a retrieval.client.Tls, or None for none",
                field="tls",
            )
        self.target = target
        self.timeout = timeout
        self.options = _channel_options(target)
        self.credentials = tls.credentials() if tls else None
        self._token = self._token_metadata(token)
        self._more: tuple[tuple[str, str], ...] = ()
        self._closing = _Closing()
        self._has_certificate = tls is not None and tls.cert is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with every call."""
        return self._token + self._more

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, for this endpoint and its copies."""
        return self._closing.done

    @closed.setter
    def closed(self, done: bool) -> None:
        self._closing.done = done

    def with_options(
        self, *, timeout: float | None, token: str | None, metadata: Mapping[str, str] | None
    ) -> Self:
        """Return a copy with other options and the same connection; None leaves one as it is.

        Raises:
            InvalidArgument: an option that can't be sent.
        """
        other = copy.copy(self)
        if timeout is not None:
            other.timeout = check_timeout(timeout)
        if token is not None:
            other._token = self._token_metadata(token)
        if metadata is not None:
            other._more = _sendable_metadata(metadata)
        return other

    def _token_metadata(self, token: str) -> tuple[tuple[str, str], ...]:
        """Return a token as it is sent.

        Raises:
            InvalidArgument: it would travel unencrypted, or is malformed.
        """
        check_text(token, field="token")
        if token and self.credentials is None and not is_loopback(self.target):
            raise InvalidArgument(
                f"the token would travel to {self.target} unencrypted: use TLS", field="token"
            )
        if not token.isascii() or not token.isprintable():
            raise InvalidArgument(
                "the token has characters that no token has: copy it again", field="token"
            )
        return (("authorization", f"Bearer {token}"),) if token else ()

    def __repr__(self) -> str:
        """Return the address, and whether it is encrypted and still open."""
        encrypted = "no TLS" if self.credentials is None else "TLS"
        return f"{self.target!r}, {encrypted}, {'closed' if self.closed else 'open'}"

    def check_open(self) -> None:
        """Refuse a call if the client is closed.

        Raises:
            ClientClosed: it is.
        """
        if self.closed:
            raise ClientClosed(
                "the client is closed: make a new one, or use it inside its `with` block"
            )

    def error(
        self, error: grpc.RpcError, *, timeout: float | None = None, unknown: str = ""
    ) -> ServiceError | ClientClosed:
        """Return the exception to raise for a failed call.

        Args:
            error: that gRPC raised.
            timeout: of the call, in seconds; None for the client's.
            unknown: advice if the server does not know the method.
        """
        if self.closed and error.code() is grpc.StatusCode.CANCELLED:
            return closed_under_way()
        return service_error(
            error,
            target=self.target,
            timeout=self.timeout if timeout is None else timeout,
            unknown=unknown,
            encrypted=self.credentials is not None,
            has_certificate=self._has_certificate,
        )


def pause_seconds(failures: int) -> float:
    """Return the pause before the next attempt, after a number of failures in a row."""
    # After ten failures the pause is the longest in any case; a higher power might overflow.
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS)


class StreamAttempts:
    """Attempts at one stream within one deadline."""

    def __init__(self, timeout: float) -> None:
        """Start the clock.

        Args:
            timeout: limits all attempts together, in seconds.
        """
        self._until = time.monotonic() + timeout
        self._failed = 0

    @property
    def seconds_left(self) -> float:
        """Timeout of the next attempt."""
        return self._until - time.monotonic()

    def pause_after(self, error: grpc.RpcError) -> float | None:
        """Return the seconds to wait before the next attempt; None if there will be none."""
        self._failed += 1
        pause = pause_seconds(self._failed)
        passes = error.code().name in RETRYABLE
        again = passes and self._failed < MAX_ATTEMPTS and pause < self.seconds_left
        return pause if again else None


class ChangeAttempts:
    """Attempts at one change within one deadline, while the server's writing process starts.

    gRPC's own attempts end within a second, and the process takes several to start again.
    """

    def __init__(self, timeout: float, patience: float) -> None:
        """Start the clock.

        Args:
            timeout: limits all attempts together, in seconds.
            patience: seconds for which the server may say that it is not ready.
        """
        now = time.monotonic()
        self._until, self._patient_until = now + timeout, now + min(timeout, patience)
        self._failed = 0

    @property
    def seconds_left(self) -> float:
        """Timeout of the next attempt."""
        return max(self._until - time.monotonic(), 0.0)

    def pause_after(self, error: ServiceError) -> float | None:
        """Return the seconds to wait before the next attempt; None if there will be none."""
        self._failed += 1
        pause = pause_seconds(self._failed)
        again = time.monotonic() + pause < self._patient_until
        return pause if again and error.service_reason == NotServing.reason else None


def closed_under_way() -> ClientClosed:
    """Return the exception for a request whose client was closed while it waited."""
    return ClientClosed("the client was closed while this request was under way")


class Connection(Endpoint):
    """A channel to a server, with calls that block."""

    def __init__(
        self, target: str, *, timeout: float, tls: Tls | None = None, token: str = ""
    ) -> None:
        """Prepare to connect; see ``Endpoint``."""
        super().__init__(target, timeout=timeout, tls=tls, token=token)
        if self.credentials is None:
            self.channel = grpc.insecure_channel(target, options=self.options)
        else:
            self.channel = grpc.secure_channel(target, self.credentials, options=self.options)

    def close(self) -> None:
        """Close the channel; calls in flight fail."""
        self.closed = True
        self.channel.close()

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        *,
        timeout: float | None = None,
        unknown: str = "",
    ) -> ResponseT:
        """Send a request and wait for the answer.

        Args:
            method: of the server.
            request: the message.
            timeout: in seconds; None for the client's.
            unknown: advice if the server does not know the method.

        Raises:
            ClientClosed: the client is closed.
            ServiceError: the call failed; ``ServiceUnavailable`` if no server answered.
        """
        self.check_open()
        seconds = self.timeout if timeout is None else timeout
        try:
            return method(request, timeout=seconds, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.error(error, timeout=seconds, unknown=unknown) from error
        except ValueError as error:
            if not self.closed:
                raise
            raise closed_under_way() from error  # closed by another thread a moment ago

    def stream(
        self, method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> Iterator[ResponseT]:
        """Send a request and yield the streamed answers; closing the generator ends the call.

        Raises:
            ClientClosed: the client is closed.
            ServiceError: the call failed, at its start or later.
        """
        attempts, begun = StreamAttempts(self.timeout), False
        self.check_open()
        while True:
            responses = method(request, timeout=attempts.seconds_left, metadata=self.metadata)
            try:
                for response in responses:
                    begun = True
                    yield response
            except grpc.RpcError as error:
                pause = None if begun or self.closed else attempts.pause_after(error)
                if pause is None:
                    raise self.error(error) from error
            else:
                return
            finally:
                responses.cancel()  # type: ignore[no-untyped-call]  # bare in grpc-stubs
            time.sleep(pause)
            if self.closed:
                raise closed_under_way()


def _sendable_metadata(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return metadata as it is sent.

    Raises:
        InvalidArgument: a name or value that gRPC can't send, or that it sets itself.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidArgument(
            f"metadata is {kind_of(metadata)}; give a dictionary of texts", field="metadata"
        )
    for name, value in metadata.items():
        check_text(name, field="a name in metadata")
        check_text(value, field=f"metadata[{name!r}]")
        if name == "authorization":
            raise InvalidArgument("give the token as token=, not in metadata", field="metadata")
        if not _METADATA_NAME.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
            raise InvalidArgument(
                f"metadata has the name {name!r}; a name has lower-case letters, digits, '-', '_' "
                "and '.', and neither begins with grpc- nor ends in -bin",
                field="metadata",
            )
        if not value.isascii() or not value.isprintable():
            raise InvalidArgument(
                f"metadata[{name!r}] is {value!r}; it must be printable ASCII", field="metadata"
            )
    return tuple(metadata.items())


def _channel_options(target: str) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        # The server limits its answers itself.
        ("grpc.max_receive_message_length", -1),
        # Find a server that has just started at once, and not after gRPC's usual seconds.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        # And one that was away for a while soon after it is back; gRPC would wait up to 2 minutes.
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Requests of any size are sent again; gRPC would do so up to 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", _MAX_INT32),
        # Notice within 40 seconds that the server's machine is gone, while a request waits; servers
        # take a ping every 10 seconds. Without the last line it would be 90 (grpcio 1.85).
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_loopback(target):
        # A proxy can't reach this machine's own loopback addresses.
        options.append(("grpc.enable_http_proxy", 0))
    return options
