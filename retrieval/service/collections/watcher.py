"""Noticing new generations: a build that ends is answered from, without being told."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from retrieval.errors import RetrievalError
from retrieval.service.collections.open_collections import Collections
from retrieval.service.observability.metrics import Metrics
from retrieval.store import LocationLike, Version, read_version

LOG = logging.getLogger(__name__)

MOST_LOOKS = 10
"""Looks in a row that may each find a newer generation before it is opened all the same. A build
commits many times; to open each of them would be work for nothing."""

_MOST_PAUSE_SECONDS = 60.0
"""Longest pause after a failure, unless looks are rarer anyway."""

_MOST_COMPLAINTS = 8
"""Different failures in a row that are logged: a message may hold what differs every time."""


@dataclass(slots=True)
class _Seen:
    """What the last look at a collection found."""

    found: Version | None = None
    newer: int = 0
    """Looks in a row that found another generation than the one that is served."""
    complaints: set[str] = field(default_factory=set)
    """What was logged since all was well."""


class Watcher:
    """Looks at the indexes now and then, and reloads those that have a new generation."""

    def __init__(
        self,
        collections: Collections,
        indexes: Mapping[str, LocationLike],
        seconds: float,
        metrics: Metrics,
    ) -> None:
        """Bind what is served.

        Args:
            collections: reloaded one by one.
            indexes: collection → folder.
            seconds: between two looks.
            metrics: told of failures.
        """
        self._collections = collections
        self._indexes = indexes
        self._seconds = seconds
        self._metrics = metrics
        self._seen = {name: _Seen() for name in indexes}

    async def run(self) -> None:
        """Look until cancelled; each index by itself, so that a slow disk delays no other."""
        async with asyncio.TaskGroup() as group:
            for name, location in self._indexes.items():
                group.create_task(self._watch(name, location))

    async def _watch(self, name: str, location: LocationLike) -> None:
        """Look at one index; whatever goes wrong, what is served stays, and looks go on."""
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            pause, started = self._seconds, time.monotonic()
            try:
                await self._look(name, location)
            except RetrievalError as error:
                self._complain(name, error.message)
            except Exception as error:  # noqa: BLE001  (a bug must not end reloading for good)
                self._complain(name, f"{type(error).__name__}: {error}", error)
            else:
                continue
            # To open a large index that can't be used takes a while, and would again.
            pause = max(pause, min(4 * (time.monotonic() - started), _MOST_PAUSE_SECONDS))

    async def _look(self, name: str, location: LocationLike) -> None:
        """Reload once a new generation has stayed for a look, or has long been coming."""
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
        if seen.newer and (settled or seen.newer >= MOST_LOOKS):
            started = time.perf_counter()
            await self._collections.reload(name)
            LOG.info("%s: reloaded in %.2f s", name, time.perf_counter() - started)
            seen.newer = 0
            self._all_is_well(name)

    def _complain(self, name: str, what: str, error: Exception | None = None) -> None:
        """Log a failure, once until all is well again."""
        complaints = self._seen[name].complaints
        if what in complaints or len(complaints) >= _MOST_COMPLAINTS:
            return
        complaints.add(what)
        LOG.warning("%s is not reloaded: %s; looks go on", name, what, exc_info=error)

    def _all_is_well(self, name: str) -> None:
        complaints = self._seen[name].complaints
        if complaints:
            LOG.info("%s can be reloaded again", name)
            complaints.clear()
