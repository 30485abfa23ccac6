"""Records that stores take and return: plain data without behaviour."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.records import Chunk, Document, FileStamp, IndexInfo, RootInfo, SourceFile

PassageKey = tuple[int, int]
"""(document id, ordinal) of a passage."""


class TextKey(NamedTuple):
    """A text in a ranking: the text of a vector under one title and headings."""

    vector_id: int
    text_id: int
    """Id of the text; 0 means all texts of the vector that the ranking does not list separately."""


class DocumentPassage(NamedTuple):
    """A passage of a document, and the text that it is ranked by."""

    ordinal: int
    vector_id: int
    text_id: int


class VectorHits(NamedTuple):
    """The nearest vectors of each query, best first."""

    scores: NDArray[np.float32]
    """Inner products, [n, k]; higher is better. For unit vectors they are cosine similarities."""
    vector_ids: NDArray[np.int64]
    """Ids of the vectors, [n, k]; -1 fills missing ones."""


class LexicalHits(NamedTuple):
    """The texts that match the words of a query best, best first; equal scores by text id.

    If several texts tie with the last one, the engine chooses which of them to return, without
    reading all of them. The choice is the same for every search of a generation.
    """

    scores: NDArray[np.float64]
    """BM25 scores, [n], ≥ 0."""
    vector_ids: NDArray[np.int64]
    """Ids of the texts' vectors, [n]; several texts may share one."""
    text_ids: NDArray[np.int64]
    """Ids of the texts, [n]; 0 if the vector has only one text."""


class TermSpan(NamedTuple):
    """Characters ``start`` to ``end`` of a text, and the query's term that they match."""

    start: int
    end: int
    term: str


class SectionSpan(NamedTuple):
    """A part of a document's text: consecutive passages under the same headings."""

    start: int
    """Position of the first character in the document's text."""
    end: int
    complete: bool
    """Whether the span contains all passages of the section."""


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A chunk and the id of its vector."""

    chunk: Chunk
    vector_id: int


@dataclass(frozen=True, slots=True)
class StagedDocument:
    """A document ready to be committed: all its chunks have vectors."""

    document: Document
    source: SourceFile
    sha256: str
    """Hex digest of the bytes of the file and its sidecar, if it has one."""
    chunks: Sequence[StagedChunk]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The record of an indexed file, to tell whether it has changed."""

    document_id: int
    sha256: str
    stamp: FileStamp


IndexType = Literal["auto", "flat", "ivf", "hnsw"]
"""How vectors are searched. ``auto`` searches few vectors exactly, and many by an ``ivf`` index if
that reaches the target recall."""

AnnKind = Literal["ivf", "hnsw"]

LexicalState = Literal["searchable", "outdated", "missing"]
"""Whether an index can be searched by words. If an older version built the index, its lexical index
is ``outdated`` or ``missing``; the next build repairs that."""


@dataclass(frozen=True, slots=True)
class AnnSettings:
    """Kind and search settings of an approximate index."""

    kind: AnnKind
    effort: int
    """Number of lists to scan (ivf: nprobe), or breadth of the search (hnsw: efSearch)."""
    candidates: int
    """Number of rows to propose for rescoring in a search for few results; more for many."""
    lists: int
    """Number of lists (ivf), else 0."""
    recall: float
    """Measured recall@10 against exact search."""
    queries: int
    """Number of queries in that measurement."""
    target: float = 0.0
    """The recall that the index was tuned to; 0 if it was not recorded."""

    @property
    def reached(self) -> bool:
        """Whether the measured recall reaches the target."""
        return self.recall >= self.target

    def as_json(self) -> str:
        """Return the settings as JSON, the form in which an index stores them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "AnnSettings":
        """Parse the result of ``as_json``.

        Raises:
            ValueError, TypeError: the text is something else.
        """
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A part of an index's vectors with a file and, optionally, an approximate index of its own."""

    id: int
    file: str
    rows: int
    unused: int
    """Number of rows that no chunk uses."""
    size: int
    """Size of the memory-mapped file in bytes."""
    ann: AnnSettings | None
    """Settings of its approximate index; None if the segment is searched exactly."""
    missed: AnnSettings | None
    """The best approximate index that was tried and discarded because it missed the target."""
    ann_file: str
    ann_size: int
    """Size of the approximate index in bytes; it is read into memory."""
    ann_sha256: str

    @property
    def memory(self) -> int:
        """Memory that a search needs in bytes, for the ids and the approximate index."""
        return self.ann_size + 8 * self.rows

    @property
    def ann_kind(self) -> str:
        """``"ivf"`` or ``"hnsw"``; empty if the segment is searched exactly."""
        return self.ann.kind if self.ann else ""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """Everything that an index records about one generation."""

    info: IndexInfo
    segments: Sequence[SegmentInfo]
    """The segments, oldest first."""
    roots: dict[str, RootInfo]
    """The roots by name."""
    lexical: LexicalState
    """Whether the index can be searched by words."""
    size: int
    """Total size in the store in bytes; a running build may change it."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """The result of maintenance."""

    merged: int = 0
    """Number of segments that were merged."""
    removed: int = 0
    """Number of unused vectors that were dropped."""
    ann: AnnSettings | None = None
    """The approximate index that was built, if any."""
    tuned: AnnSettings | None = None
    """The approximate index that was only tuned again for a new target recall, if any."""
    missed: AnnSettings | None = None
    """The best approximate index that was tried and discarded because it missed the target."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem found in an index."""

    file: str
    """Name of the file within the index's folder."""
    what: str
    advice: str
    """How to solve the problem."""
