"""Options for connections: of a client to its server, and of a server to its clients.

Address, time limits, encryption, and the token or the limits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click

from retrieval.commands.parameters import FILE

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient

Command = TypeVar("Command", bound=Callable[..., Any])

TARGET_OPTION = click.option(
    "--target",
    default="127.0.0.1:50051",
    metavar="HOST:PORT",
    show_default=True,
    help="The server's address.",
)

TIMEOUT: Final = 30.0
"""Seconds, as the client's default."""
PUT_TIMEOUT: Final = 300.0
"""Seconds, as the client's default for changes: to embed a long document takes minutes on a CPU."""

_SERVER_OPTIONS: Final = (
    click.option(
        "--tls", is_flag=True, help="Encrypt; trust the certificates that the system trusts."
    ),
    click.option(
        "--ca", type=FILE, help="Encrypt; trust server certificates that this one signed."
    ),
    click.option("--cert", type=FILE, help="Client certificate for the server; needs --key."),
    click.option("--key", type=FILE, help="Private key of --cert."),
)
_TOKEN_OPTION: Final = click.option(
    "--token",
    envvar="RETRIEVAL_TOKEN",
    default="",
    show_default=False,
    help="Access token. Better set the variable RETRIEVAL_TOKEN, which other users of this "
    "machine can't see.",
)


def changing_options(command: Command) -> Command:
    """Add the server's address and the options of ``ConnectionOptions`` to a changing command."""
    return TARGET_OPTION(connection_options(command, timeout=PUT_TIMEOUT))


_LISTENING_OPTIONS: Final = (
    click.option("--tls-cert", type=FILE, help="Certificate of the server, PEM; needs --tls-key."),
    click.option(
        "--tls-key", type=FILE, help="Private key of --tls-cert, PEM, without a passphrase."
    ),
    click.option(
        "--tls-client-ca",
        type=FILE,
        help="Accept only clients with a certificate that this one signed.",
    ),
    click.option(
        "--grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        show_default=True,
        help="Time that requests have to finish after the signal to stop.",
    ),
    click.option(
        "--max-requests",
        "concurrent_requests",
        type=int,
        default=512,
        metavar="N",
        show_default=True,
        help="Maximum number of requests at once; others get OVERLOADED.",
    ),
    click.option(
        "--max-connections",
        "connections",
        type=int,
        default=1024,
        metavar="N",
        show_default=True,
        help="Maximum number of connections; others are closed immediately.",
    ),
)
"""Their defaults are those of ``Limits`` of the service and of ``HttpLimits``."""


_WEB_OPTIONS: Final = (
    click.option(
        "--cors-origin",
        "cors_origins",
        multiple=True,
        metavar="URL",
        help="Let web pages of this origin use it, e.g. https://example.org. Repeatable.",
    ),
    click.option(
        "--allowed-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        help="Name that clients may reach it by, besides that of its address. Repeatable.",
    ),
)


def listening_options(
    default: str | None,
    *,
    insecure: str,
    name: str = "--listen",
    help: str = "Address to listen on; port 0 picks a free port.",
) -> Callable[[Command], Command]:
    """Return the options of a command that serves: its address, its TLS and its limits.

    Args:
        default: address of ``name``; None if the command listens only when it is given.
        insecure: what ``--insecure`` allows, as its help.
        name: of the option with the address.
        help: of the option with the address.
    """

    def add(command: Command) -> Command:
        for option in reversed(_LISTENING_OPTIONS):
            command = option(command)
        command = click.option("--insecure", is_flag=True, help=insecure)(command)
        return click.option(
            name, default=default, metavar="HOST:PORT", show_default=True, help=help
        )(command)

    return add


def web_options(command: Command) -> Command:
    """Add the options that say which web pages, and under which names, may use a command."""
    for option in reversed(_WEB_OPTIONS):
        command = option(command)
    return command


class ConnectionOptions(TypedDict):
    """Keywords that ``connection_options`` passes to a command."""

    timeout: float
    tls: bool
    ca: Path | None
    cert: Path | None
    key: Path | None
    token: str


CONNECTION_NAMES: Final = tuple(ConnectionOptions.__annotations__)
"""Names of the keywords."""


def collection_option(purpose: str) -> Callable[[Command], Command]:
    """Return the option ``--collection``.

    Args:
        purpose: what the command does with the collection, such as ``"to search"``.
    """
    return click.option(
        "--collection",
        default="default",
        metavar="NAME",
        show_default=True,
        help=f"Collection {purpose}.",
    )


def connection_options(command: Command, *, timeout: float = TIMEOUT) -> Command:
    """Add the options of ``ConnectionOptions`` to a command.

    Args:
        command: that has a client.
        timeout: default of ``--timeout``.
    """
    return server_options(_TOKEN_OPTION(command), timeout=timeout)


def server_options(command: Command, *, timeout: float = TIMEOUT) -> Command:
    """Add the options of ``ConnectionOptions`` to a command, all but the token."""
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return click.option(
        "--timeout",
        type=float,
        default=timeout,
        metavar="SECONDS",
        show_default=True,
        help="Maximum time to wait for the answer.",
    )(command)


def connect(target: str, options: ConnectionOptions) -> "RetrievalClient":
    """Make a client of a server; it connects with the first request.

    Args:
        target: the server's address, ``HOST:PORT``.
        options: as the command received them.

    Raises:
        InvalidArgument: see ``RetrievalClient``.
    """
    from retrieval.client import RetrievalClient, Tls  # loads grpc

    ca, cert, key = options["ca"], options["cert"], options["key"]
    tls = Tls(ca, cert, key) if options["tls"] or ca or cert or key else None
    return RetrievalClient(target, timeout=options["timeout"], tls=tls, token=options["token"])
