"""Command that runs tasks of mteb (https://github.com/embeddings-benchmark/mteb) with an encoder.

    python -m retrieval.eval.mteb --model gte-large-en-v1.5 --benchmark "MTEB(eng, v1)"
    python -m retrieval.eval.mteb --model gte-base-en-v1.5 --tasks SciFact,STS17
    python -m retrieval.eval.mteb --model all-minilm-l6-v2 --local ./qmsum --output results

mteb itself fetches what ``--tasks`` and ``--benchmark`` name from the hub. ``--local`` reads sets
in BEIR form, LoCo's for instance, from the disk as retrieval tasks. The model reads whole texts, up
to its maximum. Results are written as mteb writes them, one JSON file per task.
"""

import sys
from pathlib import Path

import click

from retrieval.commands import program
from retrieval.errors import InvalidArgument


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="NAME|FOLDER",
    help="Model to measure; as for `indexer build`.",
)
@click.option(
    "--tasks", default="", metavar="A,B", help="Names of mteb tasks, separated by commas."
)
@click.option(
    "--benchmark", metavar="NAME", help='Name of an mteb benchmark, e.g. "MTEB(eng, v1)".'
)
@click.option(
    "--local",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of a set in BEIR form; repeatable.",
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
    """Run tasks of mteb with a model."""
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
