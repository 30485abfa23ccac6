"""From Python values to request messages; what can't be sent is refused first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union, Unpack

from grpc_health.v1 import health_pb2

from retrieval.client.filters import FilterLike, filter_text
from retrieval.client.values import (
    count,
    flag,
    known_options,
    known_value,
    number,
    sendable,
    several,
)
from retrieval.client.vectors import query_vector
from retrieval.domain.arguments import text_list
from retrieval.domain.passages import Passage
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION, collection_name
from retrieval.domain.search_options import OPTIONS, Option, SearchOptions
from retrieval.errors import InvalidArgument
from retrieval.v1 import (
    document_pb2,
    embedding_service_pb2,
    index_service_pb2,
    rerank_service_pb2,
    search_service_pb2,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Not with |, which does not take the name of a class that need not be installed.
QueryLike = Union[str, Passage, "NDArray[np.floating]", Sequence[float]]
"""What to search with: a text; a passage, to find more like it; or a vector [dim]."""

Range = tuple[int, int | None]
"""Start and end of a range of a text; None for the end of the text."""

SearchRequestT = TypeVar(
    "SearchRequestT", search_service_pb2.SearchRequest, search_service_pb2.StreamSearchRequest
)

_KINDS = {
    "query": embedding_service_pb2.TEXT_KIND_QUERY,
    "passage": embedding_service_pb2.TEXT_KIND_PASSAGE,
}
_TEXTS_PER_REQUEST = 64
"""Two batches of the server: fewer would cost throughput, more would hold up other callers."""

_PAIR = 2

_ENUM = {
    value.name: value.number
    for kind in search_service_pb2.DESCRIPTOR.enum_types_by_name.values()
    for value in kind.values
}
"""Numbers of the contract's enum values, by their names."""
_STREAM_KEYWORDS = SearchOptions.__optional_keys__ | {"limit"}
_BATCH_KEYWORDS = SearchOptions.__optional_keys__ | {"k"}
_SEARCH_KEYWORDS = _BATCH_KEYWORDS | {"page_token"}


def search_request(
    query: QueryLike, *, k: int, page_token: str = "", **options: Unpack[SearchOptions]
) -> search_service_pb2.SearchRequest:
    """Return a request for a page of passages.

    Raises:
        InvalidArgument: an option is unknown, or a value can't be sent: it has the wrong type, is
            not valid Unicode, or is too large for the wire.
    """
    known_options(options, _SEARCH_KEYWORDS, method="search")
    request = search_service_pb2.SearchRequest(
        page_size=count(k, field="k"), page_token=sendable(page_token, field="page_token")
    )
    return _fill_search(request, query, options)


def batch_search_request(
    queries: Iterable[QueryLike], *, k: int, **options: Unpack[SearchOptions]
) -> search_service_pb2.BatchSearchRequest:
    """Return a request for the first pages of several searches.

    Raises:
        InvalidArgument: see ``search_request``.
    """
    known_options(options, _BATCH_KEYWORDS, method="search_batch")
    requests = [search_request(query, k=k, **options) for query in several(queries)]
    return search_service_pb2.BatchSearchRequest(requests=requests)


def stream_search_request(
    query: QueryLike, *, limit: int | None, **options: Unpack[SearchOptions]
) -> search_service_pb2.StreamSearchRequest:
    """Return a request for many passages; a limit of None asks for as many as the server streams.

    Raises:
        InvalidArgument: see ``search_request``.
    """
    known_options(options, _STREAM_KEYWORDS, method="stream_search")
    size = 0 if limit is None else count(limit, field="limit")
    return _fill_search(search_service_pb2.StreamSearchRequest(limit=size), query, options)


def _fill_search(
    request: SearchRequestT, query: QueryLike, options: Mapping[str, Any]
) -> SearchRequestT:
    """Fill a request in place with what all kinds of search have, and return it."""
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
        request.vector.CopyFrom(query_vector(query))
    return request


def _sendable(option: Option, value: Any) -> Any:  # noqa: ANN401  (of the option's kind)
    """Return an option's value in the form of the request; None if it is to stay unset.

    Values that are too large for a server are sent: only the server knows its limits.

    Raises:
        InvalidArgument: the value has another type, is too small, or is not a known choice.
    """
    match option.kind:
        case "flag":
            return flag(value, field=option.name)
        case "whole number":
            return count(value, field=option.name, minimum=int(option.minimum or 0))
        case "number":
            return number(value, field=option.name)
        case "text":
            as_text = filter_text if option.name == "filter" else sendable
            return as_text(value, field=option.name)
        case "choice":
            return _ENUM[known_value(option.choices, value, field=option.name)]


def _with_defaults(request: SearchRequestT) -> SearchRequestT:
    """Spell out the defaults in a request; for a number without one, the server's default holds."""
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
    texts: Iterable[str],
    kind: TextKind,
    *,
    collection: str | None = None,
    model: str | None = None,
    dimensions: int | None = None,
) -> Iterator[embedding_service_pb2.BatchEmbedRequest]:
    """Yield requests for the vectors of texts, each for some of the texts, in order.

    Raises:
        InvalidArgument: the kind is unknown, these are not texts in valid Unicode, ``dimensions``
            is not a whole number above 0, or both a collection and a model are given.
    """
    meant = known_value(_KINDS, kind, field="kind")
    wanted = _model_options(collection, model)
    length = 0 if dimensions is None else count(dimensions, field="dimensions")
    for part in _parts(texts):
        yield embedding_service_pb2.BatchEmbedRequest(
            texts=part, kind=meant, dimensions=length, **wanted
        )


