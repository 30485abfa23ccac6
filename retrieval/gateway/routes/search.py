"""Searches: a page, several at once, and a stream."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeVar

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from retrieval.client.requests import QueryLike, search_request, stream_search_request
from retrieval.client.results import SearchResults, mode_name, passage_from, results_as_json
from retrieval.client.values import sendable
from retrieval.domain.passages import passage_as_json
from retrieval.errors import InvalidArgument
from retrieval.gateway.problems import Refused
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import answers
from retrieval.gateway.schemas.requests import BatchSearchBody, Query, SearchBody, StreamBody
from retrieval.v1 import search_service_pb2 as pb

MessageT = TypeVar("MessageT", pb.SearchRequest, pb.StreamSearchRequest)

router = APIRouter(tags=["search"])
"""The routes of searches."""

_QUERIES = ("query", "vector", "passage")


_EVENT_SCHEMA: Final = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["header", "passage", "end", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


@router.post("/v1/search", operation_id="search", response_model=answers.SearchResults)
async def search(request: Request, body: SearchBody) -> Response:
    """Find the passages that best match a question, some words, a vector or a passage."""
    message = search_message(body)
    server = server_for(request)
    answer = await server.call(server.stubs.search.Search, message)
    return as_json(_page_as_json(answer))


@router.post("/v1/search/batch", operation_id="search_batch", response_model=answers.BatchResults)
async def search_batch(request: Request, body: BatchSearchBody) -> Response:
    """Answer several searches at once, which is faster than one at a time."""
    message = pb.BatchSearchRequest(requests=[search_message(one) for one in body.searches])
    server = server_for(request)
    answer = await server.call(server.stubs.search.BatchSearch, message)
    return as_json({"results": [_page_as_json(one) for one in answer.responses]})


@router.post(
    "/v1/search/stream",
    operation_id="search_stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": _EVENT_SCHEMA}}}},
)
async def search_stream(request: Request, body: StreamBody) -> Response:
    """Find many passages, which arrive one by one as server-sent events.

    The first event is `header`, then each passage is an event `passage`, and the last event is
    `end`. If the server fails midway, the last event is `error`.
    """
    query, options = _query_of(body)
    limit = options.pop("limit", None)
    message = _with_passage(stream_search_request(query, limit=limit, **options), body)
    server = server_for(request)
    messages = server.stream(server.stubs.search.StreamSearch, message)
    # An error before the first message gets a status of its own.
    header = (await anext(messages)).header
    return StreamingResponse(_events(header, messages), media_type="text/event-stream")


def search_message(body: Any) -> pb.SearchRequest:  # noqa: ANN401  (its class is made of the table)
    """Return the message of a search's body.

    Raises:
        InvalidArgument: no query, or several; or a value that can't be sent.
    """
    query, options = _query_of(body)
    message = search_request(query, k=options.pop("k", body.k), **options)
    return _with_passage(message, body)


def _query_of(body: Query) -> tuple[QueryLike, dict[str, Any]]:
    """Return the query of a body, empty if it is a passage, and the options that are given.

    Raises:
        InvalidArgument: no query, or several.
    """
    options = body.model_dump(exclude_unset=True)
    queries = {name: options.pop(name, None) for name in _QUERIES}
    given = [name for name, value in queries.items() if value is not None]
    if len(given) != 1:
        raise InvalidArgument(
            f"give one of query, vector and passage{f', not {len(given)}' if given else ''}",
            field="query",
        )
    return "" if given == ["passage"] else queries[given[0]], options


def _with_passage(message: MessageT, body: Query) -> MessageT:
    """Return a message whose query is a passage, if that is what its body asks for."""
    if body.passage is not None:
        message.passage = sendable(body.passage, field="passage")
    return message


def _page_as_json(message: pb.SearchResponse) -> dict[str, object]:
    """Return a page of passages as a JSON object."""
    results = SearchResults.from_message(message)
    return {**results_as_json(results), "next_page_token": results.next_page_token}


async def _events(
    header: pb.StreamSearchHeader, messages: AsyncGenerator[Any]
) -> AsyncIterator[bytes]:
    """Yield a search's messages as events."""
    yield _event(
        "header",
        {
            "mode": mode_name(header.mode),
            "generation": header.generation,
            "model_fingerprint": header.model_fingerprint,
            "query_token_count": header.query_token_count,
            "query_truncated": header.query_truncated,
            "rerank_truncated_count": header.rerank_truncated_count,
            "warnings": list(header.warnings),
        },
    )
    count = 0
    async with aclosing(messages):
        try:
            async for message in messages:
                yield _event("passage", passage_as_json(passage_from(message.passage)))
                count += 1
        except Refused as error:
            yield _event("error", error.problem.body(""))
            return
    yield _event("end", {"passage_count": count})


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
