"""Data folder: texts to train on, as token ids on disk, and the order in which they are drawn.

The folder is compact enough to be copied to a machine with a GPU, and is memory-mapped:

- ``tokens.bin``: uint16, the token ids of all texts, without special tokens;
- ``texts.npy``: int64 [T + 1], text t is tokens ``texts[t]`` to ``texts[t + 1]``;
- ``documents.npy``: int64 [D + 1], document d is the chunks ``documents[d]`` to
  ``documents[d + 1]``, in order, without gaps or overlaps;
- ``held.npy``: bool [D], documents that are held back for measuring and never learned from;
- ``pairs.npy``: int64 [P, 2], a heading or title, and the first chunk under it;
- ``negatives.npy``: int64 [P, n], chunks that seem to belong to a pair's heading but don't;
  only if they were mined;
- ``about.json``: the sources, and what was left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class TextData:
    """An open data folder."""

    tokens: NDArray[np.uint16]
    texts: NDArray[np.int64]
    documents: NDArray[np.int64]
    held: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    negatives: NDArray[np.int64]
    """[P, n]; n is 0 if none were mined."""
    _held_chunks: NDArray[np.bool_] = field(repr=False)
    """[T], whether each chunk is of a document that is held back."""

    @classmethod
    def open(cls, folder: Path) -> "TextData":
        """Map the files into memory.

        Raises:
            InvalidArgument: it is not a data folder.
        """
        try:
            texts, documents, held, pairs = (
                np.load(folder / f"{name}.npy", allow_pickle=False)
                for name in ("texts", "documents", "held", "pairs")
            )
            negatives = np.empty((len(pairs), 0), dtype=np.int64)
            if (folder / "negatives.npy").exists():
                negatives = np.load(folder / "negatives.npy", allow_pickle=False)
            tokens = np.memmap(folder / "tokens.bin", dtype="<u2", mode="r")
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"{folder} is not a data folder (see training/README.md): {error}"
            ) from error
        held_chunks = np.zeros(len(texts) - 1, dtype=np.bool_)
        for first, end in zip(documents[:-1][held], documents[1:][held], strict=True):
            held_chunks[first:end] = True
        return cls(tokens, texts, documents, held, pairs, negatives, held_chunks)

    def chunk(self, number: int) -> list[int]:
        """Return the token ids of one text."""
        return self._between(number, number + 1)

    def document(self, number: int) -> list[int]:
        """Return the token ids of a whole document."""
        return self._between(self.documents[number], self.documents[number + 1])

    def lengths(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of tokens of each document."""
        lengths: NDArray[np.int64] = np.diff(self.texts[self.documents])[documents]
        return lengths

    def documents_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document of each chunk."""
        return np.searchsorted(self.documents, chunks, side="right") - 1

    def depths(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tokens from the beginning of each chunk's document to the chunk's end."""
        depths: NDArray[np.int64] = (
            self.texts[chunks + 1] - self.texts[self.documents[self.documents_of(chunks)]]
        )
        return depths

    def chunks(self, *, held: bool) -> NDArray[np.int64]:
        """Return the chunks to learn from, or those that are held back."""
        return np.flatnonzero(self._held_chunks[: self.documents[-1]] == held)

    def headings(self, *, held: bool) -> NDArray[np.int64]:
        """Return the headings of chunks to learn from, or of those that are held back."""
        numbers: NDArray[np.int64] = self.pairs[self.pair_numbers(held=held), 0]
        return numbers

    def whole(self, *, held: bool) -> NDArray[np.int64]:
        """Return the documents to learn from, or those that are held back."""
        return np.flatnonzero(self.held == held)

    def pair_numbers(self, *, held: bool) -> NDArray[np.int64]:
        """Return the pairs to learn from, or those that are held back."""
        return np.flatnonzero(self._held_chunks[self.pairs[:, 1]] == held)

    def _between(self, first: int, end: int) -> list[int]:
        ids: list[int] = self.tokens[self.texts[first] : self.texts[end]].tolist()
        return ids


@dataclass(slots=True)
class Order:
    """Endless iteration over ``count`` numbers, in a new random order in each epoch.

    Its position is two numbers, which a checkpoint keeps, so a run that was killed resumes with the
    number that was next.
    """

    count: int
    seed: int
    epoch: int = 0
    cursor: int = 0

    def __iter__(self) -> Iterator[int]:
        """Yield numbers; ``cursor`` counts those of the current epoch."""
        while True:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
            while self.cursor < self.count:
                self.cursor += 1
                yield int(order[self.cursor - 1])
            self.epoch, self.cursor = self.epoch + 1, 0
