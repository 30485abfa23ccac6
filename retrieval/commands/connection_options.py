"""Options for the connection to a server: time limit, encryption, token."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click

from retrieval.commands.parameters import FILE

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient

Command = TypeVar("Command", bound=Callable[..., Any])

_SERVER_OPTIONS: Final = (
    click.option(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        show_default=True,
        help="Maximum time to wait for the answer.",
    ),
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


def connection_options(command: Command) -> Command:
    """Add the options of ``ConnectionOptions`` to a command."""
    return server_options(_TOKEN_OPTION(command))


def server_options(command: Command) -> Command:
    """Add the options of ``ConnectionOptions`` to a command, all but the token."""
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


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
