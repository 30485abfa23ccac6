"""What the client answers with: frozen records made from messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import overload

import numpy as np
from numpy.typing import NDArray

from retrieval.client.passages import metadata_from, passage_from
from retrieval.client.server_info import to_datetime
from retrieval.domain.metadata import Metadata
from retrieval.domain.passages import Passage
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    index_service_pb2,
    search_service_pb2,
)


def mode_name(mode: search_service_pb2.SearchMode.ValueType) -> str:
    """``"dense"``, ``"lexical"``, ``"hybrid"``, or what a newer server calls another."""
    try:
        name = search_service_pb2.SearchMode.Name(mode)
    except ValueError:
        return str(mode)
    return name.removeprefix("SEARCH_MODE_").lower()


@dataclass(frozen=True, slots=True)
class SearchTimings:
    """Seconds that the server spent on a search, by stage."""

    embed: float
    """To get the query's vector."""
    search: float
    """To compare vectors and rank passages."""
    fetch: float
    """To read texts and metadata."""
    total: float
    """From the request's arrival to its answer."""
    rerank: float = 0.0
    """The part of ``search`` that the reranker took."""


@dataclass(frozen=True, slots=True)
class SearchResults(Sequence[Passage]):
    """The passages that were found, best first, and how they were found.

    Their names are full resource names, ``collections/…/documents/…/passages/…``.
    """

    passages: tuple[Passage, ...]
    next_page_token: str
    """Asks for the page after this one; empty when this is the last."""
    generation: int
    """Generation of the collection that was searched."""
    model_fingerprint: str
    query_token_count: int
    """Tokens that the model read of a text query; 0 for others."""
    query_truncated: bool
    """Whether the end of the query had no effect, since the model reads no more tokens."""
    timings: SearchTimings
    mode: str
    """``"dense"``, ``"lexical"`` or ``"hybrid"``: how it was searched."""
    rerank_truncated_count: int = 0
    """Texts that the reranker read in part only."""
    warnings: tuple[str, ...] = ()
    """What about the request is probably not as meant, such as a filter's unknown field."""

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, index: int | slice) -> Passage | tuple[Passage, ...]:
        """The passage of a rank, from 0; or those of several."""
        return self.passages[index]

    def __len__(self) -> int:
        """How many passages were found."""
        return len(self.passages)

    @classmethod
    def from_message(cls, message: search_service_pb2.SearchResponse) -> "SearchResults":
        """Take a message over."""
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

    def __next__(self) -> Passage:
        """The next best passage.

        Raises:
            ServiceError: the server failed after it had begun to answer.
        """
        return next(self.passages)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of n texts."""

    vectors: NDArray[np.float32]
    """[n, dim], of length 1."""
    token_counts: tuple[int, ...]
    """Tokens that the model read of each, prompt and special tokens counted."""
    truncated: tuple[bool, ...]
    """Whether the end of a text had no effect."""
    model_fingerprint: str

    @classmethod
    def from_messages(
        cls, messages: Sequence[embedding_service_pb2.BatchEmbedResponse]
    ) -> "Embeddings":
        """Take the answers to several requests over, as one."""
        embeddings = [embedding for message in messages for embedding in message.embeddings]
        return cls(
            vectors=np.array([one.vector.values for one in embeddings], dtype=np.float32),
            token_counts=tuple(one.token_count for one in embeddings),
            truncated=tuple(one.truncated for one in embeddings),
            model_fingerprint=messages[0].model_fingerprint,
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
    """Empty from a server that is older than this field."""

    @classmethod
    def from_message(cls, message: collection_pb2.Collection) -> "CollectionInfo":
        """Take a message over."""
        model = message.model
        return cls(
            name=message.name,
            generation=message.generation,
            model=ModelInfo(
                name=model.name,
                revision=model.revision,
                fingerprint=model.fingerprint,
                dimension=model.dimension,
                max_tokens=model.max_tokens,
                dtype=model.dtype,
            ),
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
    """None where it was not asked for."""

    @classmethod
    def from_message(
        cls, message: document_pb2.Document, *, with_text: bool = False
    ) -> "DocumentInfo":
        """Take a message over.

        Args:
            message: the document.
            with_text: whether its text was asked for; a message can't tell that from an empty one.
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
        )


@dataclass(frozen=True, slots=True)
class PassageContext:
    """A passage and its neighbours, in the document's order; none has a score (NaN)."""

    passage: Passage
    before: tuple[Passage, ...]
    after: tuple[Passage, ...]
    generation: int

    @classmethod
    def from_message(cls, message: index_service_pb2.GetPassageResponse) -> "PassageContext":
        """Take a message over."""
        return cls(
            passage=passage_from(message.passage),
            before=tuple(map(passage_from, message.before)),
            after=tuple(map(passage_from, message.after)),
            generation=message.generation,
        )
