"""Stage documents with the vectors of their texts in a commit, beside other writers.

Texts are looked up and embedded before the commit, because embedding takes long and other writers
wait for a commit. Until then, another writer may add vectors of the same texts, and another one's
compaction may remove vectors that were found. So the commit looks all texts up again: it takes the
vectors that are there now, and is given up and done again if one is missing that was not embedded.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.embedded_text import embedded_text_of
from retrieval.domain.records import Chunk, Document, SourceFile
from retrieval.store import Commit, StagedChunk, StagedDocument, Writer

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Embedded

SLICE_TOKENS: Final = 16_384
"""Number of tokens to embed between two looks at the clock: a few seconds on a slow CPU, and enough
for full batches."""

SAVE_SECONDS: Final = 30.0
"""Time after which vectors are committed ahead of their documents. A crash costs at most this much
embedding, and one slice."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document with the texts that its vectors are made from."""

    document: Document
    source: SourceFile
    sha256: str
    """As in ``StagedDocument``."""
    chunks: Sequence[Chunk]
    texts: Sequence[str]
    """The text that is embedded for each chunk."""
    keys: Sequence[bytes]
    """The content key of each text."""


def prepare(
    document: Document,
    source: SourceFile,
    sha256: str,
    chunks: Sequence[Chunk],
    *,
    context: bool,
) -> Prepared:
    """Return a document with its texts.

    Args:
        document: the document.
        source: where it comes from.
        sha256: as in ``StagedDocument``.
        chunks: its chunks, in order.
        context: as in ``ChunkSettings``.
    """
    texts = [embedded_text_of(chunk, title=document.title, context=context) for chunk in chunks]
    return Prepared(document, source, sha256, chunks, texts, [content_key(text) for text in texts])


