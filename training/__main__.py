"""Command that trains one stage.

    python -m training training/stages/distil.toml --data DATA --start START --run runs/1 \
        --teacher all-minilm-l6-v2

A run that was stopped, in any way, resumes from its last checkpoint. At the end the encoder is in
``RUN/model``, which can be the next stage's ``--start``.
"""

import sys
from pathlib import Path

import click

from retrieval.commands import program
from training.data.batches import Batches, SpecialTokens
from training.data.text_data import TextData
from training.learning.discriminant import Discriminant
from training.learning.loop import start
from training.models.teacher import Teacher
from training.stages import Stage

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("stage", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data", type=_FOLDER, required=True, help="Folder made by `python -m training.prepare`."
)
@click.option(
    "--start", "begin", type=_FOLDER, required=True, help="Folder of the encoder to start from."
)
@click.option(
    "--run", "folder", type=_FOLDER, required=True, help="Folder for checkpoints, log and result."
)
@click.option("--teacher", metavar="NAME|FOLDER", help="Model to learn from, or to compare with.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--seconds", type=float, help="Time after which to stop; run it again to resume.")
def main(
    *,
    stage: Path,
    data: Path,
    begin: Path,
    folder: Path,
    teacher: str | None,
    device: str,
    seconds: float | None,
) -> None:
    """Train STAGE, a TOML file of settings (its fields: ``training/stages/__init__.py``)."""
    settings = Stage.from_file(stage)
    batches = Batches(TextData.open(data), settings, SpecialTokens.read(begin))
    taught_by = Teacher(teacher, device) if teacher else None
    if taught_by and settings.discriminant:
        taught_by.of_pieces = Discriminant.learn(taught_by, batches, settings.discriminant)
    run = start(folder, settings, batches=batches, begin=begin, device=device, teacher=taught_by)
    click.echo(f"{folder}: step {run.progress.step} of {settings.steps}")
    progress = run.go_on(seconds=seconds)
    written = run.write_model(begin)
    click.echo(f"{folder}: step {progress.step} of {settings.steps}, {progress.tokens} tokens")
    click.echo(f"the encoder is in {written}")


if __name__ == "__main__":
    sys.exit(program.run(main, "training", interrupted="run it again to resume"))
