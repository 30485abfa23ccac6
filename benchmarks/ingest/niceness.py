"""How much of a core the writer process keeps beside searches, and how much it delays them.

    python -m benchmarks.ingest.niceness [--rounds 3] [--seconds 4]

Processes that only burn time stand for the threads of a server, all on one core: searches at
niceness 10, the event loop at 0 for two fifths of the time, and the writer at the niceness in
question. What others run on the machine changes times, but not shares.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence

NICENESS = (19, 15, 10, 5)
SEARCH, LOOP = 10, 0
BURST_SECONDS = 0.01
"""Processor time of a search."""

_PROGRAM = """
import os, sys, time
niceness, seconds, burst, pause = int(sys.argv[1]), *map(float, sys.argv[2:])
os.setpriority(os.PRIO_PROCESS, 0, niceness)
os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
times, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    begun, done = time.monotonic(), time.process_time() + burst
    while time.process_time() < done:
        pass
    times.append(time.monotonic() - begun)
    time.sleep(pause)
times.sort()
print(time.process_time(), times[len(times) // 2], times[len(times) * 95 // 100])
"""


def burn(
    niceness: int, seconds: float, burst: float = 0.002, pause: float = 0.0
) -> "subprocess.Popen[str]":
    """Start a process that burns time in bursts."""
    arguments = [str(value) for value in (niceness, seconds, burst, pause)]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[float, float, float]:
    """Return the processor time that a process burnt, and the p50 and p95 of its bursts."""
    burnt, median, late = map(float, process.communicate()[0].split())
    return burnt, median, late


def share(niceness: int, searches: int, seconds: float) -> float:
    """Return the writer's share of a core beside an event loop and some busy searches."""
    processes = [burn(niceness, seconds), burn(LOOP, seconds, 0.002, 0.003)]
    processes += [burn(SEARCH, seconds) for _ in range(searches)]
    burnt = [finish(process)[0] for process in processes]
    return burnt[0] / sum(burnt)


def search_times(niceness: int | None, seconds: float) -> tuple[float, float]:
    """Return the p50 and p95 of searches that share the core with the writer; None for none."""
    writer = None if niceness is None else burn(niceness, seconds + 0.5)
    _burnt, median, late = finish(burn(SEARCH, seconds, BURST_SECONDS, 4 * BURST_SECONDS))
    if writer is not None:
        finish(writer)
    return median, late


def shown(values: Sequence[float], unit: str) -> str:
    """Return values and their least."""
    return f"{min(values):.3f} {unit}  (of {', '.join(f'{value:.3f}' for value in values)})"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    shares: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    times: defaultdict[int | None, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.rounds):
        times[None].append(search_times(None, arguments.seconds))
        for niceness in NICENESS:
            times[niceness].append(search_times(niceness, arguments.seconds))
            for searches in (1, 2):
                row = shares[niceness, searches]
                row.append(share(niceness, searches, arguments.seconds))
    for (niceness, searches), values in shares.items():
        print(f"niceness {niceness}, {searches} searches: {shown(values, 'of a core')}")
    for one, rows in times.items():
        for name, column in zip(("p50", "p95"), zip(*rows, strict=True), strict=True):
            print(f"writer {one}: a search of {BURST_SECONDS} s takes {shown(column, f's {name}')}")


if __name__ == "__main__":
    main()
