"""Arguments of the tools: their schemas, which models read, and the checking of what they send."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrieval.domain.passages import Mode
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.errors import InvalidArgument
from retrieval.gateway.mcp.bounds import shortened

ArgumentsT = TypeVar("ArgumentsT", bound="Arguments")

MAX_TOP_K: Final = 100
"""More passages than an assistant reads; an answer has room for about ten whole ones."""
_MAX_SENT_CHARS: Final = 100_000
"""Of one argument. The server allows less in a query."""
_NAMED_FAULTS: Final = 5
_SHOWN_CHARS: Final = 200
"""Of a name that an error repeats."""

Cursor = Annotated[
    str,
    Field(
        description="next_cursor of the answer before, to go on from there; leave it out for the "
        "first results. The other arguments must stay the same."
    ),
]
Collection = Annotated[
    str, Field(description="Name of the collection; list_collections names them all.")
]
Filter = Annotated[
    str,
    Field(
        description="Only documents that meet this condition. Fields: path, uri, extension, title, "
        "format, modified, size, characters, and the filter_fields that list_collections names. "
        "Operators: = != < <= > >= ':' (pattern; * within a part of a path, ** over parts), IN "
        "(a, b), AND, OR, NOT. Quote values that have spaces. Examples: path:guides/** AND "
        'modified>=2024-01-01; tag IN ("api", "quota") AND NOT extension=txt; year>=2020.'
    ),
]


class Arguments(BaseModel):
    """Arguments of a tool."""

    model_config = ConfigDict(extra="forbid", str_max_length=_MAX_SENT_CHARS)


class SearchArguments(Arguments):
    """Arguments of ``search``."""

    query: str = Field(
        description="A question or a description of what to find, in natural language; or words, "
        "names and codes that must occur."
    )
    collection: Collection = DEFAULT_COLLECTION
    top_k: int = Field(10, ge=1, le=MAX_TOP_K, description="Maximum number of results.")
    filter: Filter = ""
    mode: Mode = Field(
        "auto",
        description="hybrid compares meanings and words, dense only meanings, lexical only words "
        "(for exact names and codes). auto is best for most questions.",
    )
    group_by_document: bool = Field(
        False, description="Return each document once, by its best passage."
    )
    cursor: Cursor = ""


class FetchArguments(Arguments):
    """Arguments of ``fetch``."""

    id: str = Field(
        description="id of a result of search or list_documents. For a passage of a long document, "
        "the text begins shortly before the passage."
    )
    start: int | None = Field(
        None,
        ge=0,
        le=2**30,
        description="Number of characters to skip: next_start of the answer before, or any other "
        "place; 0 for the beginning of the document.",
    )


class ListDocumentsArguments(Arguments):
    """Arguments of ``list_documents``."""

    collection: Collection = DEFAULT_COLLECTION
    filter: Filter = ""
    cursor: Cursor = ""


class ListCollectionsArguments(Arguments):
    """Arguments of ``list_collections``."""

    cursor: Cursor = ""


def schema(kind: type[Arguments]) -> dict[str, Any]:
    """Return the JSON schema of arguments, without what pydantic adds for programs."""
    made = kind.model_json_schema()
    for unused in ("title", "description"):
        made.pop(unused, None)
    for field in made.get("properties", {}).values():
        for unused in ("title", "maxLength"):
            field.pop(unused, None)
        kinds = field.pop("anyOf", [])
        for one in kinds:  # leaving an argument out says the same as null, so null needs no mention
            if one != {"type": "null"}:
                field.update(one)
        if field.get("default", "") is None:
            del field["default"]
    return made


def checked(kind: type[ArgumentsT], given: Mapping[str, Any]) -> ArgumentsT:
    """Return the arguments of a call; null stands for an argument that is left out.

    Raises:
        InvalidArgument: one is missing, unknown, or out of range.
    """
    try:
        return kind.model_validate({name: one for name, one in given.items() if one is not None})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    named = [_fault(fault, kind) for fault in faults[:_NAMED_FAULTS]]
    raise InvalidArgument("; ".join(named))


def _fault(fault: Mapping[str, Any], kind: type[Arguments]) -> str:
    name = shortened(".".join(map(str, fault["loc"])), _SHOWN_CHARS)
    if fault["type"] == "extra_forbidden":
        return f"there is no argument {name}; there are {', '.join(kind.model_fields)}"
    if fault["type"] == "missing":
        return f"{name} is missing"
    message = str(fault["msg"])
    return f"{name}: {message[:1].lower()}{message[1:]}"
