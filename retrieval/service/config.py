"""A server's settings: where to listen, what to serve, and its limits."""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from retrieval.domain.resource_names import (
    COLLECTION_ID,
    COLLECTION_RULE,
    DEFAULT_COLLECTION,
    lower_cased,
)
from retrieval.errors import InvalidArgument
from retrieval.store import Location, LocationLike, exists
from retrieval.store.objects import CLOUD_SCHEMES, SCHEMES

DEFAULT_PORT = 50051
DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_PORT}"
DEFAULT_GRACE_SECONDS = 10.0
"""Most requests take less; service managers usually kill after 30 to 90 seconds."""
DEFAULT_RELOAD_SECONDS = 1.0
"""A new generation is served a second or two after its commit."""

DEFAULT_PULL_SECONDS = 10.0
"""Each look is one request to the object store; a million of them cost some dollars."""

MESSAGE_COPIES: Final = 2
"""How often a message's bytes count against the budget: as gRPC's copy and ours, or as bytes and
the parsed message. For a moment a third copy exists, of one message at a time."""

_MAX_PORT = 65_535
"""TCP has 16 bits for a port."""
MAX_PENDING_BYTES: Final = 2**40
"""Larger values must be slips."""
MAX_COMMIT_SECONDS: Final = 60.0
"""A put is answered once it is committed: after that time, most clients have given up."""
_MEDIA_TYPE = re.compile(r"[a-z]+/(\*|[a-z0-9][a-z0-9.+-]*)")

