"""The commands that run a server and that make the tokens it lets in."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval.commands.parameters import NonEmptyPath, not_empty
from retrieval.commands.program import FiniteRange
from retrieval.commands.search_options import QUERY_DTYPE_OPTION, RERANKER_OPTION
from retrieval.domain.wording import counted
from retrieval.service.access.token_file import MAX_DAYS
from retrieval.service.config import LIMIT_OPTIONS, Limits

if TYPE_CHECKING:
    from retrieval.domain.records import IndexInfo
    from retrieval.service.access.token_file import Scope
    from retrieval.service.config import Address
    from retrieval.service.observability.request_log import LogFormat

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

_SERVE_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval serve --index ./index\n"
    "  retrieval serve --index docs=./docs-index --index code=./code-index\n"
    "  retrieval serve --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem "
    "--token-file tokens.json\n"
)
_EXAMPLES_OF_TOKENS = (
    "\b\nExamples:\n"
    "  retrieval token create backend --scope search --collection docs --rate 50\n"
    "  retrieval token list\n"
    "  retrieval token revoke backend\n"
)

FILE = NonEmptyPath(dir_okay=False)

DEVICE_OPTION = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)

_TOKEN_FILE = click.option(
    "--token-file",
    type=FILE,
    default=Path("tokens.json"),
    show_default=True,
    help="Where the tokens are kept, as salted hashes.",
)


def _limit(field: str, text: str) -> Callable[[FC], FC]:
    """An option for a field of ``Limits``, with its default."""
    default = getattr(Limits(), field)
    seconds = isinstance(default, float)
    return click.option(
        f"--{LIMIT_OPTIONS[field]}",
        field,
        type=float if seconds else int,
        default=default,
        metavar="SECONDS" if seconds else "N",
        show_default=True,
        help=text,
    )


@click.command(epilog=_SERVE_EXAMPLES)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    default=("./index",),
    metavar="DIR|NAME=DIR",
    show_default=True,
    help="Folder of an index, served as collection NAME (default: 'default'). Repeatable.",
)
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    metavar="HOST:PORT",
    show_default=True,
    help="Where to listen; port 0 picks a free one.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow an address that other machines can reach although there is no TLS, or anybody may "
    "ask.",
)
@click.option("--tls-cert", type=FILE, help="Certificate to show, PEM; with --tls-key.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM, without a passphrase.")
@click.option(
    "--tls-client-ca", type=FILE, help="Let in only clients with a certificate that this signed."
)
@click.option("--token-file", type=FILE, help="Let in only requests with a token of this file.")
@click.option(
    "--model",
    callback=not_empty,
    metavar="NAME|FOLDER",
    help="Where the index's model is, if it moved.",
)
@DEVICE_OPTION
@QUERY_DTYPE_OPTION
@RERANKER_OPTION
@click.option(
    "--reload",
    "reload_seconds",
    type=float,
    default=1.0,
    metavar="SECONDS",
    show_default=True,
    help="Time between two looks for a new generation of an index; 0: never look.",
)
@click.option(
    "--grace",
    type=float,
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    help="How long requests may go on after the signal to stop.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Answer Prometheus there, at /metrics; such as 127.0.0.1:9464.",
)
@click.option(
    "--metrics-insecure",
    is_flag=True,
    help="Allow a --metrics address that other machines can reach. Numbers are all they get; "
    "--listen stays guarded.",
)
@_limit("concurrent_requests", "Requests under way at once; more get OVERLOADED.")
@_limit("connections", "Connections at once; more are closed at once.")
@_limit("message_bytes", "Bytes of a request, and of an answer.")
@_limit(
    "message_budget",
    "Bytes of all requests and answers under way, each counted twice; more get OVERLOADED.",
)
@_limit("batch_size", "Searches or texts in one request.")
@_limit("batch_passages", "Passages that the searches of one request may ask for.")
@_limit("text_chars", "Characters of a text to embed or count.")
@_limit("request_tokens", "Tokens of all texts of a request.")
@_limit(
    "stall_seconds",
    "Time for a message to arrive, or to be taken; a second more for each 64 KiB.",
)
@click.option(
    "--search-threads",
    type=int,
    default=8,
    metavar="N",
    show_default=True,
    help="Most threads that search and read.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    help="A JSON object a line, or lines for people.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning"]),
    default="info",
    show_default=True,
    help="info: a line a request; debug: the texts of queries, too.",
)
def serve(
    *,
    indexes: Sequence[str],
    listen: str,
    insecure: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    token_file: Path | None,
    model: str | None,
    device: str,
    query_dtype: str,
    reranker: str | None,
    reload_seconds: float,
    grace: float,
    metrics: str | None,
    metrics_insecure: bool,
    search_threads: int,
    log_format: "LogFormat",
    log_level: str,
    **limits: Any,
) -> None:
    """Serve indexes over gRPC until SIGTERM or Ctrl-C.

    Prints one line when it is ready; logs a line a request on stderr. SIGHUP reads tokens and
    certificates again.
    """
    from retrieval.service.config import ServiceConfig, parse_address, parse_indexes, tls_files
    from retrieval.service.observability.request_log import set_up_logging
    from retrieval.service.server import serve as run_server

    config = ServiceConfig(
        indexes=parse_indexes(indexes),
        listen=parse_address(listen),
        insecure=insecure,
        tls=tls_files(tls_cert, tls_key, tls_client_ca),
        token_file=token_file,
        model=model,
        device=device,
        query_dtype=query_dtype,
        reranker=reranker,
        metrics=parse_address(metrics) if metrics else None,
        reload_seconds=reload_seconds,
        grace_seconds=grace,
        metrics_insecure=metrics_insecure,
        search_threads=search_threads,
        limits=Limits(**limits),
    )
    set_up_logging(log_format, log_level)
    asyncio.run(run_server(config, _say_ready))


def _say_ready(address: "Address", infos: "dict[str, IndexInfo]") -> None:
    parts = [f"listening on {address}"]
    parts += [
        f"collection {name}: {counted(info.documents, 'document')}, "
        f"{counted(info.chunks, 'passage')}, "
        f"model {info.model.name}"
        for name, info in infos.items()
    ]
    click.echo(" · ".join(parts))
    sys.stdout.flush()


@click.group(epilog=_EXAMPLES_OF_TOKENS)
def token() -> None:
    """Make, list and revoke the tokens that a server lets in.

    A running server reads its token file again on SIGHUP.
    """


@token.command(epilog=_EXAMPLES_OF_TOKENS)
@click.argument("name")
@_TOKEN_FILE
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["search", "embed", "read", "reload"]),
    help="What it is for: searching, embedding, reading documents, reloading collections. "
    "Repeatable; all if none is given.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="A collection that it may see. Repeatable; all if none is given.",
)
@click.option(
    "--rate",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="N",
    help="Requests a second that it allows; 0: any number.",
)
@click.option(
    "--days",
    type=FiniteRange(min=0, min_open=True, max=MAX_DAYS),
    help="Until it expires; never if left out.",
)
def create(
    *,
    name: str,
    token_file: Path,
    scopes: Sequence["Scope"],
    collections: Sequence[str],
    rate: float,
    days: float | None,
) -> None:
    """Make a token for NAME and print it, once."""
    from retrieval.service.access.token_file import ANY_COLLECTION, SCOPES, create_token

    made = create_token(
        token_file,
        name,
        scopes=scopes or SCOPES,
        collections=collections or (ANY_COLLECTION,),
        rate=rate,
        days=days,
    )
    click.echo(made)
    click.echo("keep it now: it can't be shown again", err=True)


@token.command("list", epilog=_EXAMPLES_OF_TOKENS)
@_TOKEN_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(*, token_file: Path, as_json: bool) -> None:
    """Show the tokens of a file, without what is secret."""
    from retrieval.service.access.token_file import read_tokens

    tokens = read_tokens(token_file)
    if as_json:
        shown = ("id", "name", "scopes", "collections", "rate", "created_at", "expires_at")
        click.echo(json.dumps([{key: getattr(each, key) for key in shown} for each in tokens]))
        return
    for each in tokens:
        rate = f"{each.rate:g} a second" if each.rate else "any rate"
        until = f"until {each.expires_at}" if each.expires_at else "for ever"
        click.echo(
            f"{each.name}  {each.id}  {','.join(each.scopes)}  collections "
            f"{','.join(each.collections)}  {rate}  {until}"
        )


@token.command(epilog=_EXAMPLES_OF_TOKENS)
@click.argument("name")
@_TOKEN_FILE
def revoke(*, name: str, token_file: Path) -> None:
    """Take the token of NAME (a name or an id) out of a file."""
    from retrieval.service.access.token_file import revoke_token

    revoke_token(token_file, name)
