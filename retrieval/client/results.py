"""Results of the client: frozen records made from messages.

Passages are the same record that a search in the same process gives.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar, overload

from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from retrieval.client.vectors import answered
from retrieval.domain.metadata import Metadata, from_doubles
from retrieval.domain.passages import Highlights, Passage, ScoreKind, SectionText, Span, StageScores
from retrieval.domain.records import DocumentCounts, FieldInfo, FieldValue
from retrieval.domain.resource_names import parse_passage
from retrieval.errors import ServiceError
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    index_service_pb2,
    rerank_service_pb2,
    search_service_pb2,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EmbeddingResponseT = TypeVar(
    "EmbeddingResponseT",
    embedding_service_pb2.BatchEmbedResponse,
    embedding_service_pb2.CountTokensResponse,
)

_SCORE_KINDS: dict[int, ScoreKind] = {
    document_pb2.SCORE_KIND_COSINE: "cosine",
    document_pb2.SCORE_KIND_BM25: "bm25",
    document_pb2.SCORE_KIND_WEIGHTED: "weighted",
    document_pb2.SCORE_KIND_RRF: "rrf",
    document_pb2.SCORE_KIND_RERANK: "rerank",
}


def mode_name(mode: search_service_pb2.SearchMode.ValueType) -> str:
    """Return ``"dense"``, ``"lexical"``, ``"hybrid"``, or what a newer server calls its mode."""
    try:
        name = search_service_pb2.SearchMode.Name(mode)
    except ValueError:
        return str(mode)
    return name.removeprefix("SEARCH_MODE_").lower()


@dataclass(frozen=True, slots=True)
class SearchTimings:
    """Seconds that the server spent on a search, by stage."""

    embed: float
    """Getting the query's vector."""
    search: float
    """Comparing vectors and ranking passages."""
    fetch: float
    """Reading texts and metadata."""
    total: float
    """From the request's arrival to its answer."""
    rerank: float = 0.0
    """Reranking; included in ``search``."""


@dataclass(frozen=True, slots=True)
class SearchResults(Sequence[Passage]):
    """The passages of a search, best first, and how they were found.

    Names of passages are full resource names, ``collections/…/documents/…/passages/…``.
    """

    passages: tuple[Passage, ...]
    next_page_token: str
    """Asks for the next page; empty on the last one."""
    generation: int
    """Generation of the collection that was searched."""
    model_fingerprint: str
    query_token_count: int
    """Tokens that the model read of a text query; 0 for other queries."""
    query_truncated: bool
    """Whether the end of the query was cut off because it is too long for the model."""
    timings: SearchTimings
    mode: str
    """How the collection was searched: ``"dense"``, ``"lexical"`` or ``"hybrid"``."""
    rerank_truncated_count: int = 0
    """Number of texts whose end the reranker did not read."""
    warnings: tuple[str, ...] = ()
    """What is probably a mistake in the request, such as an unknown field in the filter."""

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, index: int | slice) -> Passage | tuple[Passage, ...]:
        """Return the passage of a rank, counted from 0; or the passages of a slice."""
        return self.passages[index]

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    @classmethod
    def from_message(cls, message: search_service_pb2.SearchResponse) -> "SearchResults":
        """Return the record of a message."""
        timings = message.timings
        stages = (
            *(timings.embed, timings.search, timings.fetch),
            *(timings.total, timings.rerank),
        )
        return cls(
            passages=tuple(map(passage_from, message.passages)),
            next_page_token=message.next_page_token,
            generation=message.generation,
            model_fingerprint=message.model_fingerprint,
            query_token_count=message.query_token_count,
            query_truncated=message.query_truncated,
            timings=SearchTimings(*(stage.ToNanoseconds() / 1e9 for stage in stages)),
            mode=mode_name(message.mode),
            rerank_truncated_count=message.rerank_truncated_count,
            warnings=tuple(message.warnings),
        )


