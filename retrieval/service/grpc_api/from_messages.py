"""Messages → what is asked, checked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NotRequired, TypedDict, TypeVar

import numpy as np

from retrieval.domain.passages import DENSE_WEIGHT, Fusion, Mode
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import parse_passage
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument
from retrieval.search import Query
from retrieval.service.config import Limits
from retrieval.v1 import embedding_service_pb2, search_service_pb2

AnySearchRequest = search_service_pb2.SearchRequest | search_service_pb2.StreamSearchRequest

_MODES: dict[int, Mode] = {
    search_service_pb2.SEARCH_MODE_UNSPECIFIED: "auto",
    search_service_pb2.SEARCH_MODE_DENSE: "dense",
    search_service_pb2.SEARCH_MODE_LEXICAL: "lexical",
    search_service_pb2.SEARCH_MODE_HYBRID: "hybrid",
}
_FUSIONS: dict[int, Fusion] = {
    search_service_pb2.FUSION_UNSPECIFIED: "weighted",
    search_service_pb2.FUSION_WEIGHTED: "weighted",
    search_service_pb2.FUSION_RRF: "rrf",
}
_Known = TypeVar("_Known")
_TEXT_KINDS: dict[int, TextKind] = {
    embedding_service_pb2.TEXT_KIND_QUERY: "query",
    embedding_service_pb2.TEXT_KIND_PASSAGE: "passage",
}


class _Options(TypedDict):
    """The parts of a query that do not depend on what is looked for."""

    mode: Mode
    fusion: Fusion
    dense_weight: float
    k: int
    offset: int
    min_score: float | None
    filter: str
    exact: bool
    section_chars: int
    group_by_document: NotRequired[bool]
    group_size: NotRequired[int]
    collapse: NotRequired[float | None]
    mmr: NotRequired[float | None]
    rerank_top: NotRequired[int]
    highlight: NotRequired[bool]
    context_before: NotRequired[int]
    context_after: NotRequired[int]


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
    options = _options(request, k, offset)
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


def _options(request: AnySearchRequest, k: int, offset: int) -> _Options:
    weight = request.dense_weight if request.HasField("dense_weight") else DENSE_WEIGHT
    options = _Options(
        mode=_known(_MODES, request.mode, field="mode"),
        fusion=_known(_FUSIONS, request.fusion, field="fusion"),
        dense_weight=weight,
        k=k,
        offset=offset,
        min_score=request.min_score if request.HasField("min_score") else None,
        filter=request.filter,
        exact=request.exact,
        section_chars=request.section_chars,
    )
    if isinstance(request, search_service_pb2.SearchRequest):
        options["group_by_document"] = request.group_by_document
        options["group_size"] = request.group_size or 1
        options["collapse"] = request.collapse if request.HasField("collapse") else None
        options["mmr"] = request.mmr if request.HasField("mmr") else None
        options["rerank_top"] = request.rerank_top
        options["highlight"] = request.highlight
        options["context_before"] = request.context_before
        options["context_after"] = request.context_after
    return options


def _known(values: Mapping[int, _Known], value: int, *, field: str) -> _Known:
    if value not in values:
        raise InvalidArgument(f"{field} is {value}, which this server does not know", field=field)
    return values[value]


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
