"""Options and input that several commands share."""

import os
from typing import IO, Final

import click

from retrieval.commands.parameters import IndexLocation
from retrieval.errors import InvalidArgument

_MAX_LIST_BYTES: Final = 256 << 20
"""Room for some million paths; more is most likely not a list of files."""

INDEX_OPTION = click.option(
    "--index",
    type=IndexLocation(),
    default="./index",
    show_default=True,
    help="Folder of the index.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
DEVICE_OPTION = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)


def read_list(stream: IO[bytes]) -> list[str]:
    """Return the paths in a stream, which are separated by line ends, or by NULs if it has any.

    Raises:
        InvalidArgument: there are no paths, or too many.
    """
    data = stream.read(_MAX_LIST_BYTES + 1)
    if len(data) > _MAX_LIST_BYTES:
        raise InvalidArgument(f"the list of paths has more than {_MAX_LIST_BYTES} bytes")
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    paths = [os.fsdecode(part) for part in parts if part]
    if not paths:
        raise InvalidArgument("the list of paths on standard input is empty")
    return paths
