"""The store on its own, at any size: building, opening, searching, filtering, updating.

    python -m benchmarks.store [--rows 100000] [--dim 384] [--index-type auto] [--seed N]
                               [--beside hnswlib,usearch,chromadb,lancedb,milvus-lite]

Vectors are synthetic, the same for a seed, and structured like those of texts: clustered, of low
intrinsic dimension, with queries near them (cosine about 0.7). They go through the store's own
commits, with one document per hundred vectors. Times are those of one thread, except for building,
which does not count the time to make the vectors. Recall is relative to the store's exact search.

``--beside`` compares with other stores on the same vectors at the same recall
(``benchmarks.store.peers``; ``pip install '.[store-peers]'``).
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.common.synthetic import Source, Vectors
from benchmarks.store.contestants import CONTESTANTS, K
from benchmarks.store.peers import OURS, QUERIES, TARGETS, TRUTH, VECTORS, anonymous_bytes
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ModelIdentity,
    Section,
    SourceFile,
)
from retrieval.store import (
    StagedChunk,
    StagedDocument,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
    read_status,
)

PER_DOCUMENT = 100
COMMIT_ROWS = 50_000
MOST_QUERIES = 1000
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
"""Fractions of the documents that filters pass."""
ROUNDS = 3
"""Rounds of searches of all contestants, in turn."""


def documents(first: int, count: int, ids: list[int]) -> Iterator[StagedDocument]:
    """Make documents for ``count`` vectors from ``first`` on, with their number as metadata."""
    for start in range(0, count, PER_DOCUMENT):
        number = (first + start) // PER_DOCUMENT
        texts = [f"{first + start + row}" for row in range(min(PER_DOCUMENT, count - start))]
        uri, text, at, chunks = f"docs/{number % 100}/{number}.txt", "\n".join(texts), 0, []
        for ordinal, part in enumerate(texts):
            chunk = Chunk(ordinal, at, at + len(part), part, ordinal + 1, ordinal + 1, (), 1)
            chunks.append(StagedChunk(chunk, ids[start + ordinal]))
            at += len(part) + 1
        # A fixed shuffle spreads a filter's documents over the whole index.
        share = {"share": str((number * 7919) % 10_000 / 10_000)}
        document = Document(uri, uri, "text", text, (Section(0, ()),), metadata=share)
        source = SourceFile(Path("/docs"), uri, "docs", len(text), number)
        yield StagedDocument(document, source, "0" * 64, chunks)


def add(writer: Writer, source: Source, first: int, count: int) -> Vectors:
    """Commit vectors with their documents; return a few of the vectors."""
    kept = []
    for start in range(first, first + count, COMMIT_ROWS):
        vectors = source.vectors(min(COMMIT_ROWS, first + count - start))
        keys = [hashlib.sha256(f"{start + row}".encode()).digest() for row in range(len(vectors))]
        with writer.commit() as commit:
            ids = commit.add_vectors(keys, vectors, [False] * len(vectors))
            for staged in documents(start, len(vectors), ids):
                commit.put_document(staged)
        kept.append(vectors[:: max(1, count // MOST_QUERIES)])
    return np.concatenate(kept)


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--index-type", default="auto", choices=["auto", "flat", "ivf", "hnsw"])
    parser.add_argument("--target-recall", type=float, default=0.98)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", default="", help=f"some of {', '.join(CONTESTANTS)}")
    arguments = parser.parse_args()
    source = Source(arguments.dim, arguments.seed)
    model = ModelIdentity("none", "folder", "/", "", "0" * 64, arguments.dim, 512, "float32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / OURS
        with open_writer(folder) as writer:
            writer.set_model(model, ChunkSettings(512, 0))
            with writer.commit() as commit:
                commit.set_index_type(arguments.index_type, arguments.target_recall)
            whole, near = build(writer, source, arguments.rows, arguments.queries)
        report_sizes(folder, arguments.rows)
        queries = source.queries(near)
        with one_thread():
            report_search(folder, queries)
        if arguments.beside:  # before rows are added that the others lack
            names = arguments.beside.split(",")
            again = Source(arguments.dim, arguments.seed)
            compare(folder.parent, names, again, arguments.rows, queries)
        report_update(folder, source, arguments.rows, whole)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS on one core within a block."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def build(writer: Writer, source: Source, rows: int, queries: int) -> tuple[float, Vectors]:
    """Build an index; return the seconds it took and a few of its vectors."""
    started = time.perf_counter()
    near = add(writer, source, 0, rows)[:queries]
    filled = time.perf_counter() - source.seconds
    done = writer.maintain()
    ended = time.perf_counter() - source.seconds
    print(
        f"{rows} × {source.dim}: committed in {filled - started:.1f} s, "
        f"then {ended - filled:.1f} s: {done.ann or 'searched exactly'}",
        flush=True,
    )
    return ended - started, near


def report_update(folder: Path, source: Source, rows: int, whole: float) -> None:
    """Print the cost of adding 1 % more rows, relative to the whole build."""
    with open_writer(folder) as writer:
        started = time.perf_counter() - source.seconds
        add(writer, source, rows, rows // 100)
        writer.maintain()
        took = time.perf_counter() - source.seconds - started
    print(f"1 % more rows: {took:.2f} s, {took / whole:.1%} of the build", flush=True)


def report_sizes(folder: Path, rows: int) -> None:
    """Print the bytes per vector, on disk and in memory."""
    segments = read_status(folder).segments
    disk = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    memory = sum(segment.memory for segment in segments)
    mapped = sum(segment.size for segment in segments)
    print(
        f"bytes a vector: {disk / rows:.0f} on disk, {mapped / rows:.0f} of them mapped; "
        f"{memory / rows:.0f} in memory (1/{mapped / memory:.0f} of the vectors)"
    )


def report_search(folder: Path, queries: Vectors) -> None:
    """Print the time to open, and recall and speed with and without filters."""
    started = time.perf_counter()
    reader = open_reader(folder)
    reader.search_vectors(queries[:1], 10)
    print(
        f"opened and answered in {time.perf_counter() - started:.2f} s; "
        f"{anonymous_bytes() / 1e6:.0f} MB resident, of files apart"
    )
    with reader:
        for share in (1.0, *SHARES):
            where = None if share == 1 else parse_filter(f"share<{share}")
            exact = reader.search_vectors(queries, 10, filter=where, exact=True).vector_ids
            taken, found = [], []
            for query in queries:
                started = time.perf_counter()
                found.append(reader.search_vectors(query[None], 10, filter=where).vector_ids[0])
                taken.append(time.perf_counter() - started)
            recall = np.mean(
                [np.isin(row, wanted).mean() for row, wanted in zip(found, exact, strict=True)]
            )
            p50, p99 = np.percentile(taken, [50, 99]) * 1e3
            print(
                f"{share:>7.2%} of the documents: recall@10 {recall:.4f}, "
                f"{1 / np.mean(taken):.0f} queries/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms",
                flush=True,
            )


def compare(
    folder: Path, names: Sequence[str], source: Source, rows: int, queries: Vectors
) -> None:
    """Compare with other stores on the same vectors; the index in ``folder`` is ours."""
    save_vectors(folder, source, rows, queries)
    names = ["ours", *(name for name in names if name != "ours")]
    built = {name: step("build", name, folder) for name in names}
    rounds = [{name: step("search", name, folder) for name in names} for _ in range(ROUNDS)]
    print(f"\n{'':<14}{'build s':>9}{'disk MB':>9}{'RAM MB':>8}{'open s':>8}  at recall@10")
    for name in names:
        runs = [one[name] for one in rounds if one[name]]
        if not built[name] or not runs:
            print(f"{name:<14} failed")
            continue
        print(
            f"{name:<14}{built[name]['seconds']:>9.0f}{built[name]['disk'] / 1e6:>9.0f}"
            f"{runs[0]['memory'] / 1e6:>8.0f}{median(run['opened'] for run in runs):>8.2f}  "
            + "; ".join(at_target(runs, str(target)) for target in TARGETS),
            flush=True,
        )


def at_target(runs: Sequence[dict[str, Any]], target: str) -> str:
    """Return one cell of the table: medians of the rounds."""
    reached = [run["reached"][target] for run in runs if target in run["reached"]]
    if not reached:
        return f"{target}: not reached"
    rate, p50, p99 = (median(run[what] for run in reached) for what in ("rate", "p50", "p99"))
    recall = reached[0]["recall"]
    return f"{target}: {rate:.0f}/s ({recall:.4f}), p50 {p50:.2f}, p99 {p99:.2f} ms"


def step(what: str, name: str, folder: Path) -> dict[str, Any]:
    """Build or search one store in a process of its own; return {} if that failed."""
    command = [sys.executable, "-m", "benchmarks.store.peers", what, name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # A process that the kernel kills, most likely for lack of memory, prints nothing.
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        print(f"{name}: {what} failed: {last}", flush=True)
        return {}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def save_vectors(folder: Path, source: Source, rows: int, queries: Vectors) -> None:
    """Save the vectors that ours was built from, the queries, and their true neighbours."""
    shape = (rows, source.dim)
    saved = np.lib.format.open_memmap(folder / VECTORS, mode="w+", dtype=np.float32, shape=shape)
    nearest = faiss.ResultHeap(len(queries), K, keep_max=True)
    for start in range(0, rows, COMMIT_ROWS):
        part = source.vectors(min(COMMIT_ROWS, rows - start))
        saved[start : start + len(part)] = part
        scores, ids = faiss.knn(queries, part, K, metric=faiss.METRIC_INNER_PRODUCT)
        nearest.add_result(scores, ids + start)
    nearest.finalize()
    np.save(folder / QUERIES, queries)
    np.save(folder / TRUTH, nearest.I)


if __name__ == "__main__":
    main()
