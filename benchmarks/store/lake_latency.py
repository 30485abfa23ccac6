"""The same searches on the store on disk, and on Lance tables near and far.

    python -m benchmarks.store.lake_latency [--chunks 100000] [--dim 384] [--queries 100]
                                            [--at LOCATION]... [--keep FOLDER]

Builds one index of generated texts and clustered vectors in a folder and in each LOCATION
(``lance://…`` on this disk if none is given), and answers the same queries in each, in turn, with
``retrieval.search.Searcher``. Prints the median and 95th percentile of each kind of search, what
multiple of the folder's that is, and how many read requests the tables got for one search.

``--keep`` keeps the indexes in a folder, and uses those that are there already.
"""

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

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


def measure(
    readers: Sequence[Reader], asked: Sequence[tuple[str, EmbeddedText]], options: Mapping[str, Any]
) -> Iterator[tuple[float, float, float | None]]:
    """Yield p50 and p95 in milliseconds and the read requests of a search, for each reader."""
    searchers = [Searcher(reader) for reader in readers]
    taken = np.zeros((len(readers), len(asked)))
    counted: list[list[int | None]] = [[] for _ in readers]
    for at, (text, embedded) in enumerate(asked):
        query = Query(text=text, k=10, **options)
        for which, searcher in enumerate(searchers):
            reads(readers[which])
            started = time.perf_counter()
            searcher.search(query, embedded if query.needs_embedding else None)
            taken[which, at] = time.perf_counter() - started
            counted[which].append(reads(readers[which]))
    for times, some in zip(taken, counted, strict=True):
        numbers = [one for one in some if one is not None]
        p50, p95 = np.percentile(times * 1e3, [50, 95])
        yield float(p50), float(p95), float(np.median(numbers)) if numbers else None


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--at", action="append", default=[])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        kept = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = [f"{kept}/folder", *(arguments.at or [f"lance://{kept}/lake"])]
        locations = [Location.parse(place) for place in places]
        for location in locations:
            if not exists(location):
                build(location, arguments.chunks, arguments.dim)
        readers = []
        for location in locations:
            started = time.perf_counter()
            readers.append(stack.enter_context(open_reader(location)))
            print(f"{location}: opened in {time.perf_counter() - started:.2f} s", flush=True)
        asked = queries(readers[0], arguments.queries, arguments.dim)
        names = arguments.kinds.split(",")
        for kind in names:  # each reader gets warm
            list(measure(readers, asked[:5], KINDS[kind]))
        print(f"{'':<12}" + "".join(f"{place[-28:]:>36}" for place in places))
        for kind in names:
            found = list(measure(readers, asked, KINDS[kind]))
            cells = []
            for p50, p95, requests in found:
                cell = f"p50 {p50:.1f}, p95 {p95:.1f} ms"
                if requests is not None:
                    cell = f"{p50 / found[0][0]:.1f} ×, {requests:.0f} reads: {cell}"
                cells.append(f"{cell:>36}")
            print(f"{kind:<12}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
