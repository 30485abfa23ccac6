"""What a server is told when it starts: where to listen, what to serve, how much to take."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.domain.resource_names import (
    COLLECTION_ID,
    COLLECTION_RULE,
    DEFAULT_COLLECTION,
    lower_cased,
)
from retrieval.errors import InvalidArgument
from retrieval.store import Location, LocationLike

DEFAULT_PORT = 50051
DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_PORT}"
DEFAULT_GRACE_SECONDS = 10.0
DEFAULT_RELOAD_SECONDS = 1.0

MESSAGE_COPIES: Final = 2
"""How often a message's bytes count against the budget: gRPC's own copy and ours, or the bytes and
what is read from them. A third copy exists for a moment, of one message at a time."""

_MAX_PORT = 65_535
_INDEX_OPTION = re.compile(rf"(?P<name>{COLLECTION_ID})=(?P<folder>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on."""

    host: str
    """Name or IP address, without the brackets of IPv6."""
    port: int
    """0 lets the system pick a free one."""

    def __str__(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a server's certificates lie; PEM."""

    cert: Path
    """The server's certificate, and those that lead to its root."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """Clients must show a certificate that one of these signed; None: they need none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest requests that are taken; larger ones are refused with a message that says so.

    The limits of a search itself are constants of ``retrieval.search``.
    """

    batch_size: int = 256
    """Searches or texts in one request."""
    batch_passages: int = 20_000
    """Passages that the searches of one request may ask for, those of pages before counted."""
    text_chars: int = 262_144
    """Characters of a text to embed or count."""
    request_tokens: int = 2_097_152
    """Tokens of the texts to embed in one request, as many as the model reads of each: those of 256
    texts of 8,192."""
    neighbours: int = 100
    """Passages before or after a passage."""
    message_bytes: int = 64 << 20
    """Bytes of a request, and of an answer."""
    concurrent_requests: int = 512
    """Requests under way at once, waiting ones counted."""
    message_budget: int = 512 << 20
    """Bytes of all messages under way, requests and answers; each message counts twice."""
    connections: int = 1024
    """Connections that are open at once."""
    stall_seconds: float = 30.0
    """Seconds that a message may take to arrive, or to be taken; a second more for each 64 KiB."""

    def __post_init__(self) -> None:
        """Refuse limits that nothing could be within.

        Raises:
            InvalidArgument: a limit is below its least value.
        """
        for field, option in LIMIT_OPTIONS.items():
            value = getattr(self, field)
            least = _LEAST.get(field, 1)
            if not least <= value <= _GREATEST.get(field, value):
                raise InvalidArgument(
                    f"--{option} is {value}; it must be at least {least}"
                    + (f" and at most {_GREATEST[field]}" if field in _GREATEST else ""),
                    field=field,
                )
        if self.message_budget < MESSAGE_COPIES * self.message_bytes:
            raise InvalidArgument(
                f"--message-budget is {self.message_budget}; it must be at least twice "
                f"--max-message-bytes, {MESSAGE_COPIES * self.message_bytes}: each message "
                "counts twice",
                field="message_budget",
            )


LIMIT_OPTIONS: Final = {
    "concurrent_requests": "max-requests",
    "connections": "max-connections",
    "message_bytes": "max-message-bytes",
    "message_budget": "message-budget",
    "batch_size": "max-batch",
    "batch_passages": "max-batch-passages",
    "text_chars": "max-text-chars",
    "request_tokens": "max-request-tokens",
    "stall_seconds": "stall-timeout",
}
"""Field of ``Limits`` → option of ``retrieval serve``."""

_LEAST: Final = {"message_bytes": 1024, "stall_seconds": 1.0}
_GREATEST: Final = {
    "batch_passages": 2**31 - 1,
    "batch_size": 4096,
    "concurrent_requests": 100_000,
    "connections": 100_000,
    "message_bytes": 2**30,
    "stall_seconds": 86_400.0,
    "text_chars": 2**31 - 1,
}
"""What gRPC, the system and the fields of the contract allow, and no more than can be meant."""
MAX_SEARCH_THREADS: Final = 256
"""All are started at once, and more would only wait for one another."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Everything ``retrieval serve`` can be told."""

    indexes: Mapping[str, LocationLike]
    """Collection → folder of its index; at least one."""
    listen: Address = Address("127.0.0.1", DEFAULT_PORT)
    insecure: bool = False
    """Allows an address that other machines can reach without TLS, or without tokens or client
    certificates."""
    tls: TlsFiles | None = None
    """None: connections are not encrypted."""
    token_file: Path | None = None
    """None: no token is asked for."""
    model: str | None = None
    """Where to find the indexes' model, if not where they say; name or folder."""
    device: str = "auto"
    """``"auto"``, ``"cpu"`` or ``"cuda"``."""
    reranker: str | None = None
    """Cross-encoder for searches that ask for reranking; name or folder. None: there is none."""
    query_dtype: str = "auto"
    """Type of the weights for queries; see ``retrieval.encoding.encoder.load_for_index``."""
    metrics: Address | None = None
    """Where Prometheus asks; None: nowhere."""
    metrics_insecure: bool = False
    """Allows a ``metrics`` address that other machines can reach; ``listen`` stays guarded."""
    reload_seconds: float = DEFAULT_RELOAD_SECONDS
    """Between two looks for a new generation of an index; 0: none, only ``ReloadCollection``."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    """How long requests under way may go on after the signal to stop."""
    search_threads: int = 8
    """Threads that search and read; some wait for the disk."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Refuse what can't be served.

        Raises:
            InvalidArgument: no index; an address open to others without ``insecure``; a grace
                period that isn't a length of time.
        """
        if not self.indexes:
            raise InvalidArgument("no index to serve: give --index DIR", field="indexes")
        if not self.listen.is_loopback and not self.insecure and self._open_doors():
            raise InvalidArgument(
                f"other machines may reach {self.listen}, and {' and '.join(self._open_doors())}; "
                "or say --insecure if that is what you want, or listen on 127.0.0.1",
                field="listen",
            )
        metrics_guarded = not self.metrics_insecure and not self.insecure
        if self.metrics and not self.metrics.is_loopback and metrics_guarded:
            raise InvalidArgument(
                f"other machines may reach the metrics on {self.metrics}: give 127.0.0.1, or say "
                "--metrics-insecure if that is what you want",
                field="metrics",
            )
        for option, seconds in (("grace", self.grace_seconds), ("reload", self.reload_seconds)):
            if not 0 <= seconds < float("inf"):
                raise InvalidArgument(
                    f"--{option} is {seconds}; it must be a number of seconds, 0 or more",
                    field=f"{option}_seconds",
                )
        if not 1 <= self.search_threads <= MAX_SEARCH_THREADS:
            raise InvalidArgument(
                f"--search-threads is {self.search_threads}; it must be from 1 to "
                f"{MAX_SEARCH_THREADS}",
                field="search_threads",
            )

    def _open_doors(self) -> list[str]:
        """What strangers could do, and the options against it."""
        doors = []
        if self.tls is None:
            doors.append("nothing is encrypted: give --tls-cert and --tls-key")
        if self.token_file is None and (self.tls is None or self.tls.client_ca is None):
            doors.append("anybody may ask: give --token-file, or --tls-client-ca")
        return doors


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``; an IPv6 host stands in brackets.

    Args:
        text: such as ``"127.0.0.1:50051"``, ``"localhost:0"`` or ``"[::1]:50051"``.

    Returns:
        the address.

    Raises:
        InvalidArgument: not of that form, or the port is above 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    well_formed = colon and host and re.fullmatch("[0-9]{1,5}", port) and (":" in host) == bracketed
    if not well_formed or int(port) > _MAX_PORT:
        raise InvalidArgument(
            f"{text!r} is no address to listen on: give HOST:PORT, such as {DEFAULT_LISTEN}, "
            "or port 0 for any free one",
            field="listen",
        )
    return Address(host, int(port))


def tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """What ``--tls-cert``, ``--tls-key`` and ``--tls-client-ca`` say together; None: no TLS.

    Raises:
        InvalidArgument: a certificate without its key, or the other way round.
    """
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InvalidArgument("--tls-cert and --tls-key go together", field="tls")
    return TlsFiles(cert, key, client_ca)


def parse_indexes(options: Sequence[str]) -> dict[str, Location]:
    """Read the values of ``--index``: ``DIR``, or ``NAME=DIR`` for a collection of that name.

    Args:
        options: in the order given. A folder whose name has a ``=`` is given as ``./a=b``.

    Returns:
        collection → folder; a folder without a name is collection ``default``.

    Raises:
        InvalidArgument: an empty value, a name that no collection can have, a name without a
            folder, or two folders of one name.
    """
    indexes: dict[str, Location] = {}
    for option in options:
        named = _INDEX_OPTION.fullmatch(option)
        name, folder = (named["name"], named["folder"]) if named else (DEFAULT_COLLECTION, option)
        if not folder:
            raise InvalidArgument("--index is empty: give a folder", field="indexes")
        if not named:
            _check_no_name(folder)
        if name in indexes:
            raise InvalidArgument(
                f"two indexes for collection {name}, {indexes[name]} and {folder}: "
                "name them apart with --index NAME=DIR",
                field="indexes",
            )
        indexes[name] = Location.parse(folder)
    return indexes


def _check_no_name(option: str) -> None:
    """Refuse ``NAME=DIR`` with a name that no collection can have, unless there is that folder.

    Raises:
        InvalidArgument: what was meant for a name is none, or no folder follows it.
    """
    name, equals, folder = option.partition("=")
    if not equals or "/" in name or name in (".", "..") or Path(option).exists():
        return
    if not folder:
        raise InvalidArgument(
            f"--index {option}: no folder follows the name; give NAME=DIR", field="indexes"
        )
    proposed = lower_cased(name)
    hint = f"; did you mean --index {proposed}={folder}?" if proposed else ""
    raise InvalidArgument(
        f"--index {option}: {name!r} can't be a collection's name: {COLLECTION_RULE}{hint}",
        field="indexes",
    )
