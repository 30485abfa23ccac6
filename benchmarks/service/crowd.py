"""Crowds of clients (``load``) seen from outside: starts them together, collects what they saw."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.service.load import Plan

WARM_UP = 2.0
"""Warm-up: seconds at the start of a crowd that are not counted."""
CLIENTS_A_PROCESS = 128


@dataclass(frozen=True)
class Load:
    """Results of a crowd; times in milliseconds."""

    rate: float
    """Good answers a second."""
    p50: float
    p90: float
    p99: float
    outcomes: Mapping[str, int]
    refused_p50: float
    """Median time to RESOURCE_EXHAUSTED; NaN if there was none."""
    asked: int
    """Number of requests, including the warm-up."""


def run_crowd(plan: Plan, folder: Path) -> Load:
    """Run a crowd in as many processes as needed, all starting together."""
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
        command = [sys.executable, "-m", "benchmarks.service.load", str(path)]
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
    """Summarise the requests of all processes, without the warm-up."""
    started, ended = (np.concatenate([one[key] for one in answers]) for key in ("started", "ended"))
    outcomes = np.concatenate([one["outcomes"] for one in answers])
    begin = started.min()
    counted = (started >= begin + WARM_UP) & (started <= begin + seconds)
    good = counted & (outcomes == "ok")
    # Count answers only while requests come; the rest at the end is not the service's rate.
    in_time = (ended >= begin + WARM_UP) & (ended <= begin + seconds) & (outcomes == "ok")
    refused = counted & (outcomes == "RESOURCE_EXHAUSTED")
    taken = (ended - started) * 1e3
    p50, p90, p99 = np.percentile(taken[good], [50, 90, 99]) if good.any() else [np.nan] * 3
    return Load(
        float(in_time.sum() / (seconds - WARM_UP)),
        *(float(value) for value in (p50, p90, p99)),
        Counter(outcomes[counted].tolist()),
        float(np.median(taken[refused])) if refused.any() else float("nan"),
        len(started),
    )
