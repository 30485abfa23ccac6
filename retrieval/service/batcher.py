"""What runs models: requests that wait for one together go through it together."""

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import cast

from retrieval.errors import NotServing
from retrieval.records import TextKind
from retrieval.search import EmbeddedText
from retrieval.service.delivery import AnyFuture, Outcome, deliver
from retrieval.service.jobs import Batch, Job, TextEncoder, go_together, one_by_one
from retrieval.service.metrics import Metrics
from retrieval.service.pace import Pace, answer_by, too_late

_NICENESS = 10

_SHORT_CHARS = 256
"""Of a query, or several, that other cores would hardly make faster."""


class Batcher:
    """Embeds for many requests at once.

    It never waits for more work to come: what came while the model was busy makes up the next
    batch. So a lone request is not delayed, and has all cores, or one where that is about as fast
    for a short text; a crowd shares the model's passes. On a CPU a pass runs on each core then,
    with its share of the texts: on all cores together, each product would wait for the one that
    the rest of the server has interrupted.
    """

    def __init__(
        self,
        *,
        max_texts: int = 32,
        max_chars: int = 16_384,
        metrics: Metrics | None = None,
    ) -> None:
        """Start the thread.

        What a single request brings is never split.

        Args:
            max_texts: most texts of a batch made of several requests.
            max_chars: most characters of one, so that a query does not wait for many long texts.
            metrics: told how long texts wait, and what goes through the models.
        """
        self._max_texts = max_texts
        self._max_chars = max_chars
        self._metrics = metrics or Metrics()
        self._jobs: deque[Job] = deque()
        self._running: list[int] = []
        """How many texts each of the batches has that run on one core."""
        self._pace = Pace()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    async def embed(
        self, encoder: TextEncoder, texts: Sequence[str], kind: TextKind
    ) -> list[EmbeddedText]:
        """Embed texts, and wait for it; whoever is cancelled before its turn costs nothing.

        Args:
            encoder: the model.
            texts: n texts.
            kind: ``"query"`` or ``"passage"``.

        Returns:
            n embeddings in the texts' order.

        Raises:
            NotServing: the server is shutting down.
            Overloaded: so much waits already that the request's deadline would pass.
            RetrievalError: what the encoder raised.
        """
        future: AnyFuture = asyncio.get_running_loop().create_future()
        job = Job(encoder, texts, kind, time.perf_counter(), answer_by.get(), future)
        cost = job.cost
        with self._changed:
            if self._closed:
                raise NotServing("the server is shutting down")
            self._pace.check(cost)
            self._pace.join(cost)
            self._jobs.append(job)
            self._changed.notify()
        return cast(list[EmbeddedText], await future)

    @property
    def waiting(self) -> int:
        """Texts that wait for the model now."""
        with self._changed:
            return sum(len(job.texts) for job in self._jobs)

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        _yield_to_the_event_loop()
        while self._wait_for_work():
            batch = self._take_batch()
            if batch.jobs:
                now = time.perf_counter()
                for job in batch.jobs:
                    self._metrics.waited(now - job.since)
                self._start(batch)
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _wait_for_work(self) -> bool:
        """Wait until something waits, and there is a core for it; False: closed, and all done."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() if self._jobs else self._closed)
            return bool(self._jobs)

    def _take_batch(self) -> Batch:
        """Take the oldest job, and those behind it that fit the same batch.

        Passes over those that nobody waits for, and refuses those that would be too late. If all
        would, one is done anyway, so that a wrong guess mends itself.
        """
        jobs: list[Job] = []
        late: list[Job] = []
        texts = chars = 0
        with self._changed:
            lanes = self._lanes()
            most_texts = self._share(lanes)
            seconds = self._pace.seconds_once_begun(0)
            in_time = time.perf_counter() + seconds
            while self._jobs and (not jobs or go_together(self._jobs[0], jobs[0])):
                job = self._jobs[0]
                wanted = not job.future.cancelled()
                if wanted and job.answer_by >= in_time:
                    texts += len(job.texts)
                    chars += job.chars
                    if jobs and (texts > most_texts or chars > self._max_chars):
                        break
                    jobs.append(job)
                elif wanted:
                    late.append(job)
                else:
                    self._pace.leave(job.cost)
                self._jobs.popleft()
            if late and not jobs:
                jobs.append(late.pop())
            for job in late:
                self._pace.leave(job.cost)
            deliver([Outcome(job.future, None, too_late(seconds)) for job in late])
            beside = bool(jobs) and self._suits_one_core(jobs)
            has_room = beside and len(self._running) + 1 < lanes
            return Batch(jobs, beside=beside, crowded=bool(self._jobs) and not has_room)

    def _lanes(self) -> int:
        """How many batches run at a time of the oldest job's model."""
        return _cores() if self._jobs[0].encoder.side_by_side else 1

    def _share(self, lanes: int) -> int:
        """Most texts of the next batch: if others go beside it, what leaves them as many."""
        waiting = self.waiting
        if not self._running and waiting < lanes:
            return self._max_texts  # so few are done sooner by all cores together
        return min(self._max_texts, math.ceil((waiting + sum(self._running)) / lanes))

    def _start(self, batch: Batch) -> None:
        """Run the model over a batch: on one core, in another thread, or on all of them."""
        if not batch.beside:
            self._embed_and_deliver(batch)
            return
        from retrieval.parallel import on_single_core

        with self._changed:
            self._running.append(batch.texts)
        on_single_core(self._embed_beside, batch)

    def _suits_one_core(self, jobs: Sequence[Job]) -> bool:
        """Whether a batch goes on one core: where others go beside it, or it is short."""
        encoder = jobs[0].encoder
        if not encoder.side_by_side or any(job.is_long for job in jobs):
            return False  # long texts side by side would take that many times the memory
        if self._running or self._jobs:
            return True
        short = jobs[0].kind == "query" and sum(job.chars for job in jobs) <= _SHORT_CHARS
        return short and encoder.query_on_one_core

    def _embed_beside(self, batch: Batch) -> None:
        _yield_to_the_event_loop()  # whoever came first has started these threads
        self._embed_and_deliver(batch)

    def _embed_and_deliver(self, batch: Batch) -> None:
        """Run the model over a batch, remember how long it takes, and hand out the results."""
        started = time.perf_counter()
        outcomes: list[Outcome] = []
        try:
            outcomes = self._embed(batch.jobs)
        finally:
            seconds, cost = time.perf_counter() - started, batch.cost
            side_by_side = _cores() if batch.beside else 1
            with self._changed:
                self._pace.leave(cost)
                self._pace.learn(cost, seconds, side_by_side=side_by_side, crowded=batch.crowded)
                if batch.beside:
                    self._running.remove(batch.texts)
                self._changed.notify()
        deliver(outcomes)

    def _embed(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run the model once over the texts of all jobs."""
        texts = [text for job in jobs for text in job.texts]
        started = time.perf_counter()
        try:
            rows = one_by_one(jobs[0].encoder.embed(texts, jobs[0].kind))
        except Exception as error:  # noqa: BLE001  (raised again in the thread that waits for it)
            if len(jobs) == 1:
                return [Outcome(jobs[0].future, None, error)]
            # One bad text must not fail the requests that happened to be its neighbours.
            return [outcome for job in jobs for outcome in self._embed([job])]
        seconds, tokens = time.perf_counter() - started, sum(row.token_count for row in rows)
        self._metrics.encoded(jobs[0].kind, len(texts), tokens, seconds)
        following = iter(rows)
        return [Outcome(job.future, list(islice(following, len(job.texts)))) for job in jobs]

    def _has_room(self) -> bool:
        """Whether the oldest job could start now."""
        return len(self._running) < self._lanes()


def _cores() -> int:
    """How many batches run side by side, of a model for which that is faster."""
    # Loads torch: not before there is an encoder.
    from retrieval.parallel import single_cores

    return single_cores()


def _yield_to_the_event_loop() -> None:
    """Let this thread go behind others where cores are short.

    Requests that come, answers that are ready and refusals then need not wait until a product is
    computed. Where nobody else wants a core it changes nothing, nor where the server as a whole is
    to be nicer than that.
    """
    if sys.platform == "linux":  # elsewhere it is the whole process that has a priority
        thread = os.PRIO_PROCESS, threading.get_native_id()
        if os.getpriority(*thread) < _NICENESS:
            os.setpriority(*thread, _NICENESS)
