"""Texts that wait for a model, and what it makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.records import TextKind
from retrieval.search import EmbeddedText
from retrieval.service.delivery import AnyFuture

_CHARS_A_TEXT: Final = 32
"""What a text costs beside its own characters."""
_LONG_CHARS: Final = 4_096
"""A text of more is likely to be longer than what goes through a model at once: the others are cut
into batches of about a thousand tokens, but a text is not."""


class EmbeddedTexts(Protocol):
    """What a model makes of n texts; ``retrieval.encoder.Embedded`` is one."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[n, dim], L2-normalised."""
        ...

    @property
    def token_counts(self) -> list[int]:
        """Tokens that the model read of each text, prompt and special tokens counted."""
        ...

    @property
    def truncated(self) -> list[bool]:
        """Whether the end of a text was cut off."""
        ...


class TextEncoder(Protocol):
    """What the batcher needs of a model; ``retrieval.encoder.Encoder`` is one."""

    @property
    def side_by_side(self) -> bool:
        """Whether several batches go faster side by side, on one core each."""
        ...

    @property
    def query_on_one_core(self) -> bool:
        """Whether one core serves a short query best that comes alone."""
        ...

    def embed(self, texts: Sequence[str], kind: TextKind) -> EmbeddedTexts:
        """Embed texts; in several threads at once only where batches go side by side."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """Texts of one request that wait for the model."""

    encoder: TextEncoder
    texts: Sequence[str]
    kind: TextKind
    since: float
    """``time.perf_counter()`` of its coming."""
    answer_by: float
    """The same of when its client gives up."""
    future: AnyFuture
    """Of a list of ``EmbeddedText``; cancelled when nobody waits for it any more."""

    @property
    def chars(self) -> int:
        """Characters of all texts."""
        return sum(map(len, self.texts))

    @property
    def is_long(self) -> bool:
        """Whether one of the texts is."""
        return any(len(text) > _LONG_CHARS for text in self.texts)

    @property
    def cost(self) -> int:
        """About how much work they are for the model, in characters."""
        return self.chars + _CHARS_A_TEXT * len(self.texts)


class Batch(NamedTuple):
    """Jobs of one model and kind."""

    jobs: list[Job]
    beside: bool
    """Whether it runs on one core, so that others can beside it."""
    crowded: bool
    """Whether others had to wait, as there was no room for them."""

    @property
    def texts(self) -> int:
        """How many they have in all."""
        return sum(len(job.texts) for job in self.jobs)

    @property
    def cost(self) -> int:
        """Of all its jobs."""
        return sum(job.cost for job in self.jobs)


def go_together(one: Job, other: Job) -> bool:
    """Whether two may be in one batch."""
    return one.encoder is other.encoder and one.kind == other.kind


def one_by_one(embedded: EmbeddedTexts) -> list[EmbeddedText]:
    """Each text's embedding, in order."""
    columns = (embedded.vectors, embedded.token_counts, embedded.truncated)
    return [EmbeddedText(*row) for row in zip(*columns, strict=True)]