@dataclass(frozen=True, slots=True)
class PassageStream(Iterator[Passage]):
    """Passages as they arrive, best first; can be read once."""

    passages: Iterator[Passage]
    generation: int
    model_fingerprint: str
    query_token_count: int
    query_truncated: bool
    mode: str
    """See ``SearchResults.mode``."""
    warnings: tuple[str, ...] = ()
    """See ``SearchResults.warnings``."""
    rerank_truncated_count: int = 0
    """See ``SearchResults.rerank_truncated_count``."""

    def __next__(self) -> Passage:
        """Return the next best passage.

        Raises:
            ServiceError: the server failed after it had begun to answer.
        """
        return next(self.passages)


@dataclass(frozen=True, slots=True)
class RerankedText:
    """One of the texts of a ``rerank``."""

    index: int
    """Its position among the texts, from 0."""
    score: float
    """The probability that it answers the query, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class RerankResults(Sequence[RerankedText]):
    """The best texts, best first; a sequence."""

    texts: tuple[RerankedText, ...]
    model: str
    """Name of the cross-encoder."""
    truncated_count: int
    """Number of texts of which the model read only the beginning."""

    @classmethod
    def from_message(cls, message: rerank_service_pb2.RerankResponse) -> "RerankResults":
        """Read an answer."""
        texts = tuple(RerankedText(one.index, one.score) for one in message.results)
        return cls(texts, message.model, message.truncated_count)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> RerankedText: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RerankedText, ...]: ...
    def __getitem__(self, index: int | slice) -> RerankedText | tuple[RerankedText, ...]:
        """Return a text, or several."""
        return self.texts[index]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of n texts."""

    vectors: "NDArray[np.float32]"
    """[n, dim], L2-normalised; a list of n ``array("f")`` if numpy is not installed."""
    token_counts: tuple[int, ...]
    """Tokens that the model read of each text, including prompt and special tokens."""
    truncated: tuple[bool, ...]
    """Whether the end of each text was cut off because it is too long for the model."""
    model_fingerprint: str
    """Give it as ``expected_model_fingerprint`` to searches by one of the vectors."""
    model: str = ""
    """Name of the model; empty if the server is older than this field."""

    @classmethod
    def from_messages(
        cls, messages: Sequence[embedding_service_pb2.BatchEmbedResponse]
    ) -> "Embeddings":
        """Join the answers to several requests."""
        embeddings = [embedding for message in messages for embedding in message.embeddings]
        return cls(
            vectors=answered(one.vector.values for one in embeddings),
            token_counts=tuple(one.token_count for one in embeddings),
            truncated=tuple(one.truncated for one in embeddings),
            model_fingerprint=messages[0].model_fingerprint,
            model=messages[0].model,
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An embedding model; the fields are those of ``retrieval.v1.Model``."""

    name: str
    revision: str
    fingerprint: str
    dimension: int
    max_tokens: int
    dtype: str

    @classmethod
    def from_message(cls, message: collection_pb2.Model) -> "ModelInfo":
        """Return the record of a message."""
        return cls(
            name=message.name,
            revision=message.revision,
            fingerprint=message.fingerprint,
            dimension=message.dimension,
            max_tokens=message.max_tokens,
            dtype=message.dtype,
        )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model to embed with; the fields are those of ``retrieval.v1.ServedModel``."""

    model: ModelInfo
    names: tuple[str, ...]
    """What ``embed`` takes as ``model``, as well as the fingerprint."""
    dimensions: tuple[int, ...]
    """What ``embed`` takes as ``dimensions``; the last is that of whole vectors."""
    query_prompt: str
    """What the server puts before each query; empty for nothing."""
    passage_prompt: str
    """What the server puts before each passage; empty for nothing."""
    collections: tuple[str, ...]
    """Resource names of the collections that use it."""
    loaded_at: datetime

    @classmethod
    def from_message(cls, message: embedding_service_pb2.ServedModel) -> "ServedModel":
        """Return the record of a message."""
        return cls(
            model=ModelInfo.from_message(message.model),
            names=tuple(message.names),
            dimensions=tuple(message.dimensions),
            query_prompt=message.query_prompt,
            passage_prompt=message.passage_prompt,
            collections=tuple(message.collections),
            loaded_at=to_datetime(message.load_time),
        )


@dataclass(frozen=True, slots=True)
class RerankerInfo:
    """The model of ``rerank``; the fields are those of ``retrieval.v1.Reranker``."""

    name: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ServedModels(Sequence[ServedModel]):
    """The models of a server; a sequence of those to embed with."""

    models: tuple[ServedModel, ...]
    reranker: RerankerInfo | None
    """None if the server has none."""

    @classmethod
    def from_message(cls, message: embedding_service_pb2.ListModelsResponse) -> "ServedModels":
        """Return the record of a message."""
        reranker = None
        if message.HasField("reranker"):
            reranker = RerankerInfo(message.reranker.name, message.reranker.max_tokens)
        return cls(tuple(map(ServedModel.from_message, message.models)), reranker)

    def __len__(self) -> int:
        """Return the number of models to embed with."""
        return len(self.models)

    @overload
    def __getitem__(self, index: int) -> ServedModel: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ServedModel, ...]: ...
    def __getitem__(self, index: int | slice) -> ServedModel | tuple[ServedModel, ...]:
        """Return a model to embed with, or several."""
        return self.models[index]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as of one generation; the fields are those of ``retrieval.v1.Collection``."""

    name: str
    generation: int
    model: ModelInfo
    chunk_tokens: int
    chunk_overlap: int
    document_count: int
    passage_count: int
    token_count: int
    vector_count: int
    created_at: datetime
    updated_at: datetime
    index_id: str = ""
    """Empty if the server is older than this field."""

    @classmethod
    def from_message(cls, message: collection_pb2.Collection) -> "CollectionInfo":
        """Return the record of a message."""
        return cls(
            name=message.name,
            generation=message.generation,
            model=ModelInfo.from_message(message.model),
            chunk_tokens=message.chunking.chunk_tokens,
            chunk_overlap=message.chunking.chunk_overlap,
            document_count=message.document_count,
            passage_count=message.passage_count,
            token_count=message.token_count,
            vector_count=message.vector_count,
            created_at=to_datetime(message.create_time),
            updated_at=to_datetime(message.update_time),
            index_id=message.index_id,
        )


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document; the fields are those of ``retrieval.v1.Document``."""

    name: str
    uri: str
    title: str
    metadata: Metadata
    format: str
    encoding: str
    size_bytes: int
    modified_at: datetime
    char_count: int
    passage_count: int
    text: str | None
    """The whole text or a part of it; None if it was not asked for."""
    media_type: str = ""
    """Empty if the server does not know the format."""
    sha256: str = ""
    """Changes with the content, and tells whether two parts are of the same text."""
    char_start: int | None = None
    """Position of the first character of ``text`` in the whole text; None without a text."""
    char_end: int | None = None
    """Position after the last character of ``text``."""
    line_start: int | None = None
    """Line of the first character of ``text``, from 1; None if it is empty."""
    line_end: int | None = None
    """Line of the last character of ``text``."""
    line_count: int | None = None
    """Number of lines of the whole text; None without a text."""

    @classmethod
    def from_message(
        cls, message: document_pb2.Document, *, with_text: bool = False
    ) -> "DocumentInfo":
        """Return the record of a message.

        Args:
            message: the document.
            with_text: whether its text was asked for; the message alone can't tell.
        """
        return cls(
            name=message.name,
            uri=message.uri,
            title=message.title,
            metadata=metadata_from(message),
            format=message.format,
            encoding=message.encoding,
            size_bytes=message.size_bytes,
            modified_at=to_datetime(message.modify_time),
            char_count=message.char_count,
            passage_count=message.passage_count,
            text=message.text if with_text else None,
            media_type=message.media_type,
            sha256=message.sha256,
        )

    @classmethod
    def from_answer(
        cls, message: index_service_pb2.GetDocumentResponse, *, with_text: bool
    ) -> "DocumentInfo":
        """Return the record of an answer, with its text if one was asked for.

        Args:
            message: the answer.
            with_text: whether the whole text was asked for: older servers don't say so.
        """
        if not message.HasField("text_range"):
            return cls.from_message(message.document, with_text=with_text)
        part = message.text_range
        return replace(
            cls.from_message(message.document, with_text=True),
            char_start=part.char_start,
            char_end=part.char_end,
            line_start=part.line_start or None,
            line_end=part.line_end or None,
            line_count=message.line_count,
        )


