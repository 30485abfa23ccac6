"""What runs models: requests that wait for one together go through it together."""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import NotServing
from retrieval.records import TextKind
from retrieval.service.delivery import AnyFuture, Outcome, deliver
from retrieval.service.metrics import Metrics

_NICENESS = 10

_SHORT_CHARS = 256
"""Of a query, or several, that other cores would hardly make faster."""


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
class TextEmbedding:
    """One text's embedding."""

    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    token_count: int
    """Tokens that the model read, prompt and special tokens counted."""
    truncated: bool
    """Whether the end of the text was cut off."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Texts of one request that wait for the model."""

    encoder: TextEncoder
    texts: Sequence[str]
    kind: TextKind
    since: float
    """``time.perf_counter()`` of its coming."""
    future: AnyFuture
    """Of a list of ``TextEmbedding``; cancelled when nobody waits for it any more."""

    @property
    def chars(self) -> int:
        """Characters of all texts."""
        return sum(map(len, self.texts))


class Batcher:
    """Embeds for many requests at once.

    It never waits for more work to come: what came while the model was busy makes up the next
    batch. So a lone request is not delayed, and has all cores, or one where that is about as fast
    for a short text; a crowd shares the model's passes. A small model runs a pass on each core
    then: on all cores together, each product would wait for the one that the rest of the server
    has interrupted.
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
        self._jobs: deque[_Job] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    async def embed(
        self, encoder: TextEncoder, texts: Sequence[str], kind: TextKind
    ) -> list[TextEmbedding]:
        """Embed texts, and wait for it; whoever is cancelled before its turn costs nothing.

        Args:
            encoder: the model.
            texts: n texts.
            kind: ``"query"`` or ``"passage"``.

        Returns:
            n embeddings in the texts' order.

        Raises:
            NotServing: the server is shutting down.
            RetrievalError: what the encoder raised.
        """
        future: AnyFuture = asyncio.get_running_loop().create_future()
        job = _Job(encoder, texts, kind, time.perf_counter(), future)
        with self._changed:
            if self._closed:
                raise NotServing("the server is shutting down")
            self._jobs.append(job)
            self._changed.notify()
        return cast(list[TextEmbedding], await future)

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
        while jobs := self._next_jobs():
            wanted = [job for job in jobs if not job.future.cancelled()]
            if wanted:
                now = time.perf_counter()
                for job in wanted:
                    self._metrics.waited(now - job.since)
                self._start(wanted)
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _start(self, jobs: Sequence[_Job]) -> None:
        """Run the model over a batch: on one core, where others go beside it, or it is short."""
        with self._changed:
            beside = self._suits_one_core(jobs)
            self._running += beside
        if beside:
            from retrieval.parallel import on_single_core

            on_single_core(self._embed_beside, jobs)
        else:
            self._embed_together(jobs)

    def _suits_one_core(self, jobs: Sequence[_Job]) -> bool:
        encoder = jobs[0].encoder
        if not encoder.side_by_side:
            return False
        if self._running or self._jobs:
            return True
        short = jobs[0].kind == "query" and sum(job.chars for job in jobs) <= _SHORT_CHARS
        return short and encoder.query_on_one_core

    def _embed_beside(self, jobs: Sequence[_Job]) -> None:
        _yield_to_the_event_loop()  # whoever came first has started these threads
        try:
            self._embed_together(jobs)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def _embed_together(self, jobs: Sequence[_Job]) -> None:
        """Run the model once over the texts of all jobs, and hand out the results."""
        texts = [text for job in jobs for text in job.texts]
        started = time.perf_counter()
        try:
            rows = _rows(jobs[0].encoder.embed(texts, jobs[0].kind))
        except Exception as error:  # noqa: BLE001  (raised again in the thread that waits for it)
            if len(jobs) == 1:
                deliver([Outcome(jobs[0].future, None, error)])
                return
            # One bad text must not fail the requests that happened to be its neighbours.
            for job in jobs:
                self._embed_together([job])
            return
        seconds, tokens = time.perf_counter() - started, sum(row.token_count for row in rows)
        self._metrics.encoded(jobs[0].kind, len(texts), tokens, seconds)
        following = iter(rows)
        deliver([Outcome(job.future, list(islice(following, len(job.texts)))) for job in jobs])

    def _next_jobs(self) -> list[_Job]:
        """Wait for work and a core: the oldest job, and those behind it that fit the same batch.

        Returns:
            jobs of one model and kind; empty when the batcher is closed and all is done.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() if self._jobs else self._closed)
            if not self._jobs:
                return []
            jobs = [self._jobs.popleft()]
            texts, chars = len(jobs[0].texts), jobs[0].chars
            while self._jobs and _go_together(self._jobs[0], jobs[0]):
                texts += len(self._jobs[0].texts)
                chars += self._jobs[0].chars
                if texts > self._max_texts or chars > self._max_chars:
                    break
                jobs.append(self._jobs.popleft())
            return jobs

    def _has_room(self) -> bool:
        """Whether the oldest job could start now."""
        if not self._jobs[0].encoder.side_by_side:
            return self._running == 0
        # Loads torch: not before there is an encoder.
        from retrieval.parallel import single_cores

        return self._running < single_cores()


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


def _go_together(one: _Job, other: _Job) -> bool:
    return one.encoder is other.encoder and one.kind == other.kind


def _rows(embedded: EmbeddedTexts) -> list[TextEmbedding]:
    """One by one, in order."""
    columns = (embedded.vectors, embedded.token_counts, embedded.truncated)
    return [TextEmbedding(*row) for row in zip(*columns, strict=True)]
