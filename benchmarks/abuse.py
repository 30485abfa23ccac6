"""How much a light load suffers while another caller abuses the server.

    python -m benchmarks.abuse DATA_DIR [--seconds 15] [--only NAME,…] [--model NAME]

``DATA_DIR`` is a test set in BEIR form; its documents are indexed with the shipped default model.
The server asks for tokens. The light load has a token of its own and sends twenty hybrid searches a
second. Its latency is measured alone and then beside each abuse, in the same run. Each abuse runs
in a process of its own with a higher niceness than the server, as if the abuser had another
machine; on few cores a part of its work is in the figures all the same.

Exits with code 1 if the light load's p99 more than doubles and exceeds ``NOTICED_SECONDS``, if one
of its searches fails, or if the server keeps more memory than ``KEPT_MB``.
"""

import argparse
import json
import multiprocessing
import os
import random
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hpack import Encoder

from benchmarks.common.beir import TestSet, build_index, load_set
from benchmarks.common.connections import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from benchmarks.common.processes import resident
from benchmarks.encoder.peers import TOKENIZER_FILES
from benchmarks.service.peers import ours
from retrieval.client import RetrievalClient
from retrieval.encoding.model_cards import DEFAULT_MODEL, OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.errors import ServiceError
from retrieval.service.access.token_file import create_token

PAUSE_SECONDS = 0.05
"""Pause between two searches of the light load."""
SETTLE_SECONDS = 5.0
"""Time to wait after an abuse before memory is measured."""
NOTICED_SECONDS = 0.1
"""A p99 below this is no harm, whatever it is alone, because people perceive it as instant."""
RATIO = 2.0
"""Maximum ratio of the p99 beside an abuse to the p99 alone."""
KEPT_MB = 100.0
"""Maximum memory that the server may keep after an abuse, beyond what it had before."""
SILENT, SILENT_MIB = 64, 60
"""Number of connections that hold back the last byte of a message, and the message's MiB."""

_WINDOW, _FRAME, _END_HEADERS, _INITIAL_WINDOW_SIZE = 65_535, 16_384, 4, 4
"""HTTP/2 (RFC 9113): default window and frame size, a flag, the number of a setting."""


class Target(NamedTuple):
    """The server as an abuser knows it."""

    address: str
    token: str
    """The abuser's token."""
    texts: list[str]
    """Texts of the collection's documents."""


Abuser = Callable[[Target, Event], None]


def embed_long_texts(target: Target, stop: Event) -> None:
    """Send requests to embed 256 texts of 40,000 characters."""
    text = " ".join(target.texts)
    texts = [f"{number} {text[number * 100 : number * 100 + 40_000]}" for number in range(256)]
    with RetrievalClient(target.address, token=target.token, timeout=5) as client:
        while not stop.is_set():
            with suppress(ServiceError):
                client.embed(texts, "passage")


def search_long_texts(target: Target, stop: Event) -> None:
    """Send hybrid queries of 65,536 characters."""
    text = " ".join(target.texts) * 2

    def ask(client: RetrievalClient, chance: random.Random) -> None:
        start = chance.randrange(len(text) - 65_536)
        client.search(text[start : start + 65_536])

    in_threads(target, stop, 4, ask)


def crowd(target: Target, stop: Event) -> None:
    """Send 32 searches at once, each with a new text."""
    in_threads(target, stop, 32, lambda client, chance: client.search(some_words(target, chance)))


def batches(target: Target, stop: Event) -> None:
    """Send batches of 256 searches, four at once."""

    def ask(client: RetrievalClient, chance: random.Random) -> None:
        client.search_batch([some_words(target, chance) for _ in range(256)], k=50)

    in_threads(target, stop, 4, ask)


def deep(target: Target, stop: Event) -> None:
    """Ask for a thousand passages with neighbours, sections and highlights, collapsed."""

    def ask(client: RetrievalClient, chance: random.Random) -> None:
        words = some_words(target, chance)
        client.search(words, k=1000, context_before=10, context_after=10, section_chars=65_536)
        client.search(words, k=1000, collapse=0.5)
        client.search(words, k=1000, highlight=True)

    in_threads(target, stop, 8, ask)


