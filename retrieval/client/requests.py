"""From Python values to request messages; what can't be sent is refused first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from retrieval.client.values import (
    count,
    flag,
    known_options,
    known_value,
    number,
    sendable,
    several,
    vector,
)
from retrieval.domain.arguments import text_list
from retrieval.domain.passages import Passage
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION, collection_name
from retrieval.domain.search_options import OPTIONS, ListOptions, Option, SearchOptions
from retrieval.v1 import (
    document_pb2,
    embedding_service_pb2,
    index_service_pb2,
    search_service_pb2,
)

QueryLike = str | Passage | NDArray[np.floating] | Sequence[float]
"""What to search with: a text; a passage, to find more like it; or a vector [dim]."""

SearchRequestT = TypeVar(
    "SearchRequestT", search_service_pb2.SearchRequest, search_service_pb2.StreamSearchRequest
)

_KINDS = {
    "query": embedding_service_pb2.TEXT_KIND_QUERY,
    "passage": embedding_service_pb2.TEXT_KIND_PASSAGE,
}
_TEXTS_PER_REQUEST = 64

_ENUM = {
    value.name: value.number
    for kind in search_service_pb2.DESCRIPTOR.enum_types_by_name.values()
    for value in kind.values
}
"""Numbers of the contract's enum values, by their names."""
_STREAM_KEYWORDS = SearchOptions.__optional_keys__ | {"limit"}
_BATCH_KEYWORDS = ListOptions.__optional_keys__ | {"k"}
_SEARCH_KEYWORDS = _BATCH_KEYWORDS | {"page_token"}


def search_request(
    query: QueryLike, *, k: int, page_token: str = "", **options: Unpack[ListOptions]
) -> search_service_pb2.SearchRequest:
    """A request for a page of passages.

    Raises:
        InvalidArgument: an unknown option, a value of the wrong type, an unknown mode, a text that
            isn't valid Unicode, a vector that is none, or a number that no request can carry.
    """
    known_options(options, _SEARCH_KEYWORDS, method="search")
    request = search_service_pb2.SearchRequest(
        page_size=count(k, field="k"), page_token=sendable(page_token, field="page_token")
    )
    return _fill_search(request, query, options)


def batch_search_request(
    queries: Iterable[QueryLike], *, k: int, **options: Unpack[ListOptions]
) -> search_service_pb2.BatchSearchRequest:
    """A request for the first pages of several searches; errors as ``search_request``."""
    known_options(options, _BATCH_KEYWORDS, method="search_batch")
    requests = [search_request(query, k=k, **options) for query in several(queries)]
    return search_service_pb2.BatchSearchRequest(requests=requests)


def stream_search_request(
    query: QueryLike, *, limit: int | None, **options: Unpack[SearchOptions]
) -> search_service_pb2.StreamSearchRequest:
    """A request for many passages; None = as many as the server streams."""
    known_options(options, _STREAM_KEYWORDS, method="stream_search")
    size = 0 if limit is None else count(limit, field="limit")
    return _fill_search(search_service_pb2.StreamSearchRequest(limit=size), query, options)


def _fill_search(
    request: SearchRequestT, query: QueryLike, options: Mapping[str, Any]
) -> SearchRequestT:
    """Put into a request what all kinds of search have; it is changed in place."""
    request.MergeFrom(_DEFAULTS[type(request)])
    request.collection = resource_name(options.get("collection", DEFAULT_COLLECTION))
    for name, given in options.items():
        if name != "collection" and (value := _sendable(OPTIONS[name], given)) is not None:
            setattr(request, name, value)
    if isinstance(query, str):
        request.text = sendable(query, field="query")
    elif isinstance(query, Passage):
        request.passage = query.name
    else:
        request.vector.CopyFrom(vector(query))
    return request


def _sendable(option: Option, value: Any) -> Any:  # noqa: ANN401  (of the option's kind)
    """Return an option's value as the request has it; None if it is to stay unset.

    Only what no server takes is refused: the largest values are the server's to know.

    Raises:
        InvalidArgument: a value of another type, a number that is too small, or no known choice.
    """
    match option.kind:
        case "flag":
            return flag(value, field=option.name)
        case "whole number":
            return count(value, field=option.name, minimum=int(option.minimum or 0))
        case "number":
            return number(value, field=option.name)
        case "text":
            return sendable(value, field=option.name)
        case "choice":
            return _ENUM[known_value(option.choices, value, field=option.name)]


def _with_defaults(request: SearchRequestT) -> SearchRequestT:
    """Spell out in a request what is not given; a number without a value stays the server's."""
    for option in OPTIONS.values():
        if option.name in request.DESCRIPTOR.fields_by_name and option.kind != "number":
            setattr(request, option.name, _sendable(option, option.default))
    return request


_DEFAULTS: Mapping[type[Any], Any] = {
    type(request): request
    for request in (
        _with_defaults(search_service_pb2.SearchRequest()),
        _with_defaults(search_service_pb2.StreamSearchRequest()),
    )
}


def embed_requests(
    texts: Iterable[str], kind: TextKind, *, collection: str
) -> Iterator[embedding_service_pb2.BatchEmbedRequest]:
    """Requests for the vectors of texts, a part of the texts each, in order.

    Raises:
        InvalidArgument: an unknown kind, or what is no list of texts, or not valid Unicode.
    """
    meant = known_value(_KINDS, kind, field="kind")
    for part in _parts(texts):
        yield embedding_service_pb2.BatchEmbedRequest(
            collection=resource_name(collection), texts=part, kind=meant
        )


def count_requests(
    texts: Iterable[str], *, collection: str
) -> Iterator[embedding_service_pb2.CountTokensRequest]:
    """Requests for the number of tokens of texts, a part of the texts each, in order.

    Raises:
        InvalidArgument: what is no list of texts, or not valid Unicode.
    """
    for part in _parts(texts):
        yield embedding_service_pb2.CountTokensRequest(
            collection=resource_name(collection), texts=part
        )


def document_request(name: str, *, with_text: bool) -> index_service_pb2.GetDocumentRequest:
    """A request for one document, by its resource name."""
    view = document_pb2.DOCUMENT_VIEW_FULL if with_text else document_pb2.DOCUMENT_VIEW_BASIC
    return index_service_pb2.GetDocumentRequest(name=sendable(name, field="name"), view=view)


def passage_request(name: str, *, before: int, after: int) -> index_service_pb2.GetPassageRequest:
    """A request for one passage and its neighbours, by its resource name."""
    return index_service_pb2.GetPassageRequest(
        name=sendable(name, field="name"),
        before=count(before, field="before", minimum=0),
        after=count(after, field="after", minimum=0),
    )


def resource_name(collection: str) -> str:
    """A collection's resource name, from its own.

    Raises:
        InvalidArgument: it isn't valid Unicode; the server judges its form.
    """
    return collection_name(sendable(collection, field="collection"))


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in slices that fit a request; one empty slice for none, so that it is refused."""
    listed = text_list(texts)
    for start in range(0, max(len(listed), 1), _TEXTS_PER_REQUEST):
        yield listed[start : start + _TEXTS_PER_REQUEST]
