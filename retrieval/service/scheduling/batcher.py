"""What embeds for all requests: those that wait for a model together go through it together."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from retrieval.domain.deadline import answer_by
from retrieval.domain.records import TextKind
from retrieval.search import EmbeddedText
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.deliver import AnyFuture
from retrieval.service.scheduling.embedding_jobs import Job, TextEncoder
from retrieval.service.scheduling.model_queue import ModelQueue
from retrieval.service.scheduling.turns import turn_of

NICENESS, BULK_NICENESS = 10, 15
"""Of the threads that search and run models: behind the event loop, and work that takes seconds
anyway behind the rest. Those that search are no less nice than those that embed: else many searches
of one caller keep the texts of all others from the model."""


class Batcher:
    """Two queues before the models: one of short queries, one of passages and long texts.

    Where batches of a model go side by side, which is on a CPU, each queue has threads of its own.
    A text of 8,192 tokens takes seconds, and can't be interrupted: the short ones go on beside it,
    on one core each, and before it where cores are short. Models that take one batch at a time have
    the first queue alone.
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
            max_texts: most texts of a batch: after so many, others have their turn.
            max_chars: most characters of one, unless a single text has more.
            metrics: told how long texts wait, what goes through the models, and what fails.
        """
        queue = partial(
            ModelQueue, max_texts=max_texts, max_chars=max_chars, metrics=metrics or Metrics()
        )
        self._bulk = queue("encoder-bulk", niceness=BULK_NICENESS, side_by_side=False)
        self._short = queue("encoder", niceness=NICENESS, others_run=lambda: self._bulk.is_busy)

    async def embed(
        self, encoder: TextEncoder, texts: Sequence[str], kind: TextKind
    ) -> list[EmbeddedText]:
        """Embed texts, and wait for it; what was not begun when this is cancelled costs nothing.

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
        now, gives_up = time.perf_counter(), answer_by.get()
        job = Job(encoder, texts, kind, now, gives_up, future, turn_of.get())
        bulk = encoder.side_by_side and (kind == "passage" or job.is_long)
        (self._bulk if bulk else self._short).put(job)
        return cast(list[EmbeddedText], await future)

    @property
    def waiting(self) -> int:
        """Texts that wait for a model now."""
        return self._short.waiting + self._bulk.waiting

    def revive(self) -> None:
        """Start threads again that have ended, which only a bug can bring about.

        Raises:
            NotServing: the system lets no thread start.
        """
        self._short.revive()
        self._bulk.revive()

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        self._short.close()
        self._bulk.close()
