"""The store on Lance tables beside the store in a folder, with the same vectors and texts.

    python -m benchmarks.store.lake [--rows 1000000] [--dim 384] [--queries 100] [--json FILE]
                                    [--stores folder,lance] [--folder DIR]

Vectors are those of ``benchmarks.store``: clustered, with queries near them (cosine about 0.7).
Each has a text of 30 words, whose frequencies fall as those of a language do; a hundred texts are a
document. Both stores get them through their own commits. Building and updating include vectors,
words, rows and the approximate index; making the data does not count. What a reader needs is
measured in a process of its own. Recall is relative to exact search over all vectors.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.common.synthetic import Source, Vectors
from benchmarks.store.__main__ import COMMIT_ROWS, PER_DOCUMENT
from benchmarks.store.contestants import K
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
    StagedChunk,
    StagedDocument,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
    read_status,
)

STORES = {"folder": "", "lance": "lance"}
SHARES = (0.001, 0.01, 0.1, 0.5, 0.9)
"""Fractions of the documents that filters pass."""
WORDS = 50_000
"""Number of different words."""
TEXT_WORDS = 30
QUERY_WORDS = 3
MEGABYTE = 1e6


class Texts:
    """Texts and queries of words whose frequencies fall as 1 / rank."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._shares = np.cumsum(1 / np.arange(1, WORDS + 1))
        self._words = np.array([f"w{number}" for number in range(WORDS)])
        self.seconds = 0.0

    def make(self, count: int, words: int = TEXT_WORDS) -> list[str]:
        """Return some texts."""
        started = time.perf_counter()
        drawn = self._generator.random((count, words)) * self._shares[-1]
        chosen = self._words[np.searchsorted(self._shares, drawn)]
        made = [" ".join(row) for row in chosen.tolist()]
        self.seconds += time.perf_counter() - started
        return made


def documents(first: int, texts: Sequence[str], ids: Sequence[int]) -> Iterator[StagedDocument]:
    """Make documents of texts, the first of which has a number."""
    for start in range(0, len(texts), PER_DOCUMENT):
        number = (first + start) // PER_DOCUMENT
        parts = texts[start : start + PER_DOCUMENT]
        uri, text, at, chunks = f"docs/{number % 100}/{number}.txt", "\n".join(parts), 0, []
        for ordinal, part in enumerate(parts):
            line = ordinal + 1
            chunk = Chunk(ordinal, at, at + len(part), part, line, line, (), TEXT_WORDS)
            chunks.append(StagedChunk(chunk, ids[start + ordinal]))
            at += len(part) + 1
        # A fixed shuffle spreads a filter's documents over the whole index.
        share = {"share": str((number * 7919) % 10_000 / 10_000)}
        document = Document(uri, uri, "text", text, (Section(0, ()),), metadata=share)
        source = SourceFile(Path("/docs"), uri, "docs", len(text), number)
        yield StagedDocument(document, source, "0" * 64, chunks)


def add(writer: Writer, source: Source, texts: Texts, first: int, count: int) -> float:
    """Commit vectors with their texts; return the seconds without those of making them."""
    began = time.perf_counter() - source.seconds - texts.seconds
    for start in range(first, first + count, COMMIT_ROWS):
        vectors = source.vectors(min(COMMIT_ROWS, first + count - start))
        made = texts.make(len(vectors))
        keys = [hashlib.sha256(text.encode()).digest() for text in made]
        with writer.commit() as commit:
            ids = commit.add_vectors(keys, vectors, [False] * len(vectors))
            for staged in documents(start, made, ids):
                commit.put_document(staged)
    writer.maintain()
    return time.perf_counter() - source.seconds - texts.seconds - began


