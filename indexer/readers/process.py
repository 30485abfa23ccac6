"""A reader process: takes files one by one, and sends back what is in them.

Started by ``pool`` in an isolated Python (``indexer.readers.isolation``). The kernel holds it to
its limits: one that runs too long dies of ``SIGPROF``, whatever code it is in.
"""

import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

from indexer.files.discover import compile_patterns
from indexer.readers.messages import Done, Job, decode_job, decode_setup, encode_news
from indexer.readers.read_file import Reading, read
from retrieval.encoding.tokenizer import Tokenizer


def main(descriptor: str) -> None:
    """Read what the other end of a connection asks for, until that end is closed.

    Args:
        descriptor: number of the open file of this end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build decides what an interrupt means
    connection = Connection(int(descriptor))
    setup = decode_setup(connection.recv_bytes())
    reading = Reading(
        counter=Tokenizer.from_folder(setup.model_folder, max_tokens=setup.max_tokens),
        settings=setup.settings,
        patterns=compile_patterns(setup.include, setup.exclude),
    )
    _limit_memory(setup.memory_bytes)
    connection.send_bytes(b"ready")
    with suppress(BrokenPipeError, ConnectionResetError):
        for job in _jobs(connection):
            for message in _messages(job, reading, setup.seconds_for(job.source.size)):
                connection.send_bytes(message)


def _jobs(connection: Connection) -> Iterator[Job]:
    """Yield jobs until the connection is closed.

    They are taken in as they come, so that the build never waits to hand one out.
    """
    messages = SimpleQueue[bytes]()

    def take_in() -> None:
        with suppress(EOFError, ConnectionResetError):
            while True:
                messages.put(connection.recv_bytes())
        messages.put(b"")

    Thread(target=take_in, name="jobs", daemon=True).start()
    while message := messages.get():
        yield decode_job(message)


def _messages(job: Job, reading: Reading, seconds: float) -> Iterator[bytes]:
    """Yield what there is to tell of a file; ``seconds`` of processor time for each document."""
    news = chain(read(job.source, job.known, reading, job.after), (Done(),))
    messages = map(encode_news, news)
    while True:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        message = next(messages, None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if message is None:
            return
        yield message


def _limit_memory(most: int) -> None:
    """Have allocations fail beyond so many bytes in all."""
    if not hasattr(resource, "RLIMIT_DATA"):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
