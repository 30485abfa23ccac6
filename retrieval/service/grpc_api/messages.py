"""Messages of the contract, from and to values of the domain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.domain.metadata import Metadata, as_doubles, flat_texts
from retrieval.domain.passages import Highlights, Passage, StageScores
from retrieval.domain.records import DocumentRow, IndexInfo, ModelIdentity, TextKind
from retrieval.domain.resource_names import (
    DocumentName,
    collection_name,
    parse_collection,
    parse_passage,
)
from retrieval.domain.search_options import DEFAULT_K, MAX_K, OPTIONS, Option
from retrieval.errors import InvalidArgument
from retrieval.search import EmbeddedText, Query
from retrieval.service.collections.models import OfferedModel
from retrieval.service.engine import Search, SearchPage
from retrieval.service.page_tokens import page_size
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    search_service_pb2,
    vector_pb2,
)

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
    """Return the query of a request.

    Args:
        request: is read but for its page.
        collection: own name of the collection to search.
        k: how many passages to find.

    Raises:
        InvalidArgument: no query, an unknown mode or fusion, or a passage of another collection.
            ``check_query`` checks the values themselves.
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
    """Return whether to embed texts as queries or as passages.

    Args:
        kind: a value of ``TextKind``.

    Raises:
        InvalidArgument: the kind is not set, or unknown.
    """
    if kind not in _TEXT_KINDS:
        raise InvalidArgument(
            f"kind is {kind}; set TEXT_KIND_QUERY or TEXT_KIND_PASSAGE", field="kind"
        )
    return _TEXT_KINDS[kind]


_SCORE_KINDS = {
    "cosine": document_pb2.SCORE_KIND_COSINE,
    "bm25": document_pb2.SCORE_KIND_BM25,
    "weighted": document_pb2.SCORE_KIND_WEIGHTED,
    "rrf": document_pb2.SCORE_KIND_RRF,
    "rerank": document_pb2.SCORE_KIND_RERANK,
}
_MODES = {
    "dense": search_service_pb2.SEARCH_MODE_DENSE,
    "lexical": search_service_pb2.SEARCH_MODE_LEXICAL,
    "hybrid": search_service_pb2.SEARCH_MODE_HYBRID,
}


def search_response(page: SearchPage) -> search_service_pb2.SearchResponse:
    """Return the answer to a search."""
    result, timings = page.result, page.result.timings
    response = search_service_pb2.SearchResponse(
        next_page_token=page.next_page_token,
        generation=result.generation,
        model_fingerprint=page.info.model.fingerprint,
        query_token_count=result.query_token_count,
        query_truncated=result.query_truncated,
        mode=_MODES[result.mode],
        timings=search_service_pb2.SearchTimings(
            embed=duration(timings.embed_seconds),
            search=duration(timings.search_seconds),
            fetch=duration(timings.fetch_seconds),
            total=duration(page.seconds),
            rerank=duration(timings.rerank_seconds),
        ),
        rerank_truncated_count=result.rerank_truncated,
        warnings=result.warnings,
    )
    for passage in result.passages:
        fill_passage(response.passages.add(), page.collection, passage)
    return response


def stream_header(page: SearchPage) -> search_service_pb2.StreamSearchHeader:
    """Return what is known of a streamed search from its first part."""
    result = page.result
    return search_service_pb2.StreamSearchHeader(
        generation=result.generation,
        model_fingerprint=page.info.model.fingerprint,
        query_token_count=result.query_token_count,
        query_truncated=result.query_truncated,
        mode=_MODES[result.mode],
        warnings=result.warnings,
        rerank_truncated_count=result.rerank_truncated,
    )


def fill_passage(message: document_pb2.Passage, collection: str, passage: Passage) -> None:
    """Write a passage into an empty message, which is its place in the answer.

    A message made separately would have to be copied there.

    Args:
        message: is filled.
        collection: own name of the passage's collection.
        passage: with scores or without.
    """
    _fill_summary(message.document, collection, passage)
    message.name = f"{collection_name(collection)}/{passage.name}"
    message.text = passage.text
    message.char_start = passage.char_start
    message.char_end = passage.char_end
    message.line_start = passage.line_start
    message.line_end = passage.line_end
    message.page_start = passage.page_start
    message.page_end = passage.page_end
    message.heading_path.extend(passage.heading_path)
    message.token_count = passage.token_count
    message.table_header = passage.table_header
    for start, end in passage.omitted:
        message.omitted.add(start=start, end=end)
    if scores := passage.scores:
        message.score = passage.score
        message.score_kind = _SCORE_KINDS[scores.kind]
        _fill_stages(message.stage_scores, scores)
    if passage.similar:
        message.similar.extend(f"{collection_name(collection)}/{name}" for name in passage.similar)
        message.similar_count = passage.similar_count
    for around, place in (
        (passage.before, message.context_before),
        (passage.after, message.context_after),
    ):
        for one in around:
            fill_passage(place.add(), collection, one)
    if passage.highlights:
        _fill_highlights(message.highlights, passage.highlights)
    if passage.vector is not None:
        message.vector.values.extend(passage.vector)
    if section := passage.section:
        message.section.text = section.text
        message.section.char_start = section.char_start
        message.section.char_end = section.char_end
        message.section.complete = section.complete


