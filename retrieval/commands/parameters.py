"""What the commands of both programs take: paths and texts that are not empty, queries."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


class NonEmptyPath(click.Path):
    """A ``pathlib.Path``, and not the empty text that an unset variable of a shell leaves behind.

    As a path, an empty text is the working folder.
    """

    def __init__(self, *, dir_okay: bool = True) -> None:
        """Take folders as well as files, or files only."""
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Return the path."""
        if value == "":
            self.fail("it is empty; give a path, or . for this folder", param, ctx)
        return Path(os.fsdecode(super().convert(str(value), param, ctx)))


def not_empty(_: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401
    """Refuse an empty text, or one among several, as the value of an option."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("it is empty; leave the option out, or give a value", param=param)
    return value


def joined(_: click.Context, __: click.Parameter, words: Sequence[str]) -> str:
    """Return the words of a query as one text, so that it needs no quotes."""
    return " ".join(words)


QUERY_ARGUMENT = click.argument("query", nargs=-1, required=True, callback=joined)
"""A query of one or more words; the command gets it as one text."""
