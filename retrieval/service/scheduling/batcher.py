"""Batches: texts that wait for a model go through it together.

``Batcher`` has two ``ModelQueue``; each makes batches of ``Job``, the texts of one request.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.deadline import answer_by
from retrieval.domain.records import TextKind
from retrieval.errors import NotServing
from retrieval.search import EmbeddedText
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.fair_queue import FairQueue, Pace, too_late, turn_of
from retrieval.service.scheduling.threads import (
    AnyFuture,
    Outcome,
    behind_others,
    deliver,
    say_ended,
    say_failed,
)

_CHARS_A_TEXT: Final = 32
"""Cost of a text beside its own characters: special tokens and the work around a text."""
_CHARS_A_TOKEN: Final = 6
"""More characters than a token has on average. A text with more for each token that its model reads
is cut off there, and costs no more."""
_LONG_CHARS: Final = 4_096
"""Above this, about a thousand tokens, a text is long: shorter texts are cut into batches of about
that size, but a single text can't be cut."""


class EmbeddedTexts(Protocol):
    """The embeddings of n texts; ``retrieval.encoding.encoder.Embedded`` is one."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[n, dim], L2-normalised."""
        ...

    @property
    def token_counts(self) -> list[int]:
        """Tokens that the model read of each text, including prompt and special tokens."""
        ...

    @property
    def truncated(self) -> list[bool]:
        """Whether the end of each text was cut off."""
        ...


class TextEncoder(Protocol):
    """The part of a model that the batcher uses; ``retrieval.encoding.encoder.Encoder`` has it."""

    @property
    def side_by_side(self) -> bool:
        """Whether several batches are faster side by side, on one core each."""
        ...

    @property
    def query_on_one_core(self) -> bool:
        """Whether a single short query is about as fast on one core as on all."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest text that it reads, in tokens."""
        ...

    def embed(self, texts: Sequence[str], kind: TextKind) -> EmbeddedTexts:
        """Embed texts; called by several threads at once only if ``side_by_side``."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """The texts of one request, which go through the model some at a time."""

    encoder: TextEncoder
    texts: Sequence[str]
    kind: TextKind
    since: float
    """``time.perf_counter()`` when it began to wait."""
    answer_by: float
    """``time.perf_counter()`` when its client gives up."""
    future: AnyFuture
    """Of a list of ``EmbeddedText``; cancelled when nobody waits for it any more."""
    turn: str = ""
    """The caller whose turn it takes; see ``FairQueue``."""
    begun: int = field(default=0, init=False)
    """How many of its texts have been put into batches; the others wait."""
    cost: float = field(init=False)
    """Estimated work of the waiting texts, in characters."""
    is_long: bool = field(init=False)
    """Whether any of the texts is long."""
    _rows: dict[int, EmbeddedText] = field(default_factory=dict, init=False)
    """Number of a text → its embedding, of those that are done."""

    def __post_init__(self) -> None:
        """Compute what is asked for often."""
        self.cost = self.cost_of(0, len(self.texts))
        self.is_long = any(len(text) > _LONG_CHARS for text in self.texts)

    def cost_of(self, start: int, stop: int) -> float:
        """Estimate the work of some of its texts, in characters."""
        most = _CHARS_A_TOKEN * self.encoder.max_tokens
        texts = self.texts[start:stop]
        return sum(min(len(text), most) for text in texts) + _CHARS_A_TEXT * len(texts)

    @property
    def waiting(self) -> int:
        """Number of texts that wait."""
        return len(self.texts) - self.begun

    def begin(self, stop: int) -> None:
        """Mark the waiting texts before a number as begun."""
        self.cost -= self.cost_of(self.begun, stop)
        self.begun = stop

    def finish(self, start: int, rows: Sequence[EmbeddedText]) -> list[EmbeddedText] | None:
        """Keep the embeddings of some texts.

        Args:
            start: number of the first text.
            rows: an embedding for each.

        Returns:
            the embeddings of all texts in order; None while some are missing.
        """
        self._rows.update(enumerate(rows, start))
        if len(self._rows) < len(self.texts):
            return None
        return [self._rows[number] for number in range(len(self.texts))]


class Share(NamedTuple):
    """The texts of a job that are in one batch."""

    job: Job
    start: int
    stop: int

    @property
    def texts(self) -> Sequence[str]:
        """The texts."""
        return self.job.texts[self.start : self.stop]

    @property
    def cost(self) -> float:
        """Estimated work, in characters."""
        return self.job.cost_of(self.start, self.stop)


class Batch(NamedTuple):
    """Texts of one model and kind, which go through the model together."""

    shares: list[Share]
    beside: bool
    """Whether it runs on one core, so that other batches can run beside it."""
    crowded: bool
    """Whether other texts had to wait for lack of room."""

    @property
    def texts(self) -> int:
        """Number of texts of all shares."""
        return sum(share.stop - share.start for share in self.shares)

    @property
    def cost(self) -> float:
        """Estimated work of all shares, in characters."""
        return sum(share.cost for share in self.shares)


def make_shares(
    jobs: Iterable[Job], *, max_texts: int, max_chars: int, max_cost: float = math.inf
) -> list[Share]:
    """Fill a batch: jobs take turns, a text at a time, until it is full.

    A text that is too long for any batch makes a batch by itself. The jobs are not changed.

    Args:
        jobs: with waiting texts; the first has the first turn.
        max_texts: of the batch.
        max_chars: of the batch.
        max_cost: of the batch.

    Returns:
        the shares of the jobs that got any, in the jobs' order.
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
        if shares and (texts > max_texts or chars > max_chars or cost > max_cost):
            break
        shares[job] = end + 1
        if end + 1 < len(job.texts):
            turns.append(job)
    return [Share(job, job.begun, end) for job, end in shares.items()]


