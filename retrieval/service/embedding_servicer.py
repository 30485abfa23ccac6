"""EmbeddingService: texts through the model of a collection."""

from typing import Any

from grpc.aio import ServicerContext

from retrieval.names import parse_collection
from retrieval.search import EmbeddedText
from retrieval.service.collections import Collections
from retrieval.service.config import Limits
from retrieval.service.requests import check_texts, to_text_kind
from retrieval.service.responses import embedding_messages
from retrieval.service.workers import Workers
from retrieval.v1 import embedding_service_pb2 as pb
from retrieval.v1 import embedding_service_pb2_grpc as pb_grpc

_TEXTS_AT_ONCE = 32
"""Texts of one request that go through the model together: after so many, other requests get
their turn, and a request that was given up stops."""


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Answers EmbeddingService; see the ``.proto`` for what each method promises."""

    def __init__(self, collections: Collections, workers: Workers, limits: Limits) -> None:
        """Keep what all requests share."""
        self._collections = collections
        self._workers = workers
        self._limits = limits

    async def BatchEmbed(
        self, request: pb.BatchEmbedRequest, _context: ServicerContext[Any, Any]
    ) -> pb.BatchEmbedResponse:
        """Answer the vectors of texts."""
        name = parse_collection(request.collection, field="collection")
        kind = to_text_kind(request.kind)
        check_texts(request.texts, self._limits)
        embeddings: list[EmbeddedText] = []
        with self._collections.use(name) as collection:
            for start in range(0, len(request.texts), _TEXTS_AT_ONCE):
                texts = request.texts[start : start + _TEXTS_AT_ONCE]
                embeddings += await collection.embed(texts, kind)
            return pb.BatchEmbedResponse(
                embeddings=embedding_messages(embeddings),
                model_fingerprint=collection.info.model.fingerprint,
            )

    async def CountTokens(
        self, request: pb.CountTokensRequest, _context: ServicerContext[Any, Any]
    ) -> pb.CountTokensResponse:
        """Answer how many tokens texts have."""
        name = parse_collection(request.collection, field="collection")
        check_texts(request.texts, self._limits)
        with self._collections.use(name) as collection:
            model = collection.info.model
            count = collection.tokenizer.count
            return pb.CountTokensResponse(
                token_counts=await self._workers.run(collection, count, list(request.texts)),
                max_tokens=model.max_tokens,
                model_fingerprint=model.fingerprint,
            )
