"""Options that several commands have."""

from pathlib import Path

import click

INDEX_OPTION = click.option(
    "--index",
    type=click.Path(path_type=Path),
    default="./index",
    show_default=True,
    help="The index's folder.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
DEVICE_OPTION = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
