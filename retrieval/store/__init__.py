"""Stores, which keep indexes.

``open_reader`` and ``open_writer`` open an index by its location; ``api`` defines what they return.
The store on disk is in ``disk``. The filter language and lexical queries, which all stores share,
are beside it. Importing this package loads no store, and neither torch nor grpc.
"""

from retrieval.domain.records import DocumentRow, IndexInfo, ModelIdentity
from retrieval.store.api import (
    Commit,
    Reader,
    Store,
    TermFinder,
    Version,
    Writer,
    check_free,
    exists,
    open_reader,
    open_writer,
    read_info,
    read_status,
    read_version,
    remove_documents,
    search_on_one_core,
    verify,
)
from retrieval.store.filters.language import Filter, parse_filter
from retrieval.store.location import Location, LocationLike
from retrieval.store.recall import recall_warnings
from retrieval.store.records import (
    DocumentPassage,
    IndexStatus,
    IndexType,
    KnownFile,
    LexicalHits,
    Maintained,
    PassageKey,
    Problem,
    SectionSpan,
    SegmentInfo,
    StagedChunk,
    StagedDocument,
    TermSpan,
    TextKey,
    VectorHits,
)

__all__ = [
    "Commit",
    "DocumentPassage",
    "DocumentRow",
    "Filter",
    "IndexInfo",
    "IndexStatus",
    "IndexType",
    "KnownFile",
    "LexicalHits",
    "Location",
    "LocationLike",
    "Maintained",
    "ModelIdentity",
    "PassageKey",
    "Problem",
    "Reader",
    "SectionSpan",
    "SegmentInfo",
    "StagedChunk",
    "StagedDocument",
    "Store",
    "TermFinder",
    "TermSpan",
    "TextKey",
    "VectorHits",
    "Version",
    "Writer",
    "check_free",
    "exists",
    "open_reader",
    "open_writer",
    "parse_filter",
    "read_info",
    "read_status",
    "read_version",
    "recall_warnings",
    "remove_documents",
    "search_on_one_core",
    "verify",
]
