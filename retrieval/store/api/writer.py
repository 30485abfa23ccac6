"""What every store offers to writers: look-ups, and commits that change an index."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

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
from retrieval.store.filters.language import Filter
from retrieval.store.records import KnownFile, Maintained, SegmentInfo, StagedDocument


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
