"""Searches in Open WebUI's form of an external web search."""

import re
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from fastapi import Query as InQuery
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import search_request
from retrieval.client.results import SearchResults
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.domain.search_options import OPTIONS
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import others as schemas

_ADDRESS: Final = re.compile("https?://")


router = APIRouter(tags=["open-webui"])
"""The route that Open WebUI asks."""


@router.post(
    "/open-webui/search", operation_id="search_web", response_model=list[schemas.WebResult]
)
async def search_web(
    request: Request,
    body: schemas.WebSearchBody,
    collection: Annotated[str, InQuery(description="Where to search.")] = DEFAULT_COLLECTION,
) -> Response:
    """Find passages, in Open WebUI's form of web search: one result for each document."""
    k = OPTIONS["k"].default if body.count is None else body.count
    message = search_request(body.query, k=k, collection=collection, group_by_document=True)
    server = server_for(request)
    answer = await server.call(server.stubs.search.Search, message)
    return as_json(
        [
            {
                "link": _link(request, passage.uri, collection),
                "title": passage.title,
                "snippet": passage.text,
            }
            for passage in SearchResults.from_message(answer)
        ]
    )


def _link(request: Request, uri: str, collection: str) -> str:
    """Return a document's own address if its URI is one, or else where the gateway returns it."""
    if _ADDRESS.match(uri):
        return uri
    query = "" if collection == DEFAULT_COLLECTION else f"?{urlencode({'collection': collection})}"
    return f"{request.base_url}v1/documents/{quote(uri)}{query}"
