"""What every store offers, and how an index is opened: by its location.

A folder is read and written by the store on disk (``store.disk``). The scheme of any other location
names its store, which is imported only then. A store is a class that satisfies ``Store``; mypy
proves it where ``_STORES`` names it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import Hit, Passage, SectionText
from retrieval.domain.records import (
    ChunkSettings,
    ContainerStamp,
    DocumentRow,
    IndexInfo,
    ModelIdentity,
    RootInfo,
    Skipped,
    SourceFile,
)
from retrieval.errors import InvalidArgument
from retrieval.store.filters.language import Filter
from retrieval.store.location import Location, LocationLike
from retrieval.store.records import (
    DocumentPassage,
    IndexStatus,
    KnownFile,
    LexicalHits,
    Maintained,
    PassageKey,
    Problem,
    SectionSpan,
    SegmentInfo,
    StagedDocument,
    TermSpan,
    TextKey,
    VectorHits,
)

Version = Hashable
"""Tells one generation of one index from any other; equal for the same generation only."""


class TermFinder(Protocol):
    """Finds the terms of one query in texts, as the lexical index would."""

    def find(self, text: str) -> list[TermSpan]:
        """Return every place of a term, in order; places may overlap."""
        ...


class Reader(Protocol):
    """One generation of an index; a context manager, safe to share between threads.

    Methods that take long end with DeadlinePassed when nobody waits for them any more
    (``retrieval.domain.deadline``), and raise IndexDamaged where the index is not what was written.
    """

    @property
    def info(self) -> IndexInfo:
        """What the index is and holds."""
        ...

    @property
    def version(self) -> Version:
        """What ``read_version`` gave when the reader was opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Let go of the generation."""
        ...

    # Filters.

    def knows(self, filter_text: str) -> bool:
        """Whether a filter was evaluated lately, so that a search with it need not do that."""
        ...

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter, and remember the result for searches with it."""
        ...

    def unknown_fields(self, filter: Filter) -> dict[str, str]:
        """Return the metadata fields of a filter that no document has.

        Returns:
            field → the closest name of a field that documents have; empty where none is close.
        """
        ...

    # Vectors.

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
        ...

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors, best first; equal scores in order of vector id.

        Args:
            queries: float32 [n, dim], L2-normalised.
            k: how many, ≥ 1.
            filter: only vectors of documents that pass this filter.
            exact: look at every vector, also where there is an approximate index.

        Raises:
            InvalidArgument: queries of another shape.
        """
        ...

    def score_vectors(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the inner products, float32 [m], of a query [dim] and vectors of the index [m]."""
        ...

    def vectors(self, vector_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return vectors of the index, float32 [n, dim]."""
        ...

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """Return a passage's own vector, float32 [dim].

        Raises:
            NotFound: no such document or passage.
        """
        ...

    def average_score(self, query: NDArray[np.float32]) -> float:
        """Return a query's inner product with an average vector, estimated from a sample."""
        ...

    # Words. All of these raise NoLexicalIndex where ``has_lexical_index`` is false.

    @property
    def has_lexical_index(self) -> bool:
        """Whether the index can be searched by words."""
        ...

    def search_lexical(self, text: str, k: int, *, filter: Filter | None = None) -> LexicalHits:
        """Find the texts that fit the words of a query best.

        Args:
            text: the query, see ``retrieval.store.lexical.query``.
            k: how many, ≥ 1.
            filter: only texts of documents that pass this filter.

        Returns:
            at most k; texts with none of the words are left out.
        """
        ...

    def score_texts_of_vectors(
        self,
        text: str,
        vector_ids: NDArray[np.int64],
        most: int | None = None,
        *,
        filter: Filter | None = None,
    ) -> LexicalHits:
        """Score the texts of given vectors; see ``search_lexical``.

        Args:
            text: the query.
            vector_ids: int64 [m].
            most: how many texts of each vector, the best of it; None for all.
            filter: only texts of documents that pass this filter.
        """
        ...

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, filter: Filter | None = None
    ) -> LexicalHits:
        """Score given texts, int64 [m]; see ``search_lexical``."""
        ...

    def lexical_warnings(self, text: str) -> tuple[str, ...]:
        """Say which limits a lexical query exceeds, in sentences without a full stop."""
        ...

    def term_finder(self, text: str) -> TermFinder:
        """Return what finds the terms of a query in passages."""
        ...

    # Where texts stand.

    def first_places(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        filter: Filter | None = None,
        *,
        named: Sequence[TextKey] | None = None,
    ) -> list[list[list[PassageKey]]]:
        """Return the first passages that have the texts of some groups, in order of indexing.

        Args:
            groups: texts in order.
            limit: how many passages of each group are wanted.
            filter: only passages of documents that pass this filter.
            named: all texts that are listed; None for those of the groups.

        Returns:
            for each group the passages of its first texts, as far as it takes to have ``limit``;
            those of the last text may be cut after the ``limit`` th.
        """
        ...

    def count_places(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], filter: Filter | None = None
    ) -> list[int]:
        """Count the passages that have each of some texts; see ``first_places``."""
        ...

    def passages_of_documents(
        self, document_ids: Sequence[int]
    ) -> dict[int, list[DocumentPassage]]:
        """Return the passages of each document, in order."""
        ...

    # Passages.

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """Read the passages that a search has found, in its order.

        Raises:
            NotFound: no such document or passage.
        """
        ...

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """Read one passage.

        Raises:
            NotFound: no such document or passage.
        """
        ...

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """Read the passages around one, in order, itself left out.

        Raises:
            NotFound: no such document or passage.
        """
        ...

    def neighbours_of(
        self, places: Sequence[PassageKey], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """Read the passages around each of some that exist; see ``neighbours``."""
        ...

    def section_spans(self, places: Sequence[PassageKey], most_chars: int) -> list[SectionSpan]:
        """Find how far the section around each of some passages goes.

        Args:
            places: the passages.
            most_chars: length that a span stays within; the passage itself is always in it.

        Raises:
            NotFound: no such document or passage.
        """
        ...

    def sections(self, spans: Sequence[tuple[int, SectionSpan]]) -> list[SectionText]:
        """Read the texts of some spans, each given with the id of its document."""
        ...

    def sample_places(self, count: int) -> list[PassageKey]:
        """Return some passages, spread evenly over the index."""
        ...

    # Documents.

    def document(self, document_id: int) -> DocumentRow:
        """Return one document.

        Raises:
            NotFound: no such document.
        """
        ...

    def document_by_uri(self, uri: str) -> DocumentRow:
        """Return one document by its URI.

        Raises:
            NotFound: no such document.
        """
        ...

    def document_text(self, document_id: int) -> str:
        """Read a document's whole text.

        Raises:
            NotFound: no such document.
        """
        ...

    def documents(self, limit: int, after_uri: str = "") -> list[DocumentRow]:
        """Return up to ``limit`` documents in order of URI, those after a given one."""
        ...

    def skipped(self) -> list[Skipped]:
        """Return every file that the last builds left out, in order of URI."""
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return the parts of the vectors, oldest first."""
        ...


class Commit(Protocol):
    """What one transaction changes; from ``Writer.commit``."""

    def add_vectors(
        self, content_keys: Sequence[bytes], vectors: NDArray[np.float32], truncated: Sequence[bool]
    ) -> list[int]:
        """Add vectors.

        Args:
            content_keys: n distinct keys that the index does not hold yet: the SHA-256 (32 bytes)
                of each text in UTF-8, which a reader checks texts against.
            vectors: float32 [n, dim], L2-normalised.
            truncated: whether each text was longer than the model takes.

        Returns:
            the vectors' ids, in order.
        """
        ...

    def put_document(self, staged: StagedDocument) -> int:
        """Add a document, or replace the one of the same URI, which keeps its id; return the id."""
        ...

    def touch_document(self, document_id: int, source: SourceFile) -> None:
        """Note the new modification times where no content changed."""
        ...

    def remove_document(self, uri: str) -> None:
        """Take a document out of the index, its text and chunks with it."""
        ...

    def remove_under(self, uri: str) -> list[str]:
        """Take a document out of the index, and all documents under it where it is a folder.

        Returns:
            the URIs of what was removed, in order.
        """
        ...

    def set_root(
        self,
        root: RootInfo,
        skipped: Sequence[Skipped],
        containers: Mapping[str, ContainerStamp],
    ) -> None:
        """Note where a root lies, and what is under it beside documents, replacing what was before.

        Args:
            root: its name, where it lies and how its files were chosen.
            skipped: the files that were left out.
            containers: URI → stamp of those that were read to their end.
        """
        ...

    def set_language(self, language: str) -> None:
        """Say which language the texts are in, a key of ``LANGUAGES`` or ``NO_LANGUAGE``."""
        ...

    def set_index_type(self, index_type: str, target_recall: float) -> None:
        """Say how vectors are to be searched from now on; ``Writer.maintain`` sees to it."""
        ...


class Writer(Protocol):
    """The one writer of an index; a context manager that holds the writer's lock.

    Its methods raise StorageError where the store refuses, and IndexDamaged where the index is not
    what was written.
    """

    @property
    def info(self) -> IndexInfo | None:
        """What the index is and holds; None until ``set_model`` was called once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Release the lock; what was not committed is gone."""
        ...

    def set_model(self, model: ModelIdentity, chunking: ChunkSettings, language: str) -> None:
        """Say what the index is made with; model and chunking can't be changed from then on.

        Args:
            model: what embeds its texts.
            chunking: how documents are cut.
            language: of the texts, where the index is new.

        Raises:
            ModelMismatch: the index was made with another model or other chunk settings.
        """
        ...

    def roots(self) -> dict[str, RootInfo]:
        """Return every root that was ever indexed here, by name."""
        ...

    def known_files(self, root: str) -> dict[str, KnownFile]:
        """Return URI → what is remembered, for every document under a root."""
        ...

    def skipped(self, root: str) -> list[Skipped]:
        """Return what was skipped under a root when it was last indexed, in order of URI."""
        ...

    def containers(self, root: str) -> dict[str, ContainerStamp]:
        """Return URI → stamp of every container under a root that was read to its end."""
        ...

    def find_vectors(self, content_keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return content key → vector id, for those texts that have a vector already."""
        ...

    def truncated_chunks(self) -> int:
        """Count the chunks in the index that were longer than the model takes."""
        ...

    def commit(self) -> AbstractContextManager[Commit]:
        """Stage changes; leaving the block commits them all, an exception none of them."""
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return the parts of the vectors, oldest first."""
        ...

    def maintain(self) -> Maintained:
        """Do what is due after a build: merge, drop, index or tune; most of the time nothing."""
        ...

    def compact(self) -> Maintained:
        """Drop every vector that no chunk uses, and index all others anew."""
        ...


class Store(Protocol):
    """Where indexes are kept."""

    def exists(self, location: Location) -> bool:
        """See ``exists``."""
        ...

    def check_free(self, location: Location) -> None:
        """See ``check_free``."""
        ...

    def read_info(self, location: Location) -> IndexInfo:
        """See ``read_info``."""
        ...

    def read_status(self, location: Location) -> IndexStatus:
        """See ``read_status``."""
        ...

    def read_version(self, location: Location) -> Version:
        """See ``read_version``."""
        ...

    def open_reader(self, location: Location, before: Reader | None) -> Reader:
        """See ``open_reader``."""
        ...

    def open_writer(self, location: Location, *, create: bool) -> Writer:
        """See ``open_writer``."""
        ...

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``verify``."""
        ...


def _disk() -> Store:
    from retrieval.store.disk.store import DiskStore  # loads FAISS and tantivy

    return DiskStore()


_STORES: Final[Mapping[str, Callable[[], Store]]] = {"": _disk}
"""Scheme → its store; each is imported when the first location of its scheme is opened."""


def store_of(location: Location) -> Store:
    """Return the store that keeps an index.

    Raises:
        InvalidArgument: there is no store for the location's scheme.
    """
    make = _STORES.get(location.scheme)
    if make is None:
        known = ", ".join(f"{scheme}://" for scheme in _STORES if scheme)
        raise InvalidArgument(
            f"{location}: this version has no store for {location.scheme}://; an index is a folder"
            + (f", or an address that begins with one of {known}" if known else ""),
            field="index",
        )
    return make()


def exists(location: LocationLike) -> bool:
    """Whether there is an index (which may still be unusable).

    Raises:
        StorageError: the store can't be looked into.
    """
    at = Location.parse(location)
    return store_of(at).exists(at)


def check_free(location: LocationLike) -> None:
    """Refuse a location where no index is and none can be made; nothing is changed.

    Raises:
        NotAnIndex: something else is there.
        StorageError: the store can't be looked into.
    """
    at = Location.parse(location)
    store_of(at).check_free(at)


def read_info(location: LocationLike) -> IndexInfo:
    """Read what an index is and holds.

    Raises:
        NotAnIndex: there is none, or nothing was committed yet.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: it is malformed.
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    return store_of(at).read_info(at)


def read_status(location: LocationLike) -> IndexStatus:
    """Read all that an index says of itself, in one snapshot.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_status(at)


def read_version(location: LocationLike) -> Version:
    """Read which generation of which index is there now; cheap enough to ask every second.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_version(at)


def open_reader(location: LocationLike, *, before: Reader | None = None) -> Reader:
    """Open the last committed generation of an index. A build may go on beside it.

    Args:
        location: the index.
        before: a reader of another generation, open or closed: what both have in common is neither
            read again nor twice in memory.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_reader(at, before)


def open_writer(location: LocationLike, *, create: bool = True) -> Writer:
    """Open an index for writing; what an interrupted run left behind is removed.

    Args:
        location: the index.
        create: whether to make one where there is none.

    Raises:
        NotAnIndex: something else is there, or nothing and ``create`` is false.
        IndexLocked: another process is writing it.
        IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_writer(at, create=create)


def verify(location: LocationLike) -> Iterator[Problem]:
    """Check every byte of an index's last commit; it may be written meanwhile.

    Yields:
        what is wrong; nothing if all is well.

    Raises:
        NotAnIndex, IndexVersionError, StorageError: there is nothing to check.
    """
    at = Location.parse(location)
    return store_of(at).verify(at)


def remove_documents(location: LocationLike, uris: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take documents out of an index, in one commit.

    Args:
        location: the index.
        uris: of documents, or of folders with documents in them.

    Returns:
        the URIs of the documents that were removed, and the given ones that named none.

    Raises:
        NotAnIndex: there is none.
        IndexLocked: another process is writing it.
    """
    removed: list[str] = []
    missing: list[str] = []
    with open_writer(location, create=False) as writer:
        with writer.commit() as commit:
            for uri in uris:
                found = commit.remove_under(uri.rstrip("/"))
                removed += found
                missing += [] if found else [uri]
        writer.maintain()
    return removed, missing


def search_on_one_core() -> None:
    """Have searches of the calling thread use no core but its own.

    Where many threads search, cores that help each other wait for each other.
    """
    from retrieval.store.disk.files.vector_file import search_on_one_core as on_one_core

    on_one_core()
