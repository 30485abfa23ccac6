"""Python values → request messages; what can't be sent is refused before it is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict, TypeVar, Unpack

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
from retrieval.domain.passages import Fusion, Mode, Passage
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION, collection_name
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

_MODES = {
    "auto": search_service_pb2.SEARCH_MODE_UNSPECIFIED,
    "dense": search_service_pb2.SEARCH_MODE_DENSE,
    "lexical": search_service_pb2.SEARCH_MODE_LEXICAL,
    "hybrid": search_service_pb2.SEARCH_MODE_HYBRID,
}
_FUSIONS = {
    "weighted": search_service_pb2.FUSION_WEIGHTED,
    "rrf": search_service_pb2.FUSION_RRF,
}
_KINDS = {
    "query": embedding_service_pb2.TEXT_KIND_QUERY,
    "passage": embedding_service_pb2.TEXT_KIND_PASSAGE,
}
_TEXTS_PER_REQUEST = 64


class SearchOptions(TypedDict, total=False):
    """What all kinds of search can be told; the keywords of the client's methods."""

    collection: str
    """The collection's own name; ``default`` unless told."""
    mode: Mode
    """How to search."""
    fusion: Fusion
    """How hybrid search makes one ranking of two."""
    dense_weight: float | None
    """Share of the dense part in a weighted score, between 0 and 1; None: the server's own."""
    min_score: float | None
    """Leave out passages that score lower."""
    filter: str
    """Only passages of documents that meet this condition, such as
    ``"path:guides/** AND modified>=2024-01-01"`` (docs/filters.md)."""
    exact: bool
    """Compare with every passage, also where there is an approximate index."""
    section_chars: int
    """Most characters of the section to go with a passage; 0: none."""


class ListOptions(SearchOptions, total=False):
    """What a search of pages can be told besides."""

    group_by_document: bool
    """List documents, each by its best passages; ``k`` counts documents then."""
    group_size: int
    """Most passages of a document."""
    collapse: float | None
    """Leave out passages whose vector has at least this cosine with a better one's."""
    mmr: float | None
    """Make the best passages diverse: share of the score, from 0 to 1, against newness."""
    rerank_top: int
    """How many of the best the server's reranker puts in its own order; the list ends with them."""
    context_before: int
    """How many passages before each to answer with it."""
    context_after: int
    """How many after it."""
    highlight: bool
    """Say where a passage fits the words of the query."""


_STREAM_KEYWORDS = SearchOptions.__optional_keys__ | {"limit"}
_BATCH_KEYWORDS = ListOptions.__optional_keys__ | {"k"}
_SEARCH_KEYWORDS = _BATCH_KEYWORDS | {"page_token"}


def search_request(
    query: QueryLike,
    *,
    k: int,
    page_token: str = "",
    group_by_document: bool = False,
    group_size: int = 1,
    collapse: float | None = None,
    mmr: float | None = None,
    rerank_top: int = 0,
    highlight: bool = False,
    context_before: int = 0,
    context_after: int = 0,
    **options: Unpack[SearchOptions],
) -> search_service_pb2.SearchRequest:
    """A request for a page of passages.

    Raises:
        InvalidArgument: an unknown option, a value of the wrong type, an unknown mode, a text that
            isn't valid Unicode, a vector that is none, or a number that no request can carry.
    """
    known_options(options, _SEARCH_KEYWORDS, method="search")
    request = search_service_pb2.SearchRequest(
        page_size=count(k, field="k"),
        page_token=sendable(page_token, field="page_token"),
        group_by_document=flag(group_by_document, field="group_by_document"),
        group_size=count(group_size, field="group_size"),
        collapse=number(collapse, field="collapse"),
        mmr=number(mmr, field="mmr"),
        rerank_top=count(rerank_top, field="rerank_top", minimum=0),
        highlight=flag(highlight, field="highlight"),
        context_before=count(context_before, field="context_before", minimum=0),
        context_after=count(context_after, field="context_after", minimum=0),
    )
    return _fill_search(request, query, **options)


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
    return _fill_search(search_service_pb2.StreamSearchRequest(limit=size), query, **options)


def _fill_search(
    request: SearchRequestT,
    query: QueryLike,
    *,
    collection: str = DEFAULT_COLLECTION,
    mode: Mode = "auto",
    fusion: Fusion = "weighted",
    dense_weight: float | None = None,
    min_score: float | None = None,
    filter: str = "",
    exact: bool = False,
    section_chars: int = 0,
) -> SearchRequestT:
    """Put into a request what all kinds of search have; it is changed in place."""
    request.collection = resource_name(collection)
    request.mode = known_value(_MODES, mode, field="mode")
    request.fusion = known_value(_FUSIONS, fusion, field="fusion")
    weight = number(dense_weight, field="dense_weight")
    if weight is not None:
        request.dense_weight = weight
    least = number(min_score, field="min_score")
    if least is not None:
        request.min_score = least
    request.filter = sendable(filter, field="filter")
    request.exact = flag(exact, field="exact")
    request.section_chars = count(section_chars, field="section_chars", minimum=0)
    if isinstance(query, str):
        request.text = sendable(query, field="query")
    elif isinstance(query, Passage):
        request.passage = query.name
    else:
        request.vector.CopyFrom(vector(query))
    return request


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