def _fill_summary(message: document_pb2.DocumentSummary, collection: str, passage: Passage) -> None:
    """Write what a passage knows of its document into an empty message."""
    message.name = str(DocumentName(collection, passage.document_id))
    message.uri = passage.uri
    message.title = passage.title
    message.format = passage.format
    message.media_type = passage.media_type
    message.size_bytes = passage.size_bytes
    if passage.modified_at:
        message.modify_time.seconds = int(passage.modified_at.timestamp())  # whole seconds
    if passage.metadata:
        _fill_metadata(message, passage.metadata)


def _fill_highlights(message: document_pb2.Highlights, highlights: Highlights) -> None:
    """Write the marked terms and the best sentence of a passage into an empty message."""
    message.SetInParent()
    for start, end in highlights.terms:
        message.terms.add(start=start, end=end)
    if highlights.sentence:
        message.sentence.start = highlights.sentence.start
        message.sentence.end = highlights.sentence.end


def _fill_stages(message: document_pb2.StageScores, scores: StageScores) -> None:
    """Write the scores and ranks of a passage's stages into an empty message."""
    if scores.dense is not None:
        message.dense = scores.dense
    if scores.lexical is not None:
        message.lexical = scores.lexical
    if scores.fused is not None:
        message.fused = scores.fused
    if scores.rerank is not None:
        message.rerank = scores.rerank
    message.dense_rank = scores.dense_rank or 0
    message.lexical_rank = scores.lexical_rank or 0


def document_message(collection: str, row: DocumentRow, text: str = "") -> document_pb2.Document:
    """Return the message of a document.

    Args:
        collection: own name of its collection.
        row: everything but its text.
        text: the part of its text that is wanted.
    """
    message = document_pb2.Document(
        name=str(DocumentName(collection, row.id)),
        uri=row.uri,
        title=row.title,
        format=row.format,
        encoding=row.encoding,
        size_bytes=row.size_bytes,
        modify_time=timestamp(row.modified_at),
        char_count=row.char_count,
        passage_count=row.chunk_count,
        text=text,
        sha256=row.sha256,
        media_type=row.media_type,
    )
    if row.metadata:
        _fill_metadata(message, row.metadata)
    return message


def _fill_metadata(
    message: document_pb2.Document | document_pb2.DocumentSummary, metadata: Metadata
) -> None:
    """Write metadata into an empty message, as texts and with its types."""
    message.metadata.update(flat_texts(metadata))
    typed: dict[str, Any] = {name: as_doubles(value) for name, value in metadata.items()}
    message.typed_metadata.update(typed)


def collection_message(collection: str, info: IndexInfo) -> collection_pb2.Collection:
    """Return the message of a collection's present generation.

    Args:
        collection: its own name.
        info: what its index holds.
    """
    return collection_pb2.Collection(
        name=collection_name(collection),
        generation=info.generation,
        model=_model_message(info.model),
        chunking=collection_pb2.ChunkSettings(
            chunk_tokens=info.chunking.chunk_tokens, chunk_overlap=info.chunking.chunk_overlap
        ),
        document_count=info.documents,
        passage_count=info.chunks,
        token_count=info.tokens,
        vector_count=info.vectors,
        create_time=timestamp(info.created_at),
        update_time=timestamp(info.updated_at),
        index_id=info.index_id,
    )


def _model_message(model: ModelIdentity) -> collection_pb2.Model:
    return collection_pb2.Model(
        name=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint,
        dimension=model.dim,
        max_tokens=model.max_tokens,
        dtype=model.dtype,
    )


def served_model_message(offered: OfferedModel) -> embedding_service_pb2.ServedModel:
    """Return the message of a model that a caller may use."""
    encoder = offered.model.for_queries
    load_time = Timestamp()
    load_time.FromDatetime(offered.model.loaded_at)
    return embedding_service_pb2.ServedModel(
        model=_model_message(offered.model.identity),
        names=offered.names,
        dimensions=encoder.dimensions,
        query_prompt=encoder.query_prompt,
        passage_prompt=encoder.passage_prompt,
        collections=map(collection_name, offered.collections),
        load_time=load_time,
    )


def embedding_messages(
    embeddings: Sequence[EmbeddedText],
) -> list[embedding_service_pb2.Embedding]:
    """Return the messages of embeddings, in order."""
    return [
        embedding_service_pb2.Embedding(
            vector=vector_pb2.Vector(values=embedding.vector),
            token_count=embedding.token_count,
            truncated=embedding.truncated,
        )
        for embedding in embeddings
    ]


def duration(seconds: float) -> Duration:
    """Return a duration, exact to the nanosecond."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def timestamp(text: str) -> Timestamp:
    """Return a point in time, from RFC 3339."""
    message = Timestamp()
    message.FromJsonString(text)
    return message
