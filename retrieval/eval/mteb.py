"""Our encoder as a model of mteb (https://github.com/embeddings-benchmark/mteb), on its tasks.

    python -m retrieval.eval.mteb --model gte-large-en-v1.5 --benchmark "MTEB(eng, v1)"
    python -m retrieval.eval.mteb --model gte-base-en-v1.5 --tasks SciFact,STS17
    python -m retrieval.eval.mteb --model all-minilm-l6-v2 --local ./qmsum --output results

``--tasks`` and ``--benchmark`` are fetched from the hub by mteb itself; ``--local`` takes sets in
BEIR form from the disk, LoCo's for instance, as retrieval tasks of the same kind. Texts go through
the model whole, up to its maximum. Results are written as mteb writes them, one JSON file a task.
"""

import sys
from pathlib import Path

import click

from retrieval.commands import program
from retrieval.errors import InvalidArgument


@click.command()
@click.option("--model", required=True, metavar="NAME|FOLDER", help="As for `indexer build`.")
@click.option("--tasks", default="", metavar="A,B", help="Names of mteb's tasks.")
@click.option("--benchmark", metavar="NAME", help='Of mteb\'s, e.g. "MTEB(eng, v1)".')
@click.option(
    "--local",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A set in BEIR form; repeatable.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), default="mteb-results", show_default=True
)
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True, help="Type of the weights.")
def main(
    *,
    model: str,
    tasks: str,
    benchmark: str | None,
    local: tuple[Path, ...],
    output: Path,
    device: str,
    dtype: str,
) -> None:
    """Run tasks of mteb with a model of ours."""
    if not (tasks or benchmark or local):
        raise click.UsageError("say what to run: --tasks, --benchmark or --local")
    try:
        from retrieval.eval.mteb_model import run_tasks
    except ImportError as error:
        if not (error.name or "").startswith(("mteb", "datasets")):
            raise
        raise InvalidArgument("this needs mteb: pip install 'gte-retrieval[mteb]'") from error
    from retrieval.encoding.encoder import Encoder

    encoder = Encoder.load(model, device=device, dtype=dtype)
    for name, score in run_tasks(
        encoder, tasks=tasks, benchmark=benchmark, local=local, output=output
    ):
        click.echo(f"{name:<32} {score:.4f}")


if __name__ == "__main__":
    sys.exit(program.run(main, "python -m retrieval.eval.mteb"))
