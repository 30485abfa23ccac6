"""Reranking of the caller's own texts, in the forms of Cohere and Jina, and of TEI."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.values import count, sendable
from retrieval.domain.arguments import text_list
from retrieval.errors import InvalidArgument
from retrieval.gateway.problems import Problem, Refused
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import reranking as schemas
from retrieval.v1 import rerank_service_pb2 as pb

router = APIRouter(tags=["reranking"])
"""The routes of reranking."""


@router.post("/v1/rerank", operation_id="rerank_v1", response_model=schemas.RerankAnswer)
async def rerank_v1(request: Request, body: schemas.RerankBody) -> Response:
    """Order texts by how well they answer a query, in the form of Cohere and Jina."""
    return await _reranked(request, body)


@router.post("/v2/rerank", operation_id="rerank_v2", response_model=schemas.RerankAnswer)
async def rerank_v2(request: Request, body: schemas.RerankBody) -> Response:
    """Order texts by how well they answer a query, in Cohere's second form."""
    return await _reranked(request, body)


@router.post("/rerank", operation_id="rerank", response_model=list[schemas.RankedText])
async def rerank(request: Request, body: schemas.TeiRerankBody) -> Response:
    """Order texts by how well they answer a query, in the form of TEI."""
    if body.raw_scores:
        raise InvalidArgument("scores are probabilities: leave out raw_scores", field="raw_scores")
    answer = await _ranked(request, body.query, body.texts, None)
    if body.truncate is False and answer.truncated_count:
        detail = f"the reranker can't read {answer.truncated_count} of the texts to their end"
        raise Refused(Problem(413, "TEXT_TOO_LONG", detail, {"field": "texts"}))
    results: list[dict[str, Any]] = [
        {"index": one.index, "score": one.score} for one in answer.results
    ]
    for result in results if body.return_text else ():
        result["text"] = body.texts[result["index"]]
    return as_json(results)


async def _ranked(
    request: Request, query: str, texts: Sequence[str], top_n: int | None
) -> pb.RerankResponse:
    message = pb.RerankRequest(
        query=sendable(query, field="query"),
        texts=text_list(texts, field="documents"),
        top_n=0 if top_n is None else count(top_n, field="top_n"),
    )
    server = server_for(request)
    answer: pb.RerankResponse = await server.call(server.stubs.rerank.Rerank, message)
    return answer


async def _reranked(request: Request, body: schemas.RerankBody) -> Response:
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    answer = await _ranked(request, body.query, texts, body.top_n)
    results: list[dict[str, Any]] = [
        {"index": one.index, "relevance_score": one.score} for one in answer.results
    ]
    for result in results if body.return_documents else ():
        result["document"] = {"text": texts[result["index"]]}
    made = request.scope["state"]["request_id"]
    return as_json({"id": made, "model": answer.model, "results": results})