_INDEX_OPTION = re.compile(rf"(?P<name>{COLLECTION_ID})=(?P<folder>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on."""

    host: str
    """Name or IP address, without the brackets of IPv6."""
    port: int
    """0 lets the system pick a free port."""

    def __str__(self) -> str:
        """Return ``host:port``, with brackets around an IPv6 address."""
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
    """The files of a server's certificates; PEM."""

    cert: Path
    """The server's certificate, followed by its intermediate certificates."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """Authorities that sign client certificates; None if clients need no certificate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on requests; a request beyond one is refused with an error that names it.

    The limits of a search's options are in ``retrieval.domain.search_options``.
    """

    batch_size: int = 256
    """Searches or texts in one request."""
    batch_passages: int = 20_000
    """Passages that all searches of one request may ask for, skipped pages included."""
    text_chars: int = 262_144
    """Characters of a text to embed or count; the longest input of a model, 8,192 tokens, has about
    40,000 in English."""
    request_tokens: int = 2_097_152
    """Tokens to embed in one request, counting as many of each text as the model reads. That is 256
    texts of 8,192 tokens."""
    neighbours: int = 100
    """Passages before or after a passage (``GetPassage``)."""
    message_bytes: int = 64 << 20
    """Bytes of a request, and of an answer."""
    concurrent_requests: int = 512
    """Requests in flight at once, including those that wait."""
    message_budget: int = 512 << 20
    """Bytes of all messages in flight, requests and answers; each message counts twice."""
    connections: int = 1024
    """Connections open at once."""
    stall_seconds: float = 30.0
    """Seconds for a message to arrive, or to be taken; a second more for each 64 KiB of it."""

    @property
    def range_chars(self) -> int:
        """Characters of a range of a document's text, of at most four bytes each.

        Half a message is left for the document's metadata. A million characters fit into 4 MiB,
        the largest message that gRPC's clients take by default.
        """
        return min(1_000_000, self.message_bytes // 8)

    def __post_init__(self) -> None:
        """Refuse limits that no request could keep, or that gRPC can't.

        Raises:
            InvalidArgument: a limit is out of range.
        """
        for field, option in LIMIT_OPTIONS.items():
            value = getattr(self, field)
            minimum = _MINIMA.get(field, 1)
            if not minimum <= value <= _MAXIMA.get(field, value):
                raise InvalidArgument(
                    f"--{option} is {value}; it must be at least {minimum}"
                    + (f" and at most {_MAXIMA[field]}" if field in _MAXIMA else ""),
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

_MINIMA: Final = {"message_bytes": 1024, "stall_seconds": 1.0}
"""The others can be 1. Below 1,024 bytes, not even an error's details fit; the time of a message is
checked a few dozen times a second."""
_MAXIMA: Final = {
    "batch_passages": 2**31 - 1,
    "batch_size": 4096,
    "concurrent_requests": 100_000,
    "connections": 100_000,
    "message_bytes": 2**30,
    "stall_seconds": 86_400.0,
    "text_chars": 2**31 - 1,
}
"""What gRPC, the system and the contract's fields allow; anything above must be a slip."""

MAX_SEARCH_THREADS: Final = 256
"""All are started at once, and more would only wait for one another."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Settings of a server that takes documents."""

    data: Path | None = None
    """Folder of collections that clients can create and delete; None if they can do neither."""
    document_bytes: int = 50 << 20
    """Bytes of one document. It must also fit into a message."""
    pending_bytes: int = 128 << 20
    """Bytes of all documents that wait to be written: half of the default message budget, because
    messages count twice. That leaves the other half to searches."""
    media_types: tuple[str, ...] = ()
    """Media types of the documents that are taken, such as ``text/*``; empty for all."""
    commit_seconds: float = 0.2
    """Shortest time between two commits of a collection while puts keep coming."""

    def __post_init__(self) -> None:
        """Refuse settings with which nothing could be put.

        Raises:
            InvalidArgument: a value is out of range.
        """
        for option, value in (
            ("max-document-bytes", self.document_bytes),
            ("max-pending-bytes", self.pending_bytes),
        ):
            if not 1 <= value <= MAX_PENDING_BYTES:
                raise InvalidArgument(
                    f"--{option} is {value}; it must be from 1 to {MAX_PENDING_BYTES}",
                    field=option.replace("-", "_"),
                )
        if not 0 <= self.commit_seconds <= MAX_COMMIT_SECONDS:
            raise InvalidArgument(
                f"--commit-interval is {self.commit_seconds}; it must be from 0 to "
                f"{MAX_COMMIT_SECONDS:g}",
                field="commit_interval",
            )
        for media_type in self.media_types:
            if not _MEDIA_TYPE.fullmatch(media_type):
                raise InvalidArgument(
                    f"--media-type is {media_type!r}; give a media type such as text/markdown, "
                    "or text/*",
                    field="media_type",
                )


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The settings of ``retrieval serve``."""

    indexes: Mapping[str, LocationLike]
    """Collection → folder of its index; at least one unless ``writing.data`` or ``models`` is
    given."""
    listen: Address = Address("127.0.0.1", DEFAULT_PORT)
    insecure: bool = False
    """Whether other machines may connect without TLS, or without tokens or client certificates."""
    tls: TlsFiles | None = None
    """None for connections without encryption."""
    token_file: Path | None = None
    """None if callers need no token."""
    models: tuple[str, ...] = ()
    """Names or folders of models to serve, and to find the models of indexes among."""
    device: str = "auto"
    """``"auto"``, ``"cpu"`` or ``"cuda"``."""
    reranker: str | None = None
    """Name or folder of the cross-encoder that reranks; None if searches can't be reranked."""
    query_dtype: str = "auto"
    """Number format of the weights for queries; see ``encoder.load_for_index``."""
    metrics: Address | None = None
    """Where to serve metrics to Prometheus; None for nowhere."""
    metrics_insecure: bool = False
    """Whether other machines may reach ``metrics``; ``listen`` stays guarded."""
    plain_port: bool = False
    """Whether to listen without TLS on a free port of 127.0.0.1, too, if there is TLS: for a
    gateway beside the server."""
    reload_seconds: float = DEFAULT_RELOAD_SECONDS
    """How often to look for a new generation of an index; 0 for ``ReloadCollection`` alone."""
    pulled: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Collection → address in an object store that its folder is pulled from."""
    pull_seconds: float = DEFAULT_PULL_SECONDS
    """How often to look there for a new generation."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    """How long requests in flight may go on after the signal to stop."""
    search_threads: int = 8
    """Threads that search and read; more than cores, because some wait for the disk."""
    limits: Limits = Limits()
    writing: Writing | None = None
    """None if the server takes no documents."""
    log_format: Literal["json", "text"] = "json"
    """For the lines of the writer process; the server's own are set up before it starts."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        """Refuse settings that can't be served, or that open the server to others by accident.

        Raises:
            InvalidArgument: no index, an address open to others without ``insecure``, or a value
                out of range.
        """
        self._check_something_to_serve()
        self._check_guarded()
        self._check_ranges()

    def _check_something_to_serve(self) -> None:
        """Refuse a server without an index, a folder of collections or a model."""
        if not self.indexes and (self.writing is None or self.writing.data is None):
            if not self.models:
                raise InvalidArgument(
                    "nothing to serve: give --index DIR, or --model NAME", field="indexes"
                )
            if self.writing is not None:
                raise InvalidArgument(
                    "nothing to write to: give --writable with --index DIR, or give --data DIR",
                    field="writable",
                )

    def _check_guarded(self) -> None:
        """Refuse addresses that strangers can reach, unless that is wanted."""
        if not self.listen.is_loopback and not self.insecure and self._open_doors():
            raise InvalidArgument(
                f"other machines may reach {self.listen}, and {' and '.join(self._open_doors())}; "
                "or give --insecure if that is what you want, or listen on 127.0.0.1",
                field="listen",
            )
        without_tokens = self.token_file is None and self.tls is not None and self.tls.client_ca
        if self.plain_port and without_tokens:
            raise InvalidArgument(
                "--http with --tls-client-ca needs --token-file: programs on this machine could "
                "come in behind the gateway without a certificate",
                field="http",
            )
        metrics_guarded = not self.metrics_insecure and not self.insecure
        if self.metrics and not self.metrics.is_loopback and metrics_guarded:
            raise InvalidArgument(
                f"other machines may reach the metrics on {self.metrics}: use 127.0.0.1, or give "
                "--metrics-insecure if that is what you want",
                field="metrics",
            )

    def _check_ranges(self) -> None:
        """Refuse numbers out of range."""
        if not 0 < self.pull_seconds < float("inf"):
            raise InvalidArgument(
                f"--pull-interval is {self.pull_seconds}; it must be a number of seconds above 0",
                field="pull_seconds",
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
        """Return what strangers could do, each with the options against it."""
        doors = []
        if self.tls is None:
            doors.append("nothing is encrypted: give --tls-cert and --tls-key")
        if self.token_file is None and (self.tls is None or self.tls.client_ca is None):
            doors.append("anyone may ask: give --token-file, or --tls-client-ca")
        return doors


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``; an IPv6 host stands in brackets.

    Args:
        text: such as ``"127.0.0.1:50051"``, ``"localhost:0"`` or ``"[::1]:50051"``.

    Returns:
        the address.

    Raises:
        InvalidArgument: the text has another form, or the port is above 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    well_formed = colon and host and re.fullmatch("[0-9]{1,5}", port) and (":" in host) == bracketed
    if not well_formed or int(port) > _MAX_PORT:
        raise InvalidArgument(
            f"{text!r} is not an address to listen on: give HOST:PORT, such as {DEFAULT_LISTEN}, "
            "or port 0 for any free port",
            field="listen",
        )
    return Address(host, int(port))


def tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """Return what ``--tls-cert``, ``--tls-key`` and ``--tls-client-ca`` ask for; None for no TLS.

    Raises:
        InvalidArgument: a certificate without its key, a key without its certificate, or neither.
    """
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InvalidArgument("--tls-cert and --tls-key go together", field="tls")
    return TlsFiles(cert, key, client_ca)


def parse_indexes(options: Sequence[str]) -> dict[str, Location]:
    """Read the values of ``--index``: ``DIR``, or ``NAME=DIR`` for a collection of that name.

    Args:
        options: in the order given. Write a folder with ``=`` in its name as ``./a=b``.

    Returns:
        collection → folder; a folder without a name is the collection ``default``.

    Raises:
        InvalidArgument: an empty value, a malformed name, a name without a folder, or two folders
            of one name.
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


def collections_in(folder: Path) -> dict[str, Location]:
    """Return the collections in a folder of collections, which is made if it is missing.

    Args:
        folder: each folder in it that holds an index is a collection of that folder's name.

    Raises:
        InvalidArgument: the folder can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise InvalidArgument(
            f"can't use {folder} as the folder of collections: {error.strerror}", field="data"
        ) from error
    named = [entry for entry in entries if re.fullmatch(COLLECTION_ID, entry.name)]
    return {entry.name: Location("", str(entry)) for entry in named if exists(entry)}


def served_indexes(options: Sequence[str], data: Path | None) -> dict[str, Location]:
    """Return the collections of ``--index`` and ``--data`` together.

    Raises:
        InvalidArgument: see ``parse_indexes`` and ``collections_in``; or a collection is in both.
    """
    named = parse_indexes(options)
    found = collections_in(data) if data is not None else {}
    for name in named.keys() & found.keys():
        raise InvalidArgument(
            f"two indexes for collection {name}, {named[name]} and {found[name]}: name them apart "
            "with --index NAME=DIR",
            field="indexes",
        )
    return named | found


def pulled_indexes(
    indexes: Mapping[str, Location], folder: Path | None
) -> tuple[dict[str, Location], dict[str, str]]:
    """Return where to serve collections from that are pulled from object stores.

    Without a folder, an index in an object store is served from there: see ``docs/scale-out.md``.

    Args:
        indexes: collection → location, which may be an address in an object store.
        folder: the copies are made in it, each in a folder of its collection's name; None if
            nothing is to be pulled.

    Returns:
        collection → location on this disk, for all; and collection → address, for those pulled.

    Raises:
        InvalidArgument: there is a folder and no address, or an address that can only be pulled.
    """
    pulled = {name: str(place) for name, place in indexes.items() if place.scheme in SCHEMES}
    if folder is None:
        for name, place in indexes.items():
            if place.scheme in SCHEMES - CLOUD_SCHEMES:
                raise InvalidArgument(
                    f"give --pull DIR to serve copies of what `indexer publish` writes to {place}, "
                    f"in this case from DIR/{name}",
                    field="pull",
                )
        return dict(indexes), {}
    if not pulled:
        raise InvalidArgument(
            "--pull needs an index in an object store: give --index NAME=s3://BUCKET/PREFIX",
            field="pull",
        )
    copies = {name: Location("", str(folder / name)) for name in pulled}
    return {**indexes, **copies}, pulled


def _check_no_name(option: str) -> None:
    """Refuse ``NAME=DIR`` with a malformed name, unless it is the name of a folder that exists.

    Raises:
        InvalidArgument: the name is malformed, or no folder follows it.
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