def content_key(text: str) -> bytes:
    """Return the key by which a text's vector is found again: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


class Slice(NamedTuple):
    """Texts that were embedded together."""

    texts: int
    tokens: int
    """Number of tokens that went through the model, special tokens included."""
    seconds: float
    """Time in the model."""
    share: float
    """Share of the tokens that were to be embedded at once."""


Embed = Callable[[Iterable[list[str]]], Iterator[tuple["Embedded", float]]]
"""Yields the vectors of each list of passages in order, L2-normalised, and the seconds that the
model took. It may draw some lists ahead, to embed them at the same time."""
Put = Callable[[Prepared], int]
"""Adds or replaces a document in the open commit, with its vectors; returns its id."""


def one_by_one(embed: Callable[[list[str]], "Embedded"]) -> Embed:
    """Return what embeds lists of texts one after the other."""

    def embed_all(lists: Iterable[list[str]]) -> Iterator[tuple["Embedded", float]]:
        for texts in lists:
            started = time.perf_counter()
            embedded = embed(texts)
            yield embedded, time.perf_counter() - started

    return embed_all


class Stager:
    """Commits documents with their vectors. A text that has a vector is never embedded again."""

    def __init__(
        self,
        writer: Writer,
        embed: Embed,
        observe: Callable[[Slice], None] = lambda _: None,
    ) -> None:
        """Stage nothing yet.

        Args:
            writer: receives the commits.
            embed: embeds texts; no vectors are asked for while a commit is open.
            observe: receives each slice that was embedded.
        """
        self._writer = writer
        self._embed = embed
        self._observe = observe

    def commit(
        self, documents: Sequence[Prepared], write: Callable[[Commit, Put], Result]
    ) -> Result:
        """Embed the texts of documents that need it, and make one commit.

        Args:
            documents: the documents that ``write`` may put.
            write: makes the changes, in the open commit; it is called again if the commit has to be
                done again. If it raises, nothing is committed, and the error is passed on.

        Returns:
            the result of ``write``.

        Raises:
            IndexLocked, StorageError: the commit can't be made.
        """
        texts = _texts(documents)
        ready, save_seconds = _Ready(), SAVE_SECONDS
        wanted = texts.keys() - self._writer.find_vectors(texts).keys()
        while True:
            self._make(ready, {key: texts[key] for key in texts if key in wanted}, save_seconds)
            try:
                with self._writer.commit() as commit:
                    ids = ready.stage(commit, texts)
                    return write(commit, _putter(commit, ids))
            except _Lacking as lacking:
                wanted = lacking.keys
                # From now on keep what is embedded, so that no compaction can take it away again.
                save_seconds = float("inf")

    def _make(self, ready: "_Ready", wanted: "dict[bytes, _Text]", save_seconds: float) -> None:
        """Embed texts; commit their vectors now and then if that takes long."""
        total = sum(text.tokens + 1 for text in wanted.values())
        since = time.monotonic()
        slices = list(_slices(wanted))
        made = self._embed([wanted[key].text for key in keys] for keys in slices)
        for keys, (embedded, seconds) in zip(slices, made, strict=True):
            ready.add(keys, embedded)
            share = sum(wanted[key].tokens + 1 for key in keys) / total
            self._observe(Slice(len(keys), sum(embedded.token_counts), seconds, share))
            if time.monotonic() - since > save_seconds:
                with self._writer.commit() as commit:
                    ready.stage(commit, ready.keys)
                ready.clear()
                since = time.monotonic()


class _Text(NamedTuple):
    text: str
    tokens: int
    """Number of tokens of its chunk."""


def _texts(documents: Sequence[Prepared]) -> dict[bytes, _Text]:
    """Return the distinct texts of documents by content key."""
    return {
        key: _Text(text, chunk.token_count)
        for one in documents
        for key, text, chunk in zip(one.keys, one.texts, one.chunks, strict=True)
    }


class _Lacking(Exception):
    """Gives a commit up: vectors were removed since they were found."""

    def __init__(self, keys: set[bytes]) -> None:
        super().__init__()
        self.keys = keys


class _Ready:
    """Vectors that are embedded but not committed."""

    def __init__(self) -> None:
        self._vectors: dict[bytes, tuple[NDArray[np.float32], bool]] = {}

    @property
    def keys(self) -> Iterable[bytes]:
        """Content keys of the vectors."""
        return self._vectors.keys()

    def add(self, keys: Sequence[bytes], embedded: "Embedded") -> None:
        """Add the vectors of some texts."""
        self._vectors.update(
            zip(keys, zip(embedded.vectors, embedded.truncated, strict=True), strict=True)
        )

    def clear(self) -> None:
        """Forget all vectors, because they are committed."""
        self._vectors.clear()

    def stage(self, commit: Commit, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the vector id of each key, and add the vectors that the index does not have.

        Raises:
            _Lacking: some keys have no vector, neither here nor in the index.
        """
        keys = list(keys)
        ids = commit.find_vectors(keys)
        new = [key for key in keys if key not in ids]
        lacking = {key for key in new if key not in self._vectors}
        if lacking:
            raise _Lacking(lacking)
        if new:
            vectors = np.stack([self._vectors[key][0] for key in new])
            truncated = [self._vectors[key][1] for key in new]
            ids.update(zip(new, commit.add_vectors(new, vectors, truncated), strict=True))
        return ids


def _putter(commit: Commit, ids: Mapping[bytes, int]) -> Put:
    def put(one: Prepared) -> int:
        chunks = [
            StagedChunk(chunk, ids[key]) for chunk, key in zip(one.chunks, one.keys, strict=True)
        ]
        return commit.put_document(StagedDocument(one.document, one.source, one.sha256, chunks))

    return put


def _slices(texts: Mapping[bytes, _Text]) -> Iterator[list[bytes]]:
    """Yield the keys of texts, longest first, in slices of about ``SLICE_TOKENS`` tokens."""
    keys: list[bytes] = []
    tokens = 0
    for key in sorted(texts, key=lambda key: -texts[key].tokens):
        if keys and tokens + texts[key].tokens > SLICE_TOKENS:
            yield keys
            keys, tokens = [], 0
        keys.append(key)
        tokens += texts[key].tokens + 1
    if keys:
        yield keys
