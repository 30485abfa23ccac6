"""Reading of documents: the part of a text that fits into one answer."""

from dataclasses import dataclass
from typing import Final

from retrieval.client.requests import resource_name
from retrieval.client.results import DocumentInfo
from retrieval.client.values import sendable
from retrieval.domain.resource_names import DocumentName, parse_passage
from retrieval.errors import InvalidArgument
from retrieval.gateway.mcp.backend import Asker
from retrieval.gateway.mcp.bounds import divided
from retrieval.gateway.mcp.names import Reference
from retrieval.v1 import document_pb2
from retrieval.v1 import index_service_pb2 as pb

_CHARS_BEFORE: Final = 1_000
"""A passage is shown with about as much text before it: two or three paragraphs."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document's text, as large as an answer has room for."""

    document: DocumentInfo
    text: str
    start: int
    """Number of characters before the part."""

    @property
    def end(self) -> int:
        """Number of characters up to the end of the part."""
        return self.start + len(self.text)

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after the part."""
        return self.end >= len(self.document.text or "")


async def read_document(asker: Asker, reference: Reference) -> tuple[DocumentInfo, int | None]:
    """Return the document that a reference means, with its text, and the place that it means.

    Raises:
        Refused: there is no such document, or the server refused the request.
        InvalidArgument: the reference can't be sent.
    """
    start = reference.start
    if reference.is_passage:
        wanted = pb.GetPassageRequest(name=sendable(reference.name, field="id"))
        passage = (await asker.call(lambda server: server.index.GetPassage, wanted)).passage
        start = passage.char_start if start is None else start
        found = parse_passage(reference.name, field="id")
        name = DocumentName(found.collection, found.document_id)
        request = pb.GetDocumentRequest(name=str(name))
    elif reference.name:
        request = pb.GetDocumentRequest(name=reference.name)
    else:
        request = pb.GetDocumentRequest(
            collection=resource_name(reference.collection),
            uri=sendable(reference.uri, field="id"),
        )
    request.view = document_pb2.DOCUMENT_VIEW_FULL
    answer = await asker.call(lambda server: server.index.GetDocument, request)
    return DocumentInfo.from_message(answer.document, with_text=True), start


def part_from(document: DocumentInfo, start: int, room: int) -> Part:
    """Return the part of a document that begins at a character, and whose JSON fits.

    Raises:
        InvalidArgument: the document has no such character.
    """
    text = document.text or ""
    if start > len(text):
        raise InvalidArgument(
            f"start is {start}, and the document has {len(text)} characters", field="start"
        )
    # No character takes less than one of the room, so the rest of the text can't fit.
    return Part(document, divided(text[start : start + room + 1], room), start)


def part_around(document: DocumentInfo, place: int, room: int) -> Part:
    """Return the whole document if its JSON fits, or else the part that begins before a place."""
    whole = part_from(document, 0, room)
    text = document.text or ""
    if whole.is_last or place > len(text):
        return whole
    earliest = max(0, place - _CHARS_BEFORE)
    line = text.find("\n", earliest, place) + 1
    return part_from(document, line if earliest and line else earliest, room)
