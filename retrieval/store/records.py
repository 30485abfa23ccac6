"""What the stores take and give: plain data, no behaviour."""

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
    """A text, as a ranking lists it: what stands under one title and headings."""

    vector_id: int
    text_id: int
    """0: all texts of the vector but those that are listed beside it."""


class DocumentPassage(NamedTuple):
    """A passage of a document, and the text that it is ranked by."""

    ordinal: int
    vector_id: int
    text_id: int


class VectorHits(NamedTuple):
    """The nearest vectors of each query, best first."""

    scores: NDArray[np.float32]
    """[n, k] inner products, higher is better; cosine similarity for unit vectors."""
    vector_ids: NDArray[np.int64]
    """[n, k]; -1 where there are fewer than k vectors."""


class LexicalHits(NamedTuple):
    """The texts that fit the words of a query best, best first; equal scores by text id.

    The engine decides which of the texts that tie with the last one are among them: always the same
    ones for a generation, so that it need not read all of them.
    """

    scores: NDArray[np.float64]
    """[n] BM25, ≥ 0."""
    vector_ids: NDArray[np.int64]
    """[n]."""
    text_ids: NDArray[np.int64]
    """[n]; several texts may have one vector. 0 for a vector's only text."""


class TermSpan(NamedTuple):
    """Characters ``start`` to ``end`` of a text, and the term of the query that they are."""

    start: int
    end: int
    term: str


class SectionSpan(NamedTuple):
    """A part of a document's text: passages under the same headings, one after the other."""

    start: int
    """First character in the document's text."""
    end: int
    complete: bool
    """Whether all passages of the section are in it."""


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A chunk and the vector that stands for it."""

    chunk: Chunk
    vector_id: int


@dataclass(frozen=True, slots=True)
class StagedDocument:
    """A document ready to be committed: all its chunks have vectors."""

    document: Document
    source: SourceFile
    sha256: str
    """Hex digest of the file's bytes, and of its sidecar's where it has one."""
    chunks: Sequence[StagedChunk]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What an index remembers of a file, to tell whether it changed."""

    document_id: int
    sha256: str
    stamp: FileStamp


IndexType = Literal["auto", "flat", "ivf", "hnsw"]
"""How vectors are searched. ``auto``: exactly where they are few, else by an ``ivf`` index where
that reaches the wanted recall."""

AnnKind = Literal["ivf", "hnsw"]

LexicalState = Literal["searchable", "outdated", "missing"]
"""Whether an index can be searched by words. An older version made an index that is ``outdated`` or
where it is ``missing``; the next build mends it."""


@dataclass(frozen=True, slots=True)
class AnnSettings:
    """What an approximate index is, and how hard it is searched."""

    kind: AnnKind
    effort: int
    """Lists to look into (ivf: nprobe), or breadth of the search (hnsw: efSearch)."""
    candidates: int
    """Rows to propose for re-scoring, where no more than that are wanted."""
    lists: int
    """Number of lists (ivf), else 0."""
    recall: float
    """Recall@10 against exact search, as measured when it was written."""
    queries: int
    """Number of queries in that measurement."""
    target: float = 0.0
    """The recall that it was tuned to; 0 where that was not recorded."""

    @property
    def reached(self) -> bool:
        """Whether the measured recall is what it was tuned to."""
        return self.recall >= self.target

    def as_json(self) -> str:
        """Return the settings as an index keeps them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "AnnSettings":
        """Read what ``as_json`` wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A part of an index's vectors that is searched by itself."""

    id: int
    file: str
    rows: int
    unused: int
    """Rows that no chunk uses."""
    size: int
    """Bytes of the file, which is memory-mapped."""
    ann: AnnSettings | None
    """Its approximate index; None if it is searched exactly."""
    missed: AnnSettings | None
    """The best approximate index that was tried and dropped because it missed the wanted recall."""
    ann_file: str
    ann_size: int
    """Bytes of the approximate index, which is read into memory."""
    ann_sha256: str

    @property
    def memory(self) -> int:
        """Bytes that a search needs in memory: ids, and the approximate index."""
        return self.ann_size + 8 * self.rows

    @property
    def ann_kind(self) -> str:
        """``"ivf"`` or ``"hnsw"``; empty: it is searched exactly."""
        return self.ann.kind if self.ann else ""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """All that an index says of itself, of one generation."""

    info: IndexInfo
    segments: Sequence[SegmentInfo]
    """Oldest first."""
    roots: dict[str, RootInfo]
    """By name."""
    lexical: LexicalState
    """Whether it can be searched by words."""
    size: int
    """Bytes in the store; a build may add and remove some meanwhile."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What maintenance did."""

    merged: int = 0
    """Segments that were written anew as one."""
    removed: int = 0
    """Unused vectors that were dropped."""
    ann: AnnSettings | None = None
    """The approximate index that was made, if one was."""
    tuned: AnnSettings | None = None
    """The one that was only tuned anew, because another recall is wanted now."""
    missed: AnnSettings | None = None
    """The best approximate index that was tried in vain: it missed the wanted recall."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an index."""

    file: str
    """Name of the file, within the index's folder."""
    what: str
    advice: str
    """What to do about it."""
