"""The thread that commits a collection's operations, and only it."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from indexer.ingest.writer.commits.gather import Committed, Gatherer, Waiting
from indexer.ingest.writer.commits.operations import Operation
from indexer.staging import Put, Stager
from retrieval.errors import ForeignRoot, IndexLocked, StorageError, UserError
from retrieval.store import Commit, Writer, open_writer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from retrieval.encoding.encoder import Embedded

LOG = logging.getLogger("retrieval.ingest")

_IDLE_SECONDS: Final = 60.0
"""Time without work after which the index's files are closed."""


class Committer:
    """Thread that commits operations in groups."""

    def __init__(
        self,
        folder: Path,
        embed: "Callable[[list[str]], Embedded]",
        seconds: float,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            folder: the index.
            embed: embeds passages.
            seconds: minimum time between two commits.
            committed: called in the thread after each commit.
        """
        self._folder = folder
        self._embed = embed
        self._committed = committed
        self._gatherer = Gatherer(seconds)
        self._writer: Writer | None = None
        self._tokens: dict[str, int] = {}
        """Number of tokens of each text that was embedded for the present commit."""
        self._thread = Thread(target=self._run, name="commits")
        self._thread.start()

    def put(self, operation: Operation) -> "Future[Committed]":
        """Commit an operation with others; return what becomes of it."""
        return self._gatherer.put(operation)

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
            if len(batch) > 1 and not _is_refusal_of_the_disk(error):
                LOG.warning("a commit failed, and is made one by one: %s", error)
                for one in batch:
                    self._commit([one])
                return
            for one in batch:
                one.result.set_exception(error)
            return
        for one, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, UserError):
                one.result.set_exception(outcome)
            else:
                tokens = self._tokens_of(one)
                one.result.set_result(Committed(outcome, generation, tokens))
        self._committed()

    def _make(self, batch: Sequence[Waiting]) -> tuple[list[object], int]:
        """Make one commit; return what became of each operation, and the generation."""
        if self._writer is None:
            self._writer = open_writer(self._folder, create=False, shared=True)
        self._tokens.clear()
        commits: list[Commit] = []

        def write(commit: Commit, put: Put) -> list[object]:
            commits.append(commit)
            return [_outcome(one.operation, commit, put) for one in batch]

        documents = [document for one in batch for document in one.operation.documents]
        outcomes = Stager(self._writer, self._embed_and_count).commit(documents, write)
        return outcomes, commits[-1].generation

    def _embed_and_count(self, texts: list[str]) -> "Embedded":
        embedded = self._embed(texts)
        self._tokens.update(zip(texts, embedded.token_counts, strict=True))
        return embedded

    def _tokens_of(self, one: Waiting) -> int:
        """Return how many tokens were embedded for an operation; each text counts once."""
        documents = one.operation.documents
        return sum(self._tokens.pop(text, 0) for document in documents for text in document.texts)

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


def _is_refusal_of_the_disk(error: Exception) -> bool:
    """Whether a commit failed for a reason that concerns all of its operations."""
    if isinstance(error, IndexLocked):
        return True
    # SQLite reports a value that is too large as a DataError; that is one document's fault.
    return isinstance(error, StorageError) and not isinstance(error.__cause__, sqlite3.DataError)
