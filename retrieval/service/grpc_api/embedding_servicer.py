"""EmbeddingService: the messages of texts to embed or count, to the engine and back."""

from typing import Any

from grpc.aio import ServicerContext

from retrieval.domain.resource_names import parse_collection
from retrieval.service.engine import Engine
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.service.grpc_api.messages import (
    embedding_messages,
    served_model_message,
    to_text_kind,
)
from retrieval.v1 import embedding_service_pb2 as pb
from retrieval.v1 import embedding_service_pb2_grpc as pb_grpc


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Answers EmbeddingService; see the ``.proto`` for what each method promises."""

    def __init__(self, engine: Engine) -> None:
        """Answer from an engine."""
        self._texts = engine.texts

    async def BatchEmbed(
        self, request: pb.BatchEmbedRequest, _context: ServicerContext[Any, Any]
    ) -> pb.BatchEmbedResponse:
        """Answer the vectors of texts."""
        embedded = await self._texts.embed(
            current_call.get(),
            _collection(request),
            request.texts,
            to_text_kind(request.kind),
            model=request.model,
            dimensions=request.dimensions,
        )
        return pb.BatchEmbedResponse(
            embeddings=embedding_messages(embedded.embeddings),
            model_fingerprint=embedded.model.fingerprint,
            model=embedded.model.name,
        )

    async def CountTokens(
        self, request: pb.CountTokensRequest, _context: ServicerContext[Any, Any]
    ) -> pb.CountTokensResponse:
        """Answer how many tokens texts have."""
        counted = await self._texts.count_tokens(
            current_call.get(), _collection(request), request.texts, model=request.model
        )
        return pb.CountTokensResponse(
            token_counts=counted.counts,
            max_tokens=counted.model.max_tokens,
            model_fingerprint=counted.model.fingerprint,
            model=counted.model.name,
        )

    async def ListModels(
        self, _request: pb.ListModelsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """Answer the models that the caller may use."""
        offered = self._texts.models(current_call.get())
        response = pb.ListModelsResponse(models=map(served_model_message, offered.models))
        if offered.reranker is not None:
            response.reranker.name = offered.reranker.name
            response.reranker.max_tokens = offered.reranker.max_tokens
        return response


def _collection(request: pb.BatchEmbedRequest | pb.CountTokensRequest) -> str:
    """Return the own name of the collection that a request names; empty if it names none."""
    if not request.collection:
        return ""
    return parse_collection(request.collection, field="collection")
