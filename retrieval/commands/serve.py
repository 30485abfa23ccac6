"""The commands `retrieval serve` and `retrieval token`: a server, and the tokens for it."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval.commands.connection_options import listening_options
from retrieval.commands.parameters import DEVICE_OPTION, FILE, not_empty
from retrieval.commands.program import FiniteRange
from retrieval.commands.search_options import QUERY_DTYPE_OPTION, RERANKER_OPTION
from retrieval.domain.wording import counted
from retrieval.service.access.token_file import MAX_DAYS, MAX_QUOTA, SCOPES
from retrieval.service.config import LIMIT_OPTIONS, Limits, Writing

if TYPE_CHECKING:
    from retrieval.domain.records import IndexInfo, ModelIdentity
    from retrieval.service.access.token_file import Scope, TokenRecord
    from retrieval.service.config import Address, ServiceConfig
    from retrieval.service.observability.request_log import LogFormat

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

_SERVE_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval serve --index ./index\n"
    "  retrieval serve --index docs=./docs-index --index code=./code-index\n"
    "  retrieval serve --data ./collections --token-file tokens.json\n"
    "  retrieval serve --model mini-gte-en-v1 --http 127.0.0.1:8080\n"
    "  retrieval serve --index docs=s3://bucket/docs --pull ./copies\n"
    "  retrieval serve --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem "
    "--token-file tokens.json\n"
)
_EXAMPLES_OF_TOKENS = (
    "\b\nExamples:\n"
    "  retrieval token create backend --scope search --collection docs --rate 50\n"
    "  retrieval token create crawler --scope write --max-documents-per-day 10000\n"
    "  retrieval token list\n"
    "  retrieval token revoke backend\n"
)

_TOKEN_FILE = click.option(
    "--token-file",
    type=FILE,
    default=Path("tokens.json"),
    show_default=True,
    help="File of the tokens, as salted hashes.",
)


def _limit(field: str, text: str) -> Callable[[FC], FC]:
    """Make an option for a field of ``Limits``, with its default."""
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


def _writing(field: str, name: str, metavar: str, text: str) -> Callable[[FC], FC]:
    """Make an option for a field of ``Writing``, with its default."""
    default = getattr(Writing(), field)
    return click.option(
        f"--{name}",
        field,
        type=type(default),
        default=default,
        metavar=metavar,
        show_default=True,
        help=text,
    )


@click.command(epilog=_SERVE_EXAMPLES)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="DIR|NAME=DIR",
    show_default="./index, unless --data or --model is given",
    help="Folder of an index, served as collection NAME (default: 'default'). Repeatable.",
)
@click.option(
    "--pull",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Serve copies in this folder of indexes that are published to an object store, and keep "
    "them up to date: --index docs=s3://BUCKET/PREFIX --pull ./copies.",
)
@click.option(
    "--pull-interval",
    "pull_seconds",
    type=float,
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    help="Time between looks for a newly published generation.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of collections, an index each, which clients can create and delete; made if it "
    "is missing. Implies --writable.",
)
@click.option(
    "--writable",
    is_flag=True,
    help="Take documents: clients may put and delete them. Tokens need the scope write for it.",
)
@listening_options(
    "127.0.0.1:50051",
    insecure="Allow an address that other machines can reach, without TLS or without access "
    "control.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Answer HTTP there, too, by `retrieval gateway` as a process of its own; with the same "
    "certificates and tokens.",
)
@click.option("--token-file", type=FILE, help="Accept only requests with a token of this file.")
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=not_empty,
    metavar="NAME|FOLDER",
    help="Model to embed with under its name, with or without an index; also where the model of an "
    "index is now, if it has moved. Repeatable.",
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
    help="Time between checks for a new generation of an index; 0 turns them off.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Address for Prometheus, at /metrics; for example 127.0.0.1:9464.",
)
@click.option(
    "--metrics-insecure",
    is_flag=True,
    help="Allow a --metrics address that other machines can reach. It serves numbers only, and "
    "does not affect --listen.",
)
@_limit("message_bytes", "Maximum bytes of a request, and of an answer.")
@_limit(
    "message_budget",
    "Maximum bytes of all requests and answers at once, each counted twice; others get OVERLOADED.",
)
@_writing("document_bytes", "max-document-bytes", "N", "Maximum bytes of a document that is put.")
@_writing(
    "pending_bytes",
    "max-pending-bytes",
    "N",
    "Maximum bytes of all documents that wait to be written; streams then wait, and other puts get "
    "OVERLOADED.",
)
@_writing(
    "commit_seconds",
    "commit-interval",
    "SECONDS",
    "Shortest time between two commits of a collection while puts keep coming; those in between "
    "share a commit.",
)
@click.option(
    "--media-type",
    "media_types",
    multiple=True,
    metavar="TYPE",
    help="Media type of documents that may be put, such as text/markdown or text/*. Repeatable; "
    "all if none is given.",
)
@_limit("batch_size", "Maximum number of searches or texts in one request.")
@_limit("batch_passages", "Maximum number of passages that the searches of one request ask for.")
@_limit("text_chars", "Maximum characters of a text to embed or count.")
@_limit("request_tokens", "Maximum tokens of all texts of a request.")
@_limit(
    "stall_seconds",
    "Time for a message to arrive, or to be read by the client; plus a second for each 64 KiB.",
)
@click.option(
    "--search-threads",
    type=int,
    default=8,
    metavar="N",
    show_default=True,
    help="Maximum number of threads that search and read.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    help="One JSON object per line, or text for people.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning"]),
    default="info",
    show_default=True,
    help="info logs a line per request; debug also logs the texts of queries.",
)
@click.option(
    "--until-stdin-closes",
    is_flag=True,
    help="Also stop when standard input closes, as when the program that started it has ended.",
)
def serve(
    *,
    indexes: Sequence[str],
    pull: Path | None,
    pull_seconds: float,
    data: Path | None,
    writable: bool,
    document_bytes: int,
    pending_bytes: int,
    commit_seconds: float,
    media_types: Sequence[str],
    listen: str,
    http: str | None,
    insecure: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    token_file: Path | None,
    models: Sequence[str],
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
    until_stdin_closes: bool,
    **limits: Any,
) -> None:
    """Serve indexes and models over gRPC until SIGTERM or Ctrl-C.

    Prints one line when it is ready, and logs one line per request to stderr. SIGHUP makes it read
    tokens and certificates again.
    """
    from retrieval.service.config import (
        ServiceConfig,
        parse_address,
        pulled_indexes,
        served_indexes,
        tls_files,
    )
    from retrieval.service.observability.request_log import set_up_logging
    from retrieval.service.server import serve as run_server

    writing = Writing(data, document_bytes, pending_bytes, tuple(media_types), commit_seconds)
    named = served_indexes(indexes or (() if data or models else ("./index",)), data)
    places, pulled = pulled_indexes(named, pull)
    config = ServiceConfig(
        indexes=places,
        pulled=pulled,
        pull_seconds=pull_seconds,
        listen=parse_address(listen),
        insecure=insecure,
        tls=tls_files(tls_cert, tls_key, tls_client_ca),
        token_file=token_file,
        models=tuple(models),
        device=device,
        query_dtype=query_dtype,
        reranker=reranker,
        metrics=parse_address(metrics) if metrics else None,
        reload_seconds=reload_seconds,
        grace_seconds=grace,
        metrics_insecure=metrics_insecure,
        search_threads=search_threads,
        limits=Limits(**limits),
        writing=writing if writable or data else None,
        log_format=log_format,
        log_level=log_level,
        plain_port=http is not None,
    )
    gateway = _gateway_beside(config, parse_address(http)) if http else None
    set_up_logging(log_format, log_level)
    asyncio.run(run_server(config, _say_ready, gateway, until_stdin_closes=until_stdin_closes))


def _gateway_beside(
    config: "ServiceConfig", listen: "Address"
) -> "Callable[[Address], AbstractAsyncContextManager[str]]":
    """Return how to run a gateway beside a server.

    Raises:
        InvalidArgument: it lacks what it needs, or it would be open to others by accident.
    """
    from retrieval.gateway.companion import beside, check_extra
    from retrieval.gateway.config import GatewayConfig, HttpTls

    check_extra()
    files = config.tls
    settings = GatewayConfig(
        host=listen.host,
        port=listen.port,
        tls=HttpTls(files.cert, files.key, files.client_ca) if files else None,
        insecure=config.insecure,
        grace_seconds=config.grace_seconds,
    )
    return lambda address: beside(replace(settings, target=_reachable(address)))


def _reachable(address: "Address") -> str:
    """Return where a program on this machine connects to a server that listens on an address."""
    hosts = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (no listening here)
    return str(replace(address, host=hosts.get(address.host, address.host)))


def _say_ready(
    address: "Address", infos: "dict[str, IndexInfo]", models: "list[ModelIdentity]", http: str
) -> None:
    parts = [f"listening on {address}{f' and {http}' if http else ''}"]
    parts += [
        f"collection {name}: {counted(info.documents, 'document')}, "
        f"{counted(info.chunks, 'passage')}, "
        f"model {info.model.name}"
        for name, info in infos.items()
    ]
    parts += [
        f"model {model.name}: {counted(model.dim, 'dimension')}, "
        f"{counted(model.max_tokens, 'token')}"
        for model in models
    ]
    click.echo(" · ".join(parts if infos or models else [*parts, "no collection yet"]))
    sys.stdout.flush()


@click.group(epilog=_EXAMPLES_OF_TOKENS)
def token() -> None:
    """Make, list and revoke access tokens of a server.

    A running server reads its token file again on SIGHUP.
    """


@token.command(epilog=_EXAMPLES_OF_TOKENS)
@click.argument("name")
@_TOKEN_FILE
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the token allows: searching, embedding, reading documents, reloading collections, "
    "or putting and deleting documents. Repeatable; all of them but write if none is given.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Collection that the token allows. Repeatable; all if none is given.",
)
@click.option(
    "--rate",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="N",
    help="Requests per second that the token allows; 0 for any number.",
)
@click.option(
    "--days",
    type=FiniteRange(min=0, min_open=True, max=MAX_DAYS),
    help="Days until the token expires; never if left out.",
)
@click.option(
    "--max-documents-per-day",
    type=click.IntRange(min=0, max=MAX_QUOTA),
    default=0,
    metavar="N",
    help="Documents that the token may put in a day of UTC; 0 for any number.",
)
@click.option(
    "--max-bytes-per-day",
    type=click.IntRange(min=0, max=MAX_QUOTA),
    default=0,
    metavar="N",
    help="Bytes of documents that the token may put in a day of UTC; 0 for any number.",
)
def create(
    *,
    name: str,
    token_file: Path,
    scopes: Sequence["Scope"],
    collections: Sequence[str],
    rate: float,
    days: float | None,
    max_documents_per_day: int,
    max_bytes_per_day: int,
) -> None:
    """Make a token for NAME and print it, this once."""
    from retrieval.service.access.token_file import (
        ANY_COLLECTION,
        DEFAULT_SCOPES,
        Quota,
        create_token,
    )

    made = create_token(
        token_file,
        name,
        scopes=scopes or DEFAULT_SCOPES,
        collections=collections or (ANY_COLLECTION,),
        rate=rate,
        days=days,
        quota=Quota(max_documents_per_day, max_bytes_per_day),
    )
    click.echo(made)
    click.echo("keep it now: it can't be shown again", err=True)


@token.command("list", epilog=_EXAMPLES_OF_TOKENS)
@_TOKEN_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(*, token_file: Path, as_json: bool) -> None:
    """List the tokens of a file, without their secrets."""
    from retrieval.service.access.token_file import read_tokens

    tokens = read_tokens(token_file)
    if as_json:
        shown = (
            *("id", "name", "scopes", "collections", "rate", "created_at", "expires_at"),
            *("max_documents_per_day", "max_bytes_per_day"),
        )
        click.echo(json.dumps([{key: getattr(each, key) for key in shown} for each in tokens]))
        return
    for each in tokens:
        rate = f"{each.rate:g} per second" if each.rate else "any rate"
        until = f"until {each.expires_at}" if each.expires_at else "for ever"
        click.echo(
            f"{each.name}  {each.id}  {','.join(each.scopes)}  collections "
            f"{','.join(each.collections)}  {rate}  {until}{_quota_of(each)}"
        )


def _quota_of(token: "TokenRecord") -> str:
    """Describe what a token may put in a day; empty if there is no limit."""
    documents, most_bytes = token.quota
    parts = [counted(documents, "document")] if documents else []
    parts += [counted(most_bytes, "byte")] if most_bytes else []
    return f"  at most {' and '.join(parts)} a day" if parts else ""


@token.command(epilog=_EXAMPLES_OF_TOKENS)
@click.argument("name")
@_TOKEN_FILE
def revoke(*, name: str, token_file: Path) -> None:
    """Remove the token of NAME (a name or an id) from a file."""
    from retrieval.service.access.token_file import revoke_token

    revoke_token(token_file, name)
