"""Records of a build and of an index: documents, chunks, models, generations; plain data.

Offsets are in characters (Unicode code points) of ``Document.text``, end exclusive, so that
``document.text[chunk.char_start:chunk.char_end] == chunk.text`` always holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from retrieval.domain.metadata import Metadata
from retrieval.errors import InvalidArgument

TextKind = Literal["query", "passage"]
"""What a text is embedded as; a model may have a prompt for either."""

DTYPE_NAMES: Final = ("float32", "bfloat16", "float16", "int8")
"""Names of the types that a model's weights can have."""


class TokenCounter(Protocol):
    """The part of ``retrieval.encoding.tokenizer.Tokenizer`` that chunking needs."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens."""
        ...

    def adds_up(self, text: str) -> bool:
        """Return whether pieces of the text, cut beside white space, add up to its tokens."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character offsets (start, end) of each token, without special tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """Part of a document under one heading.

    Sections are in order and tile the text: each ends where the next starts, the first starts at
    0 and the last ends at ``len(text)``.
    """

    char_start: int
    """First character of the section: that of its heading line, if it has one."""
    heading_path: tuple[str, ...]
    """Headings from the outermost to this one; empty before the first heading."""
    level: int = 0
    """Depth of the heading, 1 = outermost; 0 before the first heading."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a document's text, whose rows are lines or groups of lines."""

    char_start: int
    """First character of its first row."""
    char_end: int
    """End of its last row."""
    header: str
    """Names of its columns on one line, between bars; empty if no row names them."""
    rows_start: int
    """First character of the rows below those that name the columns."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file."""

    uri: str
    """Stable name: ``<root folder's name>/<relative path>``, with ``/`` between parts."""
    title: str
    format: str
    """Name of the parser's format: ``"markdown"``, ``"rst"``, ``"html"``, ``"text"``, ..."""
    text: str
    """Text that is chunked, stored and returned, with the line ends of the file."""
    sections: tuple[Section, ...]
    encoding: str = "utf-8"
    """Encoding of the file's bytes."""
    metadata: Metadata = field(default_factory=dict)
    """Metadata in the file itself (front matter, ``<meta>``)."""
    page_starts: tuple[int, ...] = ()
    """First character of each page or slide, in order, beginning with 0; an empty page starts where
    the next one does. Empty if the format has no pages."""
    tables: tuple[Table, ...] = ()
    """Tables in order; none lies in another."""
    omitted: tuple[tuple[int, int], ...] = ()
    """Ranges (start, end) of the text that readers don't see, such as comments: they are neither
    embedded nor found by their words. In any order; they may overlap."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Size and time of a file and its sidecar, to detect changes without reading; 0 if no file."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch."""
    sidecar_size: int = 0
    sidecar_mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How files are read, where they leave it open."""

    encoding: str = ""
    """Encoding of files that are not UTF-8 and name none: the name of a Python codec; empty to
    detect it."""
    read_as: tuple[tuple[str, str], ...] = ()
    """Extensions, in lower case with their dot, and the key of the format to read them as."""
    ocr_languages: tuple[str, ...] = ()
    """Languages to recognise in pictures of text (ISO 639-1); empty for the engine's own choice."""


DEFAULT_READING: Final = ReadSettings()


@dataclass(frozen=True, slots=True)
class FileChoice:
    """Which files under a root are indexed, and how they are read."""

    include: tuple[str, ...] = ()
    """Patterns in the form of ``.gitignore``; if there are any, a file must match one."""
    exclude: tuple[str, ...] = ()
    """Patterns of files to leave out, even if ``include`` matches them."""
    ignore_files: bool = True
    """Whether ``.gitignore`` and ``.indexerignore`` files are followed."""
    listed: bool = False
    """Whether only the files of a given list are considered."""
    generated: bool = False
    """Whether files and folders that programs generate are taken in."""
    reading: ReadSettings = DEFAULT_READING


