"""The options of a search, as both programs have them; their names are those of the API."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from retrieval.commands.parameters import not_empty
from retrieval.domain.passages import DENSE_WEIGHT
from retrieval.domain.records import DTYPE_NAMES

Command = TypeVar("Command", bound=Callable[..., Any])

_RANKING: Final = (
    click.option(
        "--mode",
        type=click.Choice(["auto", "dense", "lexical", "hybrid"]),
        default="auto",
        show_default=True,
        help="Compare vectors (dense), words (lexical) or both (hybrid, which is what auto means "
        "where the index has its words).",
    ),
    click.option(
        "--fusion",
        type=click.Choice(["weighted", "rrf"]),
        default="weighted",
        show_default=True,
        help="How hybrid makes one ranking of two: scores added up, or reciprocal ranks.",
    ),
    click.option(
        "--dense-weight",
        type=float,
        default=DENSE_WEIGHT,
        show_default=True,
        metavar="SHARE",
        help="Of the dense part in a weighted score, between 0 and 1.",
    ),
    click.option("--min-score", type=float, help="Leave out passages that score lower."),
    click.option(
        "--filter",
        default="",
        metavar="EXPR",
        help="Only passages of documents that meet a condition, e.g. "
        "'path:guides/** AND tag=intro'.",
    ),
    click.option(
        "--exact", is_flag=True, help="Compare with every passage; use no approximate index."
    ),
    click.option(
        "--collapse",
        type=float,
        metavar="COSINE",
        help="Leave out passages whose vector has at least this cosine with a better one's, "
        "e.g. 0.95.",
    ),
    click.option(
        "--mmr",
        type=float,
        metavar="SHARE",
        help="Make the best passages diverse: share of the score against newness, e.g. 0.7.",
    ),
    click.option(
        "--rerank",
        "rerank_top",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Have a cross-encoder put the best N in its own order; the list ends with them.",
    ),
)

_SHOWING: Final = (
    click.option("-k", "k", type=int, default=10, show_default=True, help="Most passages to show."),
    click.option(
        "--by-document",
        "group_by_document",
        is_flag=True,
        help="List documents, each by its best passage; -k counts documents then.",
    ),
    click.option(
        "--group-size",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Most passages of a document, with --by-document.",
    ),
    click.option("--highlight", is_flag=True, help="Mark the words of the query."),
    click.option(
        "--before",
        "context_before",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Show N passages before each, too.",
    ),
    click.option(
        "--after",
        "context_after",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Show N passages after each, too.",
    ),
    click.option(
        "--section-chars",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Show the section that a passage is of, as far as it is in N characters; 0: the "
        "passage.",
    ),
)

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
    return _with(command, _RANKING)


def search_options(command: Command) -> Command:
    """Give a command all options of a search, as keywords of ``Query`` and of the client."""
    return _with(command, (*_SHOWING, *_RANKING))


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