@dataclass(frozen=True, slots=True)
class PassageContext:
    """A passage and its neighbours, in the document's order, without scores (NaN)."""

    passage: Passage
    before: tuple[Passage, ...]
    after: tuple[Passage, ...]
    generation: int

    @classmethod
    def from_message(cls, message: index_service_pb2.GetPassageResponse) -> "PassageContext":
        """Return the record of a message."""
        return cls(
            passage=passage_from(message.passage),
            before=tuple(map(passage_from, message.before)),
            after=tuple(map(passage_from, message.after)),
            generation=message.generation,
        )


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The largest requests; the fields are those of ``retrieval.v1.ServerLimits``."""

    max_page_size: int
    max_offset: int
    max_stream_limit: int
    max_query_chars: int
    max_batch_size: int
    max_text_chars: int
    max_neighbours: int
    max_message_bytes: int
    max_batch_passages: int
    max_section_chars: int
    max_group_size: int
    max_rerank_top: int
    max_context: int
    max_document_bytes: int = 0
    """0 if the server takes no documents."""
    max_range_chars: int = 0
    """0 if the server is older than ranges of documents."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server."""

    version: str
    started_at: datetime
    limits: ServerLimits
    writable: bool = False
    """Whether the server takes documents."""

    @classmethod
    def from_message(cls, message: index_service_pb2.ServerInfo) -> "ServerInfo":
        """Return the record of a message."""
        limits = {
            field: getattr(message.limits, field) for field in ServerLimits.__dataclass_fields__
        }
        return cls(
            message.version,
            to_datetime(message.start_time),
            ServerLimits(**limits),
            message.writable,
        )


