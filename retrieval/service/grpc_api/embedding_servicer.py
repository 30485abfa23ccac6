"""EmbeddingService: texts through the model of a collection."""

from collections.abc import Iterator, Sequence
from typing import Any

from grpc.aio import ServicerContext

from retrieval.domain.resource_names import parse_collection
from retrieval.errors import InvalidArgument
from retrieval.service.collections.collections import Collections, OpenCollection
from retrieval.service.config import Limits
from retrieval.service.grpc_api.from_messages import check_texts, to_text_kind
from retrieval.service.grpc_api.to_messages import embedding_messages
from retrieval.service.scheduling.search_threads import SearchThreads
from retrieval.v1 import embedding_service_pb2 as pb
from retrieval.v1 import embedding_service_pb2_grpc as pb_grpc

_CHARS_AT_ONCE = 65_536
"""Characters that are counted in one call: after so many, other requests get their turn, and one
that was given up stops."""


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Answers EmbeddingService; see the ``.proto`` for what each method promises."""

    def __init__(self, collections: Collections, workers: SearchThreads, limits: Limits) -> None:
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
        with self._collections.use(name) as collection:
            await self._check_tokens(collection, request.texts)
            embeddings = await collection.embed(list(request.texts), kind)
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
            return pb.CountTokensResponse(
                token_counts=await self._count(collection, request.texts),
                max_tokens=model.max_tokens,
                model_fingerprint=model.fingerprint,
            )

    async def _count(self, collection: OpenCollection, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, some texts at a time."""
        counts: list[int] = []
        for some in parts_of_about(texts, _CHARS_AT_ONCE):
            counts += await self._workers.run(collection, collection.tokenizer.count, some)
        return counts

    async def _check_tokens(self, collection: OpenCollection, texts: Sequence[str]) -> None:
        """Refuse texts that are too much work together; they are counted only where they may be.

        Raises:
            InvalidArgument: the model would read more tokens of them than a request may have.
        """
        most = self._limits.request_tokens
        most_of_one = collection.info.model.max_tokens
        if len(texts) * most_of_one <= most:
            return
        tokens = sum(min(count, most_of_one) for count in await self._count(collection, texts))
        if tokens > most:
            raise InvalidArgument(
                f"the texts have {tokens} tokens, up to {most_of_one} of each counted; a request "
                f"may have at most {most}: send fewer texts at once",
                field="texts",
            )


def parts_of_about(texts: Sequence[str], chars: int) -> Iterator[list[str]]:
    """Cut a list of texts into parts of so many characters at most, or of one text."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > chars:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
