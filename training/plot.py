"""Plot of the logs of one or more runs: loss, cosine with the teacher, nDCG@10.

python -m training.plot runs/1 runs/2 --out curve.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from retrieval.commands import program

_PANELS = (("loss", "loss"), ("cosine", "cosine with the teacher"), ("ndcg", "nDCG@10"))


def read_log(run: Path) -> list[dict[str, Any]]:
    """Read a run's log; of the steps that a killed run repeated, the last line counts."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    by_step = {record["step"]: record for record in map(json.loads, lines)}
    return [by_step[step] for step in sorted(by_step)]


def plot(runs: list[Path], out: Path) -> None:
    """Plot the runs one after the other, over the number of tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    before = 0
    for run in runs:
        records = read_log(run)
        for axis, (name, title) in zip(axes, _PANELS, strict=True):
            shown = [
                ((before + record["tokens"]) / 1e6, figures[name])
                for record in records
                if name in (figures := record if name == "loss" else record.get("held", {}))
            ]
            axis.plot(*zip(*shown, strict=True) if shown else ([], []), label=run.name)
            axis.set(xlabel="million tokens", title=title)
        before += records[-1]["tokens"] if records else 0
    axes[0].legend()
    figure.savefig(out, dpi=120)


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), default="curve.png", show_default=True)
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Plot the logs of RUNS."""
    plot(list(runs), out)
    click.echo(f"{out}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.plot"))
