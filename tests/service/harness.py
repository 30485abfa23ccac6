"""Small real indexes, and servers over them: in a thread, or as the program itself."""

import asyncio
import atexit
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.service.config import Address, ServiceConfig
from retrieval.service.server import RetrievalServer
from tests.commands.forking import Forked
from tests.tiny_model import make_word_model

T = TypeVar("T")

SUBJECTS = {
    "bread": "Knead the dough for ten minutes, let it rise in a warm place, and bake the loaf.",
    "ferry": "The ferry leaves the harbour every hour; bicycles travel free on weekdays.",
    "lighthouse": "The keeper trims the lamp at dusk, so that ships see the rocks at night.",
    "orchard": "Apple trees are pruned in winter, and picked when the seeds have turned brown.",
    "glacier": "Ice flows slowly downhill, grinding the valley floor and carrying boulders along.",
    "violin": "The bow draws sound from the strings; rosin gives its hair the grip it needs.",
    "compiler": "Source code is parsed into a tree, optimised, and turned into machine code.",
    "beehive": "Worker bees dance to tell the others where the flowers with most nectar stand.",
}
SECTIONS = ("Overview", "History", "In practice", "Mistakes", "Questions")


def write_documents(folder: Path) -> None:
    """Write a small folder of Markdown files: 8 documents of 5 sections."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject, fact in SUBJECTS.items():
        parts = [f"# The {subject}\n"]
        parts += [f"## {section}\n\n{section} of the {subject}. {fact}\n" for section in SECTIONS]
        (folder / f"{subject}.md").write_text("\n".join(parts), encoding="utf-8")


@cache
def word_model() -> Path:
    """A model folder that knows the words of ``write_documents``, and is gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="word-model-"))
    atexit.register(shutil.rmtree, folder)
    return make_word_model(folder / "tiny-words", (*SUBJECTS, *SUBJECTS.values(), *SECTIONS))


def build_index(documents: Path, index: Path, chunk_tokens: int = 40) -> Path:
    """Index a folder with a tiny model; each section of ``write_documents`` becomes a passage."""
    model = str(word_model())
    options = BuildOptions([documents], index, model, chunk_tokens=chunk_tokens, device="cpu")
    build(options, SilentProgress())
    return index


class RunningServer:
    """A server in a thread with an event loop of its own."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(300)
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def target(self) -> str:
        return str(self.address)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self) -> None:
        """Drain it; does nothing where that was done before."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.server = RetrievalServer(self.config)
        try:
            self.address = await self.server.start()
            self._ready.set()
            await self._stopping.wait()
        except Exception as error:  # noqa: BLE001  (raised again by the thread that waits)
            self._failure = error
        finally:
            await self.server.stop()
            self._ready.set()


@contextmanager
def running(indexes: dict[str, Path], **settings: Any) -> Iterator[RunningServer]:
    """A server on a free port, stopped at the end of the block; it reloads only when told to."""
    settings = {"reload_seconds": 0.0} | settings
    config = ServiceConfig(indexes, Address("127.0.0.1", 0), device="cpu", **settings)
    server = RunningServer(config)
    try:
        yield server
    finally:
        server.stop()


class Program:
    """``python -m retrieval serve`` as a process of its own, which finds torch imported."""

    def __init__(self, *arguments: str) -> None:
        self.process = Forked(
            [sys.executable, "-m", "retrieval", "serve", "--device", "cpu", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    def wait_ready(self) -> str:
        """Wait for the line that says where it listens; returns the whole line."""
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        match = re.match(r"listening on (\S+) · ", self.ready)
        assert match is not None, self.process.communicate()
        self.target = match[1]
        return self.ready

    def finish(self, send: signal.Signals | None = None) -> tuple[int, str, str]:
        """Send a signal, wait for the end; returns exit code, stdout and stderr."""
        if send is not None:
            self.process.send_signal(send)
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, stderr


def free_port() -> int:
    """Return a port to listen at that no process is given by asking for any."""
    for port in SystemRandom().sample(range(10_000, 30_000), 100):  # below Linux's ephemeral ports
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_until(condition: Any, *, seconds: float = 120.0) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
