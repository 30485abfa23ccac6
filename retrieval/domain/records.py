"""The records that travel through a build and a search; plain data, no behaviour beyond checks.

Offsets are in characters (Unicode code points) of ``Document.text``, end exclusive, so that
``document.text[chunk.char_start:chunk.char_end] == chunk.text`` always holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from retrieval.domain.metadata import Metadata

TextKind = Literal["query", "passage"]
"""What a text is embedded as; a model may put a different prompt before each."""

DTYPE_NAMES: Final = ("float32", "bfloat16", "float16", "int8")
"""Types that a model's weights may have."""


class TokenCounter(Protocol):
    """What chunking needs of a tokenizer; ``retrieval.encoding.tokenizer.Tokenizer`` is one."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted."""
        ...

    def adds_up(self, text: str) -> bool:
        """Whether a text has as many tokens as its pieces together, if cut beside white space."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Character offsets (start, end) of each token of ``text``, special tokens left out."""
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document under one heading.

    Sections are in order and tile the text: each ends where the next starts, the first starts at
    0 and the last ends at ``len(text)``.
    """

    char_start: int
    """First character of the section: that of its heading line, where it has one."""
    heading_path: tuple[str, ...]
    """Headings from the outermost to this one; empty before the first heading."""
    level: int = 0
    """Depth of the heading, 1 = outermost; 0 before the first heading."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser made of one file."""

    uri: str
    """Stable name: ``<root folder's name>/<relative path>``, with ``/`` between parts."""
    title: str
    format: str
    """Name of the parser's format: ``"markdown"``, ``"rst"``, ``"html"``, ``"text"``, ..."""
    text: str
    """The text that is chunked, stored and returned; line ends are as in the file."""
    sections: tuple[Section, ...]
    encoding: str = "utf-8"
    """How the file's bytes were decoded."""
    metadata: Metadata = field(default_factory=dict)
    """Whatever the format says about the document (front matter, ``<meta>``)."""
    page_starts: tuple[int, ...] = ()
    """First character of each page, or slide, in order, the first 0; an empty page starts where
    the next one does. Empty where the format has no pages."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells, without reading them, whether a file or its sidecar changed; zeros: no file."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch."""
    sidecar_size: int = 0
    sidecar_mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class FileChoice:
    """Which files under a root are indexed."""

    include: tuple[str, ...] = ()
    """Patterns as those of ``.gitignore``; if there are any, a file must match one."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out, in any case."""
    ignore_files: bool = True
    """Whether ``.gitignore`` and ``.indexerignore`` files are followed."""
    listed: bool = False
    """Whether only the files of a list are looked at."""


@dataclass(frozen=True, slots=True)
class RootInfo:
    """A folder or file that an index was built from."""

    name: str
    """First part of its documents' URIs."""
    path: str
    """Where it was at the last build."""
    choice: FileChoice | None
    """How its files were chosen at the last build; None if an older version built it."""


@dataclass(frozen=True, slots=True)
class ContainerStamp:
    """What tells, without reading it, whether an archive (or the like) is to be read again."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch."""
    rules: str
    """Stands for the rules by which its members were chosen."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file found under a root, before it is read."""

    path: Path
    """Where to read it."""
    uri: str
    """See ``Document.uri``."""
    root: str
    """Name of the root that it was found under: the first part of ``uri``."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch; the nearest that fits into 64 bits: file
    systems and archives have times before 1678 and after 2262."""
    sidecar: "SourceFile | None" = None
    """The file beside it that holds fields of the document's."""
    container: str = ""
    """URI of the archive (or the like) that it is a member of; ``path`` is then that one's."""

    def __post_init__(self) -> None:
        """Bring the time into the range that an index holds."""
        object.__setattr__(self, "mtime_ns", min(max(self.mtime_ns, -(2**63)), 2**63 - 1))

    @property
    def stamp(self) -> FileStamp:
        """As the index keeps it."""
        beside = self.sidecar
        if beside is None:
            return FileStamp(self.size, self.mtime_ns)
        return FileStamp(self.size, self.mtime_ns, beside.size, beside.mtime_ns)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not indexed, and why; counted and shown, never dropped in silence."""

    uri: str
    root: str
    reason: str
    """One of a short list of phrases, so that skips can be counted by reason."""
    detail: str = ""
    """What exactly is wrong with this file; may be empty."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made an index's vectors, and how to find it again."""

    name: str
    """Short name to show."""
    source: str
    """``"folder"``, ``"package"`` or ``"hub"``."""
    location: str
    """Absolute path, package name, or hub id."""
    revision: str
    """Commit hash on the hub, version of the package; empty for a folder."""
    fingerprint: str
    """SHA-256 (hex) over weights, tokenizer, pooling, prompts, length limit and dtype: equal
    fingerprints mean comparable vectors."""
    dim: int
    """Length of a vector."""
    max_tokens: int
    """Most tokens of one text, special tokens included."""
    dtype: str
    """Type of the weights while embedding; vectors are always float32."""


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How documents are read, cut and embedded; part of what an index is, like its model."""

    chunk_tokens: int
    """Most tokens in a chunk, special tokens not counted; 0 = one chunk a document."""
    chunk_overlap: int
    """Most tokens repeated from the end of one chunk at the start of the next."""
    context: bool = False
    """Whether chunks are embedded under their title and headings: see ``embedded_text``."""
    text_fields: tuple[str, ...] = ()
    """Fields of JSON records that are their text; empty = the usual ones."""


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
    """Tokens of ``text`` under the model's tokenizer, special tokens not counted."""
    page_start: int = 0
    """Page of the first character, from 1; 0 where the format has no pages."""
    page_end: int = 0
    """Page of the last character."""


@dataclass(frozen=True, slots=True)
class GenerationId:
    """Which generation of which index; equal for equal contents only."""

    index_id: str
    """Of the index, from when it was made: 32 hexadecimal digits."""
    generation: int
    """Counts the commits."""
    commit_id: str
    """Of the commit: 32 hexadecimal digits. Tells apart what came after two copies of one index."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is and holds, at one generation."""

    generation: int
    """Counts the commits; 0 = nothing was committed yet."""
    model: ModelIdentity
    chunking: ChunkSettings
    documents: int
    chunks: int
    tokens: int
    """Sum of the chunks' ``token_count``."""
    vectors: int
    """Vectors on disk: fewer than chunks where texts repeat, more where some are no longer used."""
    unused_vectors: int
    """Those of them that no chunk uses any more, or not yet."""
    segments: int
    """Vector files."""
    index_type: str
    """``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``: see ``store.maintenance``."""
    target_recall: float
    """Recall@10 that approximate indexes are tuned to."""
    language: str
    """Of the texts, for search by words: see ``retrieval.domain.languages``."""
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
        """Which generation of which index this is."""
        return GenerationId(self.index_id, self.generation, self.commit_id)


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as the index lists it, without its text."""

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
