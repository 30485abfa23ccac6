"""Python values → request messages; what can't be sent is refused before it is."""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument
from retrieval.names import collection_name
from retrieval.records import Passage, TextKind
from retrieval.v1 import embedding_service_pb2, search_service_pb2, vector_pb2

QueryLike = str | Passage | NDArray[np.floating] | Sequence[float]
"""What to search with: a text; a passage, to find more like it; or a vector [dim]."""

SearchMode = Literal["dense"]
"""How to search."""

SearchRequestT = TypeVar(
    "SearchRequestT", search_service_pb2.SearchRequest, search_service_pb2.StreamSearchRequest
)

_MODES = {"dense": search_service_pb2.SEARCH_MODE_DENSE}
_KINDS = {
    "query": embedding_service_pb2.TEXT_KIND_QUERY,
    "passage": embedding_service_pb2.TEXT_KIND_PASSAGE,
}
_TEXTS_PER_REQUEST = 64
_MAX_INT32 = 2**31 - 1


def fill_search(
    request: SearchRequestT,
    query: QueryLike,
    *,
    collection: str,
    mode: SearchMode,
    min_score: float | None,
    filter: str,
    exact: bool,
) -> SearchRequestT:
    """Put into a request what all kinds of search have.

    Args:
        request: changed in place.
        query: what to search with.
        collection: the collection's own name.
        mode: how to search.
        min_score: lowest score; None means any.
        filter: condition on the passages' documents; empty means none.
        exact: whether to use no approximate index.

    Returns:
        the request.

    Raises:
        InvalidArgument: an unknown mode, a text that isn't valid Unicode, or a vector that is
            none.
    """
    if mode not in _MODES:
        known = ", ".join(_MODES)
        raise InvalidArgument(f"mode must be one of {known}, not {mode!r}", field="mode")
    request.collection = resource_name(collection)
    request.mode = _MODES[mode]
    if min_score is not None:
        request.min_score = min_score
    request.filter = sendable(filter, field="filter")
    request.exact = exact
    if isinstance(query, str):
        request.text = sendable(query, field="query")
    elif isinstance(query, Passage):
        request.passage = query.name
    else:
        request.vector.CopyFrom(_vector(query))
    return request


def embed_requests(
    texts: Sequence[str], kind: TextKind, *, collection: str
) -> Iterator[embedding_service_pb2.BatchEmbedRequest]:
    """Requests for the vectors of texts, a part of the texts each, in order.

    Raises:
        InvalidArgument: an unknown kind, or a text that isn't valid Unicode.
    """
    if kind not in _KINDS:
        raise InvalidArgument(f"kind must be query or passage, not {kind!r}", field="kind")
    for part in _parts(texts):
        yield embedding_service_pb2.BatchEmbedRequest(
            collection=resource_name(collection), texts=part, kind=_KINDS[kind]
        )


def count_requests(
    texts: Sequence[str], *, collection: str
) -> Iterator[embedding_service_pb2.CountTokensRequest]:
    """Requests for the number of tokens of texts, a part of the texts each, in order.

    Raises:
        InvalidArgument: a text that isn't valid Unicode.
    """
    for part in _parts(texts):
        yield embedding_service_pb2.CountTokensRequest(
            collection=resource_name(collection), texts=part
        )


def resource_name(collection: str) -> str:
    """A collection's resource name, from its own.

    Raises:
        InvalidArgument: it isn't valid Unicode; the server judges its form.
    """
    return collection_name(sendable(collection, field="collection"))


def sendable(text: str, *, field: str) -> str:
    """A text, unless it can't be encoded.

    Raises:
        InvalidArgument: it has lone surrogates, as texts have that were decoded wrongly.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"the {field} is not valid Unicode (character {error.start + 1}): was it decoded with "
            "the right encoding?",
            field=field,
        ) from error
    return text


def count(value: int, *, field: str, minimum: int = 1) -> int:
    """A number, unless it is too small, or too large for the wire; the server knows its limits.

    Raises:
        InvalidArgument: below ``minimum`` or above 2 147 483 647.
    """
    if value < minimum:
        raise InvalidArgument(f"{field} is {value}; it must be {minimum} or more", field=field)
    if value > _MAX_INT32:
        raise InvalidArgument(f"{field} is {value}, which is too large", field=field)
    return value


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in slices that fit a request; one empty slice for none, so that it is refused."""
    for start in range(0, max(len(texts), 1), _TEXTS_PER_REQUEST):
        yield [sendable(text, field="text") for text in texts[start : start + _TEXTS_PER_REQUEST]]


def _vector(values: NDArray[np.floating] | Sequence[float]) -> vector_pb2.Vector:
    try:
        vector = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            "the query is neither a text, nor a passage, nor a vector of numbers", field="query"
        ) from error
    if vector.ndim != 1:
        raise InvalidArgument(
            f"the query vector has the shape {vector.shape}; it must have one dimension",
            field="query",
        )
    return vector_pb2.Vector(values=vector)
