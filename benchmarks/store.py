"""The store on its own, at any size: building, opening, searching, filtering, updating.

    python benchmarks/store.py [--rows 100000] [--dim 384] [--index-type auto] [--seed N]

Vectors are synthetic, the same for a seed, and structured as those of texts are: clustered, of a
low intrinsic dimension, and asked for by queries near them (cosine about 0.7). They go through the
store's own commits, with a document for every hundred. Times are those of one thread, except for
building; recall is against the store's exact search.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.records import Chunk, ChunkSettings, Document, ModelIdentity, Section, SourceFile
from retrieval.store import (
    IndexReader,
    IndexWriter,
    StagedChunk,
    StagedDocument,
    maintain,
    parse_filter,
    read_segments,
)

PER_DOCUMENT = 100
COMMIT_ROWS = 50_000
CLUSTERS, INNER_DIM = 1000, 32
QUERIES = 200
SHARES = (0.5, 0.1, 0.01, 0.001)
"""Of the documents, that filters let through."""

Vectors = NDArray[np.float32]


class Source:
    """Vectors and queries of one distribution."""

    def __init__(self, dim: int, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._basis = self._generator.normal(size=(INNER_DIM, dim)).astype(np.float32)
        self._centres = self._generator.normal(size=(CLUSTERS, INNER_DIM)).astype(np.float32)
        self.dim = dim

    def vectors(self, count: int) -> Vectors:
        """Float32 [count, dim], each of length 1."""
        draw = self._generator
        inner = self._centres[draw.integers(CLUSTERS, size=count)]
        inner = inner + 0.6 * draw.standard_normal((count, INNER_DIM), dtype=np.float32)
        noise = 0.3 * draw.standard_normal((count, self.dim), dtype=np.float32)
        return unit(inner @ self._basis + noise)

    def queries(self, near: Vectors) -> Vectors:
        """A query near each of some vectors."""
        away = self._generator.standard_normal((len(near), INNER_DIM), dtype=np.float32)
        return unit(near + unit(away @ self._basis))


def unit(vectors: Vectors) -> Vectors:
    """Scaled to length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32)


def documents(first: int, count: int, ids: list[int]) -> Iterator[StagedDocument]:
    """Documents for ``count`` vectors from the ``first`` on; their number is in their metadata."""
    for start in range(0, count, PER_DOCUMENT):
        number = (first + start) // PER_DOCUMENT
        texts = [f"{first + start + row}" for row in range(min(PER_DOCUMENT, count - start))]
        uri, text, at, chunks = f"docs/{number % 100}/{number}.txt", "\n".join(texts), 0, []
        for ordinal, part in enumerate(texts):
            chunk = Chunk(ordinal, at, at + len(part), part, ordinal + 1, ordinal + 1, (), 1)
            chunks.append(StagedChunk(chunk, ids[start + ordinal]))
            at += len(part) + 1
        # A fixed shuffle, so that a filter's documents lie all over the index.
        share = {"share": str((number * 7919) % 1000 / 1000)}
        document = Document(uri, uri, "text", text, (Section(0, ()),), metadata=share)
        source = SourceFile(Path("/docs"), uri, "docs", len(text), number)
        yield StagedDocument(document, source, "0" * 64, chunks)


def add(writer: IndexWriter, source: Source, first: int, count: int) -> Vectors:
    """Commit vectors with their documents; returns a few of them."""
    kept = []
    for start in range(first, first + count, COMMIT_ROWS):
        vectors = source.vectors(min(COMMIT_ROWS, first + count - start))
        keys = [hashlib.sha256(f"{start + row}".encode()).digest() for row in range(len(vectors))]
        with writer.commit() as commit:
            ids = commit.add_vectors(keys, vectors, [False] * len(vectors))
            for staged in documents(start, len(vectors), ids):
                commit.put_document(staged)
        kept.append(vectors[:: max(1, count // QUERIES)])
    return np.concatenate(kept)[:QUERIES]


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--index-type", default="auto", choices=["auto", "flat", "ivf", "hnsw"])
    parser.add_argument("--target-recall", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    source = Source(arguments.dim, arguments.seed)
    model = ModelIdentity("none", "folder", "/", "", "0" * 64, arguments.dim, 512, "float32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "index"
        with IndexWriter.open(folder) as writer:
            writer.set_model(model, ChunkSettings(512, 0))
            with writer.commit() as commit:
                commit.set_index_type(arguments.index_type, arguments.target_recall)
            whole, near = build(writer, source, arguments.rows)
        report_sizes(folder, arguments.rows)
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        report_search(folder, source.queries(near))
        faiss.omp_set_num_threads(threads)
        with IndexWriter.open(folder) as writer:
            started = time.perf_counter()
            add(writer, source, arguments.rows, arguments.rows // 100)
            maintain(writer)
            took = time.perf_counter() - started
        print(f"1 % more rows: {took:.2f} s, {took / whole:.1%} of the build", flush=True)


def build(writer: IndexWriter, source: Source, rows: int) -> tuple[float, Vectors]:
    """Fill an index; returns the seconds it took, and a few of its vectors."""
    started = time.perf_counter()
    near = add(writer, source, 0, rows)
    filled = time.perf_counter()
    done = maintain(writer)
    ended = time.perf_counter()
    print(
        f"{rows} × {source.dim}: committed in {filled - started:.1f} s (making the vectors "
        f"counted), then {ended - filled:.1f} s: {done.ann or 'searched exactly'}",
        flush=True,
    )
    return ended - started, near


def report_sizes(folder: Path, rows: int) -> None:
    """Bytes of a vector, on disk and in memory."""
    segments = read_segments(folder)
    disk = sum(path.stat().st_size for path in folder.iterdir())
    memory = sum(segment.memory for segment in segments)
    mapped = sum(segment.size for segment in segments)
    print(
        f"bytes a vector: {disk / rows:.0f} on disk, {mapped / rows:.0f} of them mapped; "
        f"{memory / rows:.0f} in memory (1/{mapped / memory:.0f} of the vectors)"
    )


def report_search(folder: Path, queries: Vectors) -> None:
    """Opening, and recall and speed with and without filters."""
    started = time.perf_counter()
    reader = IndexReader.open(folder)
    reader.search_vectors(queries[:1], 10)
    print(f"opened and answered in {time.perf_counter() - started:.2f} s")
    with reader:
        for share in (1.0, *SHARES):
            where = None if share == 1 else parse_filter(f"share<{share}")
            exact = reader.search_vectors(queries, 10, where=where, exact=True).vector_ids
            taken, found = [], []
            for query in queries:
                started = time.perf_counter()
                found.append(reader.search_vectors(query[None], 10, where=where).vector_ids[0])
                taken.append(time.perf_counter() - started)
            recall = np.mean(
                [np.isin(row, wanted).mean() for row, wanted in zip(found, exact, strict=True)]
            )
            p50, p99 = np.percentile(taken, [50, 99]) * 1e3
            print(
                f"{share:>6.1%} of the documents: recall@10 {recall:.4f}, "
                f"{1 / np.mean(taken):.0f} queries/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
