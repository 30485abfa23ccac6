"""The command `retrieval mcp`: tools for assistants, by the Model Context Protocol."""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from retrieval.commands.connection_options import (
    connection_options,
    listening_options,
    web_options,
)
from retrieval.commands.parameters import DEVICE_OPTION, not_empty
from retrieval.commands.serving.gateway import gateway_config
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.gateway.config import GatewayConfig
    from retrieval.service.config import Address

_EXAMPLES: Final = (
    "\b\nExamples:\n"
    "  retrieval mcp --index ./index\n"
    "  retrieval mcp --target search.internal:50051 --ca ca.pem\n"
    "  retrieval mcp --http 127.0.0.1:8090 --target 127.0.0.1:50051\n"
)
_DEFAULT_TARGET: Final = "127.0.0.1:50051"
_NOWHERE: Final = "127.0.0.1:0"
"""Where no client is to look: the system picks a port."""
_NEEDED: Final = ("mcp", "httptools", "orjson", "uvicorn", "uvloop")
_EXTRA: Final = "pip install 'gte-retrieval[mcp]'"
_BODY_BYTES: Final = 4 << 20
"""Of one message over HTTP: questions and cursors are small."""
_BODY_BUDGET: Final = 64 << 20
_GRACE_SECONDS: Final = 2.0
"""For a server of our own: nobody waits for its answers any more."""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--target",
    metavar="HOST:PORT",
    show_default=f"{_DEFAULT_TARGET}, unless --index is given",
    help="The address of a server.",
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="DIR|NAME=DIR",
    help="Folder of an index, in place of a server: one is started for it, and ends with this "
    "program. Repeatable, as for `retrieval serve`.",
)
@click.option(
    "--model",
    callback=not_empty,
    metavar="NAME|FOLDER",
    help="Where the model of --index is now, if it has moved.",
)
@DEVICE_OPTION
@listening_options(
    None,
    name="--http",
    help="Answer HTTP there, at /mcp, instead of standard input; port 0 picks a free port.",
    insecure="Allow other machines to connect without TLS or tokens, and a server elsewhere "
    "without TLS.",
)
@web_options
@connection_options
def mcp(
    *,
    target: str | None,
    indexes: Sequence[str],
    model: str | None,
    device: str,
    http: str | None,
    token: str,
    **options: Any,  # noqa: ANN401  (of listening_options, web_options and connection_options)
) -> None:
    """Let assistants search and read documents, by the Model Context Protocol.

    Speaks over standard input and output, as assistants start it themselves; or over HTTP.
    """
    from retrieval.gateway.companion import check_extra
    from retrieval.service.config import parse_address

    check_extra(_NEEDED, subject="retrieval mcp", extra=_EXTRA)
    _check_together(target, indexes, http, token)
    address = parse_address(http or _NOWHERE)
    config = gateway_config(
        address.host,
        address.port,
        target=target or _DEFAULT_TARGET,
        body_bytes=_BODY_BYTES,
        body_budget=_BODY_BUDGET,
        **options,
    )
    if indexes and not (config.is_loopback or config.insecure):
        raise InvalidArgument(
            "the server of --index asks for no token: listen on 127.0.0.1; or start "
            "`retrieval serve --token-file`, and give --target",
            field="http",
        )
    with TemporaryDirectory(prefix="retrieval-mcp-") as folder:
        behind: AbstractAsyncContextManager[str] = nullcontext(config.target)
        if indexes:
            settings = ["--device", device, *(("--model", model) if model else ())]
            behind, token = _server_of(indexes, settings, Path(folder))
        if http:
            source = f"index {', '.join(indexes)}" if indexes else f"server {config.target}"
            _answer_over_http(config, behind, address, source, token)
        else:
            _answer_over_stdio(config, behind, token)


def _check_together(
    target: str | None, indexes: Sequence[str], http: str | None, token: str
) -> None:
    """Refuse options that exclude each other.

    Raises:
        InvalidArgument: a server and an index, or a token for all clients.
    """
    if target and indexes:
        raise InvalidArgument("give --target or --index, not both", field="target")
    if http and token:
        raise InvalidArgument(
            "with --http every client sends its own token: leave out --token, and unset "
            "RETRIEVAL_TOKEN",
            field="token",
        )


def _answer_over_stdio(
    config: "GatewayConfig", behind: AbstractAsyncContextManager[str], token: str
) -> None:
    """Answer the program at the other end of standard input until it ends."""
    from retrieval.gateway.mcp.over_stdio import run

    if sys.stdin.isatty():
        click.echo(
            "note: assistants start this program, and send messages to its standard input; "
            "Ctrl-D ends",
            err=True,
        )
    run(config, behind, token=token)


def _answer_over_http(
    config: "GatewayConfig",
    behind: AbstractAsyncContextManager[str],
    address: "Address",
    source: str,
    token: str,
) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C.

    Args:
        config: of the connection to the server.
        behind: what runs that server.
        address: to listen on.
        source: what is searched, for the line that says that it listens.
        token: for the server.
    """
    from retrieval.gateway.mcp.over_http import PATH, run

    def say_ready(port: int) -> None:
        scheme = "https" if config.tls else "http"
        shown = dataclasses.replace(address, port=port)
        click.echo(f"listening on {scheme}://{shown}{PATH} · {source}")
        sys.stdout.flush()

    run(config, behind, say_ready, token=token)


def _server_of(
    indexes: Sequence[str], settings: Sequence[str], folder: Path
) -> tuple[AbstractAsyncContextManager[str], str]:
    """Return what runs a server of indexes and yields its address, and the token for it.

    Args:
        indexes: as `retrieval serve` takes them.
        settings: other arguments for it.
        folder: for its file of tokens: other users of this machine can reach its port.
    """
    from retrieval.gateway.companion import Companion, kept
    from retrieval.service.access.token_file import create_token

    tokens = folder / "tokens.json"
    token = create_token(tokens, "mcp", scopes=("search", "read"))
    options = [option for index in indexes for option in ("--index", index)]
    options += ["--token-file", str(tokens), "--log-format", "text", "--log-level", "warning"]
    server = Companion(
        "the server",
        "serve",
        lambda address: ["--listen", address or _NOWHERE, *options, *settings],
        _GRACE_SECONDS,
    )
    return kept(server), token
