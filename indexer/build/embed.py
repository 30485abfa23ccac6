"""Gather the documents of a build into windows; embed and commit each window."""

from collections.abc import Sequence
from typing import Final

from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.build.site import Workers
from indexer.readers.messages import Parsed
from indexer.staging import Prepared, Put, Slice, Stager, prepare
from retrieval.domain.records import RootInfo
from retrieval.store import Commit, Writer

WINDOW_CHUNKS: Final = 1024
"""Number of chunks to gather before embedding them: enough for batches of similar lengths."""

WINDOW_CHARS: Final = 16 << 20
"""Number of characters to gather at most before embedding: bounds memory."""

MAX_WINDOWS: Final = 8
"""The window grows with the number of workers up to this factor, so that few of them wait at its
end: with 1024 chunks of 512 tokens for each, it is 32 slices of work for a worker."""


class Embedder:
    """Embeds documents window by window, and commits each window."""

    def __init__(
        self,
        workers: Workers,
        writer: Writer,
        roots: Sequence[RootInfo],
        report: BuildReport,
        progress: BuildProgress,
        *,
        context: bool = False,
    ) -> None:
        """Start with an empty window.

        Args:
            workers: embed the texts.
            writer: receives the commits.
            roots: the roots of the build.
            report: receives the counts.
            progress: receives every step.
            context: as in ``ChunkSettings``.
        """
        self._stager = Stager(writer, workers.embed, self._count)
        self._workers = workers
        self._roots = roots
        self._report = report
        self._progress = progress
        self._context = context
        self._window: list[Prepared] = []
        self._window_chunks = self._window_chars = 0
        self._window_size = self._window_files = 0

    def add(self, parsed: Parsed) -> None:
        """Add a document; embed and commit the window if it is full."""
        one = prepare(
            parsed.document, parsed.source, parsed.sha256, parsed.chunks, context=self._context
        )
        self._window.append(one)
        self._window_chunks += len(one.keys)
        self._window_chars += len(parsed.document.text)
        self._window_size += parsed.consumed
        # A container is counted as a file once all of it is read.
        self._window_files += not parsed.source.container
        scale = min(self._workers.count, MAX_WINDOWS)
        if (
            self._window_chunks >= WINDOW_CHUNKS * scale
            or self._window_chars >= WINDOW_CHARS * scale
        ):
            self.flush()

    def flush(self) -> None:
        """Embed and commit the window."""
        if not self._window:
            return
        before = self._report.chunks_embedded
        self._stager.commit(self._window, self._write)
        embedded = self._report.chunks_embedded - before
        self._report.chunks_reused += self._window_chunks - embedded
        size = 0 if embedded else self._window_size
        self._progress.advance(files=self._window_files, size=size)
        self._window = []
        self._window_chunks = self._window_chars = 0
        self._window_size = self._window_files = 0

    def _write(self, commit: Commit, put: Put) -> None:
        for root in self._roots:
            commit.claim_root(root)
        for one in self._window:
            put(one)

    def _count(self, done: Slice) -> None:
        """Add a slice to the counts."""
        self._report.model_seconds += done.seconds
        self._report.chunks_embedded += done.texts
        self._report.tokens_embedded += done.tokens
        size = self._window_size * done.share
        self._progress.advance(size=size, chunks=done.texts, tokens=done.tokens)
