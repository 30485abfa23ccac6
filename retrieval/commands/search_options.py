"""The options of a search on the command line, made from the table of options."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

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
    help="Type of the weights for queries. index is the type that the index was built with; auto "
    "is int8 if that was measured to cost next to no quality, otherwise index.",
)

RERANKER_OPTION = click.option(
    "--reranker",
    callback=not_empty,
    metavar="NAME|FOLDER",
    help="Cross-encoder for searches with --rerank: known name, hub id or local folder.",
)


COPIES_OPTION = click.option(
    "--copies",
    is_flag=True,
    help="Show every copy of a passage; by default the best one stands for identical ones. With "
    "--json all are shown in any case.",
)
IDENTICAL: Final = 1.0
"""Cosine of the vectors of identical passages."""


def without_copies(collapse: float | None, *, copies: bool, as_json: bool) -> float | None:
    """Return ``collapse`` as a command searches: people don't want to read a passage twice.

    Args:
        collapse: what the user chose; None for nothing.
        copies: whether the user wants every copy.
        as_json: whether the result is for a program, which gets what it asked for.
    """
    return IDENTICAL if collapse is None and not copies and not as_json else collapse


def ranking_options(command: Command) -> Command:
    """Add the options that affect the ranking to a command."""
    return _with(command, (option for option in OPTIONS.values() if option.ranks))


def search_options(command: Command) -> Command:
    """Add all options of a search to a command, as keywords of ``Query`` and of the client."""
    return _with(command, OPTIONS.values())


def _with(command: Command, options: Iterable[Option]) -> Command:
    # Decorators apply from the last to the first.
    for option in reversed([option for option in options if option.flag]):
        command = _click_option(option)(command)
    return command


def _click_option(option: Option) -> Callable[[Command], Command]:
    # The index or server that answers checks the range: a server may have limits of its own.
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
