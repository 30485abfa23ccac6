"""Main program of a reader process: read files one by one, and send back their documents.

The pool starts it in an isolated Python (see ``indexer.readers.isolation``). The kernel enforces
its limits: a process that runs too long is killed by ``SIGPROF``, whatever code it is in.
"""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Final

from indexer.files.discover import compile_patterns
from indexer.parse.formats import ParseOptions
from indexer.readers.complaints import divert, next_document
from indexer.readers.messages import (
    Done,
    Job,
    Setup,
    Working,
    decode_order,
    decode_setup,
    encode_message,
)
from indexer.readers.read_file import Reading, read_file
from retrieval.encoding.tokenizer import Tokenizer

_MAX_TOKENIZERS: Final = 4
"""Tokenizers to keep: a build has one, a writing service one for each model of its collections."""


def main(descriptor: str, complaints: str) -> None:
    """Read the files that the other end of a connection asks for, until that end is closed.

    Args:
        descriptor: file descriptor of this end, in decimal.
        complaints: file descriptor for what libraries write to standard error, in decimal.
    """
    divert(int(complaints))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build decides what an interrupt means
    connection = Connection(int(descriptor))
    tokenizers = _Tokenizers()
    setup = decode_setup(connection.recv_bytes())

    def part_done() -> None:
        """Allow the next part of a document as much time as a document, and show a sign of life."""
        left, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, max(left, setup.seconds))
        connection.send_bytes(encode_message(Working()))

    reading = _reading(setup, tokenizers, part_done)
    _limit_memory(setup.memory_bytes)
    connection.send_bytes(b"ready")
    with suppress(BrokenPipeError, ConnectionResetError):
        for order in _orders(connection):
            if isinstance(order, Setup):
                setup = order
                reading = _reading(setup, tokenizers, part_done)
                continue
            for message in _messages(order, reading, setup.seconds_for(order.source.size)):
                connection.send_bytes(message)


class _Tokenizers:
    """Keeps the tokenizers that were used last: one of a large vocabulary takes 100 MB."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Path, int], Tokenizer] = {}

    def get(self, folder: Path, max_tokens: int) -> Tokenizer:
        """Return the tokenizer of a model's folder."""
        key = (folder, max_tokens)
        found = self._loaded.pop(key, None) or Tokenizer.from_folder(folder, max_tokens=max_tokens)
        self._loaded[key] = found  # the dictionary is in order of use
        if len(self._loaded) > _MAX_TOKENIZERS:
            del self._loaded[next(iter(self._loaded))]
        return found


def _reading(setup: Setup, tokenizers: _Tokenizers, part_done: Callable[[], None]) -> Reading:
    return Reading(
        counter=tokenizers.get(setup.model_folder, setup.max_tokens),
        settings=setup.settings,
        options=ParseOptions(setup.settings.text_fields, setup.reading, part_done),
        patterns=compile_patterns(setup.include, setup.exclude),
        generated=setup.generated,
    )


def _orders(connection: Connection) -> Iterator[Setup | Job]:
    """Yield jobs and new settings until the connection is closed.

    A thread takes them off the connection as they come, so that the build never waits to send one.
    """
    messages = SimpleQueue[bytes]()

    def take_in() -> None:
        with suppress(EOFError, ConnectionResetError):
            while True:
                messages.put(connection.recv_bytes())
        messages.put(b"")

    Thread(target=take_in, name="jobs", daemon=True).start()
    while message := messages.get():
        yield decode_order(message)


def _messages(job: Job, reading: Reading, seconds: float) -> Iterator[bytes]:
    """Yield the messages about a file, with ``seconds`` of processor time for each document."""
    messages = map(encode_message, chain(read_file(job, reading), (Done(),)))
    while True:
        next_document()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        message = next(messages, None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if message is None:
            return
        yield message


def _limit_memory(limit: int) -> None:
    """Make allocations fail above a number of bytes in total."""
    if not hasattr(resource, "RLIMIT_DATA"):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
