"""Target vectors for long texts, by Fisher's discriminant: what tells a text from similar ones.

The mean of the vectors of a text's pieces represents all of its content, most of which similar
texts share, while a query is about one piece. The pieces of a text differ from each other more in
some directions than in others (S, the covariance within texts), and the text's mean says little in
those directions. So the target is ``(S + v)^-1 mean``: it has the greatest distance from other
texts' pieces in relation to the spread of the text's own (R. A. Fisher, "The Use of Multiple
Measurements in Taxonomic Problems", 1936). The constant v, the variance of a single piece, keeps
texts of one piece as they are.

S depends on the kind of text: other things vary in conversations than in documentation. It is
therefore computed from the texts that are most similar to the one in question.
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
"""Pieces of the shortest text that S is computed from; fewer show little of the variation."""
_MOST_TEXTS: Final = 768
"""Texts that S is chosen from: eight times ``_NEAR``, for several kinds of text."""
_NEAR: Final = 96
"""Similar texts that S is computed from: about a thousand pieces, for a few hundred dimensions."""


class Discriminant:
    """Computes a long text's target vector from its pieces: a ``Teacher``'s ``of_pieces``."""

    def __init__(self, texts: Sequence[Tensor], variance: float) -> None:
        """Keep the variation of the texts' pieces.

        Args:
            texts: the vectors of each text's pieces, float32 [k, dim], L2-normalised.
            variance: v; in vectors of 384 dimensions, each varies by about 0.001 within a text.
        """
        self._means = normalize(torch.stack([pieces.mean(dim=0) for pieces in texts]))
        self._around = [pieces - pieces.mean(dim=0) for pieces in texts]
        self._variance = variance

    @classmethod
    def learn(cls, teacher: Teacher, batches: Batches, variance: float) -> "Discriminant":
        """Compute it from long texts of a stage, the same ones each time.

        Raises:
            InvalidArgument: there are none.
        """
        least = _LEAST_PIECES * teacher.piece_tokens
        texts = batches.long_texts(least, _MOST_TEXTS)
        if not texts:
            raise InvalidArgument(f"discriminant needs documents of {least} tokens or more")
        return cls([teacher.pieces_of(text, batches.special) for text in texts], variance)

    def __call__(self, shares: Tensor, pieces: Tensor) -> Tensor:
        """Return a text's vector; see ``OfPieces``."""
        mean = shares @ pieces
        if len(pieces) == 1:
            return mean
        near = (self._means @ mean).topk(min(_NEAR, len(self._means))).indices.tolist()
        around = torch.cat([self._around[row] for row in near])
        within = around.T @ around / (len(around) - len(near))
        # Of the variation within a text, 1 - 1/k appears around the mean of k pieces.
        within = within * (1 - 1 / len(pieces))
        within.diagonal().add_(self._variance)
        discriminant: Tensor = torch.linalg.solve(within, mean)
        return discriminant
