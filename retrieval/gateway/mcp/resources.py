"""Documents as resources of the protocol: listed in pages, read in parts."""

from typing import Any, Final

import mcp_types as types

from retrieval.client.requests import resource_name
from retrieval.client.results import DocumentInfo
from retrieval.client.values import sendable
from retrieval.domain.resource_names import own_name
from retrieval.domain.wording import counted
from retrieval.gateway.mcp.answers import title_of
from retrieval.gateway.mcp.backend import Asker
from retrieval.gateway.mcp.bounds import ANSWER_CHARS, fitting_items, length, shortened
from retrieval.gateway.mcp.names import (
    MAX_NAME_CHARS,
    TEMPLATE,
    as_uri,
    document_id,
    parse,
    part_id,
)
from retrieval.gateway.mcp.reading import located, read_part
from retrieval.v1 import index_service_pb2 as pb

_DOCUMENTS: Final = 50
"""Resources on a page; of usual documents about as many fit into an answer."""
_COLLECTIONS: Final = 1_000
_TEXT_ROOM: Final = ANSWER_CHARS - 4 * MAX_NAME_CHARS
"""For the text of a part. Three times, a URI goes with it."""
_LIST_ROOM: Final = ANSWER_CHARS - 9_000
"""For the resources of a page. A cursor goes with them."""
_NAME_CHARS: Final = 300
_MARKDOWN: Final = "markdown"

TEMPLATE_LIST: Final = types.ListResourceTemplatesResult(
    resource_templates=[
        types.ResourceTemplate(
            name="document",
            title="Document",
            uri_template=TEMPLATE,
            description="The text of a document, by its collection and its URI. Append "
            "#char=10000,20000 to read a part of a long one.",
        )
    ]
)
"""How clients name documents without listing them."""


async def list_resources(asker: Asker, cursor: str) -> types.ListResourcesResult:
    """Return a page of the documents of all collections.

    Args:
        asker: who asks.
        cursor: of the page before; empty for the first one. It is the name of a collection, and the
            server's token for a page of its documents.

    Raises:
        Refused: the server refused a request.
    """
    name, _, token = cursor.partition(":")
    names = await _collections(asker)
    left = [one for one in names if one >= name]
    while left:
        page, token = await _page(asker, left[0], token)
        if not token:
            left = left[1:]
        if page:
            following = f"{left[0]}:{token}" if left else None
            return types.ListResourcesResult(resources=page, next_cursor=following)
    return types.ListResourcesResult(resources=[])


async def read_resource(asker: Asker, uri: str) -> types.ReadResourceResult:
    """Return the text of a document, or the first part of it and the URI of the next.

    Raises:
        Refused: there is no such document, or the server refused the request.
        InvalidArgument: the URI can't be sent, or names a part beyond the document's end.
    """
    reference = await located(asker, parse(uri))
    part = await read_part(asker, reference, reference.start or 0)
    wanted = part if reference.end is None else part.up_to(reference.end)
    shown = wanted.cut(_TEXT_ROOM)
    document = part.document
    kind = _media_type(document)
    own = document_id(document.name, document.uri)
    name = uri if length(uri) <= MAX_NAME_CHARS else as_uri(own)
    contents: list[types.TextResourceContents | types.BlobResourceContents] = [
        types.TextResourceContents(uri=name, mime_type=kind, text=shown.text)
    ]
    end = document.char_count if reference.end is None else reference.end
    if shown.end < min(end, document.char_count):
        rest = as_uri(part_id(own, shown.end, end))
        contents.append(
            types.TextResourceContents(
                uri=rest,
                mime_type="text/plain",
                text=f"This is a part of the document: characters {shown.start} to {shown.end} of "
                f"{document.char_count}. To read on, read {rest}",
            )
        )
    return types.ReadResourceResult(contents=contents)


async def _collections(asker: Asker) -> list[str]:
    """Return the own names of all collections, in order."""
    names: list[str] = []
    request = pb.ListCollectionsRequest(page_size=_COLLECTIONS)
    while True:
        answer = await asker.call(lambda server: server.index.ListCollections, request)
        names += (own_name(one.name) for one in answer.collections)
        request.page_token = answer.next_page_token
        if not request.page_token:
            return names


async def _page(asker: Asker, collection: str, token: str) -> tuple[list[types.Resource], str]:
    """Return resources of one collection that fit, and the token of the next page."""
    request = pb.ListDocumentsRequest(
        parent=resource_name(collection),
        page_size=_DOCUMENTS,
        page_token=sendable(token, field="cursor"),
    )
    while True:
        answer = await asker.call(lambda server: server.index.ListDocuments, request)
        page = [_resource(DocumentInfo.from_message(one)) for one in answer.documents]
        fitting = max(1, len(fitting_items(map(_as_sent, page), _LIST_ROOM)))
        if fitting >= len(page):
            return page, answer.next_page_token
        request.page_size = fitting


def _resource(document: DocumentInfo) -> types.Resource:
    return types.Resource(
        uri=as_uri(document_id(document.name, document.uri)),
        name=shortened(document.uri, _NAME_CHARS),
        title=title_of(document.title, document.uri),
        description=f"{document.format}, {counted(document.char_count, 'character')}",
        mime_type=_media_type(document),
    )


def _as_sent(message: types.Resource) -> dict[str, Any]:
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def _media_type(document: DocumentInfo) -> str:
    """Return the type of a document's text, which is plain whatever its file was."""
    return "text/markdown" if document.format == _MARKDOWN else "text/plain"
