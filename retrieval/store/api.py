"""The interface of every store, and functions that open an index by its location.

The store on disk (``store.disk``) reads and writes folders. Any other location has a scheme that
names its store, which is imported on first use. A store is a class that satisfies ``Store``; mypy
checks that in ``_STORES``.
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
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    IndexInfo,
    ModelIdentity,
    RootInfo,
    Skipped,
    SourceFile,
    TextPart,
    TextRange,
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
"""Identifies one generation of one index; equal only for the same generation."""


class TermFinder(Protocol):
    """Finds the terms of one query in texts with the analyzers of the lexical index."""

    def find(self, text: str) -> list[TermSpan]:
        """Return the span of every term in order; spans may overlap."""
        ...


class Reader(Protocol):
    """One generation of an index; a context manager, safe to share between threads.

    Slow methods raise DeadlinePassed when no client waits for them any more
    (``retrieval.domain.deadline``). Any method raises IndexDamaged if it finds a damaged part.
    """

    @property
    def info(self) -> IndexInfo:
        """Description and counts of the index."""
        ...

    @property
    def version(self) -> Version:
        """The result of ``read_version`` when the reader was opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Release the generation."""
        ...

    # Filters.

    def knows(self, filter_text: str) -> bool:
        """Whether the result of a filter is cached, so a search need not evaluate it."""
        ...

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter and cache the result for searches."""
        ...

    def unknown_fields(self, filter: Filter) -> dict[str, str]:
        """Return the metadata fields of a filter that no document has.

        Returns:
            for each unknown field the closest name of an existing one, or empty if none is close.
        """
        ...

    # Vectors.

    @property
    def is_exact(self) -> bool:
        """Whether every search is exact because there is no approximate index."""
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
            k: maximum number of results for each query, ≥ 1.
            filter: if given, find only vectors of documents that pass this filter.
            exact: score every vector, even if there is an approximate index.

        Raises:
            InvalidArgument: the queries have another shape.
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
            NotFound: the document or the passage does not exist.
        """
        ...

    def average_score(self, query: NDArray[np.float32]) -> float:
        """Return a query's inner product with an average vector, estimated from a sample."""
        ...

    # Words. All of these methods raise NoLexicalIndex if ``has_lexical_index`` is false.

    @property
    def has_lexical_index(self) -> bool:
        """Whether the index can be searched by words."""
        ...

    def search_lexical(self, text: str, k: int, *, filter: Filter | None = None) -> LexicalHits:
        """Find the texts that match the words of a query best.

        Args:
            text: the query; see ``retrieval.store.lexical.query``.
            k: maximum number of texts, ≥ 1.
            filter: if given, find only texts of documents that pass this filter.

        Returns:
            at most k texts; texts with none of the words are left out.
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
            vector_ids: ids of the vectors, int64 [m].
            most: maximum number of texts for each vector, the best first; None for all.
            filter: if given, score only texts of documents that pass this filter.
        """
        ...

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, filter: Filter | None = None
    ) -> LexicalHits:
        """Score given texts, int64 [m]; see ``search_lexical``."""
        ...

    def lexical_warnings(self, text: str) -> tuple[str, ...]:
        """Return a sentence without a full stop for each limit that a lexical query exceeds."""
        ...

    def term_finder(self, text: str) -> TermFinder:
        """Return a finder for the terms of a query in passages."""
        ...

    # Places of texts.

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
            groups: groups of texts, each in order.
            limit: maximum number of passages for each group.
            filter: if given, return only passages of documents that pass this filter.
            named: all texts of the ranking; None if these are the texts of the groups.

        Returns:
            for each group, the passages of its first texts until there are ``limit`` of them.
            Texts after that are left out.
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
            NotFound: a document or passage does not exist.
        """
        ...

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """Read one passage.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        ...

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """Read the passages around a given one, in order and without it.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        ...

    def neighbours_of(
        self, places: Sequence[PassageKey], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """Read the passages around each given one, which must exist; see ``neighbours``."""
        ...

    def section_spans(self, places: Sequence[PassageKey], most_chars: int) -> list[SectionSpan]:
        """Find the span of the section around each of some passages.

        Args:
            places: the passages.
            most_chars: maximum length of a span, unless the passage itself is longer.

        Raises:
            NotFound: a document or passage does not exist.
        """
        ...

    def sections(self, spans: Sequence[tuple[int, SectionSpan]]) -> list[SectionText]:
        """Read the texts of spans; each span comes with the id of its document."""
        ...

    def sample_places(self, count: int) -> list[PassageKey]:
        """Return some passages, spread evenly over the index."""
        ...

    # Documents.

    def document(self, document_id: int) -> DocumentRow:
        """Return one document.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def document_by_uri(self, uri: str) -> DocumentRow:
        """Return one document by its URI.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def document_text(self, document_id: int) -> str:
        """Read a document's whole text.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def text_part(
        self, document_id: int, asked: TextRange, most_chars: int | None = None
    ) -> TextPart:
        """Read a part of a document's text.

        Args:
            document_id: the document.
            asked: the range; what lies beyond the text is empty.
            most_chars: maximum number of characters, ≥ 1; None for no limit. A longer range of
                characters is cut there, and a longer range of lines after its last whole line,
                unless its first line alone is too long.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def documents(
        self, limit: int, after_uri: str = "", filter: Filter | None = None
    ) -> list[DocumentRow]:
        """Return up to ``limit`` documents after a URI, in order of URI.

        Args:
            limit: maximum number of documents.
            after_uri: the URI; empty to begin with the first document.
            filter: if given, return only documents that pass this filter.
        """
        ...

    def count_documents(self, filter: Filter | None = None) -> DocumentCounts:
        """Count the documents that pass a filter, or all of them, and their passages."""
        ...

    def skipped(self, limit: int | None = None, after_uri: str = "") -> list[Skipped]:
        """Return files that the last builds left out, in order of URI; see ``documents``."""
        ...

    def skip_counts(self) -> dict[str, int]:
        """Return the numbers of files that the last builds left out, by reason."""
        ...

    def fields(self) -> list[FieldInfo]:
        """Return the fields that filters can compare: the built-in ones, then those of metadata."""
        ...

    def field_values(self, name: str, containing: str, limit: int) -> list[FieldValue]:
        """Return values of a field, the most frequent first, and equally frequent ones by text.

        Args:
            name: the field as a filter names it.
            containing: a part of the values, in any case; empty for all.
            limit: maximum number of values.

        Raises:
            InvalidArgument: the name is malformed, or values of the field are not listed.
        """
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return the parts of the vectors, oldest first."""
        ...


