"""The options of a search: the table that command line, client, server and documentation follow.

To add an option:

1. Declare it in ``QueryOptions``: its type, default, limits and help.
2. Name it in ``SearchOptions``.
3. Give both requests in ``search_service.proto`` a field of the same name, whose zero value means
   the default, and run ``make stubs``.
4. Make the searcher act on it, then run ``make docs``.

The commands, both clients, the checks, the translation between messages and queries and the tables
of the documentation need no change.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypedDict

from retrieval.domain.passages import DENSE_WEIGHT, Fusion, Mode
from retrieval.errors import InvalidArgument

DEFAULT_K: Final = 10
MAX_K: Final = 1_000
"""Passages on one page; a streamed search returns up to ``MAX_OFFSET``."""
MAX_OFFSET: Final = 10_000
"""Passages that pages can skip. A page is ranked together with all pages before it, so a deep page
costs as much as a long list."""

Kind = Literal["flag", "whole number", "number", "text", "choice"]
"""A flag is a ``bool``, a whole number an ``int``, a number a ``float``, the others a ``str``."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a search: a row of the table."""

    name: str
    """Field of ``Query``, keyword of the client and, unless it says how to page, of the message."""
    kind: Kind
    default: Any
    help: str
    """What it does, in a sentence for the command line and the documentation."""
    flag: str
    """Name on the command line; empty if it is not there."""
    metavar: str | None
    choices: Mapping[str, str]
    """The name on the wire of each value that a choice can have."""
    minimum: float | None
    """Smallest value, or None; it goes with ``maximum``."""
    maximum: float | None
    """Largest value, or None. A server may have another one."""
    exclusive: bool
    """Whether ``minimum`` and ``maximum`` themselves are out of range."""
    advice: str
    """What to do instead of a value that is out of range."""
    ranks: bool
    """Whether it changes which passages are found or in which order, and not what is shown."""
    page_field: str
    """Field of the request that says so in other words, because the option says how to page."""
    server_limit: str
    """Field of ``ServerLimits`` that tells clients its largest value."""

    @property
    def wire_field(self) -> str:
        """Field of the request that it comes from, which an error names."""
        return self.page_field or self.name

    @property
    def closed_range(self) -> tuple[float, float] | None:
        """The smallest and the largest value that are in range; None if it has no range."""
        if self.minimum is None or self.maximum is None:
            return None
        if self.exclusive:
            return math.nextafter(self.minimum, math.inf), math.nextafter(self.maximum, -math.inf)
        return self.minimum, self.maximum


