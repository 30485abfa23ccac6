"""How a command reaches a server: time limit, encryption, token."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click

from retrieval.commands.parameters import NonEmptyPath

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE: Final = NonEmptyPath(dir_okay=False)

_OPTIONS: Final = (
    click.option(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        show_default=True,
        help="Longest wait for the answer.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt; trust what the system trusts."),
    click.option(
        "--ca", type=_FILE, help="Encrypt; trust the server's certificate that this signed."
    ),
    click.option("--cert", type=_FILE, help="Certificate to show to the server; with --key."),
    click.option("--key", type=_FILE, help="Its private key."),
    click.option(
        "--token",
        envvar="RETRIEVAL_TOKEN",
        default="",
        show_default=False,
        help="Access token; better in the variable RETRIEVAL_TOKEN, where other users of this "
        "machine can't see it.",
    ),
)


class ConnectionOptions(TypedDict):
    """What ``connection_options`` gives to a command, by keyword."""

    timeout: float
    tls: bool
    ca: Path | None
    cert: Path | None
    key: Path | None
    token: str


CONNECTION_NAMES: Final = tuple(ConnectionOptions.__annotations__)
"""Names of the options, as keywords."""


def connection_options(command: Command) -> Command:
    """Give a command the options of ``ConnectionOptions``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def connect(target: str, options: ConnectionOptions) -> "RetrievalClient":
    """Prepare to connect to a server.

    Args:
        target: its address, ``HOST:PORT``.
        options: as the command got them.

    Raises:
        InvalidArgument: see ``RetrievalClient``.
    """
    from retrieval.client import RetrievalClient, Tls  # loads grpc

    ca, cert, key = options["ca"], options["cert"], options["key"]
    tls = Tls(ca, cert, key) if options["tls"] or ca or cert or key else None
    return RetrievalClient(target, timeout=options["timeout"], tls=tls, token=options["token"])