def truth(dim: int, seed: int, rows: int, count: int) -> tuple[Vectors, Vectors]:
    """Return queries near some of the vectors, and the scores of the true neighbours."""
    source = Source(dim, seed)
    near = [
        source.vectors(min(COMMIT_ROWS, rows - start))[:: max(1, rows // count)]
        for start in range(0, rows, COMMIT_ROWS)
    ]
    queries = source.queries(np.concatenate(near)[:count])
    source, best = Source(dim, seed), faiss.ResultHeap(count, K, keep_max=True)
    for start in range(0, rows, COMMIT_ROWS):
        part = source.vectors(min(COMMIT_ROWS, rows - start))
        best.add_result(*faiss.knn(queries, part, K, metric=faiss.METRIC_INNER_PRODUCT))
    best.finalize()
    return queries, best.D


def timed(searches: Sequence[Callable[[], Any]]) -> tuple[list[Any], dict[str, float]]:
    """Run searches one after another; return what they found, and their latency in ms."""
    found, taken = [], []
    for search in searches:
        started = time.perf_counter()
        found.append(search())
        taken.append(time.perf_counter() - started)
    p50, p95 = np.percentile(taken, [50, 95]) * 1e3
    return found, {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def resident() -> float:
    """Return the resident memory of this process in MB, mapped files apart."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def measure_reader(location: Location, data: Path) -> dict[str, Any]:
    """Open an index in this process and search it; return the measurements."""
    faiss.omp_set_num_threads(1)
    saved = np.load(data)
    queries, best = saved["queries"], saved["best"]
    texts = Texts(9).make(len(queries), QUERY_WORDS)
    started = time.perf_counter()
    with open_reader(location) as reader:
        reader.search_vectors(queries[:1], K)
        result: dict[str, Any] = {"opened_s": round(time.perf_counter() - started, 2)}
        result["exact"] = reader.is_exact
        found, latency = timed(
            [lambda query=query: reader.search_vectors(query[None], K) for query in queries]
        )
        scores = np.concatenate([one.scores for one in found])
        recall = float((scores >= best[:, -1:] - 1e-6).mean())
        result["dense"] = {"recall": round(recall, 4), **latency}
        result["rss_dense_mb"] = round(resident())
        searcher = Searcher(reader)
        result["hybrid"] = timed(
            [
                lambda text=text, query=query: searcher.search(
                    Query(text=text, k=K), EmbeddedText(query, QUERY_WORDS, truncated=False)
                )
                for text, query in zip(texts, queries, strict=True)
            ]
        )[1]
        result["rss_mb"] = round(resident())
        result["filters"] = [measure_filter(reader, queries, share) for share in SHARES]
        # Recall with filters is relative to exact searches, which read all vectors.
        result["rss_exact_mb"] = round(resident())
    return result


def measure_filter(reader: Any, queries: Vectors, share: float) -> dict[str, Any]:
    """Return recall and latency with a filter, once it is cached."""
    where = parse_filter(f"share<{share}")
    reader.prepare(where)
    found, latency = timed(
        [
            lambda query=query: reader.search_vectors(query[None], K, filter=where)
            for query in queries
        ]
    )
    exact = reader.search_vectors(queries, K, filter=where, exact=True)
    scores = np.concatenate([one.scores for one in found])
    recall = float((scores >= exact.scores[:, -1:] - 1e-6).mean())
    return {"share": share, "recall": round(recall, 4), **latency}


def measure(name: str, folder: Path, arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Build an index in one store, search it in another process, and update it."""
    location = Location(STORES[name], str(folder / name))
    source, texts = Source(arguments.dim, arguments.seed), Texts(arguments.seed)
    model = ModelIdentity("none", "folder", "/", "", "0" * 64, arguments.dim, 512, "float32")
    result: dict[str, Any] = {}
    with open_writer(location) as writer:
        writer.set_model(model, ChunkSettings(512, 0))
        with writer.commit() as commit:
            commit.set_index_type("auto", arguments.target_recall)
        result["build_s"] = round(add(writer, source, texts, 0, arguments.rows), 1)
    print(f"{name}: built in {result['build_s']} s", file=sys.stderr, flush=True)
    result["disk_mb"] = round(read_status(location).size / MEGABYTE)
    command = [sys.executable, "-m", "benchmarks.store.lake", "--read", str(location)]
    done = subprocess.run(
        [*command, "--data", str(data)], check=True, stdout=subprocess.PIPE, text=True
    )
    result |= json.loads(done.stdout.splitlines()[-1])
    with open_writer(location) as writer:
        more = add(writer, source, texts, arguments.rows, arguments.rows // 100)
        result["update_s"] = round(more, 2)
    return result


def report(results: dict[str, dict[str, Any]]) -> None:
    """Print a table of all measurements."""
    names = list(results)
    print(f"{'':<34}" + "".join(f"{name:>20}" for name in names))

    def line(title: str, cell: Callable[[dict[str, Any]], str]) -> None:
        print(f"{title:<34}" + "".join(f"{cell(results[name]):>20}" for name in names))

    def latency(one: dict[str, Any]) -> str:
        return f"{one['p50_ms']:.1f} / {one['p95_ms']:.1f}"

    line("build, s", lambda one: f"{one['build_s']:.0f}")
    line("1 % more rows, s", lambda one: f"{one['update_s']:.1f}")
    line("on disk, MB", lambda one: f"{one['disk_mb']}")
    line("opened and answered, s", lambda one: f"{one['opened_s']:.2f}")
    line("memory after dense searches, MB", lambda one: f"{one['rss_dense_mb']}")
    line("memory after hybrid searches, MB", lambda one: f"{one['rss_mb']}")
    line("memory after exact searches, MB", lambda one: f"{one['rss_exact_mb']}")
    line("dense: recall@10", lambda one: f"{one['dense']['recall']:.4f}")
    line("dense: p50 / p95, ms", lambda one: latency(one["dense"]))
    line("hybrid: p50 / p95, ms", lambda one: latency(one["hybrid"]))
    for at, share in enumerate(SHARES):
        line(f"{share:.1%} of documents: recall@10", lambda one: f"{one['filters'][at]['recall']}")  # noqa: B023
        line(f"{share:.1%}: p50 / p95, ms", lambda one: latency(one["filters"][at]))  # noqa: B023


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--target-recall", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stores", default="folder,lance")
    parser.add_argument("--folder", type=Path, help="put the indexes here; deleted at the end")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(measure_reader(Location.parse(arguments.read), arguments.data)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        data = folder / "queries.npz"
        queries, best = truth(arguments.dim, arguments.seed, arguments.rows, arguments.queries)
        np.savez(data, queries=queries, best=best)
        results = {
            store: measure(store, folder, arguments, data) for store in arguments.stores.split(",")
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    report(results)


if __name__ == "__main__":
    main()
