"""Pulls new generations of indexes from object stores; the watcher then loads them."""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from retrieval.errors import RetrievalError
from retrieval.service.collections.complaints import Complaints
from retrieval.service.observability.metrics import Metrics
from retrieval.store import exists
from retrieval.store.replicas.pull import pull

LOG = logging.getLogger(__name__)


class Puller:
    """Keeps folders up to date with what is published; belongs to the event loop."""

    def __init__(
        self,
        sources: Mapping[str, str],
        folders: Mapping[str, Path],
        seconds: float,
        metrics: Metrics,
    ) -> None:
        """Pull nothing yet.

        Args:
            sources: collection → address that it is published at.
            folders: collection → folder of its copy.
            seconds: between two looks.
            metrics: count failures.
        """
        self._sources = sources
        self._folders = folders
        self._seconds = seconds
        self._metrics = metrics
        self._complaints = Complaints(LOG)

    async def first(self) -> None:
        """Pull all indexes before they are served.

        A copy of an earlier time is served if its source can't be reached now.

        Raises:
            RetrievalError: an index can't be pulled, and there is no copy of it yet.
        """
        async with asyncio.TaskGroup() as group:
            pulls = [group.create_task(self._first(name)) for name in self._sources]
        for failed in (task.result() for task in pulls):
            if failed is not None:
                raise failed

    async def _first(self, name: str) -> RetrievalError | None:
        try:
            await self._pull(name)
        except RetrievalError as error:
            if not exists(self._folders[name]):
                return error
            self._complain(name, error)
        return None

    async def run(self) -> None:
        """Look for new generations until cancelled, for each index by itself."""
        async with asyncio.TaskGroup() as group:
            for name in self._sources:
                group.create_task(self._keep(name))

    async def _keep(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._pull(name)
            except RetrievalError as error:
                self._complain(name, error)
            else:
                if self._complaints.settle(name):
                    LOG.info("%s can be pulled again", name)

    async def _pull(self, name: str) -> None:
        source, started = self._sources[name], time.perf_counter()
        pulled = await asyncio.to_thread(pull, source, self._folders[name])
        if pulled.is_new:
            seconds = time.perf_counter() - started
            message = "%s: pulled generation %d from %s, %d of %d bytes, in %.1f s"
            facts = (name, pulled.generation, source, pulled.fetched, pulled.size, seconds)
            LOG.info(message, *facts)

    def _complain(self, name: str, error: RetrievalError) -> None:
        self._metrics.reload_failed(name)
        self._complaints.add(name, f"{name} can't be pulled: {error.message}")
