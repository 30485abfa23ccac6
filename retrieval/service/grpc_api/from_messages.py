"""Messages → what is asked, checked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import parse_passage
from retrieval.domain.search_options import OPTIONS, Option
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument
from retrieval.search import Query
from retrieval.service.config import Limits
from retrieval.v1 import embedding_service_pb2, search_service_pb2

AnySearchRequest = search_service_pb2.SearchRequest | search_service_pb2.StreamSearchRequest

_TEXT_KINDS: dict[int, TextKind] = {
    embedding_service_pb2.TEXT_KIND_QUERY: "query",
    embedding_service_pb2.TEXT_KIND_PASSAGE: "passage",
}


def _choices(option: Option) -> dict[int, str]:
    """Return the choice that each number on the wire stands for; empty if it is no choice."""
    return {
        getattr(search_service_pb2, enum_value): choice
        for choice, enum_value in option.choices.items()
    }


_FIELDS = {
    kind: [
        (field.name, field.has_presence, _choices(OPTIONS[field.name]))
        for field in kind.DESCRIPTOR.fields
        if field.name in OPTIONS
    ]
    for kind in (search_service_pb2.SearchRequest, search_service_pb2.StreamSearchRequest)
}
"""Kind of request → its fields that are options: name, whether zero is a value, choices."""


@contextmanager
def located_in(path: str) -> Iterator[None]:
    """Put the place in the request before the field that an error names.

    Args:
        path: such as ``"requests[3]"``.

    Raises:
        InvalidArgument: one that the block raised, with its ``field`` under ``path``.
    """
    try:
        yield
    except InvalidArgument as error:
        field = error.metadata.get("field")
        metadata = {**error.metadata, "field": f"{path}.{field}" if field else path}
        raise InvalidArgument(f"{path}: {error.message}", **metadata) from error


def check_batch_size(count: int, maximum: int, *, field: str) -> None:
    """Refuse a batch that is empty or too large.

    Args:
        count: how many items it has.
        maximum: most that are taken.
        field: the request's field that they are in.

    Raises:
        InvalidArgument: no item, or more than ``maximum``.
    """
    if not 1 <= count <= maximum:
        raise InvalidArgument(
            f"{field} has {counted(count, 'item')}; it must have from 1 to {maximum}", field=field
        )


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuse texts that are too many or too long.

    Raises:
        InvalidArgument: naming the first text that is too long, or the number of texts.
    """
    check_batch_size(len(texts), limits.batch_size, field="texts")
    for number, text in enumerate(texts):
        if len(text) > limits.text_chars:
            field = f"texts[{number}]"
            raise InvalidArgument(
                f"{field} has {len(text)} characters; at most {limits.text_chars} are taken",
                field=field,
            )


def to_query(request: AnySearchRequest, *, collection: str, k: int, offset: int) -> Query:
    """What a request looks for.

    Args:
        request: all but its page is read.
        collection: own name of the collection that is searched.
        k: most passages to find.
        offset: how many better ones to leave out.

    Raises:
        InvalidArgument: no query, an unknown mode or fusion, or a passage of another collection.
            The values themselves are for the searcher to judge.
    """
    options = _options(request)
    options.update(k=k, offset=offset)
    match request.WhichOneof("query"):
        case "text":
            return Query(text=request.text, **options)
        case "vector":
            vector = np.array(request.vector.values, dtype=np.float32)
            return Query(vector=vector, **options)
        case "passage":
            name = parse_passage(request.passage, field="passage")
            if name.collection != collection:
                raise InvalidArgument(
                    f"passage is of collection {name.collection}, and the search of {collection}: "
                    "vectors of two collections may not compare",
                    field="passage",
                )
            return Query(passage=(name.document_id, name.ordinal), **options)
        case _:
            raise InvalidArgument("no query: set text, vector or passage", field="query")


def _options(request: Any) -> dict[str, Any]:  # noqa: ANN401  (its fields are read by name)
    """Return the options that are set; where zero means the default, it counts as not set.

    Raises:
        InvalidArgument: a choice that this server does not know.
    """
    options: dict[str, Any] = {}
    for name, has_zero, choices in _FIELDS[type(request)]:
        if has_zero and not request.HasField(name):
            continue
        value = getattr(request, name)
        if not (value or has_zero):
            continue
        if choices and value not in choices:
            raise InvalidArgument(f"{name} is {value}, which this server does not know", field=name)
        options[name] = choices[value] if choices else value
    return options


def to_text_kind(kind: int) -> TextKind:
    """What texts are embedded as.

    Args:
        kind: a value of ``TextKind``.

    Raises:
        InvalidArgument: not set, or unknown.
    """
    if kind not in _TEXT_KINDS:
        raise InvalidArgument(
            f"kind is {kind}; set TEXT_KIND_QUERY or TEXT_KIND_PASSAGE", field="kind"
        )
    return _TEXT_KINDS[kind]
