"""Models beside each other on our own core: tokens a second of passages, milliseconds per query.

    python -m benchmarks.encoder.models [MODEL...] [--dtypes float32,int8]
        [--docs FOLDER] [--rounds N]

Texts are the chunks of a folder of documents, as long as the first model's limit allows, tokenised
by each model itself. Every model takes one turn in each round, and the table shows medians. Each is
loaded twice: as a build does for passages, and as a service does for queries.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.encoder.speed import read_texts
from retrieval.domain.own_process import claim_process
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import OFFLINE_MODEL, OWN_MODEL

QUERY = "how do i keep an index in step with a folder of documents"
QUERIES = 100
DOCS = Path(__file__).resolve().parents[2] / "docs"


def passages(name: str, dtype: str, texts: list[str]) -> Callable[[], float]:
    """Make a round of embedding passages, which returns tokens a second."""
    encoder = Encoder.load(name, device="cpu", dtype=dtype)

    def turn() -> float:
        started = time.perf_counter()
        counts = encoder.embed(texts).token_counts
        return sum(counts) / (time.perf_counter() - started)

    return turn


def queries(name: str, dtype: str) -> Callable[[], float]:
    """Make a round of embedding single queries, which returns the median in milliseconds."""
    encoder = Encoder.load(name, device="cpu", dtype=dtype, workload="latency")

    def turn() -> float:
        taken = []
        for _ in range(QUERIES):
            started = time.perf_counter()
            encoder.embed([QUERY], "query")
            taken.append(time.perf_counter() - started)
        return statistics.median(taken) * 1e3

    return turn


def contestants(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield the models to measure, with their names."""
    tokenizer = Encoder.load(arguments.models[0], device="cpu").tokenizer
    texts = read_texts(arguments.docs, tokenizer, arguments.tokens).texts
    for dtype in arguments.dtypes.split(","):
        for name in arguments.models:
            yield f"{name}, {dtype}, tokens/s", passages(name, dtype, texts)
            yield f"{name}, {dtype}, ms a query", queries(name, dtype)


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=[OFFLINE_MODEL, OWN_MODEL])
    parser.add_argument("--dtypes", default="float32,int8")
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--tokens", type=int, default=20_000, help="about how many to embed")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    claim_process()  # as the programs do
    turns = dict(contestants(arguments))
    for turn in turns.values():  # once to warm up
        turn()
    seen: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(arguments.rounds):
        for name, turn in turns.items():
            seen[name].append(turn())
    for name, values in sorted(seen.items(), key=lambda item: item[0].rsplit(", ", 1)[1]):
        low, high = min(values), max(values)
        print(f"{name:<40} {statistics.median(values):>10.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