@dataclass(frozen=True, slots=True)
class RootInfo:
    """A folder or file that an index was built from, or a set of documents written over the API."""

    name: str
    """First part of its documents' URIs."""
    path: str = ""
    """Its location at the last build; empty for a pushed root."""
    choice: FileChoice | None = None
    """How its files were chosen at the last build; None for a pushed root, and if an older version
    built it."""

    @property
    def is_pushed(self) -> bool:
        """Whether its documents are written over the API, never by builds."""
        return not self.path


@dataclass(frozen=True, slots=True)
class ContainerStamp:
    """Size, time and rules of a file that is no document, to detect changes without reading it.

    It is an archive or similar, or a file with nothing to index.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch."""
    rules: str
    """Identifies the rules by which its members were chosen, or the programs that read it."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file found under a root, before it is read."""

    path: Path
    """Where the file is."""
    uri: str
    """See ``Document.uri``."""
    root: str
    """Name of its root: the first part of ``uri``."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch, limited to 64 bits: file systems and archives
    have times before 1678 and after 2262."""
    sidecar: "SourceFile | None" = None
    """File beside it with metadata of the document."""
    container: str = ""
    """URI of the archive or similar file that contains it; ``path`` is then the archive's."""

    def __post_init__(self) -> None:
        """Limit the time to the range of an index."""
        object.__setattr__(self, "mtime_ns", min(max(self.mtime_ns, -(2**63)), 2**63 - 1))

    @property
    def stamp(self) -> FileStamp:
        """The stamp that the index stores."""
        beside = self.sidecar
        if beside is None:
            return FileStamp(self.size, self.mtime_ns)
        return FileStamp(self.size, self.mtime_ns, beside.size, beside.mtime_ns)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not indexed, and why; it is counted and shown, never dropped silently."""

    uri: str
    root: str
    reason: str
    """One of a short list of phrases, so that skipped files can be counted by reason."""
    detail: str = ""
    """Details about this file; may be empty."""


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """Something that a filter can compare."""

    name: str
    """As a filter names it, with quotes where it needs them."""
    built_in: bool
    """Whether every document has it; otherwise it is in the metadata of some."""
    has_values: bool
    """Whether its values can be listed."""


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A value that documents have in a field."""

    text: str
    """As it was written."""
    document_count: int
    filter: str
    """The condition that passes the documents with this value."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that made an index's vectors, and how to find it again."""

    name: str
    """Short name to show."""
    source: str
    """``"folder"``, ``"package"`` or ``"hub"``."""
    location: str
    """Absolute path, package name, or hub id."""
    revision: str
    """Commit hash on the hub, version of the package; empty for a folder."""
    fingerprint: str
    """SHA-256 (hex) of weights, tokenizer, pooling, prompts, length limit and dtype. Equal
    fingerprints mean comparable vectors."""
    dim: int
    """Length of a vector."""
    max_tokens: int
    """Maximum tokens of one text, special tokens included."""
    dtype: str
    """Type of the weights while embedding; vectors are always float32."""


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How documents are read, chunked and embedded; fixed for an index, like its model."""

    chunk_tokens: int
    """Maximum tokens of a chunk, without special tokens; 0 makes one chunk of each document."""
    chunk_overlap: int
    """Maximum tokens at the end of a chunk that the next one repeats."""
    context: bool = False
    """Whether chunks are embedded under their title and headings: see ``embedded_text``."""
    text_fields: tuple[str, ...] = ()
    """Fields of JSON records that hold their text; empty for the usual ones."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document that gets one vector."""

    ordinal: int
    """Position among the document's chunks, from 0."""
    char_start: int
    char_end: int
    text: str
    """``document.text[char_start:char_end]``."""
    line_start: int
    """Line of the first character, from 1."""
    line_end: int
    """Line of the last character, from 1."""
    heading_path: tuple[str, ...]
    token_count: int
    """Tokens of ``text`` without ``omitted``, by the model's tokenizer, without special tokens."""
    page_start: int = 0
    """Page of the first character, from 1; 0 where the format has no pages."""
    page_end: int = 0
    """Page of the last character."""
    table_header: str = ""
    """Names of the columns if the chunk begins in a table, below the rows that name them; embedded
    and found with the text."""
    omitted: tuple[tuple[int, int], ...] = ()
    """Ranges (start, end) of ``text``, in order and apart, that are neither embedded nor found:
    comments, encoded data."""


