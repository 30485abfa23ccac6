"""Watches the indexes, so that a finished build is served without a ``ReloadCollection``."""

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass

from retrieval.errors import RetrievalError
from retrieval.service.collections.complaints import Complaints
from retrieval.service.collections.open_collections import Collections
from retrieval.service.observability.metrics import Metrics
from retrieval.store import Location, Version, read_version

LOG = logging.getLogger(__name__)

MAX_LOOKS = 10
"""Looks in a row that may each find a newer generation before it is opened regardless. A build
commits many times, and opening every commit would be wasted work."""

_MAX_PAUSE_SECONDS = 60.0
"""Longest pause after a failure, unless looks are less frequent anyway."""


@dataclass(slots=True)
class _Seen:
    """Result of the last look at a collection."""

    found: Version | None = None
    newer: int = 0
    """Looks in a row that found another generation than the one served."""


class Watcher:
    """Looks at the indexes at intervals, and reloads those with a new generation."""

    def __init__(
        self,
        collections: Collections,
        seconds: float,
        metrics: Metrics,
    ) -> None:
        """Prepare to watch.

        Args:
            collections: are watched and reloaded, those included that are added later.
            seconds: between two looks.
            metrics: count failures.
        """
        self._collections = collections
        self._seconds = seconds
        self._metrics = metrics
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self._complaints = Complaints(LOG)

    async def run(self) -> None:
        """Watch until cancelled, each index by itself, so that a slow disk delays no other."""
        async with asyncio.TaskGroup() as group:
            watched: dict[str, asyncio.Task[None]] = {}
            while True:
                watched = {name: task for name, task in watched.items() if not task.done()}
                for name in self._collections.names:
                    if name not in watched:
                        watched[name] = group.create_task(self._watch(name))
                await asyncio.sleep(self._seconds)

    async def _watch(self, name: str) -> None:
        """Watch one index until its collection is removed.

        After a failure the served generation stays, and watching goes on.
        """
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            location = self._collections.location(name)
            if location is None:
                self._seen.pop(name, None)
                self._complaints.settle(name)
                return
            pause, started = self._seconds, time.monotonic()
            try:
                await self._look(name, location)
            except RetrievalError as error:
                self._complain(name, error.message)
            except Exception as error:  # noqa: BLE001  (a bug must not end watching for good)
                self._complain(name, f"{type(error).__name__}: {error}", error)
            else:
                continue
            # Opening a large index that fails takes a while each time: wait longer in proportion.
            pause = max(pause, min(4 * (time.monotonic() - started), _MAX_PAUSE_SECONDS))

    async def _look(self, name: str, location: Location) -> None:
        """Reload if two looks found the same new generation, or many found newer ones."""
        seen = self._seen[name]
        try:
            found = await asyncio.to_thread(read_version, location)
        except BaseException:
            self._metrics.reload_failed(name)
            raise
        if found == self._collections.look(name):
            seen.newer = 0
            self._all_is_well(name)
        else:
            seen.newer += 1
        settled = found == seen.found
        seen.found = found
        if seen.newer and (settled or seen.newer >= MAX_LOOKS):
            started = time.perf_counter()
            await self._collections.reload(name)
            LOG.info("%s: reloaded in %.2f s", name, time.perf_counter() - started)
            seen.newer = 0
            self._all_is_well(name)

    def _complain(self, name: str, what: str, error: Exception | None = None) -> None:
        self._complaints.add(name, f"{name} can't be reloaded: {what}", error)

    def _all_is_well(self, name: str) -> None:
        if self._complaints.settle(name):
            LOG.info("%s can be reloaded again", name)