class Lookups(Protocol):
    """What a writer looks up in the newest generation, and a commit also in its own changes.

    Between two commits of a writer, others may change all of it.
    """

    @property
    def info(self) -> IndexInfo | None:
        """Description and counts of the index; None until ``set_model`` was called once."""
        ...

    def newest_generation(self) -> int:
        """Return the number of the newest generation; 0 before the first."""
        ...

    def roots(self) -> dict[str, RootInfo]:
        """Return every root that was ever indexed or written, by name."""
        ...

    def root(self, name: str) -> RootInfo | None:
        """Return one root; None if nothing was ever indexed or written there."""
        ...

    def known_files(self, root: str) -> dict[str, KnownFile]:
        """Return the records of all documents under a root, by URI."""
        ...

    def known_file(self, uri: str) -> KnownFile | None:
        """Return the record of one document; None if there is no such document."""
        ...

    def document_row(self, uri: str) -> DocumentRow | None:
        """Return a document without its text; None if there is no such document."""
        ...

    def pushed_container(self, uri: str) -> tuple[str, ContainerStamp] | None:
        """Return the container that a URI is, or that it lies in, with its stamp; None if none.

        Only containers that were written over the API count.
        """
        ...

    def skipped_in(self, uri: str) -> list[Skipped]:
        """Return what was skipped of a container, itself included, in order of URI."""
        ...

    def count_built(self, prefix: str = "", filter: Filter | None = None) -> int:
        """Count the documents that come from builds; see ``pushed_documents``."""
        ...

    def pushed_documents(self, prefix: str = "", filter: Filter | None = None) -> list[str]:
        """Return the URIs of documents in pushed roots, in order.

        Args:
            prefix: start of the URIs; empty for all.
            filter: if given, return only documents that pass this filter.
        """
        ...

    def skipped(self, root: str) -> list[Skipped]:
        """Return the files that the last build skipped under a root, in order of URI."""
        ...

    def containers(self, root: str) -> dict[str, ContainerStamp]:
        """Return the stamps of what need not be read again under a root, by URI."""
        ...

    def find_vectors(self, content_keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the vector ids of the texts that have a vector already, by content key."""
        ...

    def truncated_chunks(self, document_id: int | None = None) -> int:
        """Count the chunks that were longer than the model takes.

        Args:
            document_id: the document; None for the whole index.
        """
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return the parts of the vectors, oldest first."""
        ...


class Commit(Lookups, Protocol):
    """One transaction's changes; made by ``Writer.commit``.

    No other writer commits while it is open, so what is looked up in it stays true.
    """

    @property
    def generation(self) -> int:
        """Number of the generation that this commit makes.

        After a commit without changes, it is the number of the newest generation.
        """
        ...

    def add_vectors(
        self, content_keys: Sequence[bytes], vectors: NDArray[np.float32], truncated: Sequence[bool]
    ) -> list[int]:
        """Add vectors.

        Args:
            content_keys: n distinct keys that the index does not hold yet: the SHA-256 (32 bytes)
                of each text in UTF-8. Readers check texts against it.
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
        """Record a document's new modification times when its content has not changed."""
        ...

    def remove_document(self, uri: str) -> bool:
        """Remove a document with its text and chunks; return whether there was one."""
        ...

    def remove_under(self, uri: str) -> list[str]:
        """Remove a document, or all documents in a folder or container.

        Returns:
            the URIs of the removed documents, in order.
        """
        ...

    def remove_documents(self, uris: Iterable[str]) -> None:
        """Remove documents that were written over the API; forget containers that are empty then.

        Args:
            uris: URIs of documents; others are passed over.
        """
        ...

    def put_container(
        self, uri: str, root: str, stamp: ContainerStamp | None, skipped: Sequence[Skipped] = ()
    ) -> None:
        """Record a container that was written over the API, such as an archive.

        Args:
            uri: of the container; its documents are at and below this URI.
            root: name of its root.
            stamp: what it is recognised by; None to forget it.
            skipped: its parts that are not indexed, in place of those recorded before.
        """
        ...

    def claim_root(self, root: RootInfo) -> None:
        """Record a root unless it is recorded already.

        Documents of a root come either from builds or over the API. Whoever adds documents claims
        their root in the same commit.

        Args:
            root: a root of a build, or a pushed one (see ``RootInfo.is_pushed``).

        Raises:
            ForeignRoot: the index has a root of this name that is written the other way.
        """
        ...

    def set_root(
        self,
        root: RootInfo,
        skipped: Sequence[Skipped],
        containers: Mapping[str, ContainerStamp],
    ) -> None:
        """Record a root with its skipped files and containers, replacing its earlier record.

        Args:
            root: name and path of the root, and how its files were chosen.
            skipped: the files that were left out.
            containers: stamps by URI of what need not be read again while it stays as it is.

        Raises:
            ForeignRoot: the index has a root of this name that is written the other way.
        """
        ...

    def set_language(self, language: str) -> None:
        """Set the language of the texts, a key of ``LANGUAGES`` or ``NO_LANGUAGE``."""
        ...

    def set_index_type(self, index_type: str, target_recall: float) -> None:
        """Set how vectors are to be searched; the next ``Writer.maintain`` puts it into effect."""
        ...


class Writer(Lookups, Protocol):
    """A writer of an index; a context manager. Only one thread may use it.

    A writer that is not shared excludes others that are not shared as long as it is open. Commits
    of all writers take turns.

    Any method raises StorageError if the store can't be read or written, and IndexDamaged if it
    finds a damaged part.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @property
    def is_replaced(self) -> bool:
        """Whether another index, or none, is by now in the place of the one that was opened."""
        ...

    def close(self) -> None:
        """Release all locks and discard uncommitted changes."""
        ...

    def set_model(self, model: ModelIdentity, chunking: ChunkSettings, language: str) -> None:
        """Set the model and the chunk settings of a new index; they can't be changed later.

        Args:
            model: the model that embeds the texts.
            chunking: how documents are cut into chunks.
            language: language of the texts; only used if the index is new.

        Raises:
            ModelMismatch: the index was made with another model or other chunk settings.
        """
        ...

    def commit(self) -> AbstractContextManager[Commit]:
        """Stage changes; leaving the block commits all of them, or none after an exception.

        A commit waits until no other writer commits. What was read before it may have changed by
        then, so look it up again in the commit. A commit without changes makes no generation.

        Raises:
            IndexLocked: another writer did not finish its commit; nothing was changed.
        """
        ...

    def maintain(self) -> Maintained:
        """Merge, drop, index or tune vectors if that is due; usually it is not."""
        ...

    def compact(self) -> Maintained:
        """Drop every vector that no chunk uses, and rebuild the index of all others."""
        ...


class Store(Protocol):
    """A place that keeps indexes."""

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

    def open_writer(self, location: Location, *, create: bool, shared: bool) -> Writer:
        """See ``open_writer``."""
        ...

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``verify``."""
        ...


def _disk() -> Store:
    from retrieval.store.disk.store import DiskStore  # loads FAISS and tantivy

    return DiskStore()


def _lake() -> Store:
    try:
        from retrieval.store.lake.store import LakeStore  # loads Lance and Arrow
    except ModuleNotFoundError as error:
        if error.name not in ("lance", "pyarrow"):
            raise
        raise InvalidArgument(
            "an index at lance://… needs the package pylance: install gte-retrieval[lake]",
            field="index",
        ) from error
    return LakeStore()


_STORES: Final[Mapping[str, Callable[[], Store]]] = {"": _disk, "lance": _lake}
"""Stores by scheme; each is imported when the first location with its scheme is opened."""


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
    """Whether there is an index, even an unusable one.

    Raises:
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    return store_of(at).exists(at)


def check_free(location: LocationLike) -> None:
    """Refuse a location that has no index and where none can be created; change nothing.

    Raises:
        NotAnIndex: the location holds something else.
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    store_of(at).check_free(at)


def read_info(location: LocationLike) -> IndexInfo:
    """Read an index's description and counts.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the index is malformed.
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    return store_of(at).read_info(at)


def read_status(location: LocationLike) -> IndexStatus:
    """Read everything that an index records about itself, in one snapshot.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_status(at)


def read_version(location: LocationLike) -> Version:
    """Read which generation of which index is there now; cheap enough to call every second.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_version(at)


def open_reader(location: LocationLike, *, before: Reader | None = None) -> Reader:
    """Open the last committed generation of an index; a build may run at the same time.

    Args:
        location: the index.
        before: reader of another generation, open or closed. Parts that both generations have are
            shared instead of read again.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_reader(at, before)


def open_writer(location: LocationLike, *, create: bool = True, shared: bool = False) -> Writer:
    """Open an index for writing, and remove what an interrupted run left behind.

    Args:
        location: the index.
        create: whether to create the index if it does not exist.
        shared: whether others may write between this writer's commits: any number of shared writers
            and one that is not, such as a build.

    Raises:
        NotAnIndex: the location holds something else, or no index although ``create`` is false.
        IndexLocked: another process builds the index (only if ``shared`` is false), or does not
            finish its commit.
        IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_writer(at, create=create, shared=shared)


def verify(location: LocationLike) -> Iterator[Problem]:
    """Check every byte of an index's last commit; a build may run at the same time.

    Yields:
        each problem found.

    Raises:
        NotAnIndex, IndexVersionError, StorageError: the index can't be opened at all.
    """
    at = Location.parse(location)
    return store_of(at).verify(at)


def remove_documents(location: LocationLike, uris: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove documents from an index in one commit.

    Args:
        location: the index.
        uris: URIs of documents, or of folders that contain documents.

    Returns:
        the URIs of the removed documents, and the given URIs that matched no document.

    Raises:
        NotAnIndex: there is no index.
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
    """Make searches of the calling thread use a single core.

    When many threads search at once, spreading each search over several cores makes them wait for
    each other.
    """
    from retrieval.store.disk.files.vector_file import search_on_one_core as on_one_core

    on_one_core()
