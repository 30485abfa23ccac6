"""What can be observed of a running process: its memory, and where a server spends its time."""

import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path

STAGES = ("queue", "encode", "embed", "search", "fetch")


def memory(pid: int | str, what: str) -> int:
    """Return bytes of a process: ``VmRSS`` (resident), ``RssAnon`` (without files).

    Args:
        pid: its number, or ``"self"``.
        what: a line of https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def resident(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    return memory(pid, "VmRSS") / 1e6


def stages(metrics: str) -> dict[str, tuple[float, float]]:
    """Return seconds and count of each stage so far; ``batch`` counts texts instead.

    Args:
        metrics: URL of a server's metrics.
    """
    text = urllib.request.urlopen(metrics).read().decode()

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
    """Return the means between two readings: milliseconds of a stage, texts of a batch."""
    means = {
        name: (after[name][0] - before[name][0]) / max(1.0, after[name][1] - before[name][1])
        for name in after
    }
    parts = [f"{stage} {means[stage] * 1e3:.2f}" for stage in STAGES]
    return f"{', '.join(parts)} ms; {means['batch']:.1f} texts a batch"
