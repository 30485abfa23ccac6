"""Texts that wait for a model, and what it makes of them."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.records import TextKind
from retrieval.search import EmbeddedText
from retrieval.service.scheduling.deliver import AnyFuture

_CHARS_A_TEXT: Final = 32
"""What a text costs beside its own characters."""
_CHARS_A_TOKEN: Final = 6
"""More than a word has on average: a text of so many for each token that its model takes is cut
off, and costs no more than that."""
_LONG_CHARS: Final = 4_096
"""A text of more is likely to be longer than what goes through a model at once: the others are cut
into batches of about a thousand tokens, but a text is not."""


class EmbeddedTexts(Protocol):
    """What a model makes of n texts; ``retrieval.encoding.encoder.Embedded`` is one."""

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
    """What the batcher needs of a model; ``retrieval.encoding.encoder.Encoder`` is one."""

    @property
    def side_by_side(self) -> bool:
        """Whether several batches go faster side by side, on one core each."""
        ...

    @property
    def query_on_one_core(self) -> bool:
        """Whether one core serves a short query best that comes alone."""
        ...

    @property
    def max_tokens(self) -> int:
        """Most tokens of one text."""
        ...

    def embed(self, texts: Sequence[str], kind: TextKind) -> EmbeddedTexts:
        """Embed texts; in several threads at once only where batches go side by side."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """Texts of one request, which go through the model some at a time."""

    encoder: TextEncoder
    texts: Sequence[str]
    kind: TextKind
    since: float
    """``time.perf_counter()`` of its coming."""
    answer_by: float
    """The same of when its client gives up."""
    future: AnyFuture
    """Of a list of ``EmbeddedText``; cancelled when nobody waits for it any more."""
    turn: str = ""
    """Who takes its turn; see ``Turns``."""
    begun: int = field(default=0, init=False)
    """How many of its texts a batch was made of; the others wait."""
    cost: float = field(init=False)
    """About how much work those that wait are for the model, in characters."""
    is_long: bool = field(init=False)
    """Whether one of the texts is."""
    _rows: dict[int, EmbeddedText] = field(default_factory=dict, init=False)
    """What was made of those that are done, by their numbers."""

    def __post_init__(self) -> None:
        """Count once what is asked for often."""
        self.cost = self.cost_of(0, len(self.texts))
        self.is_long = any(len(text) > _LONG_CHARS for text in self.texts)

    def cost_of(self, start: int, stop: int) -> float:
        """About how much work some of its texts are for the model, in characters."""
        most = _CHARS_A_TOKEN * self.encoder.max_tokens
        texts = self.texts[start:stop]
        return sum(min(len(text), most) for text in texts) + _CHARS_A_TEXT * len(texts)

    @property
    def waiting(self) -> int:
        """How many of its texts wait."""
        return len(self.texts) - self.begun

    def begin(self, stop: int) -> None:
        """Take texts out of those that wait, up to one."""
        self.cost -= self.cost_of(self.begun, stop)
        self.begun = stop

    def finish(self, start: int, rows: Sequence[EmbeddedText]) -> list[EmbeddedText] | None:
        """Note what was made of some texts.

        Args:
            start: number of the first.
            rows: of each.

        Returns:
            those of all texts, in order, once they are there.
        """
        self._rows.update(enumerate(rows, start))
        if len(self._rows) < len(self.texts):
            return None
        return [self._rows[number] for number in range(len(self.texts))]


class Share(NamedTuple):
    """Those texts of a job that are in one batch."""

    job: Job
    start: int
    stop: int

    @property
    def texts(self) -> Sequence[str]:
        """The texts."""
        return self.job.texts[self.start : self.stop]

    @property
    def cost(self) -> float:
        """About how much work they are for the model, in characters."""
        return self.job.cost_of(self.start, self.stop)


class Batch(NamedTuple):
    """Texts of one model and kind."""

    shares: list[Share]
    beside: bool
    """Whether it runs on one core, so that others can beside it."""
    crowded: bool
    """Whether others had to wait, as there was no room for them."""

    @property
    def texts(self) -> int:
        """How many there are in all."""
        return sum(share.stop - share.start for share in self.shares)

    @property
    def cost(self) -> float:
        """Of all shares."""
        return sum(share.cost for share in self.shares)


def make_shares(
    jobs: Iterable[Job], *, most_texts: int, most_chars: int, most_cost: float = math.inf
) -> list[Share]:
    """Fill a batch: jobs take turns, a text at a time, until it is full.

    A text that is too long for any batch is one alone.

    Args:
        jobs: of which some texts wait; the first has the first turn.
        most_texts: of the batch.
        most_chars: of the batch.
        most_cost: of the batch.

    Returns:
        a share of each job that has one, in the jobs' order; the jobs are as they were.
    """
    shares: dict[Job, int] = {}
    turns = deque(jobs)
    texts = chars = 0
    cost = 0.0
    while turns:
        job = turns.popleft()
        end = shares.get(job, job.begun)
        texts += 1
        chars += len(job.texts[end])
        cost += job.cost_of(end, end + 1)
        if shares and (texts > most_texts or chars > most_chars or cost > most_cost):
            break
        shares[job] = end + 1
        if end + 1 < len(job.texts):
            turns.append(job)
    return [Share(job, job.begun, end) for job, end in shares.items()]


def go_together(one: Job, other: Job) -> bool:
    """Whether two may be in one batch."""
    return one.encoder is other.encoder and one.kind == other.kind


def one_by_one(embedded: EmbeddedTexts) -> list[EmbeddedText]:
    """Each text's embedding, in order."""
    columns = (embedded.vectors, embedded.token_counts, embedded.truncated)
    return [EmbeddedText(*row) for row in zip(*columns, strict=True)]
