"""Messages ↔ records."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TypedDict

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.errors import InvalidArgument
from retrieval.names import DocumentName, PassageName, collection_name, parse_passage
from retrieval.records import DocumentRow, IndexInfo, Passage, TextKind
from retrieval.search import Query, SearchResult
from retrieval.service.batcher import TextEmbedding
from retrieval.service.config import Limits
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    search_service_pb2,
    vector_pb2,
)

AnySearchRequest = search_service_pb2.SearchRequest | search_service_pb2.StreamSearchRequest

_MODES = (search_service_pb2.SEARCH_MODE_UNSPECIFIED, search_service_pb2.SEARCH_MODE_DENSE)
_TEXT_KINDS: dict[int, TextKind] = {
    embedding_service_pb2.TEXT_KIND_QUERY: "query",
    embedding_service_pb2.TEXT_KIND_PASSAGE: "passage",
}


class _Limits(TypedDict):
    """The parts of a query that do not depend on what is looked for."""

    k: int
    offset: int
    min_score: float | None
    filter: str
    exact: bool
    section_chars: int


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
            f"{field} has {count} items; it must have from 1 to {maximum}", field=field
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
        request: its query, mode, min_score, filter, exact and section_chars are read.
        collection: own name of the collection that is searched.
        k: most passages to find.
        offset: how many better ones to leave out.

    Raises:
        InvalidArgument: no query, an unknown mode, or a passage of another collection. The
            values themselves are for the searcher to judge.
    """
    if request.mode not in _MODES:
        raise InvalidArgument(
            f"mode is {request.mode}, which this server does not know", field="mode"
        )
    limits = _Limits(
        k=k,
        offset=offset,
        min_score=request.min_score if request.HasField("min_score") else None,
        filter=request.filter,
        exact=request.exact,
        section_chars=request.section_chars,
    )
    match request.WhichOneof("query"):
        case "text":
            return Query(text=request.text, **limits)
        case "vector":
            vector = np.array(request.vector.values, dtype=np.float32)
            return Query(vector=vector, **limits)
        case "passage":
            name = parse_passage(request.passage, field="passage")
            if name.collection != collection:
                raise InvalidArgument(
                    f"passage is of collection {name.collection}, and the search of {collection}: "
                    "vectors of two collections may not compare",
                    field="passage",
                )
            like = (name.document_id, name.ordinal)
            return Query(passage=like, **limits)
        case _:
            raise InvalidArgument("no query: set text, vector or passage", field="query")


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


def search_response(
    collection: str, info: IndexInfo, result: SearchResult, *, next_page_token: str, seconds: float
) -> search_service_pb2.SearchResponse:
    """One page of passages.

    Args:
        collection: own name of the collection.
        info: what was searched.
        result: what was found.
        next_page_token: empty on the last page.
        seconds: from the request's arrival to now.
    """
    timings = result.timings
    return search_service_pb2.SearchResponse(
        passages=[passage_message(collection, passage) for passage in result.passages],
        next_page_token=next_page_token,
        generation=result.generation,
        model_fingerprint=info.model.fingerprint,
        query_token_count=result.query_token_count,
        query_truncated=result.query_truncated,
        timings=search_service_pb2.SearchTimings(
            embed=duration(timings.embed_seconds),
            search=duration(timings.search_seconds),
            fetch=duration(timings.fetch_seconds),
            total=duration(seconds),
        ),
    )


def stream_header(info: IndexInfo, result: SearchResult) -> search_service_pb2.StreamSearchHeader:
    """What is known of a streamed search from its first page."""
    return search_service_pb2.StreamSearchHeader(
        generation=result.generation,
        model_fingerprint=info.model.fingerprint,
        query_token_count=result.query_token_count,
        query_truncated=result.query_truncated,
    )


def passage_message(collection: str, passage: Passage) -> document_pb2.Passage:
    """A passage of a collection; with a score, where it has one (NaN means none)."""
    document = document_pb2.DocumentSummary(
        name=str(DocumentName(collection, passage.document_id)),
        uri=passage.uri,
        title=passage.title,
        metadata=passage.metadata,
    )
    message = document_pb2.Passage(
        name=str(PassageName(collection, passage.document_id, passage.ordinal)),
        document=document,
        text=passage.text,
        char_start=passage.char_start,
        char_end=passage.char_end,
        line_start=passage.line_start,
        line_end=passage.line_end,
        page_start=passage.page_start,
        page_end=passage.page_end,
        heading_path=passage.heading_path,
        token_count=passage.token_count,
    )
    if not math.isnan(passage.score):
        message.score = passage.score
        message.score_kind = document_pb2.SCORE_KIND_COSINE
    if passage.section:
        message.section.CopyFrom(document_pb2.Section(**asdict(passage.section)))
    return message


def document_message(collection: str, row: DocumentRow, text: str = "") -> document_pb2.Document:
    """A document of a collection.

    Args:
        collection: own name of the collection.
        row: everything about it but its text.
        text: empty where it isn't asked for.
    """
    return document_pb2.Document(
        name=str(DocumentName(collection, row.id)),
        uri=row.uri,
        title=row.title,
        metadata=row.metadata,
        format=row.format,
        encoding=row.encoding,
        size_bytes=row.size_bytes,
        modify_time=timestamp(row.modified_at),
        char_count=row.char_count,
        passage_count=row.chunk_count,
        text=text,
    )


def collection_message(collection: str, info: IndexInfo) -> collection_pb2.Collection:
    """A collection as of one generation.

    Args:
        collection: its own name.
        info: what its index holds.
    """
    model = info.model
    return collection_pb2.Collection(
        name=collection_name(collection),
        generation=info.generation,
        model=collection_pb2.Model(
            name=model.name,
            revision=model.revision,
            fingerprint=model.fingerprint,
            dimension=model.dim,
            max_tokens=model.max_tokens,
            dtype=model.dtype,
        ),
        chunking=collection_pb2.ChunkSettings(
            chunk_tokens=info.chunking.chunk_tokens, chunk_overlap=info.chunking.chunk_overlap
        ),
        document_count=info.documents,
        passage_count=info.chunks,
        token_count=info.tokens,
        vector_count=info.vectors,
        create_time=timestamp(info.created_at),
        update_time=timestamp(info.updated_at),
    )


def embedding_messages(
    embeddings: Sequence[TextEmbedding],
) -> list[embedding_service_pb2.Embedding]:
    """Embeddings in their order."""
    return [
        embedding_service_pb2.Embedding(
            vector=vector_pb2.Vector(values=embedding.vector),
            token_count=embedding.token_count,
            truncated=embedding.truncated,
        )
        for embedding in embeddings
    ]


def duration(seconds: float) -> Duration:
    """A length of time, to the nanosecond."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def timestamp(text: str) -> Timestamp:
    """A point in time, from RFC 3339."""
    message = Timestamp()
    message.FromJsonString(text)
    return message