def filters(target: Target, stop: Event) -> None:
    """Send new filters of 10,000 values, and new patterns that match anywhere."""

    def ask(client: RetrievalClient, chance: random.Random) -> None:
        names = ",".join(f"n{chance.randrange(10**9)}" for _ in range(10_000))
        client.search("anything", filter=f"title IN ({names})")
        client.search("anything", filter=f"path:**/*{chance.randrange(10**6)}*.json")

    in_threads(target, stop, 8, ask)


def rerank(target: Target, stop: Event) -> None:
    """Send 24 searches at once, each with its 100 best passages reranked."""
    in_threads(
        target,
        stop,
        24,
        lambda client, chance: client.search(some_words(target, chance), rerank_top=100),
    )


def count_tokens(target: Target, stop: Event) -> None:
    """Send requests to count the tokens of 64 MB of text."""
    text = (" ".join(target.texts) * 3)[:250_000]
    in_threads(target, stop, 4, lambda client, _chance: client.count_tokens([text] * 250))


def silent(target: Target, stop: Event) -> None:
    """Hold back the last byte of large messages, without a token."""
    hold_open(target.address, stop, "")


def silent_with_token(target: Target, stop: Event) -> None:
    """Hold back the last byte of large messages, with a token."""
    hold_open(target.address, stop, target.token)


ABUSES: dict[str, Abuser] = {
    "embed-long": embed_long_texts,
    "search-long": search_long_texts,
    "crowd": crowd,
    "batches": batches,
    "deep": deep,
    "filters": filters,
    "rerank": rerank,
    "count": count_tokens,
    "silent": silent,
    "silent-token": silent_with_token,
}


def abuse(name: str, target: Target, stop: Event) -> None:
    """Run one abuse; the entry point of the abuser's process."""
    os.nice(19)
    ABUSES[name](target, stop)


def some_words(target: Target, chance: random.Random) -> str:
    """Return eight words of a document."""
    words = chance.choice(target.texts).split()
    start = chance.randrange(max(1, len(words) - 8))
    return " ".join(words[start : start + 8])


def in_threads(
    target: Target,
    stop: Event,
    count: int,
    ask: Callable[[RetrievalClient, random.Random], object],
) -> None:
    """Send requests from several connections until stopped; retry refused ones."""

    def run(number: int) -> None:
        chance = random.Random(number)
        with RetrievalClient(target.address, token=target.token, timeout=30) as client:
            while not stop.is_set():
                try:
                    ask(client, chance)
                except ServiceError:
                    time.sleep(0.02)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    stop.wait()


def hold_open(address: str, stop: Event, token: str) -> None:
    """Open connections that send all but the last byte of a large message, and wait."""
    threads = [
        threading.Thread(target=send_most, args=(address, stop, token), daemon=True)
        for _ in range(SILENT)
    ]
    for thread in threads:
        thread.start()
    stop.wait()


def send_most(address: str, stop: Event, token: str) -> None:
    """Send all but the last byte of a message; hold the connection until the server closes it."""
    host, _, port = address.rpartition(":")
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/retrieval.v1.SearchService/Search"),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *([("authorization", f"Bearer {token}")] if token else []),
    ]
    size = SILENT_MIB << 20
    left, windows, received = size - 1, [_WINDOW, _WINDOW], b""
    with socket.create_connection((host, int(port))) as connection, suppress(OSError):
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        connection.sendall(frame(HEADERS, _END_HEADERS, 1, Encoder().encode(headers)))
        connection.sendall(frame(DATA, 0, 1, b"\0" + struct.pack(">I", size)))
        windows = [window - 5 for window in windows]
        connection.settimeout(0.2)
        while not stop.is_set():
            if (room := min(*windows, _FRAME, left)) > 0:
                connection.sendall(frame(DATA, 0, 1, bytes(room)))
                windows = [window - room for window in windows]
                left -= room
                continue
            with suppress(TimeoutError):
                data = connection.recv(65_536)
                if not data:
                    return
                received += data
            while len(received) >= 9 and len(received) >= 9 + int.from_bytes(received[:3], "big"):
                kind, flags = received[3], received[4]
                stream = int.from_bytes(received[5:9], "big")
                payload = received[9 : 9 + int.from_bytes(received[:3], "big")]
                received = received[9 + len(payload) :]
                if kind == WINDOW_UPDATE:
                    windows[stream] += int.from_bytes(payload, "big")
                elif kind == SETTINGS and not flags:
                    for name, value in struct.iter_unpack(">HI", payload):
                        windows[1] += value - _WINDOW if name == _INITIAL_WINDOW_SIZE else 0
                    connection.sendall(frame(SETTINGS, 1, 0, b""))
                elif kind == PING and not flags:
                    connection.sendall(frame(PING, 1, 0, payload))
                elif kind in (RST_STREAM, GOAWAY, HEADERS):
                    return


