"""Options that several commands have."""

import os
from typing import IO, Final

import click

from retrieval.commands.parameters import IndexLocation
from retrieval.errors import InvalidArgument

_MAX_LIST_BYTES: Final = 256 << 20

INDEX_OPTION = click.option(
    "--index",
    type=IndexLocation(),
    default="./index",
    show_default=True,
    help="The index's folder.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
DEVICE_OPTION = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)


def read_list(stream: IO[bytes]) -> list[str]:
    """Paths from a stream, one a line, or with NUL between them if there is any.

    Raises:
        InvalidArgument: there are none, or too many.
    """
    data = stream.read(_MAX_LIST_BYTES + 1)
    if len(data) > _MAX_LIST_BYTES:
        raise InvalidArgument(f"the list of paths has more than {_MAX_LIST_BYTES} bytes")
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    paths = [os.fsdecode(part) for part in parts if part]
    if not paths:
        raise InvalidArgument("the list of paths on standard input is empty")
    return paths