def counts_from(message: index_service_pb2.ListDocumentsResponse) -> DocumentCounts:
    """Return the counts of an answer that was asked for them.

    Raises:
        ServiceError: the server is older than counts, and gives none.
    """
    if not message.HasField("total"):
        raise ServiceError(
            "the server does not count documents: it is older than this client",
            status="UNIMPLEMENTED",
        )
    return DocumentCounts(message.total.document_count, message.total.passage_count)


def check_obeyed(
    request: embedding_service_pb2.BatchEmbedRequest | embedding_service_pb2.CountTokensRequest,
    response: EmbeddingResponseT,
) -> EmbeddingResponseT:
    """Return a response, if the server knows what the request asked for.

    A server passes over fields that it does not know. An old one would answer with another model.

    Raises:
        ServiceError: the server is older than embedding by the name of a model.
    """
    asked = request.model
    if isinstance(request, embedding_service_pb2.BatchEmbedRequest) and request.dimensions:
        asked = asked or "dimensions"
    if asked and not response.model:
        raise ServiceError(
            "this server is too old to take model or dimensions: upgrade it, or name a collection",
            status="UNIMPLEMENTED",
        )
    return response


def is_serving(message: health_pb2.HealthCheckResponse) -> bool:
    """Return whether a server said that it answers requests."""
    return bool(message.status == health_pb2.HealthCheckResponse.SERVING)


def to_datetime(message: Timestamp) -> datetime:
    """Return a point in time in UTC."""
    return message.ToDatetime(tzinfo=UTC)


