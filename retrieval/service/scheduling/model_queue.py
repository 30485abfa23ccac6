"""A queue before a model, and the thread that takes batches from it."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeAlias

from retrieval.errors import NotServing
from retrieval.search import EmbeddedText
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.deadlines import Pace, too_late
from retrieval.service.scheduling.deliver import Outcome, deliver
from retrieval.service.scheduling.embedding_jobs import (
    Batch,
    Job,
    Share,
    go_together,
    make_shares,
    one_by_one,
)
from retrieval.service.scheduling.supervision import say_ended, say_failed
from retrieval.service.scheduling.turns import Turns

_BATCH_SECONDS = 0.1
"""What a batch should take at most: whoever comes next waits for it. Of large models that is a text
or two, and more would hardly be faster for each."""

_SHORT_CHARS = 256
"""Of a query, or several, that other cores would hardly make faster."""


class ModelQueue:
    """Jobs that wait for a model, and a thread that runs it.

    It never waits for more work to come: what came while the model was busy makes up the next
    batch. So a lone request is not delayed, and has all cores, or one where that is about as fast
    for a short text; a crowd shares the model's passes. On a CPU a pass of short texts runs on each
    core then, with its share of them: on all cores together, each product would wait for the one
    that the rest of the server has interrupted.

    Callers take turns (``Turns``), a text at a time, so a large request goes through the model in
    as many batches as it needs, with those of others between and among its own.
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
            niceness: of the thread, where threads have one; see ``behind_others``.
            max_texts: most texts of a batch.
            max_chars: most characters of one, unless a single text has more.
            metrics: told how long texts wait, what goes through the model, and what fails.
            side_by_side: whether batches may run on one core each, of models that go so.
            others_run: whether cores are taken by something else that runs a model now.
        """
        self._name = name
        self._niceness = niceness
        self._max_texts = max_texts
        self._max_chars = max_chars
        self._metrics = metrics
        metrics.supervises(name)
        self._side_by_side = side_by_side
        self._others_run = others_run
        self._turns = Turns[Job]()
        self._running: list[int] = []
        """How many texts each of the batches has that run on one core."""
        self._busy = False
        self._pace = Pace()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.revive()

    @property
    def waiting(self) -> int:
        """Texts that wait for the model now."""
        with self._changed:
            return sum(job.waiting for job in self._turns)

    @property
    def is_busy(self) -> bool:
        """Whether the model runs now."""
        return self._busy or bool(self._running)

    def put(self, job: Job) -> None:
        """Let texts wait for the model.

        Raises:
            NotServing: the server is shutting down, or the thread can't be started again.
            Overloaded: so much waits already that the request's deadline would pass.
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
        """Start the thread, if it does not run.

        Raises:
            NotServing: the system lets no thread start.
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
        """Finish what waits, and end the thread."""
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
            except Exception as error:  # noqa: BLE001  (told to those who wait; the thread goes on)
                self._fail_all(error)
            else:
                if batch.shares:
                    self._start(batch)
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _wait_for_work(self) -> bool:
        """Wait until something waits, and there is a core for it; False: closed, and all done."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() if self._turns else self._closed)
            return bool(self._turns)

    def _take_batch(self) -> Batch:
        """Take a batch: texts of the job whose turn it is, and of those that can go along.

        Drops jobs that nobody waits for, and refuses those that would be too late if they began
        now. If all would, one is done anyway, so that a wrong guess mends itself.
        """
        with self._changed:
            jobs = self._wanted()
            if not jobs:
                return Batch([], beside=False, crowded=False)
            alike = [job for job in jobs if go_together(job, jobs[0])]
            lanes = self._lanes()
            shares = make_shares(
                alike,
                most_texts=self._share_of_lane(lanes),
                most_chars=self._max_chars,
                most_cost=self._pace.cost_in(_BATCH_SECONDS),
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
        """Jobs that may be begun, or gone on with, in the order of their turns."""
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
        """Take out a job of which texts wait."""
        self._turns.remove(job)
        self._pace.leave(job.cost)

    def _lanes(self) -> int:
        """How many batches run at a time of the model whose turn it is."""
        job = self._turns.next()
        if job is None or not (self._side_by_side and job.encoder.side_by_side):
            return 1
        return _cores()

    def _share_of_lane(self, lanes: int) -> int:
        """Most texts of the next batch: if others go beside it, what leaves them as many."""
        waiting = self.waiting
        if not self._running and waiting < lanes:
            return self._max_texts  # so few are done sooner by all cores together
        return min(self._max_texts, math.ceil((waiting + sum(self._running)) / lanes))

    def _start(self, batch: Batch) -> None:
        """Run the model over a batch: on one core, in another thread, or on all of them."""
        if batch.beside:
            from retrieval.encoding.cores import on_single_core

            with self._changed:
                self._running.append(batch.texts)
            try:
                on_single_core(self._embed_beside, batch)
            except RuntimeError as error:
                # Its threads can't be started: this one will do.
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
        """Whether a batch goes on one core: where others go beside it, or it is short."""
        encoder = shares[0].job.encoder
        if not (self._side_by_side and encoder.side_by_side):
            return False
        if any(share.job.is_long for share in shares):
            return False  # long texts side by side would take that many times the memory
        if self._running or self._turns or self._others_run():
            return True
        query = shares[0].job.kind == "query"
        chars = sum(len(text) for share in shares for text in share.texts)
        return query and chars <= _SHORT_CHARS and encoder.query_on_one_core

    def _embed_beside(self, batch: Batch) -> None:
        behind_others(self._niceness)  # whoever came first has started these threads
        self._embed_and_deliver(batch)

    def _embed_and_deliver(self, batch: Batch) -> None:
        """Run the model over a batch, remember how long it takes, and hand out the results."""
        started = time.perf_counter()
        made: list[_Made] = []
        try:
            made = self._embed(batch.shares)
        except Exception as error:  # noqa: BLE001  (told to those who wait; the thread goes on)
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
        except Exception as error:  # noqa: BLE001  (raised again in the task that waits for it)
            if len(shares) == 1:
                return [(shares[0], error)]
            # One bad text must not fail the requests that happened to be its neighbours.
            return [one for share in shares for one in self._embed([share])]
        seconds, tokens = time.perf_counter() - started, sum(row.token_count for row in rows)
        self._metrics.encoded(first.kind, len(texts), tokens, seconds)
        following = iter(rows)
        return [(share, list(islice(following, len(share.texts)))) for share in shares]

    def _settle(self, share: Share, made: "list[EmbeddedText] | Exception") -> Outcome | None:
        """Note what came of a share; the job's outcome, if that is all. The lock is held."""
        job = share.job
        if isinstance(made, Exception):
            if job.waiting and job in self._turns:
                self._drop(job)
            return Outcome(job.future, None, made)
        rows = job.finish(share.start, made)
        return None if rows is None else Outcome(job.future, rows)

    def _fail_all(self, error: Exception) -> None:
        """Tell all who wait what went wrong: else it would go wrong again and again."""
        say_failed("thread", self._name, error, self._metrics)
        with self._changed:
            jobs = list(self._turns)
            for job in jobs:
                self._drop(job)
        deliver([Outcome(job.future, None, error) for job in jobs])

    def _has_room(self) -> bool:
        """Whether the job whose turn it is could start now."""
        return len(self._running) < self._lanes()


_Made: TypeAlias = tuple[Share, list[EmbeddedText] | Exception]
"""A share, and its texts' embeddings or why there are none."""


def behind_others(niceness: int) -> None:
    """Let this thread go behind others where cores are short.

    Requests that come, answers that are ready and refusals then need not wait until a product is
    computed. Where nobody else wants a core it changes nothing, nor where the server as a whole is
    to be nicer than that.

    Args:
        niceness: from 0 to 19, of which each step is about a tenth less of a core.
    """
    if sys.platform == "linux":  # elsewhere it is the whole process that has a priority
        thread = os.PRIO_PROCESS, threading.get_native_id()
        if os.getpriority(*thread) < niceness:
            os.setpriority(*thread, niceness)


def _cores() -> int:
    """How many batches run side by side, of a model for which that is faster."""
    # Loads torch: not before there is an encoder.
    from retrieval.encoding.cores import single_cores

    return single_cores()
