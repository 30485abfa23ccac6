"""Batches: the texts, or pairs of texts, that one update of the weights learns from."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.errors import CheckpointError, InvalidArgument
from training.data.text_data import Order, TextData
from training.stages import Stage

_MASKED, _MASKED_OR_CHANGED = 0.8, 0.9
"""Fractions of the hidden tokens, as in BERT: 80 % become the mask, 10 % a random token."""
_SHORTEST = 64
"""Tokens of the shortest stretch; shorter texts are what chunks and headings are for."""


class SpecialTokens(NamedTuple):
    """Ids of the tokens around a text and of the mask, and the size of the vocabulary."""

    first: int
    last: int
    mask: int
    vocabulary: int

    @classmethod
    def read(cls, folder: Path) -> "SpecialTokens":
        """Read them from a BERT tokenizer, which puts one token before a text and one after it.

        Raises:
            CheckpointError: the folder has no such tokenizer.
        """
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            first, last = tokenizer.encode("").ids
        except Exception as error:  # the library raises nothing more specific
            raise CheckpointError(f"{folder} has no tokenizer like BERT's: {error}") from error
        mask = tokenizer.token_to_id("[MASK]")
        if mask is None:
            raise CheckpointError(f"the tokenizer of {folder} has no [MASK]")
        return cls(first, last, mask, tokenizer.get_vocab_size())


class Pair(NamedTuple):
    """Two texts that belong together, as token ids with special tokens."""

    left: list[int]
    right: list[int]
    negatives: list[list[int]]
    """Texts that seem to belong to the left one but don't."""


