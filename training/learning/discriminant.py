"""What tells a long text from texts like it: Fisher's linear discriminant.

The mean of the vectors of a text's pieces says what all of it says, and most of that its neighbours
say, too. A query is about one piece. Pieces of one text differ from each other in some directions
more than in others (S, the covariance within texts), and what a text's mean has in those tells
little about it. So its vector is to be ``(S + v)^-1 mean``, which has the greatest distance from
other texts' pieces in relation to how far its own lie apart (R. A. Fisher, "The Use of Multiple
Measurements in Taxonomic Problems", 1936); v, the variance that a piece by itself would have,
leaves texts of one piece as they are.

S differs from one kind of text to the other: where people talk, it is other things that vary than
in documentation. It is taken from the texts that are most like the one in question.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from retrieval.errors import InvalidArgument
from retrieval.gte import normalize
from training.data.batches import Batches
from training.models.teacher import Teacher

_LEAST_PIECES: Final = 4
"""Of a text that S is taken from."""
_MOST_TEXTS: Final = 768
"""That S is taken from."""
_NEAR: Final = 96
"""Texts that are most like one: some thousand pieces, for a few hundred dimensions."""


class Discriminant:
    """A ``Teacher``'s ``of_pieces``."""

    def __init__(self, texts: Sequence[Tensor], variance: float) -> None:
        """Remember how the pieces of texts vary.

        Args:
            texts: of each text the vectors of its pieces, float32 [k, dim], L2-normalised.
            variance: v; vectors of 384 numbers have about 0.001 within a text in each of them.
        """
        self._means = normalize(torch.stack([pieces.mean(dim=0) for pieces in texts]))
        self._around = [pieces - pieces.mean(dim=0) for pieces in texts]
        self._variance = variance

    @classmethod
    def learn(cls, teacher: Teacher, batches: Batches, variance: float) -> "Discriminant":
        """Take S from the long texts of a stage; the same each time.

        Raises:
            InvalidArgument: there are none.
        """
        least = _LEAST_PIECES * teacher.piece_tokens
        texts = batches.long_texts(least, _MOST_TEXTS)
        if not texts:
            raise InvalidArgument(f"discriminant needs documents of {least} tokens or more")
        return cls([teacher.pieces_of(text, batches.special) for text in texts], variance)

    def __call__(self, shares: Tensor, pieces: Tensor) -> Tensor:
        """One text's vector; see ``OfPieces``."""
        mean = shares @ pieces
        if len(pieces) == 1:
            return mean
        near = (self._means @ mean).topk(min(_NEAR, len(self._means))).indices.tolist()
        around = torch.cat([self._around[row] for row in near])
        within = around.T @ around / (len(around) - len(near))
        # One piece has no variance within; of two, half of it is left beside their mean.
        within = within * (1 - 1 / len(pieces))
        within.diagonal().add_(self._variance)
        discriminant: Tensor = torch.linalg.solve(within, mean)
        return discriminant
