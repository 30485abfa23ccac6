"""Which code an inverted file should store for each vector, compared on the same vectors.

    python -m benchmarks.store.codes [--rows 500000] [--dim 384] [--target-recall 0.98]

Every code goes through the store's own tuning and re-ranking (``tuning``), so each is searched as
it would be in an index, at the given recall. Searching has one thread and one query at a time;
building has all cores.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.synthetic import Source, Vectors
from retrieval.store.disk.files.vector_file import open_vector_file, write_vector_file
from retrieval.store.disk.vectors.approximate import RECALL_K, Ann, rescore
from retrieval.store.disk.vectors.tuning import tune
from retrieval.store.records import AnnSettings

PART_ROWS = 50_000
QUERIES, PASSES = 500, 3


def factories(dim: int, lists: int) -> dict[str, str]:
    """Return FAISS factory strings by name."""
    return {
        "PQ 4 bits × d/4, fast scan": f"IVF{lists},PQ{dim // 4}x4fs",
        "the same, lists by a graph": f"IVF{lists}_HNSW32,PQ{dim // 4}x4fs",
        "PQ 4 bits × d/2, fast scan": f"IVF{lists},PQ{dim // 2}x4fs",
        "RaBitQ 1 bit": f"IVF{lists},RaBitQ",
        "RaBitQ 1 bit, fast scan": f"IVF{lists},RaBitQfs",
        "SQ 4 bits": f"IVF{lists},SQ4",
        "SQ 8 bits": f"IVF{lists},SQ8",
    }


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--lists", type=int, default=2048)
    parser.add_argument("--target-recall", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of what to compare")
    arguments = parser.parse_args()
    source = Source(arguments.dim, arguments.seed)
    near: list[Vectors] = []

    def parts() -> Iterator[Vectors]:
        for start in range(0, arguments.rows, PART_ROWS):
            part = source.vectors(min(PART_ROWS, arguments.rows - start))
            near.append(part[:QUERIES])
            yield part

    with tempfile.TemporaryDirectory() as name:
        shape = {"rows": arguments.rows, "dim": arguments.dim}
        written = write_vector_file(Path(name), parts(), **shape)
        vectors = open_vector_file(Path(name) / written.name, **shape)
        queries = source.queries(np.concatenate(near)[:: len(near)][:QUERIES])
        exact = vectors.search(queries, RECALL_K)[1]
        print(
            f"{arguments.rows} × {arguments.dim}, {arguments.lists} lists, tuned to "
            f"{arguments.target_recall}\n{'':<32}{'build s':>8}{'MB':>6}{'probes':>7}"
            f"{'again':>6}{'recall':>8}{'queries/s':>10}{'p99 ms':>8}"
        )
        for kind, factory in factories(arguments.dim, arguments.lists).items():
            if arguments.only not in kind:
                continue
            compare(
                kind,
                factory,
                vectors,
                queries,
                exact=exact,
                lists=arguments.lists,
                target=arguments.target_recall,
            )


def compare(
    kind: str,
    factory: str,
    vectors: faiss.Index,
    queries: Vectors,
    *,
    exact: NDArray[np.int64],
    lists: int,
    target: float,
) -> None:
    """Build, tune and search one kind of code, and print a line."""
    started = time.perf_counter()
    index = faiss.index_factory(vectors.d, factory, faiss.METRIC_INNER_PRODUCT)
    step = max(1, vectors.ntotal // (40 * lists))
    index.train(vectors.reconstruct_batch(np.arange(0, vectors.ntotal, step)))
    for start in range(0, vectors.ntotal, PART_ROWS):
        index.add(vectors.reconstruct_n(start, min(PART_ROWS, vectors.ntotal - start)))
    built = time.perf_counter() - started
    plain = AnnSettings("ivf", 1, 1, lists, 0.0, 0)
    settings = tune(Ann(index, plain), vectors, target)
    ann = Ann(index, settings)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    taken, found = [], []
    for query in np.tile(queries, (PASSES, 1)):
        begun = time.perf_counter()
        rows = ann.propose(query[None], RECALL_K)
        found.append(rescore(vectors, query[None], rows, RECALL_K)[1][0])
        taken.append(time.perf_counter() - begun)
    faiss.omp_set_num_threads(threads)
    recall = np.mean([np.isin(row, own).mean() for row, own in zip(exact, found, strict=False)])
    print(
        f"{kind:<32}{built:>8.1f}{len(faiss.serialize_index(index)) / 1e6:>6.0f}"
        f"{settings.effort:>7}{settings.candidates:>6}{recall:>8.4f}{1 / np.mean(taken):>10.0f}"
        f"{np.percentile(taken, 99) * 1e3:>8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
