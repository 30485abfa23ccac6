"""Conversion of attention heads from absolute positions to rotated queries and keys (RoPE).

Two changes are made to each head, both before any training:

**A basis that rotations disturb least.** A head's scores q·k don't change if q is multiplied by an
invertible matrix A and k by its inverse transpose. RoPE turns dimensions i and i + d/2 by an angle
that falls, with i, from 1 radian per token to nearly none. So A is chosen such that q and k vary
independently and equally along each dimension (a balanced realisation,
https://doi.org/10.1109/TAC.1981.1102568), and such that the scores hardly depend on the dimensions
that turn fast.

**Offsets that replace positions.** With absolute positions, queries at i and keys at j have means
that depend on i and j. The product of these means is what positions alone add to a score, and it
depends mostly on j - i. Constants that are added to queries and keys give, once rotated, a sum of
cosines of j - i. They are fitted such that attention by positions alone stays the same, and that
the scores of the tokens' content change as little as possible.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from retrieval.gte import PackedBatch

_LEAST_TEXTS: Final = 100
"""Texts that must reach a position for the mean there to count: its error is then a
tenth of the variation."""
_LEAST_POSITIONS: Final = 8
"""Positions that a sample must have for offsets to be fitted; fewer don't determine the cosines."""
_ASKING: Final = 8
"""Positions of queries from which attention is compared, spread over a text."""
_STEPS, _RATE = 1_000, 0.05
"""Updates of Adam, and its first learning rate, which falls to 0 over them."""
_NOISE: Final = 0.2
"""Weight of the variance that offsets add to scores (nats²), beside the divergence (nats)."""
_LEVEL: Final = 0.02
"""Weight of the squared common shift of all scores, which special tokens don't share."""


class Heads(NamedTuple):
    """Statistics of the queries and keys of a layer's heads over a sample of texts."""

    moments: Tensor
    """float64 [2, heads, d, d]: E[s sᵀ] of queries and of keys."""
    means: Tensor
    """float64 [2, heads, P, d]: means at each position that enough texts reach, without special
    tokens."""
    spread: Tensor
    """float64 [2, heads, d, d]: covariance around the means of the positions."""

    @classmethod
    def of(cls, projected: Tensor, sample: PackedBatch, heads: int) -> "Heads":
        """Compute the statistics of a layer.

        Args:
            projected: [N, 3 * hidden], the layer's queries, keys and values.
            sample: the texts of the N tokens.
            heads: number of heads.
        """
        width = projected.shape[1] // (3 * heads)
        states = projected.double().view(-1, 3, heads, width)[:, :2].permute(1, 2, 0, 3)
        inner = torch.ones(len(projected), dtype=torch.bool)
        inner[sample.cu_seqlens[:-1].long()] = inner[sample.cu_seqlens[1:].long() - 1] = False
        positions = sample.positions[inner]
        counts = torch.bincount(positions)
        enough = (counts >= _LEAST_TEXTS).nonzero().flatten()
        sums = states.new_zeros(2, heads, len(counts), width)
        sums.index_add_(2, positions, states[:, :, inner])
        by_position = sums / counts.clamp_min(1)[:, None]
        about = states[:, :, inner] - by_position[:, :, positions]
        return cls(_second_moment(states), by_position[:, :, enough], _second_moment(about))

    def changed(self, basis: Tensor) -> "Heads":
        """Return the statistics in another basis of queries and keys, [2, heads, d, d]."""
        turned = basis.transpose(-1, -2)
        return Heads(
            basis @ self.moments @ turned, self.means @ turned, basis @ self.spread @ turned
        )


def _second_moment(states: Tensor) -> Tensor:
    """Return the second moments [2, heads, d, d] of states [2, heads, n, d]."""
    return states.transpose(-1, -2) @ states / states.shape[2]


def balanced_basis(heads: Heads) -> Tensor:
    """Return the changes of basis of queries and keys after which rotations disturb least.

    Returns:
        float64 [2, heads, d, d]; scores don't change.
    """
    changes = torch.stack([_balancing(query, key) for query, key in heads.moments.unbind(1)])
    return torch.stack([changes, torch.linalg.inv(changes).transpose(-1, -2)])


