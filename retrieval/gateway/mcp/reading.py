"""Reading of documents: parts of their texts, and where a part begins."""

from dataclasses import dataclass, replace
from typing import Final

from retrieval.client.requests import document_request, passage_request
from retrieval.client.results import DocumentInfo
from retrieval.domain.resource_names import DocumentName, parse_passage
from retrieval.errors import InvalidArgument
from retrieval.gateway.mcp.backend import Asker
from retrieval.gateway.mcp.bounds import ANSWER_CHARS, divided
from retrieval.gateway.mcp.names import Reference

_CHARS_BEFORE: Final = 1_000
"""A passage is shown with about as much text before it: two or three paragraphs."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document's text."""

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
        return self.end >= self.document.char_count

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole text."""
        return self.start == 0 and self.is_last

    def cut(self, room: int) -> "Part":
        """Return as much of the part as fits, in JSON."""
        return replace(self, text=divided(self.text, room))

    def up_to(self, end: int) -> "Part":
        """Return the part up to a character of the whole text."""
        return replace(self, text=self.text[: max(0, end - self.start)])

    def from_line_before(self, place: int) -> "Part":
        """Return the part from the first line on that begins in it before a place, if one does."""
        skipped = self.text.find("\n", 0, max(0, place - self.start)) + 1
        return replace(self, text=self.text[skipped:], start=self.start + skipped)


async def located(asker: Asker, reference: Reference) -> Reference:
    """Return a reference to a passage as one to a place in its document; any other unchanged.

    Raises:
        Refused: there is no such passage, or the server refused the request.
        InvalidArgument: the reference can't be sent.
    """
    if not reference.is_passage:
        return reference
    name = parse_passage(reference.name, field="id")
    request = passage_request(reference.name, before=0, after=0)
    passage = (await asker.call(lambda server: server.index.GetPassage, request)).passage
    document = str(DocumentName(name.collection, name.document_id))
    return Reference(name=document, start=passage.char_start, end=passage.char_end)


async def read_part(asker: Asker, reference: Reference, start: int) -> Part:
    """Return the part of a document that begins at a character; an answer has room for no more.

    Raises:
        Refused: there is no such document, or the server refused the request.
        InvalidArgument: the document has no such character, or the reference can't be sent.
    """
    request = document_request(
        reference.name,
        uri=reference.uri,
        collection=reference.collection,
        with_text=True,  # for older servers, which know no parts
        chars=(start, start + ANSWER_CHARS),
    )
    answer = await asker.call(lambda server: server.index.GetDocument, request)
    document = DocumentInfo.from_answer(answer, with_text=True)
    if start > document.char_count:
        raise InvalidArgument(
            f"start is {start}, and the document has {document.char_count} characters",
            field="start",
        )
    text = document.text or ""
    if document.char_start is None:
        text = text[start : start + ANSWER_CHARS]
    return Part(document, text, start)


def before(place: int) -> int:
    """Return where to begin to read, so that what comes before a place is seen as well."""
    return max(0, place - _CHARS_BEFORE)
