"""From request messages to checked queries."""

from typing import Any

import numpy as np

from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import parse_collection, parse_passage
from retrieval.domain.search_options import DEFAULT_K, MAX_K, OPTIONS, Option
from retrieval.errors import InvalidArgument
from retrieval.search import Query
from retrieval.service.engine import Search
from retrieval.service.page_tokens import page_size
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
"""The options of each kind of request: name, whether zero is a value of its own, choices."""


def to_search(request: search_service_pb2.SearchRequest) -> Search:
    """Return the search that a request asks for.

    Raises:
        InvalidArgument: no collection's name, a page size out of range, or as ``to_query``.
    """
    name = parse_collection(request.collection, field="collection")
    k = page_size(request.page_size, default=DEFAULT_K, maximum=MAX_K)
    query = to_query(request, collection=name, k=k)
    return Search(name, query, _without_page(request, name), request.page_token)


def to_query(request: AnySearchRequest, *, collection: str, k: int = DEFAULT_K) -> Query:
    """What a request looks for.

    Args:
        request: all but its page is read.
        collection: own name of the collection that is searched.
        k: most passages to find.

    Raises:
        InvalidArgument: no query, an unknown mode or fusion, or a passage of another collection.
            The values themselves are for the searcher to judge.
    """
    options = _options(request)
    options["k"] = k
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


def _without_page(request: search_service_pb2.SearchRequest, collection: str) -> bytes:
    """Return what must stay the same from page to page, the same bytes for the same search."""
    same = search_service_pb2.SearchRequest()
    same.CopyFrom(request)
    same.collection = collection
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.SerializeToString(deterministic=True)


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
