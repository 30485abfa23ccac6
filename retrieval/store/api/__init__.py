"""The interface of every store: readers, writers, and functions that open an index."""

from retrieval.store.api.opening import (
    Store,
    check_free,
    exists,
    open_reader,
    open_writer,
    read_info,
    read_status,
    read_version,
    remove_documents,
    search_on_one_core,
    store_of,
    verify,
)
from retrieval.store.api.reader import Reader, TermFinder, Version
from retrieval.store.api.writer import Commit, Lookups, Writer

__all__ = [
    "Commit",
    "Lookups",
    "Reader",
    "Store",
    "TermFinder",
    "Version",
    "Writer",
    "check_free",
    "exists",
    "open_reader",
    "open_writer",
    "read_info",
    "read_status",
    "read_version",
    "remove_documents",
    "search_on_one_core",
    "store_of",
    "verify",
]