def count_requests(
    texts: Iterable[str], *, collection: str | None = None, model: str | None = None
) -> Iterator[embedding_service_pb2.CountTokensRequest]:
    """Yield requests for the token counts of texts, each for some of the texts, in order.

    Raises:
        InvalidArgument: these are not texts in valid Unicode, or both a collection and a model are
            given.
    """
    wanted = _model_options(collection, model)
    for part in _parts(texts):
        yield embedding_service_pb2.CountTokensRequest(texts=part, **wanted)


def _model_options(collection: str | None, model: str | None) -> dict[str, str]:
    """Return the fields that name a model; with none of them the server chooses.

    Raises:
        InvalidArgument: both are given, the model's name is empty, or one can't be sent.
    """
    if model is None:
        return {} if collection is None else {"collection": resource_name(collection)}
    if collection is not None:
        raise InvalidArgument("give a collection or a model, not both", field="model")
    if model == "":
        raise InvalidArgument("the model's name is empty; leave it out, or give one", field="model")
    return {"model": sendable(model, field="model")}


def rerank_request(
    query: str, texts: Iterable[str], *, top_n: int | None
) -> rerank_service_pb2.RerankRequest:
    """Return a request for the order of texts.

    Raises:
        InvalidArgument: these are not texts in valid Unicode, or ``top_n`` is not a whole number
            above 0.
    """
    return rerank_service_pb2.RerankRequest(
        query=sendable(query, field="query"),
        texts=text_list(texts, field="texts"),
        top_n=0 if top_n is None else count(top_n, field="top_n"),
    )


def document_request(
    name: str,
    *,
    uri: str = "",
    collection: str = DEFAULT_COLLECTION,
    with_text: bool = False,
    chars: Range | None = None,
    lines: Range | None = None,
) -> index_service_pb2.GetDocumentRequest:
    """Return a request for one document, by its resource name, or by URI and collection.

    Raises:
        InvalidArgument: a value can't be sent, or both ranges are given.
    """
    view = document_pb2.DOCUMENT_VIEW_FULL if with_text else document_pb2.DOCUMENT_VIEW_BASIC
    request = index_service_pb2.GetDocumentRequest(
        name=sendable(name, field="name"), uri=sendable(uri, field="uri"), view=view
    )
    if uri:
        request.collection = resource_name(collection)
    if chars is not None and lines is not None:
        raise InvalidArgument("give a range of chars or of lines, not both", field="lines")
    if chars is not None:
        start, end = _range(chars, field="chars", first=0)
        request.chars.CopyFrom(index_service_pb2.CharRange(start=start, end=end))
    if lines is not None:
        start, end = _range(lines, field="lines", first=1)
        request.lines.CopyFrom(index_service_pb2.LineRange(start=start, end=end))
    return request


def _range(value: Range, *, field: str, first: int) -> tuple[int, int | None]:
    """Return the start and the end of a range; the server checks that they fit together.

    Raises:
        InvalidArgument: it is not a pair of whole numbers, the second of which may be None.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != _PAIR:
        raise InvalidArgument(f"{field} is {value!r}; give a pair: start and end", field=field)
    start, end = value
    return (
        count(start, field=f"{field}.start", minimum=first),
        None if end is None else count(end, field=f"{field}.end", minimum=first),
    )


def documents_request(
    collection: str,
    *,
    page_size: int,
    page_token: str = "",
    filter: FilterLike = "",
    counted: bool = False,
) -> index_service_pb2.ListDocumentsRequest:
    """Return a request for a page of documents.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    return index_service_pb2.ListDocumentsRequest(
        parent=resource_name(collection),
        page_size=count(page_size, field="page_size"),
        page_token=sendable(page_token, field="page_token"),
        filter=filter_text(filter),
        count=flag(counted, field="count"),
    )


def skipped_request(
    collection: str, *, page_size: int, page_token: str = ""
) -> index_service_pb2.ListSkippedFilesRequest:
    """Return a request for a page of the files that are not indexed.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    return index_service_pb2.ListSkippedFilesRequest(
        parent=resource_name(collection),
        page_size=count(page_size, field="page_size"),
        page_token=sendable(page_token, field="page_token"),
    )


def fields_request(collection: str) -> index_service_pb2.ListFieldsRequest:
    """Return a request for the fields that filters can compare."""
    return index_service_pb2.ListFieldsRequest(parent=resource_name(collection))


def field_values_request(
    field: str, *, containing: str, limit: int, collection: str
) -> index_service_pb2.ListFieldValuesRequest:
    """Return a request for values of a field.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    return index_service_pb2.ListFieldValuesRequest(
        parent=resource_name(collection),
        field=sendable(field, field="field"),
        containing=sendable(containing, field="containing"),
        page_size=count(limit, field="page_size"),
    )


def passage_request(name: str, *, before: int, after: int) -> index_service_pb2.GetPassageRequest:
    """Return a request for one passage and its neighbours, by its resource name."""
    return index_service_pb2.GetPassageRequest(
        name=sendable(name, field="name"),
        before=count(before, field="before", minimum=0),
        after=count(after, field="after", minimum=0),
    )


def health_request(collection: str | None) -> health_pb2.HealthCheckRequest:
    """Return a request for the health of a collection; None stands for the whole server."""
    service = "" if collection is None else resource_name(collection)
    return health_pb2.HealthCheckRequest(service=service)


def resource_name(collection: str) -> str:
    """Return a collection's resource name, from its own name.

    Raises:
        InvalidArgument: the name isn't valid Unicode; the server checks its form.
    """
    return collection_name(sendable(collection, field="collection"))


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield slices of the texts for one request each; one empty slice if there are no texts."""
    listed = text_list(texts)
    for start in range(0, max(len(listed), 1), _TEXTS_PER_REQUEST):
        yield listed[start : start + _TEXTS_PER_REQUEST]
