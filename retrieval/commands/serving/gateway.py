"""The command `retrieval gateway`: HTTP in front of a server."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.commands.connection_options import (
    TARGET_OPTION,
    listening_options,
    server_options,
    web_options,
)

if TYPE_CHECKING:
    from retrieval.gateway.config import GatewayConfig

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval gateway\n"
    "  retrieval gateway --target search.internal:50051 --ca ca.pem --listen 127.0.0.1:8080\n"
    "  retrieval gateway --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n"
)


@click.command(epilog=_EXAMPLES)
@TARGET_OPTION
@listening_options(
    "127.0.0.1:8080",
    insecure="Allow other machines to connect without TLS or tokens, and a server elsewhere "
    "without TLS.",
)
@server_options
@web_options
@click.option(
    "--max-body-bytes",
    "body_bytes",
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
    config = gateway_config(address.host, address.port, **options)

    def say_ready(port: int) -> None:
        scheme = "https" if config.tls else "http"
        shown = type(address)(address.host, port)
        click.echo(f"listening on {scheme}://{shown} · server {config.target}")
        sys.stdout.flush()

    run(config, say_ready, until_stdin_closes=until_stdin_closes)


def gateway_config(
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
    cors_origins: Sequence[str],
    allowed_hosts: Sequence[str],
    target: str,
    timeout: float,
    insecure: bool,
    **limits: int,
) -> "GatewayConfig":
    """Return the settings that the options of a command ask for.

    Raises:
        InvalidArgument: see ``GatewayConfig``.
    """
    from retrieval.client import Tls
    from retrieval.gateway.config import GatewayConfig, HttpLimits, HttpTls
    from retrieval.service.config import tls_files

    files = tls_files(tls_cert, tls_key, tls_client_ca)
    return GatewayConfig(
        host=host,
        port=port,
        target=target,
        target_tls=Tls(ca, cert, key) if tls or ca or cert or key else None,
        tls=HttpTls(files.cert, files.key, files.client_ca) if files else None,
        insecure=insecure,
        timeout=timeout,
        cors_origins=cors_origins,
        allowed_hosts=allowed_hosts,
        grace_seconds=grace,
        limits=HttpLimits(**limits),
    )
