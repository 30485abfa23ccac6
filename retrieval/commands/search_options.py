"""The options of a search on the command line, made from the table of options."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from retrieval.commands.parameters import not_empty
from retrieval.domain.records import DTYPE_NAMES
from retrieval.domain.search_options import OPTIONS, Option

Command = TypeVar("Command", bound=Callable[..., Any])

QUERY_DTYPE_OPTION = click.option(
    "--query-dtype",
    type=click.Choice(["auto", "index", *DTYPE_NAMES]),
    default="auto",
    show_default=True,
    help="Type of the weights for queries; index: the one it was built in; auto: int8 where that "
    "was measured to cost next to nothing, else index.",
)

RERANKER_OPTION = click.option(
    "--reranker",
    callback=not_empty,
    metavar="NAME|FOLDER",
    help="Cross-encoder for searches with --rerank: known name, hub id or local folder.",
)


def ranking_options(command: Command) -> Command:
    """Give a command the options that say how passages are ranked."""
    return _with(command, (option for option in OPTIONS.values() if option.ranks))


def search_options(command: Command) -> Command:
    """Give a command all options of a search, as keywords of ``Query`` and of the client."""
    return _with(command, OPTIONS.values())


def _with(command: Command, options: Iterable[Option]) -> Command:
    # As decorators do, the last one first.
    for option in reversed([option for option in options if option.flag]):
        command = _click_option(option)(command)
    return command


def _click_option(option: Option) -> Callable[[Command], Command]:
    # Whoever answers the search checks the range: a server may have other limits.
    names = (option.flag, option.name)
    if option.kind == "flag":
        return click.option(*names, is_flag=True, help=option.help)
    types = {"whole number": int, "number": float, "text": str}
    return click.option(
        *names,
        type=click.Choice([*option.choices]) if option.choices else types[option.kind],
        default=option.default,
        show_default=option.default not in (None, ""),
        metavar=option.metavar,
        help=option.help,
    )