def passage_from(message: document_pb2.Passage) -> Passage:
    """Return the passage of a message, named by its full resource name; NaN if it has no score."""
    name = parse_passage(message.name, field="name")
    scores = _scores_from(message)
    return Passage(
        name=message.name,
        document_id=name.document_id,
        uri=message.document.uri,
        title=message.document.title,
        ordinal=name.ordinal,
        char_start=message.char_start,
        char_end=message.char_end,
        line_start=message.line_start,
        line_end=message.line_end,
        heading_path=tuple(message.heading_path),
        text=message.text,
        token_count=message.token_count,
        metadata=metadata_from(message.document),
        score=message.score if scores else float("nan"),
        page_start=message.page_start,
        page_end=message.page_end,
        scores=scores,
        similar=tuple(message.similar),
        similar_count=message.similar_count,
        before=tuple(map(passage_from, message.context_before)),
        after=tuple(map(passage_from, message.context_after)),
        highlights=_highlights_from(message.highlights) if message.HasField("highlights") else None,
        section=_section_from(message.section) if message.HasField("section") else None,
        table_header=message.table_header,
        omitted=tuple(Span(one.start, one.end) for one in message.omitted),
        format=message.document.format,
        media_type=message.document.media_type,
        size_bytes=message.document.size_bytes,
        modified_at=to_datetime(message.document.modify_time)
        if message.document.HasField("modify_time")
        else None,
        vector=array("f", message.vector.values) if message.HasField("vector") else None,
    )


def metadata_from(message: document_pb2.Document | document_pb2.DocumentSummary) -> Metadata:
    """Return metadata with its types, or as texts if the server does not send types."""
    if message.HasField("typed_metadata"):
        return {
            name: from_doubles(_plain(value))
            for name, value in message.typed_metadata.fields.items()
        }
    return dict(message.metadata)


def _plain(value: Value) -> object:
    """Return a value of JSON in Python's types; in half the time that ``MessageToDict`` takes."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(part) for name, part in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(part) for part in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _scores_from(message: document_pb2.Passage) -> StageScores | None:
    """Return a passage's scores by stage; None if it has none, or of a kind unknown here."""
    kind = _SCORE_KINDS.get(message.score_kind)
    if kind is None:
        return None
    stages = message.stage_scores
    return StageScores(
        kind,
        dense=stages.dense if stages.HasField("dense") else None,
        lexical=stages.lexical if stages.HasField("lexical") else None,
        dense_rank=stages.dense_rank or None,
        lexical_rank=stages.lexical_rank or None,
        fused=stages.fused if stages.HasField("fused") else None,
        rerank=stages.rerank if stages.HasField("rerank") else None,
    )


def _highlights_from(message: document_pb2.Highlights) -> Highlights:
    terms = tuple(Span(term.start, term.end) for term in message.terms)
    best = message.sentence if message.HasField("sentence") else None
    return Highlights(terms, Span(best.start, best.end) if best else None)


def _section_from(message: document_pb2.Section) -> SectionText:
    return SectionText(message.text, message.char_start, message.char_end, message.complete)


class SkippedFile(NamedTuple):
    """A file that is not indexed; the fields are those of ``retrieval.v1.SkippedFile``."""

    uri: str
    reason: str
    detail: str

    @classmethod
    def from_message(cls, message: index_service_pb2.SkippedFile) -> "SkippedFile":
        """Return the record of a message."""
        return cls(message.uri, message.reason, message.detail)


def fields_from(message: index_service_pb2.ListFieldsResponse) -> list[FieldInfo]:
    """Return the fields of a message."""
    return [FieldInfo(one.name, one.built_in, one.has_values) for one in message.fields]


def field_values_from(message: index_service_pb2.ListFieldValuesResponse) -> list[FieldValue]:
    """Return the values of a message."""
    return [FieldValue(one.text, one.document_count, one.filter) for one in message.values]
