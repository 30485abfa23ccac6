"""Embed the chunks of documents that need it, and commit vectors and documents together."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.readers.messages import Parsed
from retrieval.domain.embedded_text import embedded_text_of
from retrieval.store import Commit, StagedChunk, StagedDocument, Writer

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Embedded, Encoder

WINDOW_CHUNKS = 1024
"""Number of chunks to gather before embedding them: enough for batches of similar lengths."""

WINDOW_CHARS = 16 << 20
"""Number of characters to gather at most before embedding: bounds memory."""

SLICE_TOKENS = 16_384
"""Number of tokens to embed between two looks at the clock: a few seconds on a slow CPU, and enough
for full batches."""

COMMIT_SECONDS = 30.0
"""Time after which vectors are committed ahead of their documents. A crash costs at most this much
embedding, and one slice."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A document that waits to be embedded."""

    parsed: Parsed
    texts: Sequence[str]
    """The text that is embedded for each chunk."""
    keys: Sequence[bytes]
    """The content key of each text."""


class Embedder:
    """Embeds documents window by window, and commits each window.

    A text that has a vector is never embedded again, whatever file it is in. If the model is slow,
    the vectors of a window are committed every ``COMMIT_SECONDS``, ahead of their documents. After
    an interrupted build, the next one finds them by their content keys.
    """

    def __init__(
        self,
        encoder: "Encoder",
        writer: Writer,
        report: BuildReport,
        progress: BuildProgress,
        *,
        context: bool = False,
    ) -> None:
        """Start with an empty window.

        Args:
            encoder: the model.
            writer: receives the commits.
            report: receives the counts.
            progress: receives every step.
            context: as in ``ChunkSettings``.
        """
        self._encoder = encoder
        self._writer = writer
        self._report = report
        self._progress = progress
        self._context = context
        self._window: list[_Pending] = []
        self._window_chunks = 0
        self._window_chars = 0

    def add(self, parsed: Parsed) -> None:
        """Add a document; embed and commit the window if it is full."""
        texts = [
            embedded_text_of(chunk, title=parsed.document.title, context=self._context)
            for chunk in parsed.chunks
        ]
        keys = [content_key(text) for text in texts]
        self._window.append(_Pending(parsed, texts, keys))
        self._window_chunks += len(keys)
        self._window_chars += len(parsed.document.text)
        if self._window_chunks >= WINDOW_CHUNKS or self._window_chars >= WINDOW_CHARS:
            self.flush()

    def flush(self) -> None:
        """Embed and commit the window."""
        if not self._window:
            return
        window, self._window = self._window, []
        self._window_chunks = self._window_chars = 0
        ids = self._writer.find_vectors(key for pending in window for key in pending.keys)
        new = {
            key: (text, chunk.token_count)
            for pending in window
            for key, text, chunk in zip(
                pending.keys, pending.texts, pending.parsed.chunks, strict=True
            )
            if key not in ids
        }
        self._report.chunks_embedded += len(new)
        self._report.chunks_reused += sum(len(pending.keys) for pending in window) - len(new)
        size = sum(one.parsed.consumed for one in window)
        # A container is counted as a file once all of it is read.
        files = sum(not one.parsed.source.container for one in window)
        vectors = _Uncommitted(time.monotonic())
        for keys, embedded in self._embed(new, size):
            vectors.add(keys, embedded)
            if time.monotonic() - vectors.since > COMMIT_SECONDS:
                with self._writer.commit() as commit:
                    ids.update(vectors.take(commit))
        with self._writer.commit() as commit:
            ids.update(vectors.take(commit))
            for pending in window:
                commit.put_document(_staged(pending, ids))
        self._progress.advance(files=files, size=0.0 if new else size)

    def _embed(
        self, new: dict[bytes, tuple[str, int]], size: int
    ) -> Iterator[tuple[list[bytes], "Embedded"]]:
        """Embed texts slice by slice, longest first.

        Args:
            new: content key to the text, and the number of tokens of its chunk.
            size: bytes of the files of this window, for the progress.

        Yields:
            the keys and the embeddings of a slice.
        """
        total = sum(tokens + 1 for _, tokens in new.values())
        for keys in _slices(new):
            started = time.perf_counter()
            embedded = self._encoder.embed([new[key][0] for key in keys], "passage")
            self._report.model_seconds += time.perf_counter() - started
            tokens = sum(embedded.token_counts)
            self._report.tokens_embedded += tokens
            share = sum(new[key][1] + 1 for key in keys) / total
            self._progress.advance(size=size * share, chunks=len(keys), tokens=tokens)
            yield keys, embedded


class _Uncommitted:
    """Vectors that are embedded but not committed yet."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._keys: list[bytes] = []
        self._embedded: list[Embedded] = []

    def add(self, keys: list[bytes], embedded: "Embedded") -> None:
        self._keys += keys
        self._embedded.append(embedded)

    def take(self, commit: Commit) -> dict[bytes, int]:
        """Move the vectors into a commit; return the vector id of each content key."""
        if not self._keys:
            return {}
        vectors = np.concatenate([part.vectors for part in self._embedded])
        truncated = [flag for part in self._embedded for flag in part.truncated]
        ids = commit.add_vectors(self._keys, vectors, truncated)
        taken = dict(zip(self._keys, ids, strict=True))
        self._keys, self._embedded, self.since = [], [], time.monotonic()
        return taken


def content_key(text: str) -> bytes:
    """Return the key by which a text's vector is found again: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def _staged(pending: _Pending, ids: dict[bytes, int]) -> StagedDocument:
    parsed = pending.parsed
    chunks = [
        StagedChunk(chunk, ids[key]) for chunk, key in zip(parsed.chunks, pending.keys, strict=True)
    ]
    return StagedDocument(parsed.document, parsed.source, parsed.sha256, chunks)


def _slices(new: dict[bytes, tuple[str, int]]) -> Iterator[list[bytes]]:
    """Yield the keys of texts, longest first, in slices of about ``SLICE_TOKENS`` tokens."""
    keys: list[bytes] = []
    tokens = 0
    for key in sorted(new, key=lambda key: -new[key][1]):
        if keys and tokens + new[key][1] > SLICE_TOKENS:
            yield keys
            keys, tokens = [], 0
        keys.append(key)
        tokens += new[key][1] + 1
    if keys:
        yield keys
