"""A gateway as a process beside a server (`retrieval serve --http`), started again if it ends."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.gateway.config import GatewayConfig

LOG = logging.getLogger(__name__)

EXTRA: Final = "pip install 'gte-retrieval[gateway]'"
"""How to install what a gateway needs."""
_NEEDED: Final = ("fastapi", "httptools", "orjson", "uvicorn", "uvloop")
_RESTART_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0
"""Beyond the grace period, for a gateway to end before it is killed."""


def check_extra() -> None:
    """Refuse to start a gateway without what it needs.

    Raises:
        InvalidArgument: a package is not installed.
    """
    for name in _NEEDED:
        if find_spec(name) is None:
            raise InvalidArgument(f"a gateway needs {name}: {EXTRA}")


@asynccontextmanager
async def beside(config: GatewayConfig) -> AsyncIterator[str]:
    """Run a gateway as a process of its own in a block; yield its address once it answers.

    A gateway that ends by itself is started again. It also ends when this process does.

    Raises:
        RetrievalError: it can't start; the message is its own.
    """
    process, ready = await _start(config)
    keeper = asyncio.create_task(_keep(config, process))
    try:
        yield ready
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def _keep(config: GatewayConfig, process: asyncio.subprocess.Process) -> None:
    """Start the gateway again when it has ended, until this task is cancelled; then stop it."""
    try:
        while True:
            code = await process.wait()
            LOG.error("the gateway ended with code %d, and is started again", code)
            await asyncio.sleep(_RESTART_SECONDS)
            try:
                process, _ = await _start(config)
            except RetrievalError as error:
                LOG.warning("the gateway can't start: %s", error.message)
    finally:
        await _stop(process, config.grace_seconds)


async def _start(config: GatewayConfig) -> tuple[asyncio.subprocess.Process, str]:
    """Start a gateway; return its process and its address.

    Raises:
        InvalidArgument: it could not start.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "retrieval", "gateway", *_arguments(config)),
        stdin=pipe,
        stdout=pipe,
    )
    if process.stdout is None:
        raise RuntimeError("the gateway has no output")
    line = (await process.stdout.readline()).decode()
    if not line:
        code = await process.wait()
        raise InvalidArgument(f"the gateway could not start (code {code}); it has said why")
    return process, line.removeprefix("listening on ").partition(" · ")[0]


async def _stop(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """Let a gateway drain, and kill it if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace_seconds + _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _arguments(config: GatewayConfig) -> Sequence[str]:
    arguments = ["--until-stdin-closes", "--target", config.target, "--listen", config.address]
    arguments += ["--grace", str(config.grace_seconds)]
    if config.insecure:
        arguments.append("--insecure")
    if config.tls is not None:
        arguments += ["--tls-cert", str(config.tls.cert), "--tls-key", str(config.tls.key)]
        if config.tls.client_ca is not None:
            arguments += ["--tls-client-ca", str(config.tls.client_ca)]
    return arguments
