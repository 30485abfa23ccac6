"""The command `retrieval gateway`: HTTP in front of a server."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval.commands.connection_options import server_options
from retrieval.commands.parameters import FILE
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.gateway.config import GatewayConfig

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval gateway\n"
    "  retrieval gateway --target search.internal:50051 --ca ca.pem --listen 127.0.0.1:8080\n"
    "  retrieval gateway --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n"
)


@click.command(epilog=_EXAMPLES)
@click.option(
    "--target",
    default="127.0.0.1:50051",
    metavar="HOST:PORT",
    show_default=True,
    help="The server's address.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    metavar="HOST:PORT",
    show_default=True,
    help="Address to listen on; port 0 picks a free port.",
)
@server_options
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow other machines to connect without TLS or tokens, and a server elsewhere without "
    "TLS.",
)
@click.option("--tls-cert", type=FILE, help="Certificate for HTTPS, PEM; needs --tls-key.")
@click.option("--tls-key", type=FILE, help="Private key of --tls-cert, PEM, without a passphrase.")
@click.option(
    "--tls-client-ca",
    type=FILE,
    help="Accept only clients with a certificate that this one signed.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="URL",
    help="Let web pages of this origin use the gateway, e.g. https://example.org. Repeatable.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Name that clients may reach the gateway by, besides that of --listen. Repeatable.",
)
@click.option(
    "--grace",
    type=float,
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    help="Time that requests have to finish after the signal to stop.",
)
@click.option(
    "--max-requests",
    type=int,
    default=512,
    metavar="N",
    show_default=True,
    help="Maximum number of requests at once; others get 503.",
)
@click.option(
    "--max-connections",
    type=int,
    default=1024,
    metavar="N",
    show_default=True,
    help="Maximum number of connections; others are closed immediately.",
)
@click.option(
    "--max-body-bytes",
    type=int,
    default=64 << 20,
    metavar="N",
    show_default=True,
    help="Maximum bytes of a request's body; others get 413.",
)
@click.option(
    "--body-budget",
    type=int,
    default=256 << 20,
    metavar="N",
    show_default=True,
    help="Maximum bytes of the bodies of all requests at once; others get 503.",
)
@click.option(
    "--until-stdin-closes",
    is_flag=True,
    help="Also stop when standard input closes, as when the program that started it has ended.",
)
def gateway(*, listen: str, until_stdin_closes: bool, **options: Any) -> None:  # noqa: ANN401
    """Serve a server's collections over HTTP, until SIGTERM or Ctrl-C.

    The API is described at /openapi.json. Prints one line when it is ready.
    """
    from retrieval.gateway.companion import check_extra
    from retrieval.service.config import parse_address

    check_extra()
    from retrieval.gateway.server import run

    address = parse_address(listen)
    config = _config(address.host, address.port, **options)

    def say_ready(port: int) -> None:
        scheme = "https" if config.tls else "http"
        shown = type(address)(address.host, port)
        click.echo(f"listening on {scheme}://{shown} · server {config.target}")
        sys.stdout.flush()

    run(config, say_ready, until_stdin_closes=until_stdin_closes)


def _config(
    host: str,
    port: int,
    *,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    grace: float,
    max_requests: int,
    max_connections: int,
    max_body_bytes: int,
    body_budget: int,
    cors_origins: Sequence[str],
    allowed_hosts: Sequence[str],
    target: str,
    timeout: float,
    insecure: bool,
) -> "GatewayConfig":
    from retrieval.client import Tls
    from retrieval.gateway.config import GatewayConfig, HttpLimits, HttpTls

    if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
        raise InvalidArgument("--tls-cert and --tls-key go together", field="tls")
    return GatewayConfig(
        host=host,
        port=port,
        target=target,
        target_tls=Tls(ca, cert, key) if tls or ca or cert or key else None,
        tls=HttpTls(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None,
        insecure=insecure,
        timeout=timeout,
        cors_origins=cors_origins,
        allowed_hosts=allowed_hosts,
        grace_seconds=grace,
        limits=HttpLimits(
            body_bytes=max_body_bytes,
            body_budget=body_budget,
            concurrent_requests=max_requests,
            connections=max_connections,
        ),
    )
