"""Bodies of requests that change collections, and of their answers."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Base64Bytes, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.gateway.schemas.answers import Answer, Problem
from retrieval.gateway.schemas.requests import NAMED, Body, Collection, Whole, example

MAX_PUTS = 1000
"""Documents of one batch; a body's size limits them, too."""

Wait = Annotated[bool, Field(description="Whether to answer only once searches see the change.")]


def _text_only(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("time", "Input should be a time such as 2026-01-31T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text_only)]
"""A time in RFC 3339, with a zone, and not a number of seconds."""


class PassageBody(Body):
    """A passage of a document that the caller has cut."""

    text: str
    heading_path: list[str] = Field([])
    page: Whole = 0


class DocumentBody(Body):
    """A document to put: its URI, and its content as one of text, data and passages."""

    uri: str = Field(description="The document's name in the collection, such as tickets/4711.")
    text: str | None = Field(None, description="Its text.")
    data: Annotated[Base64Bytes, Field(strict=False)] | None = Field(
        None, description="Content of a file of any format, in base64."
    )
    passages: list[PassageBody] | None = Field(None, description="Its text, already cut.")
    file_name: str = Field("", description="Tells the format by its extension.")
    media_type: str = Field("", description="The format, such as text/markdown.")
    title: str = Field("", description="Empty for the title that the content itself has.")
    metadata: dict[str, Any] | None = Field(None, description="Fields for filters and answers.")
    language: str = Field("", description="BCP 47, such as en.")
    modified_at: Time | None = Field(None, description="When it was changed; null for now.")


class PutBody(DocumentBody):
    """A document to put into a collection."""

    model_config = example(
        uri="tickets/4711", text="The door squeaks.", metadata={"status": "open"}, wait=True
    )
    collection: Collection = DEFAULT_COLLECTION
    wait: Wait = False


class BatchPutBody(Body):
    """Documents to put into a collection."""

    model_config = example(
        documents=[{"uri": "a.md", "text": "# A"}, {"uri": "b.md", "text": "# B"}]
    )
    documents: list[DocumentBody] = Field(min_length=1, max_length=MAX_PUTS)
    collection: Collection = DEFAULT_COLLECTION
    wait: Wait = False


class DeleteBody(Body):
    """Which documents to delete: those of a filter, or those of a prefix of URIs."""

    model_config = example(prefix="tickets/", dry_run=True)
    filter: str | None = Field(None, description="A condition, as for searches.")
    prefix: str | None = Field(None, description="Beginning of their URIs, such as tickets/.")
    dry_run: bool = Field(False, description="Whether only to say what would be deleted.")
    collection: Collection = DEFAULT_COLLECTION
    wait: Wait = False


class Settings(Body):
    """Settings of a collection that can be changed."""

    model_config = example(language="en")
    language: str = Field("", description="Of the texts, for lexical search, such as en.")
    index_type: str = Field("", description="auto, flat, ivf or hnsw.")
    target_recall: float | None = Field(None, description="Above 0 and at most 1.")


class CreateCollectionBody(Settings):
    """A new collection."""

    model_config = example(collection="tickets", language="en")
    collection: str = Field(description="Its own name.", json_schema_extra={**NAMED})
    model: str = Field("", description="Embedding model; empty for the server's default.")
    chunk_tokens: Whole | None = Field(
        None, description="Maximum number of tokens in a passage; 0 for whole documents."
    )
    chunk_overlap: Whole | None = Field(None, description="Tokens that passages share.")


class PutDocument(Answer):
    """A document as it was put."""

    name: str
    uri: str
    change: Literal["created", "updated", "unchanged"]
    title: str
    format: str
    encoding: str
    passage_count: int
    truncated_count: int = Field(description="Passages that are longer than the model reads.")
    unread: list[str] = Field(description="Parts that could not be read, such as page 2.")
    sha256: str = Field(description="Of this version: give it as If-Match to change this one.")


class SkippedPart(Answer):
    """A part of a put that is not indexed, such as a member of an archive."""

    uri: str
    reason: str
    detail: str


class PutResult(Answer):
    """What became of a put, once it is committed."""

    documents: list[PutDocument]
    skipped: list[SkippedPart]
    generation: int
    token_count: int = Field(description="Tokens that were embedded.")


class PutOutcome(Answer):
    """What became of one document of a batch: a result, or an error."""

    uri: str
    result: PutResult | None
    error: Problem | None


class PutOutcomes(Answer):
    """What became of the documents of a batch, in their order."""

    results: list[PutOutcome]


class DeleteResult(Answer):
    """What was deleted by URI."""

    uris: list[str] = Field(description="The document, or all documents of an archive.")
    generation: int


class DeleteWhereResult(Answer):
    """What was deleted by a condition, or would be."""

    document_count: int
    uris: list[str] = Field(description="The first of them, at most 1,000.")
    foreign_count: int = Field(description="Documents that stay: builds keep them up to date.")
    generation: int
