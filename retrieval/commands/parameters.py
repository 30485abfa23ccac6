"""Parameters that the commands of both programs share: checked paths, texts, queries, devices."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from retrieval.store import Location


class NonEmptyPath(click.Path):
    """``pathlib.Path`` that refuses an empty text, which an unset shell variable leaves behind.

    As a path, an empty text would be the working folder.
    """

    def __init__(self, *, dir_okay: bool = True) -> None:
        """Accept files, and folders if ``dir_okay``."""
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Return the path."""
        if value == "":
            self.fail("it is empty; give a path, or . for this folder", param, ctx)
        return Path(os.fsdecode(super().convert(str(value), param, ctx)))


class IndexLocation(click.ParamType["Location"]):
    """Where an index is: a folder, or an address ``scheme://…`` in another store."""

    name = "path"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Location":
        """Return the location."""
        from retrieval.store.location import Location  # loads NumPy

        if isinstance(value, Location):
            return value
        if value == "":
            self.fail("it is empty; give a path, or . for this folder", param, ctx)
        return Location.parse(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Have the shell complete paths."""
        return click.Path().shell_complete(ctx, param, incomplete)


def not_empty(_: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401
    """Refuse an empty text as the value of an option, or among its values."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("it is empty; leave the option out, or give a value", param=param)
    return value


def joined(_: click.Context, __: click.Parameter, words: Sequence[str]) -> str:
    """Return the words of a query as one text, so that it needs no quotes."""
    return " ".join(words)


FILE = NonEmptyPath(dir_okay=False)
"""Type of an option that names a file."""

DEVICE_OPTION = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)

QUERY_ARGUMENT = click.argument("query", nargs=-1, required=True, callback=joined)
"""Query of one or more words, which the command gets as one text."""