class Batches:
    """Draws the texts of each update, in an order that a checkpoint can resume."""

    def __init__(self, data: TextData, stage: Stage, special: SpecialTokens) -> None:
        """Select the texts or pairs that fit the stage; see ``Stage``.

        Raises:
            InvalidArgument: there are none.
        """
        self.data = data
        self.special = special
        self._stage = stage
        chunks = data.pairs[:, 1]
        self._rights = data.documents_of(chunks) if stage.whole_documents else chunks
        if stage.objective == "contrastive":
            self._numbers = self._within_reach(held=False)
        else:
            self._numbers = self._long_enough(held=False)
        if stage.stretches:
            self._numbers = np.repeat(self._numbers, self._draws(self._numbers))
        if not len(self._numbers):
            raise InvalidArgument("the data has no text for this stage")
        self.order = Order(len(self._numbers), stage.seed)

    def _long_enough(self, *, held: bool) -> NDArray[np.int64]:
        """Return the chunks, or documents, that are not too short."""
        data = self.data
        numbers = data.whole(held=held) if self._stage.whole_documents else data.chunks(held=held)
        if self._stage.objective == "distil" and not self._stage.whole_documents and not held:
            # Queries look more like headings than like passages.
            numbers = np.concatenate([numbers, data.headings(held=False)])
        whole = self._stage.whole_documents
        lengths = data.lengths(numbers) if whole else np.diff(data.texts)[numbers]
        return numbers[lengths + 2 >= self._stage.min_length]

    def _draws(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often to draw each document in an epoch, by its length."""
        mean = (self._stage.max_length - _SHORTEST) / np.log(self._stage.max_length / _SHORTEST)
        draws: NDArray[np.int64] = np.ceil(self.data.lengths(documents) / mean).astype(np.int64)
        return draws

    def _within_reach(self, *, held: bool) -> NDArray[np.int64]:
        """Return the pairs; with whole documents, those whose passage is not cut off."""
        numbers = self.data.pair_numbers(held=held)
        if not self._stage.whole_documents:
            return numbers
        depths = self.data.depths(self.data.pairs[numbers, 1])
        return numbers[depths <= self._stage.max_length - 2]

    def texts(self) -> list[list[int]]:
        """Return the texts of one update, with special tokens, sorted by length."""
        drawn: list[list[int]] = []
        tokens = 0
        for number in self.order:
            drawn.append(self._draw(int(self._numbers[number])))
            tokens += len(drawn[-1])
            if tokens >= self._stage.batch_tokens:
                break
        return sorted(drawn, key=len)

    def _draw(self, number: int) -> list[int]:
        """Return a text to learn from; a stretch of it is random by the position in the order."""
        if not self._stage.stretches:
            return self.text(number)
        random = np.random.default_rng([self._stage.seed, self.order.epoch, self.order.cursor])
        ids = self.data.document(number)
        share = np.log(self._stage.max_length / _SHORTEST) * random.random()
        length = min(len(ids), int(_SHORTEST * np.exp(share)))
        first = int(random.integers(len(ids) - length + 1))
        return self._cut(ids[first : first + length])

    def held_texts(self, most: int) -> list[list[int]]:
        """Return held-back texts, spread evenly over all of them, sorted by length."""
        return sorted(map(self.text, spread(self._long_enough(held=True), most)), key=len)

    def long_texts(self, least: int, most: int) -> list[list[int]]:
        """Return up to ``most`` documents of ``least`` tokens or more, spread evenly over them."""
        numbers = self.data.whole(held=False)
        numbers = numbers[self.data.lengths(numbers) >= least]
        return list(map(self.text, spread(numbers, most)))

    def text(self, number: int) -> list[int]:
        """Return the token ids of a chunk, or a document, with special tokens."""
        data = self.data
        return self._cut(
            data.document(number) if self._stage.whole_documents else data.chunk(number)
        )

    def pairs(self) -> list[Pair]:
        """Return the pairs of one update; no two of them share a side."""
        drawn: dict[int, Pair] = {}
        lefts: set[tuple[int, ...]] = set()
        tokens = 0
        for number in islice(self.order, self.order.count):
            picked = int(self._numbers[number])
            right = int(self._rights[picked])
            pair = self.pair(picked)
            if right in drawn or tuple(pair.left) in lefts:
                continue
            drawn[right] = pair
            lefts.add(tuple(pair.left))
            tokens += len(pair.left) + len(pair.right)
            if tokens >= self._stage.batch_tokens:
                break
        return list(drawn.values())

    def held_pairs(self, most: int) -> list[Pair]:
        """Return held-back pairs, spread evenly over all of them."""
        return list(map(self.pair, spread(self._within_reach(held=True), most)))

    def pair(self, number: int) -> Pair:
        """Return the texts of a pair, with its hard negatives if they were mined."""
        data, stage = self.data, self._stage
        left, right = int(data.pairs[number, 0]), int(self._rights[number])
        mined = data.negatives[number, : stage.hard_negatives].tolist()
        negatives = [self._cut(data.chunk(text)) for text in mined]
        return Pair(self._cut(data.chunk(left)), self.text(right), negatives)

    def _cut(self, ids: list[int]) -> list[int]:
        """Cut a text to the stage's maximum, and put special tokens around it."""
        return [self.special.first, *ids[: self._stage.max_length - 2], self.special.last]


def sample_texts(data: Path, tokenizer: Path, *, length: int, tokens: int) -> list[list[int]]:
    """Return a fixed sample of a data folder's texts.

    Args:
        data: the folder.
        tokenizer: a model's folder, for its special tokens.
        length: maximum tokens of a text.
        tokens: minimum tokens of the sample.

    Returns:
        token ids with special tokens, sorted by length; the same ones each time.

    Raises:
        InvalidArgument, CheckpointError: a folder can't be used.
    """
    stage = Stage("distil", steps=1, learning_rate=1.0, max_length=length, batch_tokens=tokens)
    return Batches(TextData.open(data), stage, SpecialTokens.read(tokenizer)).texts()


def spread(numbers: NDArray[np.int64], most: int) -> list[int]:
    """Return at most ``most`` of the numbers, evenly spread."""
    chosen: list[int] = numbers[:: max(1, -(-len(numbers) // most))].tolist()
    return chosen


def pieces(text: Sequence[int], special: SpecialTokens, most: int) -> list[list[int]]:
    """Cut a long text into pieces of at most ``most`` tokens, special tokens included."""
    inner = iter(text[1:-1])
    cut = []
    while part := list(islice(inner, most - 2)):
        cut.append([special.first, *part, special.last])
    return cut or [list(text)]


def mask(
    texts: Sequence[Sequence[int]], share: float, special: SpecialTokens, seed: Sequence[int]
) -> tuple[list[list[int]], list[int], list[int]]:
    """Hide some tokens of texts, as BERT does (https://arxiv.org/abs/1810.04805).

    Of ten hidden tokens, eight become the mask, one a random token, and one stays. The first and
    last token of a text are never hidden.

    Args:
        texts: token ids with special tokens.
        share: fraction of the tokens to hide.
        special: the ids of the special tokens.
        seed: the same seed hides the same tokens.

    Returns:
        the texts with tokens hidden; the places of the hidden tokens in the concatenation of all
        texts; the original tokens.
    """
    random = np.random.default_rng(seed)
    places: list[int] = []
    hidden: list[int] = []
    masked: list[list[int]] = []
    start = 0
    for text in texts:
        inner = np.array(text[1:-1])
        chosen = np.flatnonzero(random.random(len(inner)) < share)
        kind = random.random(len(chosen))
        others = random.integers(0, special.vocabulary, len(chosen))
        places += (start + 1 + chosen).tolist()
        hidden += inner[chosen].tolist()
        inner[chosen] = np.select(
            [kind < _MASKED, kind < _MASKED_OR_CHANGED], [special.mask, others], inner[chosen]
        )
        masked.append([text[0], *inner.tolist(), text[-1]])
        start += len(text)
    return masked, places, hidden
