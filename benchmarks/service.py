"""The service under load, beside its own parts and beside other services.

    python -m benchmarks.service DATA_DIR [--clients 1,8,64,256] [--seconds 10] [--rounds 3]
                                 [--passages 1000] [--peers fastapi,txtai,chromadb]
                                 [--overload SECONDS]

``DATA_DIR`` is a BEIR-form set (``benchmarks/beir.py``): its documents are the passages, one each,
and its queries are asked, a different one every time. All services have the same passages, the
same model (all-MiniLM-L6-v2) and the whole machine, and are asked for the ten best passages in
turn, by clients in processes of their own (``benchmarks/load.py``). The parts are the encoder
alone, one query at a time and in full batches, and an exact FAISS search alone. Figures are
medians of the rounds. ``--overload`` sends four times what the service can do, for that long.
Peers: ``pip install 'gte-retrieval[service-peers]'``.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median

import faiss
import numpy as np

from benchmarks.beir import build_index, load_set, read_jsonl
from benchmarks.load import K, Plan
from benchmarks.service_peers import PEERS, Service, ours
from retrieval.encoder import Encoder, load_for_index
from retrieval.hub import find_model
from retrieval.registry import OFFLINE_MODEL
from retrieval.store import IndexReader

WARM_UP = 2.0
"""Seconds at the start of a crowd that are not counted."""
BARE_SECONDS = 4.0
BATCHES = (32, 64, 128)
OPEN_SHARES = (0.5, 0.8)
"""Of what a service can do, for crowds that do not wait."""
OVERLOAD = 4
CLIENTS_A_PROCESS = 128
STAGES = ("queue", "encode", "embed", "search", "fetch")


@dataclass(frozen=True)
class Load:
    """What a crowd saw; times in milliseconds."""

    rate: float
    """Good answers a second."""
    p50: float
    p90: float
    p99: float
    outcomes: Mapping[str, int]
    refused_p50: float
    """Of RESOURCE_EXHAUSTED; NaN: none."""


@dataclass(frozen=True)
class Bare:
    """The parts, without a service around them."""

    query: float
    """Milliseconds that the encoder takes for one query, median."""
    search: float
    """Milliseconds that FAISS takes for one, median."""
    full: float
    """Queries a second of the encoder in the best of ``BATCHES``."""


def run_crowd(plan: Plan, folder: Path) -> Load:
    """Run a crowd, in as many processes as it takes, all starting together."""
    count = 1 if plan.kind == "chroma" else -(-plan.clients // CLIENTS_A_PROCESS)
    processes = []
    for number in range(count):
        part = replace(
            plan,
            clients=plan.clients // count,
            rate=plan.rate / count,
            queries=plan.queries[number::count],
            seed=plan.seed + number,
        )
        path = folder / f"plan{number}.json"
        path.write_text(json.dumps(asdict(part)), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.load", str(path)]
        processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            sys.exit(f"the clients of {plan.kind} did not start")
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate()
        answers.append(json.loads(output))
    return summary(answers, plan.seconds)


def summary(answers: Sequence[Mapping[str, list[float]]], seconds: float) -> Load:
    """What the requests of all processes come to, those of the warm-up apart."""
    started, ended = (np.concatenate([one[key] for one in answers]) for key in ("started", "ended"))
    outcomes = np.concatenate([one["outcomes"] for one in answers])
    begin = started.min()
    counted = (started >= begin + WARM_UP) & (started <= begin + seconds)
    good = counted & (outcomes == "ok")
    # Answers count while requests come: what is left at the end is not the service's rate.
    in_time = (ended >= begin + WARM_UP) & (ended <= begin + seconds) & (outcomes == "ok")
    refused = counted & (outcomes == "RESOURCE_EXHAUSTED")
    taken = (ended - started) * 1e3
    p50, p90, p99 = np.percentile(taken[good], [50, 90, 99]) if good.any() else [np.nan] * 3
    return Load(
        float(in_time.sum() / (seconds - WARM_UP)),
        *(float(value) for value in (p50, p90, p99)),
        Counter(outcomes[counted].tolist()),
        float(np.median(taken[refused])) if refused.any() else float("nan"),
    )


def bare(encoder: Encoder, index: faiss.Index, queries: Iterator[str]) -> Bare:
    """Measure the parts, as the service uses them."""
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
    """Queries a second that the encoder alone embeds, so many at a time."""
    started, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < BARE_SECONDS:
        encoder.embed([next(queries) for _ in range(size)], "query")
        done += size
    return done / taken


def stages(service: Service) -> dict[str, tuple[float, float]]:
    """Seconds spent in each stage so far, and how often; texts of all batches as ``batch``."""
    text = urllib.request.urlopen(service.metrics).read().decode()

    def number(pattern: str) -> float:
        found = re.search(rf"^retrieval_{pattern} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    found = {
        stage: (
            number(rf'stage_seconds_sum{{stage="{stage}"}}'),
            number(rf'stage_seconds_count{{stage="{stage}"}}'),
        )
        for stage in STAGES
    }
    return {**found, "batch": (number("batch_texts_sum"), number("batch_texts_count"))}


def stages_between(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]
) -> str:
    """Means of the time between: milliseconds of a stage, texts of a batch."""
    means = {
        name: (after[name][0] - before[name][0]) / max(1.0, after[name][1] - before[name][1])
        for name in after
    }
    parts = [f"{stage} {means[stage] * 1e3:.2f}" for stage in STAGES]
    return f"{', '.join(parts)} ms; {means['batch']:.1f} texts a batch"


def resident(pid: int) -> float:
    """Megabytes that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3


