"""Records → messages."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.domain.metadata import Metadata, as_doubles, flat_texts
from retrieval.domain.passages import Passage, StageScores
from retrieval.domain.records import DocumentRow, IndexInfo
from retrieval.domain.resource_names import DocumentName, collection_name
from retrieval.search import EmbeddedText
from retrieval.service.engine import SearchPage
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    search_service_pb2,
    vector_pb2,
)

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
    )


def fill_passage(message: document_pb2.Passage, collection: str, passage: Passage) -> None:
    """Write a passage into an empty message; with its scores, where it has some.

    In its place in the answer, as one made apart would be copied there.

    Args:
        message: the place.
        collection: own name of the collection.
        passage: one of its passages.
    """
    document = message.document
    document.name = str(DocumentName(collection, passage.document_id))
    document.uri = passage.uri
    document.title = passage.title
    if passage.metadata:
        _fill_metadata(document, passage.metadata)
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
    if found := passage.highlights:
        message.highlights.SetInParent()
        for start, end in found.terms:
            message.highlights.terms.add(start=start, end=end)
        if found.sentence:
            message.highlights.sentence.start = found.sentence.start
            message.highlights.sentence.end = found.sentence.end
    if section := passage.section:
        message.section.text = section.text
        message.section.char_start = section.char_start
        message.section.char_end = section.char_end
        message.section.complete = section.complete


def _fill_stages(message: document_pb2.StageScores, scores: StageScores) -> None:
    """Write what is known of a passage's way to its score into an empty message."""
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
    """A document of a collection.

    Args:
        collection: own name of the collection.
        row: everything about it but its text.
        text: empty where it isn't asked for.
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
    )
    if row.metadata:
        _fill_metadata(message, row.metadata)
    return message


def _fill_metadata(
    message: document_pb2.Document | document_pb2.DocumentSummary, metadata: Metadata
) -> None:
    """Write metadata into an empty message: as texts, and with its types."""
    message.metadata.update(flat_texts(metadata))
    typed: dict[str, Any] = {name: as_doubles(value) for name, value in metadata.items()}
    message.typed_metadata.update(typed)


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
        index_id=info.index_id,
    )


def embedding_messages(
    embeddings: Sequence[EmbeddedText],
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
