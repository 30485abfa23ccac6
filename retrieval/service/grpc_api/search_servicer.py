"""SearchService: the messages of searches, to the engine and back."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from grpc.aio import ServicerContext

from retrieval.domain.resource_names import parse_collection
from retrieval.service.engine import Engine
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.service.grpc_api.messages import (
    duration,
    fill_passage,
    search_response,
    stream_header,
    to_query,
    to_search,
)
from retrieval.v1 import search_service_pb2 as pb
from retrieval.v1 import search_service_pb2_grpc as pb_grpc


class SearchServicer(pb_grpc.SearchServiceServicer):
    """Answers SearchService; see the ``.proto`` for what each method promises."""

    def __init__(self, engine: Engine) -> None:
        """Answer from an engine."""
        self._searches = engine.searches

    async def Search(
        self, request: pb.SearchRequest, _context: ServicerContext[Any, Any]
    ) -> pb.SearchResponse:
        """Answer one page of passages."""
        return await self._searches.page(current_call.get(), to_search(request), search_response)

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, _context: ServicerContext[Any, Any]
    ) -> pb.BatchSearchResponse:
        """Answer many searches; those of one collection go through its model together."""
        started = time.perf_counter()
        answers = await self._searches.batch(
            current_call.get(), request.requests, to_search, search_response
        )
        response = pb.BatchSearchResponse()
        total = duration(time.perf_counter() - started)
        answers.reverse()
        while answers:
            answer = answers.pop()
            answer.timings.total.CopyFrom(total)
            response.responses.append(answer)
            await asyncio.sleep(0)  # appending copies: let other requests go on in between
        return response

    async def StreamSearch(
        self, request: pb.StreamSearchRequest, _context: ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.StreamSearchResponse]:
        """Answer a header, then passages: found at once, read some at a time, of one generation."""
        name = parse_collection(request.collection, field="collection")
        query = to_query(request, collection=name)
        pages = self._searches.stream(current_call.get(), name, query, request.limit)
        first = True
        async with aclosing(pages):
            async for page in pages:
                if first:
                    yield pb.StreamSearchResponse(header=stream_header(page))
                    first = False
                for passage in page.result.passages:
                    response = pb.StreamSearchResponse()
                    fill_passage(response.passage, name, passage)
                    yield response
