"""The service under load, beside its own parts and beside other services.

    python -m benchmarks.service DATA_DIR [--clients 1,8,64,256] [--seconds 10] [--rounds 3]
                                 [--passages 1000] [--peers http,fastapi,txtai,chromadb]
                                 [--overload SECONDS] [--timeout 60] [--library-clients]
                                 [--shape gte-base]

``DATA_DIR`` is a test set in BEIR form (see ``benchmarks.common.beir``). Each document is one
passage. Its queries are sent in turn, and repeated only after all others.

All services have the same passages, the same model and the whole machine, and are asked for the ten
best passages in turn. The model is all-MiniLM-L6-v2; ``--shape`` measures ours alone with random
weights in another model's shape. Clients run in processes of their own (``load.py``) that cost as
little as possible; ``--library-clients`` uses gRPC's own client for ours instead, which takes its
share of the machine. The parts are the encoder alone, one query at a time and in full batches, and
an exact FAISS search alone. Figures are medians of the rounds.

``--overload`` sends four times what the service can do, for that long, from clients that wait
``--timeout`` seconds. The peer ``http`` is our own gateway beside a server of its own. Other peers
need ``pip install '.[service-peers]'``.
"""

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import faiss
import numpy as np

from benchmarks.common.beir import build_index, load_set, read_jsonl
from benchmarks.common.processes import resident, stages, stages_between
from benchmarks.encoder.shapes import SHAPES, make_shape
from benchmarks.service.crowd import CLIENTS_A_PROCESS, WARM_UP, Load, run_crowd
from benchmarks.service.load import K, Plan
from benchmarks.service.peers import PEERS, Service, ours
from retrieval.domain.own_process import claim_process
from retrieval.encoding.encoder import Encoder, load_for_index
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.store import open_reader

BARE_SECONDS = 4.0
BATCHES = (32, 64, 128)
OPEN_SHARES = (0.5, 0.8)
"""Fractions of a service's best rate, for open crowds."""
OVERLOAD = 4


@dataclass(frozen=True)
class Bare:
    """The parts, without a service around them."""

    query: float
    """Milliseconds of the encoder for one query, median."""
    search: float
    """Milliseconds of FAISS for one query, median."""
    full: float
    """Queries a second of the encoder in the best of ``BATCHES``."""


def bare(encoder: Encoder, index: faiss.Index, queries: Iterator[str]) -> Bare:
    """Measure the parts as the service uses them."""
    encoding, searching = [], []
    until = time.perf_counter() + BARE_SECONDS
    while time.perf_counter() < until:
        query = next(queries)
        started = time.perf_counter()
        vectors = encoder.embed([query], "query").vectors
        encoded = time.perf_counter()
        index.search(vectors, K)
        encoding.append(encoded - started)
        searching.append(time.perf_counter() - encoded)
    return Bare(
        median(encoding) * 1e3,
        median(searching) * 1e3,
        max(full_batches(encoder, queries, size) for size in BATCHES),
    )


def full_batches(encoder: Encoder, queries: Iterator[str], size: int) -> float:
    """Measure queries a second that the encoder alone embeds, ``size`` at a time."""
    started, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < BARE_SECONDS:
        encoder.embed([next(queries) for _ in range(size)], "query")
        done += size
    return done / taken


