"""Results about texts that are not in an index: embeddings, scores, and the models for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, overload

from retrieval.client.results.times import to_datetime
from retrieval.client.vectors import answered
from retrieval.errors import ServiceError
from retrieval.v1 import collection_pb2, embedding_service_pb2, rerank_service_pb2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EmbeddingResponseT = TypeVar(
    "EmbeddingResponseT",
    embedding_service_pb2.BatchEmbedResponse,
    embedding_service_pb2.CountTokensResponse,
)


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