class Seen(NamedTuple):
    """Latencies and failures of the light load."""

    seconds: list[float]
    failed: list[str]

    def at(self, share: float) -> float:
        """Return the latency at a quantile, in milliseconds."""
        return float(np.percentile(self.seconds, share)) * 1e3 if self.seconds else float("inf")


def light_load(address: str, token: str, queries: Sequence[str], seconds: float) -> Seen:
    """Send hybrid searches one at a time, each text once."""
    seen = Seen([], [])
    until = time.perf_counter() + seconds
    with RetrievalClient(address, token=token, timeout=30) as client:
        while (started := time.perf_counter()) < until:
            query = f"{random.choice(queries)} {secrets.token_hex(3)}"
            try:
                client.search(query, k=10)
            except ServiceError as error:
                seen.failed.append(f"{error.status} {error.service_reason}")
            seen.seconds.append(time.perf_counter() - started)
            time.sleep(max(0.0, started + PAUSE_SECONDS - time.perf_counter()))
    return seen


class Memory:
    """Peak resident memory of a process while a block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample the memory every 50 milliseconds."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.05):
                self.peak = max(self.peak, resident(self._pid))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def make_cross_encoder(folder: Path) -> Path:
    """Make a cross-encoder of MiniLM's size with random weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    offline = find_model(OFFLINE_MODEL).path
    raw = json.loads((offline / "config.json").read_text())
    torch.manual_seed(0)
    config = BertConfig(**{**raw, "num_labels": 1, "architectures": None})
    BertForSequenceClassification(config).save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copyfile(offline / file, folder / file)
    return folder


def run(test: TestSet, arguments: argparse.Namespace, folder: Path) -> bool:
    """Measure all abuses; return whether the server passed."""
    build_index(test.corpus, folder, ["--model", arguments.model])
    tokens = folder / "tokens.json"
    light, greedy = (
        create_token(tokens, name, scopes=["search", "embed", "read"], collections=["*"])
        for name in ("light", "greedy")
    )
    reranker = make_cross_encoder(folder / "reranker")
    queries, texts = list(test.queries.values()), list(test.corpus.values())
    processes = multiprocessing.get_context("spawn")
    fine = True
    print(
        f"{'abuse':>13}  {'p50':>7} {'p99':>8} ms alone  {'p50':>7} {'p99':>8} ms beside   MB",
        end="",
    )
    print(" before, peak, after")
    with ours(folder, ["--token-file", str(tokens), "--reranker", str(reranker)]) as service:
        light_load(service.target, light, queries, arguments.seconds / 2)  # warm
        for name in arguments.only:
            alone = light_load(service.target, light, queries, arguments.seconds)
            before, memory, stop = resident(service.pid), Memory(service.pid), processes.Event()
            target = Target(service.target, greedy, texts)
            abuser = processes.Process(target=abuse, args=(name, target, stop))
            with memory.watched():
                abuser.start()
                time.sleep(3)  # its own imports
                beside = light_load(service.target, light, queries, arguments.seconds)
                stop.set()
                abuser.join(10)
                abuser.kill()
            time.sleep(SETTLE_SECONDS)
            after = resident(service.pid)
            slow = beside.at(99) > max(RATIO * alone.at(99), NOTICED_SECONDS * 1e3)
            kept = after - before > KEPT_MB
            wrong = [what for what, is_so in (("slow", slow), ("memory", kept)) if is_so]
            wrong += sorted(set(beside.failed))
            fine &= not wrong
            print(
                f"{name:>13}  {alone.at(50):7.1f} {alone.at(99):8.1f}           "
                f"{beside.at(50):7.1f} {beside.at(99):8.1f}            "
                f"{before:.0f}, {memory.peak:.0f}, {after:.0f}  {', '.join(wrong) or 'fine'}",
                flush=True,
            )
    return fine


def main() -> None:
    """Parse the command line, run, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a BEIR-form set")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument(
        "--only", default=list(ABUSES), type=lambda names: names.split(","), help=", ".join(ABUSES)
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if not run(load_set(arguments.data), arguments, Path(name)):
            sys.exit(1)


if __name__ == "__main__":
    main()
