"""Other vector stores on the same vectors, each in processes of its own.

Only the effort of a search varies, from low to high, until it reaches a recall. Building has all
cores; searching has one, one query at a time.

    python -m benchmarks.store.peers build NAME FOLDER     (called by benchmarks/store/)
    python -m benchmarks.store.peers search NAME FOLDER
"""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.processes import memory
from benchmarks.store.contestants import CONTESTANTS, Contestant, Ids

TARGETS = (0.95, 0.99)
PASSES = 3
MOST_SECONDS = 20.0
"""Maximum seconds of a pass; a slower contestant gets fewer queries, but at least 20."""
VECTORS, QUERIES, TRUTH, OURS = "vectors.npy", "queries.npy", "truth.npy", "ours"


def build(name: str, folder: Path) -> dict[str, float]:
    """Build one store; return seconds and bytes on disk."""
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    home = folder / name
    home.mkdir(exist_ok=True)
    started = time.perf_counter()
    CONTESTANTS[name](home, vectors.shape[1]).build(vectors)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    return {"seconds": seconds, "disk": size}


def search(name: str, folder: Path) -> dict[str, Any]:
    """Open one store, and measure it at every target on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    faiss.omp_set_num_threads(1)
    queries, truth = np.load(folder / QUERIES), np.load(folder / TRUTH)
    contestant = CONTESTANTS[name](folder / name, queries.shape[1])
    before, started = anonymous_bytes(), time.perf_counter()
    contestant.open()
    contestant.set_effort(contestant.efforts[1])
    contestant.search(queries[0])
    opened, memory = time.perf_counter() - started, anonymous_bytes() - before
    started = time.perf_counter()
    contestant.search(queries[1])
    affordable = int(MOST_SECONDS / (time.perf_counter() - started))
    queries = queries[: max(20, affordable)]
    reached: dict[str, Any] = {}
    for effort in contestant.efforts:
        contestant.set_effort(effort)
        seconds, found = one_by_one(contestant, queries)
        recall = float(
            np.mean(
                [np.isin(wanted, row).mean() for wanted, row in zip(truth, found, strict=False)]
            )
        )
        for target in TARGETS:
            if recall >= target and str(target) not in reached:
                taken = seconds
                for _ in range(PASSES - 1):
                    taken = taken + one_by_one(contestant, queries)[0]
                p50, p99 = np.percentile(taken, [50, 99]) * 1e3
                reached[str(target)] = {
                    "effort": effort,
                    "recall": recall,
                    "rate": 1 / float(np.mean(taken)),
                    "p50": float(p50),
                    "p99": float(p99),
                }
        if len(reached) == len(TARGETS):
            break
    return {"opened": opened, "memory": memory, "reached": reached}


def one_by_one(
    contestant: Contestant, queries: NDArray[np.float32]
) -> tuple[list[float], list[Ids]]:
    """Run the queries one at a time; return seconds and ids of each."""
    seconds, found = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(contestant.search(query))
        seconds.append(time.perf_counter() - started)
    return seconds, found


def anonymous_bytes() -> int:
    """Return the memory of this process without mapped files, in bytes."""
    return memory("self", "RssAnon")


def main() -> None:
    """Run one step of one contestant; the last line printed is its result as JSON."""
    logging.disable(logging.WARNING)
    step, name, folder = sys.argv[1:]
    result = (build if step == "build" else search)(name, Path(folder))
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # some stores leave threads behind that never end


if __name__ == "__main__":
    main()
