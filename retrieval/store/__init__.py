"""The index on disk: read and written here, nowhere else.

An index is a folder::

    index.db              SQLite: documents, texts, chunks, and which vector files count
    vectors-*.faiss       flat FAISS files, immutable, one a segment
    ann-*.faiss           approximate indexes beside large segments, immutable
    lexical-*             which words are in which text: tantivy's segments, immutable
    writer.lock           held by the one process that writes

A SQLite transaction is the only commit. A file is written under a new name and flushed to
disk before the transaction that names it, so a crash at any moment leaves the last commit whole.
Importing this package loads neither torch nor grpc.
"""

from retrieval.domain.records import DocumentRow, IndexInfo, ModelIdentity
from retrieval.store.disk.files.vector_file import search_on_one_core
from retrieval.store.disk.info import (
    Look,
    SegmentInfo,
    bytes_on_disk,
    look,
    read_generation,
    read_info,
    read_roots,
    read_segments,
    read_status,
)
from retrieval.store.disk.lexical.lexical_index import LexicalHits
from retrieval.store.disk.lexical.term_spans import TermFinder, TermSpan
from retrieval.store.disk.reading.places import Place, TextKey
from retrieval.store.disk.reading.reader import DocumentPassage, IndexReader
from retrieval.store.disk.reading.sections import Stretch
from retrieval.store.disk.recall import recall_warnings
from retrieval.store.disk.tables.database import is_index
from retrieval.store.disk.vectors.vector_index import VectorHits
from retrieval.store.disk.verify import Problem, verify
from retrieval.store.disk.writing.commit import Commit
from retrieval.store.disk.writing.maintenance import (
    IndexType,
    Maintained,
    compact,
    maintain,
    remove_documents,
)
from retrieval.store.disk.writing.preconditions import check_folder, check_index
from retrieval.store.disk.writing.staged import StagedChunk, StagedDocument
from retrieval.store.disk.writing.writer import IndexWriter, KnownFile
from retrieval.store.filters.language import Filter, parse_filter

__all__ = [
    "Commit",
    "DocumentPassage",
    "DocumentRow",
    "Filter",
    "IndexInfo",
    "IndexReader",
    "IndexType",
    "IndexWriter",
    "KnownFile",
    "LexicalHits",
    "Look",
    "Maintained",
    "ModelIdentity",
    "Place",
    "Problem",
    "SegmentInfo",
    "StagedChunk",
    "StagedDocument",
    "Stretch",
    "TermFinder",
    "TermSpan",
    "TextKey",
    "VectorHits",
    "bytes_on_disk",
    "check_folder",
    "check_index",
    "compact",
    "is_index",
    "look",
    "maintain",
    "parse_filter",
    "read_generation",
    "read_info",
    "read_roots",
    "read_segments",
    "read_status",
    "recall_warnings",
    "remove_documents",
    "search_on_one_core",
    "verify",
]
