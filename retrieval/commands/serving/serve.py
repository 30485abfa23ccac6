"""The command `retrieval serve`: a server, with a gateway beside it if one is wanted."""

import asyncio
import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval.commands.connection_options import listening_options
from retrieval.commands.parameters import DEVICE_OPTION, FILE, not_empty
from retrieval.commands.search_options import QUERY_DTYPE_OPTION, RERANKER_OPTION
from retrieval.domain.wording import counted
from retrieval.service.config import (
    LIMIT_OPTIONS,
    Address,
    Limits,
    ServiceConfig,
    Writing,
    parse_address,
    pulled_indexes,
    served_indexes,
    tls_files,
)

if TYPE_CHECKING:
    from retrieval.domain.records import IndexInfo, ModelIdentity

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval serve --index ./index\n"
    "  retrieval serve --index docs=./docs-index --index code=./code-index\n"
    "  retrieval serve --data ./collections --token-file tokens.json\n"
    "  retrieval serve --model mini-gte-en-v1 --http 127.0.0.1:8080\n"
    "  retrieval serve --index docs=s3://bucket/docs --pull ./copies\n"
    "  retrieval serve --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem "
    "--token-file tokens.json\n"
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


@click.command(epilog=_EXAMPLES)
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
def serve(*, http: str | None, until_stdin_closes: bool, **options: Any) -> None:
    """Serve indexes and models over gRPC until SIGTERM or Ctrl-C.

    Prints one line when it is ready, and logs one line per request to stderr. SIGHUP makes it read
    tokens and certificates again.
    """
    from retrieval.service.observability.request_log import set_up_logging
    from retrieval.service.server import serve as run_server

    config = _service_config(plain_port=http is not None, **options)
    gateway = _gateway_beside(config, parse_address(http)) if http else None
    set_up_logging(config.log_format, config.log_level)
    asyncio.run(run_server(config, _say_ready, gateway, until_stdin_closes=until_stdin_closes))


def _service_config(
    *,
    indexes: Sequence[str],
    pull: Path | None,
    data: Path | None,
    writable: bool,
    models: Sequence[str],
    listen: str,
    metrics: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    grace: float,
    **fields: Any,
) -> ServiceConfig:
    """Return the settings that the options of the command ask for.

    Args:
        indexes: where no index, folder of collections or model is given, ``./index`` is served.
        pull: see ``pulled_indexes``.
        data: folder of collections; the server takes documents then.
        writable: whether it takes documents without one.
        models: names and folders.
        listen: address.
        metrics: address; None for none.
        tls_cert: see ``tls_files``.
        tls_key: see ``tls_files``.
        tls_client_ca: see ``tls_files``.
        grace: seconds.
        fields: further fields of ``ServiceConfig``, ``Limits`` and ``Writing``, by name.

    Raises:
        InvalidArgument: see ``ServiceConfig``, and the functions that read an option.
    """
    writing = Writing(data, **_taken(Writing, fields))
    limits = _taken(Limits, fields)
    named = served_indexes(indexes or (() if data or models else ("./index",)), data)
    places, pulled = pulled_indexes(named, pull)
    return ServiceConfig(
        indexes=places,
        pulled=pulled,
        listen=parse_address(listen),
        tls=tls_files(tls_cert, tls_key, tls_client_ca),
        models=tuple(models),
        metrics=parse_address(metrics) if metrics else None,
        grace_seconds=grace,
        limits=Limits(**limits),
        writing=writing if writable or data else None,
        **fields,
    )


def _taken(kind: type[Limits | Writing], values: dict[str, Any]) -> dict[str, Any]:
    """Take the values of a record's fields out of others, by their names."""
    names = [field.name for field in dataclasses.fields(kind) if field.name in values]
    return {name: values.pop(name) for name in names}


def _gateway_beside(
    config: ServiceConfig, listen: Address
) -> Callable[[Address], AbstractAsyncContextManager[str]]:
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
    return lambda address: beside(dataclasses.replace(settings, target=_reachable(address)))


def _reachable(address: Address) -> str:
    """Return where a program on this machine connects to a server that listens on an address."""
    hosts = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (no listening here)
    return str(dataclasses.replace(address, host=hosts.get(address.host, address.host)))


def _say_ready(
    address: Address, infos: "dict[str, IndexInfo]", models: "list[ModelIdentity]", http: str
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
