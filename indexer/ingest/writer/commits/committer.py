"""The thread that commits a collection's operations, and only it."""

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from indexer.ingest.writer.commits.gather import Committed, Gatherer, Waiting
from indexer.ingest.writer.commits.operations import Operation
from indexer.ingest.writer.embedding import Vector
from indexer.staging import Put, Stager, one_by_one
from retrieval.errors import (
    DiskFull,
    ForeignRoot,
    IndexLocked,
    ModelMismatch,
    NotAnIndex,
    StorageError,
    UserError,
)
from retrieval.store import Commit, Location, Writer, open_writer
from retrieval.store.durable_files import is_disk_full

if TYPE_CHECKING:
    from concurrent.futures import Future

    from retrieval.encoding.encoder import Embedded

LOG = logging.getLogger("retrieval.ingest")

_IDLE_SECONDS: Final = 60.0
"""Time without work after which the index's files are closed."""
CHARS_PER_TOKEN: Final = 4
"""About how many characters a token has; only the size of a slice depends on it."""


class Committer:
    """Thread that commits operations in groups."""

    def __init__(
        self,
        place: Location,
        embed: Callable[[Mapping[str, int]], "Future[Mapping[str, Vector]]"],
        seconds: float,
        *,
        opened: Callable[[Writer], None] = lambda _: None,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            place: the index.
            embed: embeds passages whose vectors another process has removed meanwhile; see
                ``Embedding.embed``.
            seconds: minimum time between two commits while other operations are coming.
            opened: called with each writer that is opened; it may raise an error for those who
                wait.
            committed: called in the thread after each commit.
        """
        self._place = place
        self._embed = embed
        self._opened = opened
        self._committed = committed
        self._gatherer = Gatherer(seconds)
        self._writer: Writer | None = None
        self._thread = Thread(target=self._run, name="commits")
        self._thread.start()

    def put(
        self, operation: Operation, vectors: Mapping[str, Vector] = MappingProxyType({})
    ) -> "Future[Committed]":
        """Commit an operation with others; see ``Gatherer.put``."""
        return self._gatherer.put(operation, vectors)

    def coming(self) -> AbstractContextManager[None]:
        """Say that an operation is being prepared; see ``Gatherer.coming``."""
        return self._gatherer.coming()

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        self._gatherer.close()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._gatherer.take(_IDLE_SECONDS)) is not None:
            if batch:
                self._commit(batch)
            else:
                self._close_writer()
        self._close_writer()

    def _commit(self, batch: Sequence[Waiting]) -> None:
        """Commit operations; if that fails because of one of them, commit each by itself."""
        try:
            outcomes, generation = self._make(batch)
        except Exception as error:  # noqa: BLE001 -- those who wait raise it
            self._close_writer()  # whatever state it is in
            if len(batch) > 1 and not _concerns_all(error):
                LOG.warning("a commit failed, and is made one by one: %s", error)
                for one in batch:
                    self._commit([one])
                return
            for one in batch:
                one.result.set_exception(_explained(error))
            return
        for one, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, UserError):
                one.result.set_exception(outcome)
            else:
                tokens = sum(vector.tokens for vector in one.vectors.values())
                one.result.set_result(Committed(outcome, generation, tokens))
        self._committed()

    def _make(self, batch: Sequence[Waiting]) -> tuple[list[object], int]:
        """Make one commit; return what became of each operation, and the generation."""
        if self._writer is not None and self._writer.is_replaced:
            self._close_writer()
        if self._writer is None:
            self._writer = open_writer(self._place, create=False, shared=True)
            self._opened(self._writer)
        commits: list[Commit] = []

        def write(commit: Commit, put: Put) -> list[object]:
            commits.append(commit)
            return [_outcome(one.operation, commit, put) for one in batch]

        documents = [document for one in batch for document in one.operation.documents]
        embed = one_by_one(partial(self._embedded, batch))
        outcomes = Stager(self._writer, embed).commit(documents, write)
        return outcomes, commits[-1].generation

    def _embedded(self, batch: Sequence[Waiting], texts: list[str]) -> "Embedded":
        """Return the vectors of texts, which are at hand but for rare cases."""
        from retrieval.encoding.encoder import Embedded  # loads torch

        vectors: dict[str, Vector] = {}
        for one in batch:
            vectors.update(one.vectors)
        if lacking := {text: len(text) // CHARS_PER_TOKEN for text in texts if text not in vectors}:
            vectors.update(self._embed(lacking).result())
        found = [vectors[text] for text in texts]
        return Embedded(
            np.stack([one.vector for one in found]),
            [one.tokens for one in found],
            [one.truncated for one in found],
        )

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _outcome(operation: Operation, commit: Commit, put: Put) -> object:
    """Carry out an operation; return the error if its conditions don't hold."""
    try:
        operation.check(commit)
    except UserError as error:
        return error
    try:
        return operation.apply(commit, put)
    except ForeignRoot as error:  # before any change
        return error


def _concerns_all(error: Exception) -> bool:
    """Whether a commit failed for a reason that concerns all of its operations."""
    if isinstance(error, IndexLocked | ModelMismatch | NotAnIndex):
        return True
    # SQLite reports a value that is too large as a DataError; that is one document's fault.
    return isinstance(error, StorageError) and not isinstance(error.__cause__, sqlite3.DataError)


def _explained(error: Exception) -> Exception:
    """Return the error to raise for a commit that failed: a full disk is an error of its own."""
    if isinstance(error, StorageError) and is_disk_full(error.__cause__):
        return DiskFull(error.message, **error.metadata)
    return error