class Benchmark:
    """Running services, and the queries to send."""

    def __init__(self, folder: Path, queries: Sequence[str], model: Path, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout
        # The queries sent longest ago come first, so that no service has them cached.
        self._queries = deque(queries)
        self._model = model
        self._seed = 0

    def crowd(
        self, service: Service, clients: int, seconds: float, rate: float = 0
    ) -> tuple[Load, str]:
        """Run one crowd, and report the stages of our own service meanwhile."""
        self._seed += 1000
        plan = Plan(
            service.kind,
            service.target,
            clients,
            seconds + WARM_UP,
            rate,
            list(self._queries),
            self._seed,
            self._timeout,
            str(self._model),
        )
        before = stages(service.metrics) if service.metrics else {}
        load = run_crowd(plan, self._folder)
        self._queries.rotate(-load.asked)
        return load, stages_between(before, stages(service.metrics)) if before else ""


def closed_loops(
    benchmark: Benchmark,
    services: Sequence[Service],
    parts: list[Bare],
    measure_parts: Iterator[Bare],
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Print the table of closed crowds; return each service's best rate."""
    crowds = [int(count) for count in arguments.clients.split(",")]
    seen: dict[tuple[str, int], list[Load]] = {}
    where: dict[int, str] = {}
    for _ in range(arguments.rounds):
        parts.append(next(measure_parts))
        for clients in crowds:
            for service in services:
                load, spent = benchmark.crowd(service, clients, arguments.seconds)
                seen.setdefault((service.name, clients), []).append(load)
                where[clients] = spent or where[clients]
    print(f"\n{'clients':>7}  {'':<10}{'queries/s':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for (name, clients), loads in sorted(seen.items(), key=lambda item: item[0][1]):
        values = [median(getattr(load, key) for load in loads) for key in ("p50", "p90", "p99")]
        rate = median(load.rate for load in loads)
        failed = sum(sum(load.outcomes.values()) - load.outcomes["ok"] for load in loads)
        print(
            f"{clients:>7}  {name:<10}{rate:>10.0f}"
            + "".join(f"{value:>9.1f}" for value in values)
            + (f"  {failed} failed" if failed else "")
        )
    print("\nours, means of the last round:")
    for clients, spent in where.items():
        print(f"{clients:>7}  {spent}")
    return {
        service.name: max(
            median(load.rate for load in loads)
            for (name, _), loads in seen.items()
            if name == service.name
        )
        for service in services
    }


def open_loops(
    benchmark: Benchmark, services: Sequence[Service], best: Mapping[str, float], seconds: float
) -> None:
    """Run open crowds, at fractions of each service's best rate."""
    print(f"\n{'arrivals/s':>10}  {'':<10}{'queries/s':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for share in OPEN_SHARES:
        for service in services:
            rate = best[service.name] * share
            load, _ = benchmark.crowd(service, 64, seconds, rate)
            times = "".join(f"{value:>9.1f}" for value in (load.p50, load.p90, load.p99))
            print(f"{rate:>10.0f}  {service.name:<10}{load.rate:>10.0f}{times}", flush=True)


def overload(benchmark: Benchmark, service: Service, best: float, seconds: float) -> None:
    """Send four times as many requests as the service can answer."""
    before = resident(service.pid)
    load, _ = benchmark.crowd(service, CLIENTS_A_PROCESS, seconds, OVERLOAD * best)
    print(
        f"\n{OVERLOAD} × {best:.0f} requests a second for {seconds:.0f} s: "
        f"{load.rate:.0f} answered a second ({load.rate / best:.0%}), p50 {load.p50:.0f} ms, "
        f"p99 {load.p99:.0f} ms; refused in {load.refused_p50:.1f} ms (p50); "
        f"{dict(load.outcomes)}; resident {before:.0f} → {resident(service.pid):.0f} MB",
        flush=True,
    )


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a BEIR-form set")
    parser.add_argument("--clients", default="1,8,64,256")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="", help=f"some of {','.join(PEERS)}")
    parser.add_argument("--passages", type=int, default=1000, help="of the set, at most")
    parser.add_argument("--overload", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--timeout", type=float, default=60, help="seconds that clients wait")
    parser.add_argument("--shape", choices=SHAPES, help="in place of all-MiniLM-L6-v2")
    parser.add_argument("--library-clients", action="store_true")
    parser.add_argument("--serve", default="", help="options of retrieval serve")
    arguments = parser.parse_args()
    claim_process()  # as the programs do
    passages = list(load_set(arguments.data).corpus.values())[: arguments.passages]
    queries = [record["text"] for record in read_jsonl(arguments.data / "queries.jsonl")]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model, path = model_of(arguments.shape, folder)
        texts = {str(number): text for number, text in enumerate(passages)}
        build_index(texts, folder, ["--model", model, "--chunk-tokens", "document"])
        kind = "grpc-library" if arguments.library_clients else "grpc"
        services = [stack.enter_context(ours(folder, arguments.serve.split(), kind))]
        services += [
            stack.enter_context(PEERS[peer](folder, passages, path))
            for peer in filter(None, arguments.peers.split(","))
        ]
        print(f"{len(passages)} passages, {len(queries)} queries", flush=True)
        benchmark = Benchmark(folder, queries, path, arguments.timeout)
        parts: list[Bare] = []
        measure_parts = measured_parts(folder / "index", queries)
        best = closed_loops(benchmark, services, parts, measure_parts, arguments)
        alone = (mean(part.query for part in parts), mean(part.search for part in parts))
        print(
            f"\nalone: one query {alone[0]:.2f} ms in the encoder and {alone[1]:.2f} ms in FAISS; "
            f"{median(part.full for part in parts):.0f} queries/s in full batches"
        )
        open_loops(benchmark, services, best, arguments.seconds)
        if arguments.overload:
            overload(benchmark, services[0], best["ours"], arguments.overload)


def model_of(shape: str | None, folder: Path) -> tuple[str, Path]:
    """Return the model of all services, as its name for a build and as its folder.

    A registered model has to be given by name, because only then are queries embedded in int8.

    Args:
        shape: shape of a model to make with random weights; None means all-MiniLM-L6-v2.
        folder: where to make it.
    """
    if shape is None:
        return OFFLINE_MODEL, find_model(OFFLINE_MODEL).path
    path = folder / "model"
    path.mkdir()
    make_shape(shape, path)
    return str(path), path


def measured_parts(folder: Path, queries: Sequence[str]) -> Iterator[Bare]:
    """Yield measurements of the service's parts over this index, repeated on each step."""
    with open_reader(folder) as reader:
        identity = reader.info.model
        encoder = load_for_index(identity, dtype="auto", workload="latency")
        index = faiss.IndexFlatIP(identity.dim)
    # The values of the vectors make no difference to the time of an exact search.
    rows = np.random.default_rng(0).standard_normal((reader.info.chunks, identity.dim))
    index.add(rows.astype(np.float32))
    number = 0

    def endless() -> Iterator[str]:
        nonlocal number
        while True:
            number += 1
            yield queries[number % len(queries)]

    stream = endless()
    while True:
        yield bare(encoder, index, stream)


if __name__ == "__main__":
    main()