def _option(
    default: Any,
    *,
    help: str,
    flag: str = "",
    metavar: str | None = None,
    choices: Mapping[str, str] = MappingProxyType({}),
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: bool = False,
    advice: str = "",
    ranks: bool = False,
    page_field: str = "",
    server_limit: str = "",
) -> Any:
    """Return the dataclass field of an option; it is typed as ``dataclasses.field`` is."""
    kinds: dict[type, Kind] = {bool: "flag", int: "whole number", str: "text"}
    option = Option(
        name="",  # the class knows it
        kind="choice" if choices else kinds.get(type(default), "number"),
        default=default,
        help=help,
        flag=flag,
        metavar=metavar,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        exclusive=exclusive,
        advice=advice,
        ranks=ranks,
        page_field=page_field,
        server_limit=server_limit,
    )
    return field(default=default, metadata={"option": option})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """How a query is answered: the table of options, in the order of the help.

    Rules that involve more than one option are in ``retrieval.search.query``.
    """

    k: int = _option(
        DEFAULT_K,
        minimum=1,
        maximum=MAX_K,
        flag="-k",
        help="Maximum number of passages to show.",
        page_field="page_size",
        server_limit="max_page_size",
    )
    offset: int = _option(
        0,
        minimum=0,
        maximum=MAX_OFFSET,
        help="Number of best passages to skip.",
        page_field="page_token",
        server_limit="max_offset",
    )
    group_by_document: bool = _option(
        False,
        flag="--by-document",
        help="List documents, each by its best passage; -k counts documents then.",
    )
    group_size: int = _option(
        1,
        minimum=1,
        maximum=20,  # GetDocument returns all of a document
        flag="--group-size",
        metavar="N",
        help="Maximum number of passages of a document, with --by-document.",
        server_limit="max_group_size",
    )
    highlight: bool = _option(False, flag="--highlight", help="Mark the words of the query.")
    context_before: int = _option(
        0,
        minimum=0,
        maximum=10,  # on each side: 21 texts for a hit; GetPassage returns more
        flag="--before",
        metavar="N",
        help="Also show N passages before each.",
        server_limit="max_context",
    )
    context_after: int = _option(
        0,
        minimum=0,
        maximum=10,  # on each side: 21 texts for a hit; GetPassage returns more
        flag="--after",
        metavar="N",
        help="Also show N passages after each.",
        server_limit="max_context",
    )
    section_chars: int = _option(
        0,
        minimum=0,
        maximum=65_536,  # two parts of a stored text at most: see TEXT_PART_CHARS
        flag="--section-chars",
        metavar="N",
        help="Show the section around each passage, up to N characters of it; 0 shows the "
        "passage alone.",
        server_limit="max_section_chars",
    )
    omit_text: bool = _option(
        False, flag="--omit-text", help="Leave out the texts of the passages."
    )
    omit_metadata: bool = _option(
        False, flag="--omit-metadata", help="Leave out the metadata of the documents."
    )
    include_vectors: bool = _option(
        False,
        flag="--include-vectors",
        help="Return the vectors of the passages, in JSON only.",
    )
    mode: Mode = _option(
        "auto",
        choices={
            "auto": "SEARCH_MODE_UNSPECIFIED",
            "dense": "SEARCH_MODE_DENSE",
            "lexical": "SEARCH_MODE_LEXICAL",
            "hybrid": "SEARCH_MODE_HYBRID",
        },
        flag="--mode",
        help="Compare vectors (dense), words (lexical) or both (hybrid). auto means hybrid if "
        "the index has its words, else dense.",
        ranks=True,
    )
    fusion: Fusion = _option(
        "weighted",
        choices={"weighted": "FUSION_WEIGHTED", "rrf": "FUSION_RRF"},
        flag="--fusion",
        help="How hybrid search makes one ranking of two: by adding weighted scores, or "
        "reciprocal ranks.",
        ranks=True,
    )
    dense_weight: float = _option(
        DENSE_WEIGHT,
        minimum=0,
        maximum=1,
        exclusive=True,
        advice="for one search alone, use dense or lexical mode",
        flag="--dense-weight",
        metavar="SHARE",
        help="Share of the dense score in a weighted score, above 0 and below 1.",
        ranks=True,
    )
    min_score: float | None = _option(
        None, flag="--min-score", help="Leave out passages with a lower score.", ranks=True
    )
    filter: str = _option(
        "",
        flag="--filter",
        metavar="EXPR",
        help="Only search documents that meet a condition, e.g. 'path:guides/** AND tag=intro'.",
        ranks=True,
    )
    exact: bool = _option(
        False,
        flag="--exact",
        help="Compare with every passage instead of using an approximate index.",
        ranks=True,
    )
    collapse: float | None = _option(
        None,
        minimum=0,
        maximum=1,
        flag="--collapse",
        metavar="COSINE",
        help="Leave out passages whose vector has at least this cosine with that of a better "
        "one, e.g. 0.95.",
        ranks=True,
    )
    mmr: float | None = _option(
        None,
        minimum=0,
        maximum=1,
        flag="--mmr",
        metavar="SHARE",
        help="Make the best passages diverse: the weight of the score against novelty, e.g. 0.7.",
        ranks=True,
    )
    rerank_top: int = _option(
        0,
        minimum=0,
        maximum=200,  # reranking a passage takes about as long as embedding it
        flag="--rerank",
        metavar="N",
        help="Rerank the best N passages with a cross-encoder; the list ends with them.",
        ranks=True,
        server_limit="max_rerank_top",
    )
    expected_model_fingerprint: str = _option(
        "",
        help="Fingerprint of the model that made the query's vector; a collection of another model "
        "refuses the search. Empty for no check.",
    )


OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        declared.name: replace(declared.metadata["option"], name=declared.name)
        for declared in fields(QueryOptions)
    }
)
"""The table: each option by its name."""

_BOUNDED: Final = tuple(
    (option.name, *option.closed_range, option)
    for option in OPTIONS.values()
    if option.closed_range
)
_CHOSEN: Final = tuple(
    (option.name, option.choices) for option in OPTIONS.values() if option.choices
)


def check_values(options: QueryOptions) -> None:
    """Refuse the first value that is out of its range, or not among its choices.

    Raises:
        InvalidArgument: the error names the field of the request.
    """
    for name, smallest, largest, option in _BOUNDED:
        value = getattr(options, name)
        if value is None or smallest <= value <= largest:  # NaN never is
            continue
        words = ("between", "and") if option.exclusive else ("from", "to")
        range_ = f"{words[0]} {option.minimum} {words[1]} {option.maximum}"
        advice = f"; {option.advice}" if option.advice else ""
        raise InvalidArgument(
            f"{name} must be {range_}, not {value}{advice}", field=option.wire_field
        )
    for name, choices in _CHOSEN:
        value = getattr(options, name)
        if value not in choices:
            raise InvalidArgument(
                f"{name} must be one of {', '.join(choices)}, not {value!r}", field=name
            )


class FilterObject(Protocol):
    """A filter that is not a text, such as an expression of ``retrieval.client.F``."""

    @property
    def text(self) -> str:
        """The filter in the filter language."""
        ...


class SearchOptions(TypedDict, total=False):
    """Keywords of a search; ``OPTIONS`` says what each means."""

    collection: str
    """The collection's own name; ``default`` if not given."""
    mode: Mode
    fusion: Fusion
    dense_weight: float | None
    min_score: float | None
    filter: str | FilterObject
    exact: bool
    group_by_document: bool
    group_size: int
    collapse: float | None
    mmr: float | None
    rerank_top: int
    highlight: bool
    context_before: int
    context_after: int
    section_chars: int
    omit_text: bool
    omit_metadata: bool
    include_vectors: bool
    expected_model_fingerprint: str
