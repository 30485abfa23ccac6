"""Bodies of answers in the gateway's own form, for the OpenAPI document.

Answers are written directly, because checking each of them again would cost more than making it.
The tests compare what is answered with these.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from retrieval.domain.passages import ScoreKind

Span = Annotated[
    list[int],
    Field(
        min_length=2,
        max_length=2,
        description="Positions of the first character and after the last one, from 0.",
    ),
]


class Answer(BaseModel):
    """A body whose members are all there."""

    model_config = ConfigDict(extra="forbid")


class Scores(Answer):
    """The scores of a passage by stage of the search; null for stages that did not compare it."""

    kind: Literal[get_args(ScoreKind)] = Field(description="What ``score`` measures.")  # type: ignore[valid-type]
    dense: float | None = Field(description="Cosine of the vectors, from -1 to 1.")
    lexical: float | None = Field(description="BM25 of the words, 0 or more.")
    dense_rank: int | None
    lexical_rank: int | None
    fused: float | None = Field(description="What hybrid search made of both.")
    rerank: float | None = Field(description="Probability that the passage answers the query.")


class Highlights(Answer):
    """Where a passage matches the words of the query."""

    terms: list[Span]
    sentence: Span | None


class Section(Answer):
    """The text around a passage, under the same headings."""

    text: str
    char_start: int
    char_end: int
    complete: bool


class Passage(Answer):
    """A part of a document, as a search finds it."""

    name: str = Field(description="Resource name: its path below /v1/.")
    uri: str = Field(description="Stable name of its document.")
    title: str = Field(description="Title of its document.")
    heading_path: list[str] = Field(description="Headings above it, outermost first.")
    score: float | None = Field(description="Higher is better; null if it was not scored.")
    scores: Scores | None
    line_start: int
    line_end: int
    page_start: int | None
    page_end: int | None
    char_start: int = Field(description="Position of its first character in the document's text.")
    char_end: int
    token_count: int
    format: str = Field(description="Format of its document.")
    media_type: str = Field(description="Media type of its document.")
    size_bytes: int = Field(description="Size of its document.")
    modified_at: datetime | None = Field(description="When its document was last modified.")
    metadata: dict[str, Any]
    table_header: str | None
    text: str
    omitted: list[Span] = Field(description="Places in the text that were not embedded.")
    similar: list[str] = Field(description="Names of near-duplicates that were left out.")
    similar_count: int
    highlights: Highlights | None
    before: list["Passage"] = Field(description="Passages before it, if asked for.")
    after: list["Passage"] = Field(description="Passages after it, if asked for.")
    section: Section | None
    vector: list[float] | None = Field(description="Its embedding, if asked for.")


class Seconds(Answer):
    """Seconds that the server spent, by stage."""

    embed: float
    search: float
    fetch: float
    total: float
    rerank: float


class SearchHeader(Answer):
    """How passages were found."""

    mode: str = Field(description="dense, lexical or hybrid.")
    generation: int = Field(description="Generation of the collection that was searched.")
    model_fingerprint: str
    query_token_count: int
    query_truncated: bool = Field(description="Whether the query is longer than the model reads.")
    warnings: list[str] = Field(description="What is probably a mistake in the request.")


class SearchResults(SearchHeader):
    """One page of passages, best first."""

    passages: list[Passage]
    next_page_token: str = Field(description="Asks for the next page; empty on the last one.")
    rerank_truncated_count: int
    seconds: Seconds


class BatchResults(Answer):
    """The results of several searches, in their order."""

    results: list[SearchResults]


class PassageContext(Answer):
    """A passage and its neighbours in the document."""

    passage: Passage
    before: list[Passage]
    after: list[Passage]
    generation: int


class Document(Answer):
    """An indexed document."""

    name: str = Field(description="Resource name: its path below /v1/.")
    uri: str
    title: str
    metadata: dict[str, Any]
    format: str
    encoding: str
    size_bytes: int
    modified_at: datetime
    char_count: int
    passage_count: int
    text: str | None = Field(
        description="Its text, or the part that was asked for; null if none was."
    )
    media_type: str = Field(description="Such as text/markdown; empty if the format is unknown.")
    sha256: str = Field(description="Changes with the content.")
    char_start: int | None = Field(
        description="Position of the first character of text in the whole text; null without text."
    )
    char_end: int | None = Field(description="Position after the last character of text.")
    line_start: int | None = Field(description="Line of the first character of text, from 1.")
    line_end: int | None = Field(description="Line of the last character of text.")
    line_count: int | None = Field(description="Number of lines of the whole text.")


class DocumentCounts(Answer):
    """Numbers of documents and of their passages."""

    documents: int
    passages: int


class DocumentPage(Answer):
    """One page of documents, by URI."""

    documents: list[Document]
    next_page_token: str
    generation: int
    total: DocumentCounts | None = Field(
        description="Counts the documents on all pages; null unless asked for."
    )
    warnings: list[str] = Field(description="What is probably a mistake in the filter.")


class SkippedFile(Answer):
    """A file that is not indexed."""

    uri: str
    reason: str
    detail: str = Field(description="More about this file; may be empty.")


class SkippedPage(Answer):
    """One page of the files that are not indexed, by URI."""

    files: list[SkippedFile]
    counts: dict[str, int] = Field(description="Numbers of files by reason, on all pages.")
    next_page_token: str
    generation: int


class FilterField(Answer):
    """Something that a filter can compare."""

    name: str = Field(description="As a filter names it, with quotes where it needs them.")
    built_in: bool = Field(description="Whether every document has it.")
    has_values: bool = Field(description="Whether its values can be listed.")


class Fields(Answer):
    """What a filter can compare."""

    fields: list[FilterField]
    generation: int


class FieldValue(Answer):
    """A value that documents have in a field."""

    text: str
    document_count: int
    filter: str = Field(
        description="The condition that passes the documents with this value; may be empty."
    )


class FieldValues(Answer):
    """Values of a field, the most frequent first."""

    values: list[FieldValue]
    generation: int


class Model(Answer):
    """An embedding model."""

    name: str
    revision: str
    fingerprint: str = Field(description="Vectors can be compared only if theirs are equal.")
    dimension: int
    max_tokens: int
    dtype: str


class Collection(Answer):
    """An index that the server has open."""

    name: str = Field(description="Resource name: its path below /v1/.")
    generation: int
    model: Model
    chunk_tokens: int
    chunk_overlap: int
    document_count: int
    passage_count: int
    token_count: int
    vector_count: int
    created_at: datetime
    updated_at: datetime
    index_id: str


class CollectionPage(Answer):
    """One page of collections, by name."""

    collections: list[Collection]
    next_page_token: str


class ServerInfo(Answer):
    """The server behind the gateway."""

    version: str
    started_at: datetime
    limits: dict[str, int]
    writable: bool = Field(description="Whether it takes documents.")


class Problem(BaseModel):
    """An error, in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do.")
    reason: str = Field(description="The kind of error, in UPPER_SNAKE_CASE.")
    metadata: dict[str, str] = Field(description="Details for programs, such as the field.")


class Health(Answer):
    """Whether requests can be answered."""

    status: Literal["ok", "unavailable"]