@dataclass(frozen=True, slots=True)
class GenerationId:
    """Identity of one generation of one index; equal only if the contents are."""

    index_id: str
    """Identity of the index, made once: 32 hexadecimal digits."""
    generation: int
    """Number of commits."""
    commit_id: str
    """Identity of the commit: 32 hexadecimal digits. It tells
    apart commits that were made in two copies of one index."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Description of an index at one generation."""

    generation: int
    """Number of commits; 0 before the first."""
    model: ModelIdentity
    chunking: ChunkSettings
    documents: int
    chunks: int
    tokens: int
    """Sum of the chunks' ``token_count``."""
    vectors: int
    """Vectors on disk: fewer than chunks if texts repeat, more if some are no longer used."""
    unused_vectors: int
    """Vectors that no chunk uses, not any more or not yet."""
    segments: int
    """Vector files."""
    index_type: str
    """``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``: see ``store.maintenance``."""
    target_recall: float
    """Recall@10 that approximate indexes are tuned for."""
    language: str
    """Language of the texts, for lexical search: see ``retrieval.domain.languages``."""
    created_at: str
    """RFC 3339, UTC."""
    updated_at: str
    """RFC 3339, UTC; time of the last commit."""
    index_id: str
    """See ``GenerationId``."""
    commit_id: str
    """See ``GenerationId``."""

    @property
    def identity(self) -> GenerationId:
        """Identity of this generation."""
        return GenerationId(self.index_id, self.generation, self.commit_id)


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document in the index's list, without its text."""

    id: int
    uri: str
    title: str
    format: str
    encoding: str
    metadata: Metadata
    size_bytes: int
    """Size of the file."""
    modified_at: str
    """RFC 3339, UTC; modification time of the file."""
    char_count: int
    """Length of the text."""
    chunk_count: int
    sha256: str
    """Of its content, hexadecimal; see ``KnownFile``."""
    media_type: str = ""
    """Such as ``text/markdown``; empty if the format is unknown."""


@dataclass(frozen=True, slots=True)
class CharRange:
    """A range of characters of a document's text; what lies beyond its end is empty."""

    start: int = 0
    """Position of the first character, from 0."""
    end: int | None = None
    """Position after the last character; None for the end of the text."""

    def __post_init__(self) -> None:
        """Refuse a range that ends before it starts.

        Raises:
            InvalidArgument: naming the field.
        """
        _check_range("chars", self.start, self.end, first=0)


@dataclass(frozen=True, slots=True)
class LineRange:
    """A range of lines of a document's text; what lies beyond its end is empty.

    A line ends with a line feed, which belongs to it.
    """

    start: int = 1
    """The first line, from 1."""
    end: int | None = None
    """The last line; None for the last one of the text."""

    def __post_init__(self) -> None:
        """Refuse a range that ends before it starts.

        Raises:
            InvalidArgument: naming the field.
        """
        _check_range("lines", self.start, self.end, first=1)


TextRange = CharRange | LineRange


def _check_range(field: str, start: int, end: int | None, *, first: int) -> None:
    if start < first:
        raise InvalidArgument(
            f"{field}.start is {start}; it must be at least {first}", field=f"{field}.start"
        )
    if end is not None and end < start:
        raise InvalidArgument(
            f"{field}.end is {end}; it must be at least the start, {start}", field=f"{field}.end"
        )


class TextPart(NamedTuple):
    """A part of a document's text, and where it is."""

    text: str
    char_start: int
    """Position of the first character in the whole text, from 0."""
    char_end: int
    """Position after the last character."""
    line_start: int
    """Line of the first character, from 1; 0 if the part is empty."""
    line_end: int
    """Line of the last character; 0 if the part is empty."""
    line_count: int
    """Number of lines of the whole text."""


class DocumentCounts(NamedTuple):
    """Numbers of documents and of their passages."""

    documents: int
    passages: int
