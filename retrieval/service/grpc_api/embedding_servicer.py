"""EmbeddingService: the messages of texts to embed or count, to the engine and back."""

from typing import Any

from grpc.aio import ServicerContext

from retrieval.domain.resource_names import parse_collection
from retrieval.service.engine import Engine
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.service.grpc_api.messages import embedding_messages, to_text_kind
from retrieval.v1 import embedding_service_pb2 as pb
from retrieval.v1 import embedding_service_pb2_grpc as pb_grpc


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Answers EmbeddingService; see the ``.proto`` for what each method promises."""

    def __init__(self, engine: Engine) -> None:
        """Answer from an engine."""
        self._engine = engine

    async def BatchEmbed(
        self, request: pb.BatchEmbedRequest, _context: ServicerContext[Any, Any]
    ) -> pb.BatchEmbedResponse:
        """Answer the vectors of texts."""
        name = parse_collection(request.collection, field="collection")
        kind = to_text_kind(request.kind)
        embedded = await self._engine.embed(current_call.get(), name, request.texts, kind)
        return pb.BatchEmbedResponse(
            embeddings=embedding_messages(embedded.embeddings),
            model_fingerprint=embedded.model.fingerprint,
        )

    async def CountTokens(
        self, request: pb.CountTokensRequest, _context: ServicerContext[Any, Any]
    ) -> pb.CountTokensResponse:
        """Answer how many tokens texts have."""
        name = parse_collection(request.collection, field="collection")
        counted = await self._engine.count_tokens(current_call.get(), name, request.texts)
        return pb.CountTokensResponse(
            token_counts=counted.counts,
            max_tokens=counted.model.max_tokens,
            model_fingerprint=counted.model.fingerprint,
        )
