"""Settings of a gateway: where it listens, which server it asks, and its limits."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.client import DEFAULT_TARGET, DEFAULT_TIMEOUT, Tls
from retrieval.client.target import check_target, is_loopback
from retrieval.errors import InvalidArgument

DEFAULT_HTTP_PORT: Final = 8080
DEFAULT_GRACE_SECONDS: Final = 10.0
"""As for the server: most requests take less."""
_ORIGIN = re.compile(r"https?://[^/\s]+")
_HOST = re.compile(r"[^/\s]+")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a gateway; the limits of requests themselves are the server's."""

    body_bytes: int = 64 << 20
    """Bytes of one request's body: as many as a message to the server may have."""
    body_budget: int = 256 << 20
    """Bytes of the bodies of all requests in flight."""
    concurrent_requests: int = 512
    """Requests in flight at once: as many as the server takes."""
    connections: int = 1024
    """Connections open at once."""
    head_bytes: int = 32 << 10
    """Bytes of a request's line and headers; browsers and proxies send less than 16 KiB."""
    hello_seconds: float = 10.0
    """Seconds for the headers of a request to arrive, TLS handshake included."""
    stall_seconds: float = 30.0
    """Seconds for a body to arrive or an answer to be taken; a second more for each 64 KiB."""
    idle_seconds: int = 60
    """How long a connection may have no request; longer than the pools of usual clients wait."""

    def __post_init__(self) -> None:
        """Refuse limits that no request could keep.

        Raises:
            InvalidArgument: a limit is out of range.
        """
        for option, value in (
            ("max-body-bytes", self.body_bytes),
            ("max-requests", self.concurrent_requests),
            ("max-connections", self.connections),
        ):
            if value < 1:
                raise InvalidArgument(f"--{option} is {value}; it must be at least 1", field=option)
        if self.body_budget < self.body_bytes:
            raise InvalidArgument(
                f"--body-budget is {self.body_budget}; it must be at least --max-body-bytes, "
                f"{self.body_bytes}",
                field="body-budget",
            )


@dataclass(frozen=True, slots=True)
class HttpTls:
    """Files for HTTPS; PEM."""

    cert: Path
    """The gateway's certificate, followed by its intermediate certificates."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """Authorities that sign client certificates; None if clients need no certificate."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The settings of ``retrieval gateway``."""

    host: str = "127.0.0.1"
    """Name or IP address to listen on, without the brackets of IPv6."""
    port: int = DEFAULT_HTTP_PORT
    """0 lets the system pick a free port."""
    target: str = DEFAULT_TARGET
    """The server's address, ``HOST:PORT``."""
    target_tls: Tls | None = None
    """How to encrypt the connection to the server; None for no encryption."""
    tls: HttpTls | None = None
    """None for HTTP without encryption."""
    insecure: bool = False
    """Whether other machines may connect without TLS or tokens, or requests travel unencrypted."""
    timeout: float = DEFAULT_TIMEOUT
    """Limits a request, in seconds; a client may ask for less."""
    cors_origins: Sequence[str] = ()
    """Origins of web pages that may use the gateway, such as ``https://example.org``."""
    allowed_hosts: Sequence[str] = ()
    """Names by which clients may reach the gateway, besides those of the address it listens on."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    """How long requests in flight may go on after the signal to stop."""
    limits: HttpLimits = HttpLimits()

    def __post_init__(self) -> None:
        """Refuse settings that expose the server or its tokens by accident.

        Raises:
            InvalidArgument: an address open to others without TLS, a server elsewhere without TLS,
                or a malformed origin or host.
        """
        check_target(self.target)
        if not self.insecure:
            self._check_encrypted()
        if not 0 <= self.grace_seconds < math.inf:
            raise InvalidArgument(
                f"--grace is {self.grace_seconds}; it must be a number of seconds, 0 or more",
                field="grace_seconds",
            )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidArgument(
                    f"--cors-origin is {origin!r}; give scheme and host, such as "
                    "https://example.org",
                    field="cors_origins",
                )
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise InvalidArgument(
                    f"--allowed-host is {host!r}; give a name, such as search.example.org",
                    field="allowed_hosts",
                )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the gateway."""
        return is_loopback(f"{self.host}:0")

    @property
    def address(self) -> str:
        """Return ``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _check_encrypted(self) -> None:
        if not self.is_loopback and self.tls is None:
            raise InvalidArgument(
                f"other machines may reach {self.address}, and nothing is encrypted: give "
                "--tls-cert and --tls-key; or give --insecure if that is what you want, or listen "
                "on 127.0.0.1",
                field="listen",
            )
        local = is_loopback(self.target) or self.target.startswith("unix:")
        if not local and self.target_tls is None:
            raise InvalidArgument(
                f"requests and tokens would travel to {self.target} unencrypted: give --tls or "
                "--ca; or give --insecure if that is what you want",
                field="target",
            )