class Benchmark:
    """Services that run, and what is asked of them."""

    def __init__(self, folder: Path, queries: Sequence[str], model: Path) -> None:
        self._folder = folder
        self._queries = list(queries)
        self._model = model
        self._seed = 0

    def crowd(
        self, service: Service, clients: int, seconds: float, rate: float = 0
    ) -> tuple[Load, str]:
        """One crowd, and where the time of our own service went meanwhile."""
        self._seed += 1000
        plan = Plan(
            service.kind,
            service.target,
            clients,
            seconds + WARM_UP,
            rate,
            self._queries,
            self._seed,
            str(self._model),
        )
        before = stages(service) if service.metrics else {}
        load = run_crowd(plan, self._folder)
        return load, stages_between(before, stages(service)) if before else ""


def closed_loops(
    benchmark: Benchmark,
    services: Sequence[Service],
    parts: list[Bare],
    measure_parts: Iterator[Bare],
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """The table of crowds that wait for their answers; returns each service's best rate."""
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
    """Crowds that do not wait, at shares of what each service can do."""
    print(f"\n{'arrivals/s':>10}  {'':<10}{'queries/s':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for share in OPEN_SHARES:
        for service in services:
            rate = best[service.name] * share
            load, _ = benchmark.crowd(service, 64, seconds, rate)
            times = "".join(f"{value:>9.1f}" for value in (load.p50, load.p90, load.p99))
            print(f"{rate:>10.0f}  {service.name:<10}{load.rate:>10.0f}{times}", flush=True)


def overload(benchmark: Benchmark, service: Service, best: float, seconds: float) -> None:
    """Four times as many requests as can be answered."""
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
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a BEIR-form set")
    parser.add_argument("--clients", default="1,8,64,256")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="", help=f"some of {','.join(PEERS)}")
    parser.add_argument("--passages", type=int, default=1000, help="of the set, at most")
    parser.add_argument("--overload", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--serve", default="", help="options of retrieval serve")
    arguments = parser.parse_args()
    passages = list(load_set(arguments.data).corpus.values())[: arguments.passages]
    queries = [record["text"] for record in read_jsonl(arguments.data / "queries.jsonl")]
    model = find_model(OFFLINE_MODEL).path
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        texts = {str(number): text for number, text in enumerate(passages)}
        build_index(texts, folder, ["--model", OFFLINE_MODEL, "--chunk-tokens", "document"])
        services = [stack.enter_context(ours(folder, arguments.serve.split()))]
        services += [
            stack.enter_context(PEERS[peer](folder, passages, model))
            for peer in filter(None, arguments.peers.split(","))
        ]
        print(f"{len(passages)} passages, {len(queries)} queries", flush=True)
        benchmark = Benchmark(folder, queries, model)
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


def measured_parts(folder: Path, queries: Sequence[str]) -> Iterator[Bare]:
    """The parts that the service over this index is made of, measured again each time."""
    with IndexReader.open(folder) as reader:
        identity = reader.info.model
        encoder = load_for_index(identity, dtype="auto", workload="latency")
        index = faiss.IndexFlatIP(identity.dim)
    # What is in the vectors makes no difference to an exact search.
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
