"""The tools: what a model reads about them, and what they do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from retrieval.client.requests import resource_name, search_request
from retrieval.client.results import CollectionInfo, DocumentInfo, SearchResults
from retrieval.client.values import sendable
from retrieval.gateway.mcp.answers import (
    Listing,
    collections_listing,
    documents_listing,
    fetch_answer,
    fits_whole,
    search_answer,
)
from retrieval.gateway.mcp.arguments import (
    Arguments,
    FetchArguments,
    ListCollectionsArguments,
    ListDocumentsArguments,
    SearchArguments,
    checked,
)
from retrieval.gateway.mcp.backend import Asker
from retrieval.gateway.mcp.cursors import Position, from_cursor
from retrieval.gateway.mcp.names import parse
from retrieval.gateway.mcp.reading import before, located, read_part
from retrieval.gateway.problems import Refused
from retrieval.v1 import index_service_pb2 as pb

_IDENTICAL: Final = 1.0
"""Cosine of the vectors of identical passages. A copy tells a model nothing new."""
_DOCUMENTS: Final = 50
"""Documents on a page; of usual ones about as many fit into an answer."""
_COLLECTIONS: Final = 20
"""Collections on a page; each costs a request for its fields."""
_NO_FIELDS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED)
"""Of a collection that has been deleted meanwhile, and of an older server."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool."""

    name: str
    title: str
    description: str
    """For models: what it is for, and how to use it."""
    arguments: type[Arguments]
    run: Callable[[Asker, Any], Awaitable[str]]
    """Returns the answer as JSON; the second argument is one of ``arguments``."""

    async def answer(self, asker: Asker, given: Mapping[str, Any]) -> str:
        """Return the answer to a call.

        Raises:
            InvalidArgument: an argument is out of range.
            Refused: the server refused a request.
        """
        return await self.run(asker, checked(self.arguments, given))


async def _search(asker: Asker, wanted: SearchArguments) -> str:
    request = (
        *(wanted.query, wanted.collection, wanted.filter, wanted.mode),
        wanted.group_by_document,
    )
    found = from_cursor(wanted.cursor, *request)
    position = Position(found.page_token, found.page_size or wanted.top_k, found.shown)
    message = search_request(
        wanted.query,
        k=position.page_size,
        page_token=position.page_token,
        collection=wanted.collection,
        filter=wanted.filter,
        mode=wanted.mode,
        group_by_document=wanted.group_by_document,
        collapse=_IDENTICAL,
    )
    answer = await asker.call(lambda server: server.search.Search, message)
    return search_answer(SearchResults.from_message(answer), position, *request)


async def _fetch(asker: Asker, wanted: FetchArguments) -> str:
    reference = await located(asker, parse(wanted.id))
    part = await read_part(asker, reference, wanted.start or 0)
    place = reference.start if wanted.start is None else None
    if place is not None and not fits_whole(part, wanted.id):
        begin = before(place)
        # A place beyond the end is of a document that has become shorter.
        if 0 < begin <= place <= part.document.char_count:
            part = (await read_part(asker, reference, begin)).from_line_before(place)
    return fetch_answer(part, wanted.id)


async def _list_documents(asker: Asker, wanted: ListDocumentsArguments) -> str:
    message = pb.ListDocumentsRequest(
        parent=resource_name(wanted.collection),
        filter=sendable(wanted.filter, field="filter"),
        page_token=sendable(wanted.cursor, field="cursor"),
        count=not wanted.cursor,
    )

    async def page(size: int) -> Listing:
        message.page_size = size
        answer = await asker.call(lambda server: server.index.ListDocuments, message)
        return documents_listing(
            [DocumentInfo.from_message(one) for one in answer.documents],
            answer.next_page_token,
            total=answer.total.document_count if answer.HasField("total") else None,
            warnings=answer.warnings,
        )

    return await _that_fits(page, _DOCUMENTS)


async def _list_collections(asker: Asker, wanted: ListCollectionsArguments) -> str:
    message = pb.ListCollectionsRequest(page_token=sendable(wanted.cursor, field="cursor"))

    async def page(size: int) -> Listing:
        message.page_size = size
        answer = await asker.call(lambda server: server.index.ListCollections, message)
        collections = [CollectionInfo.from_message(one) for one in answer.collections]
        fields = await asyncio.gather(*(_fields(asker, one.name) for one in collections))
        return collections_listing(collections, fields, answer.next_page_token)

    return await _that_fits(page, _COLLECTIONS)


async def _that_fits(page: Callable[[int], Awaitable[Listing]], size: int) -> str:
    """Return a page that fits, asked for again with fewer rows where it has too many.

    So the server's token says where the next page begins, whatever changes between the two.
    """
    listing = await page(size)
    while (fitting := listing.fitting) < len(listing.rows):
        listing = await page(fitting)
    return listing.text


async def _fields(asker: Asker, parent: str) -> list[str]:
    """Return the fields of a collection's metadata; none if the server does not list them."""
    try:
        answer = await asker.call(
            lambda server: server.index.ListFields, pb.ListFieldsRequest(parent=parent)
        )
    except Refused as error:
        if error.problem.status in _NO_FIELDS:
            return []
        raise
    return [one.name for one in answer.fields if not one.built_in]


TOOLS: Final[Mapping[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool(
            "search",
            "Search documents",
            "Find the passages of the indexed documents that best answer a question. Returns "
            "results, best first, each with the id, title, url and text of a passage. Read more "
            "of a document with fetch and the id. Give the url or the title of what you cite.",
            SearchArguments,
            _search,
        ),
        Tool(
            "fetch",
            "Read a document",
            "Return the text of a document, with its title, url and metadata, by an id of search "
            "or list_documents. Long documents come in parts: next_start says how to read on.",
            FetchArguments,
            _fetch,
        ),
        Tool(
            "list_documents",
            "List documents",
            "List the documents of a collection by URI, without their texts, all or those that "
            "meet a condition. To find documents by what they say, use search.",
            ListDocumentsArguments,
            _list_documents,
        ),
        Tool(
            "list_collections",
            "List collections",
            "List the collections that can be searched, how much they hold, and the fields of "
            "their documents' metadata that a filter of search can use.",
            ListCollectionsArguments,
            _list_collections,
        ),
    )
}
"""All tools by name."""