def go_together(one: Job, other: Job) -> bool:
    """Return whether two jobs may be in one batch."""
    return one.encoder is other.encoder and one.kind == other.kind


def one_by_one(embedded: EmbeddedTexts) -> list[EmbeddedText]:
    """Return each text's embedding, in order."""
    columns = (embedded.vectors, embedded.token_counts, embedded.truncated)
    return [EmbeddedText(*row) for row in zip(*columns, strict=True)]


_BATCH_SECONDS = 0.1
"""Longest time that a batch should take, because the next request waits for it. With large models
that is a text or two; larger batches would hardly be faster for each text."""

_SHORT_CHARS = 256
"""Up to this length in all, more cores would hardly make queries faster."""


class ModelQueue:
    """Jobs that wait for a model, and the thread that runs it.

    The thread never waits for more work: the texts that came while the model was busy make the next
    batch. So a single request is not delayed, and has all cores, or one core if that is about as
    fast for a short text; many requests share the model's passes. On a CPU each core then runs a
    pass of its own with its share of the texts: on all cores together, each product would wait for
    the core that the rest of the server has interrupted.

    Callers take turns (``FairQueue``), a text at a time, so a large request goes through the model
    in as many batches as it needs, with texts of other requests in and between them.
    """

    def __init__(
        self,
        name: str,
        *,
        niceness: int,
        max_texts: int,
        max_chars: int,
        metrics: Metrics,
        side_by_side: bool = True,
        others_run: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            niceness: of the thread; see ``behind_others``.
            max_texts: limits the texts of a batch.
            max_chars: limits the characters of a batch, unless a single text has more.
            metrics: record waiting times, batches and failures.
            side_by_side: whether batches may run on one core each, if the model allows it.
            others_run: tells whether another queue is running a model now.
        """
        self._name = name
        self._niceness = niceness
        self._max_texts = max_texts
        self._max_chars = max_chars
        self._metrics = metrics
        metrics.supervises(name)
        self._side_by_side = side_by_side
        self._others_run = others_run
        self._turns = FairQueue[Job]()
        self._running: list[int] = []
        """Number of texts of each batch that runs on one core now."""
        self._busy = False
        self._pace = Pace()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.revive()

    @property
    def waiting(self) -> int:
        """Number of texts that wait for the model now."""
        with self._changed:
            return sum(job.waiting for job in self._turns)

    @property
    def is_busy(self) -> bool:
        """Whether the model runs now."""
        return self._busy or bool(self._running)

    def put(self, job: Job) -> None:
        """Add texts to the queue.

        Raises:
            NotServing: the server is shutting down, or the thread can't be started again.
            Overloaded: the request's deadline would pass before they are embedded.
        """
        with self._changed:
            if self._closed:
                raise NotServing("the server is shutting down")
            self.revive()
            self._pace.check(job.cost, overtaken=self._turns.overtaken(job.turn, job.cost))
            self._pace.join(job.cost)
            self._turns.add(job)
            self._changed.notify()

    def revive(self) -> None:
        """Start the thread if it is not running.

        Raises:
            NotServing: the system can't start a thread.
        """
        with self._changed:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            if self._thread is not None:
                say_ended("thread", self._name, self._metrics)
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise NotServing(f"the model can't be run: {error}") from error
            self._thread = thread

    def close(self) -> None:
        """Embed what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        behind_others(self._niceness)
        while self._wait_for_work():
            try:
                batch = self._take_batch()
            except Exception as error:  # noqa: BLE001  (raised where jobs are awaited)
                self._fail_all(error)
            else:
                if batch.shares:
                    self._start(batch)
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _wait_for_work(self) -> bool:
        """Wait for a job and a core for it; return False if the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() if self._turns else self._closed)
            return bool(self._turns)

    def _take_batch(self) -> Batch:
        """Take a batch: texts of the job whose turn it is, and of others that can go along.

        Jobs that nobody waits for are dropped, and jobs that would be too late if they began now
        are refused. If all would be too late, one is done anyway, to correct a wrong estimate.
        """
        with self._changed:
            jobs = self._wanted()
            if not jobs:
                return Batch([], beside=False, crowded=False)
            alike = [job for job in jobs if go_together(job, jobs[0])]
            lanes = self._lanes()
            shares = make_shares(
                alike,
                max_texts=self._share_of_lane(lanes),
                max_chars=self._max_chars,
                max_cost=self._pace.cost_in(_BATCH_SECONDS),
            )
            now = time.perf_counter()
            for share in shares:
                if share.start == 0:
                    self._metrics.waited(now - share.job.since)
                self._turns.take(share.job, share.cost)
                share.job.begin(share.stop)
                if share.job.waiting:
                    self._turns.add(share.job)
            beside = self._suits_one_core(shares)
            has_room = beside and len(self._running) + 1 < lanes
            return Batch(shares, beside=beside, crowded=bool(self._turns) and not has_room)

    def _wanted(self) -> list[Job]:
        """Return the jobs to begin or go on with, in the order of their turns."""
        seconds = self._pace.seconds_once_begun(0)
        in_time = time.perf_counter() + seconds
        wanted: list[Job] = []
        late: list[Job] = []
        for job in list(self._turns):
            if job.future.cancelled():
                self._drop(job)
            elif job.begun or job.answer_by >= in_time:
                wanted.append(job)
            else:
                late.append(job)
        if late and not wanted:
            wanted.append(late.pop(0))
        for job in late:
            self._drop(job)
        deliver([Outcome(job.future, None, too_late(seconds)) for job in late])
        return wanted

    def _drop(self, job: Job) -> None:
        """Remove a job with waiting texts."""
        self._turns.remove(job)
        self._pace.leave(job.cost)

    def _lanes(self) -> int:
        """Return how many batches can run at a time with the model whose turn it is."""
        job = self._turns.next()
        if job is None or not (self._side_by_side and job.encoder.side_by_side):
            return 1
        return _cores()

    def _share_of_lane(self, lanes: int) -> int:
        """Return the size limit of the next batch: a fair share if others run beside it."""
        waiting = self.waiting
        if not self._running and waiting < lanes:
            return self._max_texts  # all cores together are faster for so few texts
        return min(self._max_texts, math.ceil((waiting + sum(self._running)) / lanes))

    def _start(self, batch: Batch) -> None:
        """Run the model over a batch: on one core in another thread, or on all cores here."""
        if batch.beside:
            from retrieval.encoding.cores import on_single_core

            with self._changed:
                self._running.append(batch.texts)
            try:
                on_single_core(self._embed_beside, batch)
            except RuntimeError as error:
                # The threads of single cores can't be started: use this one.
                say_failed("thread", self._name, error, self._metrics)
                with self._changed:
                    self._running.remove(batch.texts)
                batch = batch._replace(beside=False)
        if not batch.beside:
            self._busy = True
            try:
                self._embed_and_deliver(batch)
            finally:
                self._busy = False

    def _suits_one_core(self, shares: Sequence[Share]) -> bool:
        """Return whether to run a batch on one core: others can run beside it, or it is short."""
        encoder = shares[0].job.encoder
        if not (self._side_by_side and encoder.side_by_side):
            return False
        if any(share.job.is_long for share in shares):
            return False  # long texts side by side would multiply the memory needed
        if self._running or self._turns or self._others_run():
            return True
        query = shares[0].job.kind == "query"
        chars = sum(len(text) for share in shares for text in share.texts)
        return query and chars <= _SHORT_CHARS and encoder.query_on_one_core

    def _embed_beside(self, batch: Batch) -> None:
        behind_others(self._niceness)  # another queue may have started this thread
        self._embed_and_deliver(batch)

    def _embed_and_deliver(self, batch: Batch) -> None:
        """Run the model over a batch, learn how long it takes, and deliver the results."""
        started = time.perf_counter()
        made: list[_Made] = []
        try:
            made = self._embed(batch.shares)
        except Exception as error:  # noqa: BLE001  (raised where jobs are awaited)
            say_failed("thread", self._name, error, self._metrics)
            made = [(share, error) for share in batch.shares]
        finally:
            seconds, cost = time.perf_counter() - started, batch.cost
            side_by_side = _cores() if batch.beside else 1
            with self._changed:
                self._pace.leave(cost)
                self._pace.learn(cost, seconds, side_by_side=side_by_side, crowded=batch.crowded)
                outcomes = [outcome for one in made if (outcome := self._settle(*one))]
                if batch.beside:
                    self._running.remove(batch.texts)
                self._changed.notify()
        deliver(outcomes)

    def _embed(self, shares: Sequence[Share]) -> list["_Made"]:
        """Run the model once over the texts of all shares."""
        first = shares[0].job
        texts = [text for share in shares for text in share.texts]
        started = time.perf_counter()
        try:
            rows = one_by_one(first.encoder.embed(texts, first.kind))
        except Exception as error:  # noqa: BLE001  (raised where jobs are awaited)
            if len(shares) == 1:
                return [(shares[0], error)]
            # A text that fails must not fail other requests in its batch.
            return [one for share in shares for one in self._embed([share])]
        seconds, tokens = time.perf_counter() - started, sum(row.token_count for row in rows)
        self._metrics.encoded(first.kind, len(texts), tokens, seconds)
        following = iter(rows)
        return [(share, list(islice(following, len(share.texts)))) for share in shares]

    def _settle(self, share: Share, made: "list[EmbeddedText] | Exception") -> Outcome | None:
        """Keep a share's results; return the job's outcome once complete. The lock must be held."""
        job = share.job
        if isinstance(made, Exception):
            if job.waiting and job in self._turns:
                self._drop(job)
            return Outcome(job.future, None, made)
        rows = job.finish(share.start, made)
        return None if rows is None else Outcome(job.future, rows)

    def _fail_all(self, error: Exception) -> None:
        """Fail all waiting jobs: otherwise the same error would occur again and again."""
        say_failed("thread", self._name, error, self._metrics)
        with self._changed:
            jobs = list(self._turns)
            for job in jobs:
                self._drop(job)
        deliver([Outcome(job.future, None, error) for job in jobs])

    def _has_room(self) -> bool:
        """Return whether the job whose turn it is could start now."""
        return len(self._running) < self._lanes()


_Made: TypeAlias = tuple[Share, list[EmbeddedText] | Exception]
"""A share, and the embeddings of its texts or the error instead."""


def _cores() -> int:
    """Return how many batches can run side by side on this machine."""
    # Loads torch, so import it only once there is an encoder.
    from retrieval.encoding.cores import single_cores

    return single_cores()


NICENESS, BULK_NICENESS = 10, 15
"""Of the threads that search and run models: they yield to the event loop, and work that takes
seconds anyway yields to the rest. Searching has the niceness of embedding: if it were less nice,
many searches of one caller would keep the texts of all others from the model."""


class Batcher:
    """Two queues for the models: one for short queries, one for passages and long texts.

    On a CPU, where batches of a model run side by side, each queue has threads of its own. A text
    of 8,192 tokens takes seconds and can't be interrupted: short texts go on beside it, on one core
    each, and take precedence if cores are short. Models that take one batch at a time use the first
    queue alone.
    """

    def __init__(
        self,
        *,
        max_texts: int = 32,
        max_chars: int = 16_384,
        metrics: Metrics | None = None,
    ) -> None:
        """Start the threads.

        Args:
            max_texts: limits the texts of a batch, so that others get their turn.
            max_chars: limits the characters of a batch, unless a single text has more.
            metrics: record waiting times, batches and failures.
        """
        queue = partial(
            ModelQueue, max_texts=max_texts, max_chars=max_chars, metrics=metrics or Metrics()
        )
        self._bulk = queue("encoder-bulk", niceness=BULK_NICENESS, side_by_side=False)
        self._short = queue("encoder", niceness=NICENESS, others_run=lambda: self._bulk.is_busy)

    async def embed(
        self, encoder: TextEncoder, texts: Sequence[str], kind: TextKind
    ) -> list[EmbeddedText]:
        """Embed texts; if this is cancelled, texts that have not begun are dropped.

        Args:
            encoder: the model.
            texts: n texts.
            kind: ``"query"`` or ``"passage"``.

        Returns:
            n embeddings, in the texts' order.

        Raises:
            NotServing: the server is shutting down.
            Overloaded: the request's deadline would pass before they are embedded.
            RetrievalError: what the encoder raises.
        """
        future: AnyFuture = asyncio.get_running_loop().create_future()
        now, gives_up = time.perf_counter(), answer_by.get()
        job = Job(encoder, texts, kind, now, gives_up, future, turn_of.get())
        bulk = encoder.side_by_side and (kind == "passage" or job.is_long)
        (self._bulk if bulk else self._short).put(job)
        return cast(list[EmbeddedText], await future)

    @property
    def waiting(self) -> int:
        """Number of texts that wait for a model now."""
        return self._short.waiting + self._bulk.waiting

    def revive(self) -> None:
        """Start threads again that have ended, which takes a bug.

        Raises:
            NotServing: the system can't start a thread.
        """
        self._short.revive()
        self._bulk.revive()

    def close(self) -> None:
        """Embed what waits, and end the threads."""
        self._short.close()
        self._bulk.close()
