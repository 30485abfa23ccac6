"""RerankService: the messages of texts to order, to the engine and back."""

from typing import Any

from grpc.aio import ServicerContext

from retrieval.service.engine import Engine
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.v1 import rerank_service_pb2 as pb
from retrieval.v1 import rerank_service_pb2_grpc as pb_grpc


class RerankServicer(pb_grpc.RerankServiceServicer):
    """Answers RerankService; see the ``.proto`` for what each method promises."""

    def __init__(self, engine: Engine) -> None:
        """Answer from an engine."""
        self._texts = engine.texts

    async def Rerank(
        self, request: pb.RerankRequest, _context: ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """Answer the numbers of texts, best first."""
        reranked = await self._texts.rerank(
            current_call.get(), request.query, request.texts, request.top_n
        )
        return pb.RerankResponse(
            results=[
                pb.RerankResult(index=index, score=score) for index, score in reranked.results
            ],
            model=reranked.model,
            truncated_count=reranked.truncated,
        )
