"""Bodies of requests in the gateway's own form; a search's options come from their table."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from retrieval.domain.resource_names import COLLECTION_ID, DEFAULT_COLLECTION
from retrieval.domain.search_options import OPTIONS, Option, SearchOptions
from retrieval.errors import InvalidArgument

MAX_BATCH = 256
"""Searches of one request: ``ServerLimits.max_batch_size``, unless the server has another limit."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number, which JSON may write as 8.0."""

NAMED: Final[dict[str, Any]] = {"pattern": f"^{COLLECTION_ID}$"}
"""Form of a collection's name, for the document; the server says what is wrong with one."""

Collection = Annotated[
    str, Field(description="The collection's own name.", json_schema_extra=NAMED)
]


def example(**members: Any) -> ConfigDict:  # noqa: ANN401  (JSON)
    """Return the configuration of a body that shows an example of it."""
    return ConfigDict(json_schema_extra={"examples": [members]})


class Body(BaseModel):
    """A body that is what it seems to be: no number as a text, no unknown member."""

    model_config = ConfigDict(strict=True, extra="forbid")


_TYPES: dict[str, Any] = {"flag": bool, "whole number": Whole, "number": float, "text": str}


def _field(option: Option) -> tuple[Any, Any]:
    """Return the type and the field of an option, for ``create_model``."""
    type_ = Literal[tuple(option.choices)] if option.choices else _TYPES[option.kind]
    if option.default is None:
        type_ = type_ | None
    # The server checks the range, because its limits may be others; it is only documented here.
    extra: dict[str, Any] = {}
    if option.minimum is not None and option.maximum is not None:
        names = ("exclusiveMinimum", "exclusiveMaximum") if option.exclusive else _INCLUSIVE
        extra = dict(zip(names, (option.minimum, option.maximum), strict=True))
    return type_, Field(option.default, description=_described(option), json_schema_extra=extra)


_INCLUSIVE = ("minimum", "maximum")


def _described(option: Option) -> str:
    """Return what an option does, with the names of options here for those of the command line."""
    text = option.help
    for other in OPTIONS.values():
        if other.flag:
            text = re.sub(rf"(?<![\w-]){re.escape(other.flag)}(?![\w-])", other.name, text)
    return text


class Query(Body):
    """What to search for: exactly one of ``query``, ``vector`` and ``passage``."""

    model_config = example(query="how are pods scheduled?")
    query: str | None = Field(None, description="A question or some words.")
    vector: list[float] | None = Field(
        None, description="An embedding by the collection's model, in place of a text."
    )
    passage: str | None = Field(
        None, description="The name of a passage to find others like it, in place of a text."
    )
    collection: Collection = DEFAULT_COLLECTION


_OPTIONS: Final[dict[str, Any]] = {
    name: _field(option)
    for name, option in OPTIONS.items()
    if name in SearchOptions.__optional_keys__
}


SearchBody: Any = create_model(
    "SearchRequest",
    __base__=Query,
    __doc__="A search for one page of passages.",
    k=_field(OPTIONS["k"]),
    page_token=(
        str,
        Field("", description="next_page_token of the page before; empty for the first page."),
    ),
    **_OPTIONS,
)

StreamBody: Any = create_model(
    "StreamSearchRequest",
    __base__=Query,
    __doc__="A search for many passages, best first.",
    limit=(
        Whole | None,
        Field(None, description="Maximum number of passages; null for as many as the server has."),
    ),
    **_OPTIONS,
)


class BatchSearchBody(Body):
    """Several searches, each for its first page."""

    model_config = example(searches=[{"query": "pods", "k": 3}, {"query": "nodes", "k": 3}])
    searches: list[SearchBody] = Field(min_length=1, max_length=MAX_BATCH)


class Part(BaseModel):
    """What to return of a document's text: parameters of the query."""

    text: bool = Field(True, description="Whether to return the text.")
    char_start: int | None = Field(
        None,
        description="Return only a part of the text, from this position, counted in characters "
        "from 0.",
    )
    char_end: int | None = Field(None, description="Position after the last character.")
    line_start: int | None = Field(
        None, description="Return only a part of the text, from this line, counted from 1."
    )
    line_end: int | None = Field(None, description="The last line of the part.")

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords of ``document_request``; a range wins over ``text``.

        Raises:
            InvalidArgument: two ranges, or one that ends before it starts.
        """
        chars = _range("char", self.char_start, self.char_end, first=0)
        lines = _range("line", self.line_start, self.line_end, first=1)
        if chars and lines:
            raise InvalidArgument(
                "give a range of characters or of lines, not both", field="line_start"
            )
        return {"with_text": self.text, "chars": chars, "lines": lines}


def _range(
    name: str, start: int | None, end: int | None, *, first: int
) -> tuple[int, int | None] | None:
    """Return a range; None if neither of its parameters is given.

    Raises:
        InvalidArgument: the range ends before it starts.
    """
    if start is None and end is None:
        return None
    begin = first if start is None else start
    if begin < first:
        raise InvalidArgument(
            f"{name}_start is {begin}; it must be at least {first}", field=f"{name}_start"
        )
    if end is not None and end < begin:
        raise InvalidArgument(
            f"{name}_end is {end}; it must be at least the start, {begin}", field=f"{name}_end"
        )
    return begin, end
