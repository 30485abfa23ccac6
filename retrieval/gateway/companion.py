"""A program as a process beside this one, started again if it ends: for one, a gateway.

`retrieval serve --http` runs a gateway beside a server, and `retrieval mcp --index` a server.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
"""Beyond the grace period, for a companion to end before it is killed."""


def check_extra(
    needed: Sequence[str] = _NEEDED, *, subject: str = "a gateway", extra: str = EXTRA
) -> None:
    """Refuse to start a gateway, or another program, without what it needs.

    Args:
        needed: names of packages.
        subject: what needs them, for the error.
        extra: how to install them.

    Raises:
        InvalidArgument: a package is not installed.
    """
    for name in needed:
        if find_spec(name) is None:
            raise InvalidArgument(f"{subject} needs {name}: {extra}")


@dataclass(frozen=True, slots=True)
class Companion:
    """One of our programs that runs beside this process, and ends with it."""

    subject: str
    """What it is, in messages: "the gateway"."""
    command: str
    """Of ``retrieval``; it takes ``--until-stdin-closes``, and says where it listens."""
    arguments: Callable[[str], Sequence[str]]
    """Its other arguments, by the address that it had before; an empty text at first."""
    grace_seconds: float
    """How long it may finish requests when it is stopped."""


@asynccontextmanager
async def beside(config: GatewayConfig) -> AsyncIterator[str]:
    """Run a gateway as a process of its own in a block; yield its address once it answers.

    Raises:
        RetrievalError: see ``kept``.
    """
    gateway = Companion(
        "the gateway", "gateway", lambda _: _arguments(config), config.grace_seconds
    )
    async with kept(gateway) as address:
        yield address


@asynccontextmanager
async def kept(companion: Companion) -> AsyncIterator[str]:
    """Run a companion in a block; yield its address once it answers.

    A companion that ends by itself is started again. It also ends when this process does.

    Raises:
        RetrievalError: it can't start; the message is its own.
    """
    process, address = await _start(companion)
    keeper = asyncio.create_task(_keep(companion, process, address))
    try:
        yield address
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def _keep(companion: Companion, process: asyncio.subprocess.Process, address: str) -> None:
    """Start a companion again when it has ended, until this task is cancelled; then stop it."""
    subject = companion.subject
    try:
        while True:
            code = await process.wait()
            LOG.error("%s ended with code %d, and is started again", subject, code)
            await asyncio.sleep(_RESTART_SECONDS)
            try:
                process, _ = await _start(companion, address)
            except RetrievalError as error:
                LOG.warning("%s can't start: %s", subject, error.message)
    finally:
        await _stop(process, companion.grace_seconds)


async def _start(companion: Companion, address: str = "") -> tuple[asyncio.subprocess.Process, str]:
    """Start a companion; return its process and its address.

    Args:
        companion: the program.
        address: the one that it had before, if it ran before.

    Raises:
        InvalidArgument: it could not start.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "retrieval", companion.command, "--until-stdin-closes"),
        *companion.arguments(address),
        stdin=pipe,
        stdout=pipe,
    )
    if process.stdout is None:
        raise RuntimeError(f"{companion.subject} has no output")
    try:
        line = (await process.stdout.readline()).decode()
    except asyncio.CancelledError:
        process.kill()  # it answers nobody yet
        await process.wait()
        raise
    if not line:
        code = await process.wait()
        raise InvalidArgument(f"{companion.subject} could not start (code {code}); it has said why")
    return process, line.removeprefix("listening on ").partition(" · ")[0]


async def _stop(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """Let a companion drain, and kill it if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace_seconds + _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _arguments(config: GatewayConfig) -> Sequence[str]:
    arguments = ["--target", config.target, "--listen", config.address]
    arguments += ["--grace", str(config.grace_seconds)]
    if config.insecure:
        arguments.append("--insecure")
    if config.tls is not None:
        arguments += ["--tls-cert", str(config.tls.cert), "--tls-key", str(config.tls.key)]
        if config.tls.client_ca is not None:
            arguments += ["--tls-client-ca", str(config.tls.client_ca)]
    return arguments