def _balancing(query: Tensor, key: Tensor) -> Tensor:
    """Return the change of the queries' basis, from second moments of queries and keys, [d, d]."""
    width = len(query)
    roots = [torch.linalg.cholesky(_regular(moment)) for moment in (query, key)]
    left, strengths, _ = torch.linalg.svd(roots[1].T @ roots[0])
    change = strengths.rsqrt()[:, None] * (left.T @ roots[1].T)
    # The strongest two go to the slowest pair, dimensions width/2 - 1 and width - 1, and so on.
    order = torch.empty(width, dtype=torch.int64)
    ranks = torch.arange(width)
    order[width // 2 - 1 - ranks // 2 + width // 2 * (ranks % 2)] = ranks
    ordered: Tensor = change[order]
    return ordered


def _regular(moment: Tensor) -> Tensor:
    """Add a little to the diagonal so that the matrix can be inverted."""
    little = 1e-6 * moment.diagonal().mean()
    return moment + little * torch.eye(len(moment), dtype=moment.dtype)


@torch.enable_grad()
def position_offsets(heads: Heads, frequencies: Tensor) -> Tensor:
    """Return the constants to add to queries and keys before they are rotated.

    Args:
        heads: statistics in the basis in which they are rotated.
        frequencies: [d / 2], radians per position of each pair of dimensions.

    Returns:
        float64 [2, heads, d]; zeros if the sample has too few positions.
    """
    _, count, places, width = heads.means.shape
    offsets = torch.zeros(2, count, width, dtype=torch.float64)
    if places < _LEAST_POSITIONS:
        return offsets
    wanted = _scores_of_positions(heads.means)  # [heads, 2P - 1]
    asking = torch.linspace(0, places - 1, _ASKING).long()
    distances = torch.arange(places) - asking[:, None] + places - 1  # [asking, P], into 2P - 1
    target = wanted[:, distances].log_softmax(dim=-1)
    mean = heads.means.mean(dim=2)
    level = (mean[0] * mean[1]).sum(dim=1) / width**0.5
    angles = torch.arange(1 - places, places)[:, None] * frequencies.double()
    offsets.normal_(std=_RATE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([offsets], lr=_RATE)
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        query, key = (mean + offsets).unbind()
        scores = _rotated_scores(query, key, angles) / width**0.5
        attention = scores[:, distances].log_softmax(dim=-1)
        divergence = (target.exp() * (target - attention)).sum(dim=-1).mean(dim=1)
        # An offset of the keys is multiplied by the variation of the queries, and vice versa.
        noise = torch.einsum("thd,thde,the->h", offsets, heads.spread.flip(0), offsets) / width
        loss = divergence + _NOISE * noise + _LEVEL * (scores.mean(dim=1) - level) ** 2
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum())
        optimizer.step()
    return offsets.detach()


def _scores_of_positions(means: Tensor) -> Tensor:
    """Return what positions alone add to scores, by distance, in nats: [heads, 2P - 1].

    Entry n is for a key n - (P - 1) tokens after the query; ``means`` is [2, heads, P, d].
    """
    places, width = means.shape[2:]
    query, key = means - means.mean(dim=2, keepdim=True)
    scores = query @ key.transpose(-1, -2) / width**0.5  # [heads, P, P]
    by_distance = [
        scores.diagonal(distance, 1, 2).mean(dim=1) for distance in range(1 - places, places)
    ]
    return torch.stack(by_distance, dim=1)


def _rotated_scores(query: Tensor, key: Tensor, angles: Tensor) -> Tensor:
    """Return products [heads, n] of queries and keys [heads, d], turned by angles [n, d / 2]."""
    query_1, query_2 = query.chunk(2, dim=-1)
    key_1, key_2 = key.chunk(2, dim=-1)
    along, across = query_1 * key_1 + query_2 * key_2, query_2 * key_1 - query_1 * key_2
    return along @ angles.cos().T + across @ angles.sin().T
