"""The thread pools of a server: one to search, one for filters, and one for searches reranked."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Self

from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.batcher import BULK_NICENESS, NICENESS
from retrieval.service.scheduling.threads import SearchThreads, behind_others
from retrieval.store import search_on_one_core

_FILTER_THREADS = 2
"""Half the read connections of a generation (``snapshot.CONNECTIONS``): the other half is left for
searches."""
_FILTER_NICENESS = 5
"""Between the event loop (0) and threads that search (``NICENESS``): on a busy machine, evaluating
filters gets a third of the event loop's share of a core, and three times that of a search."""
_RERANK_THREADS = 4
"""Reranked searches at a time; their batches take turns at the model."""


@dataclass(frozen=True, slots=True)
class Pools:
    """Threads for what would block the event loop."""

    search: SearchThreads
    """Search and read."""
    filter: SearchThreads
    """Evaluate filters, so that no other search waits for a slow one."""
    rerank: SearchThreads
    """Run searches that are reranked, so that no other search waits for the cross-encoder. The same
    as ``search`` if the server has none."""

    @classmethod
    def start(cls, search_threads: int, *, reranks: bool, metrics: Metrics) -> Self:
        """Start all threads.

        Args:
            search_threads: number of threads that search and read.
            reranks: whether the server has a cross-encoder.
            metrics: count failures and waiting times.

        Raises:
            NotServing: the system can't start a thread.
        """
        search = SearchThreads(
            search_threads,
            prepare=partial(_prepare, NICENESS),
            most_of_one=max(2, os.cpu_count() or 1),
            metrics=metrics,
        )
        filters = SearchThreads(
            _FILTER_THREADS,
            name="filter",
            prepare=partial(behind_others, _FILTER_NICENESS),
            metrics=metrics,
        )
        rerank = search
        if reranks:
            rerank = SearchThreads(
                _RERANK_THREADS,
                name="rerank",
                prepare=partial(_prepare, BULK_NICENESS),
                metrics=metrics,
            )
        return cls(search, filters, rerank)

    def revive(self) -> None:
        """Start threads again that have ended; see ``SearchThreads.revive``."""
        for threads in (self.search, self.filter, self.rerank):
            threads.revive()

    def close(self) -> None:
        """Refuse new calls, wait for those that run or wait, and end the threads."""
        for threads in (self.search, self.filter, self.rerank):
            threads.close()


def _prepare(niceness: int) -> None:
    """Prepare a thread that searches."""
    search_on_one_core()
    behind_others(niceness)
