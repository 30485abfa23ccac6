"""Noticing new generations: a build that ends is answered from, without being told."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import RetrievalError
from retrieval.service.collections import Collections
from retrieval.store import read_generation

LOG = logging.getLogger(__name__)

MOST_LOOKS = 10
"""Looks in a row that may each find a newer generation before it is opened all the same. A build
commits many times; to open each of them would be work for nothing."""


@dataclass(slots=True)
class _Seen:
    """What the last look at a collection found."""

    generation: int = -1
    newer: int = 0
    """Looks in a row that found another generation than the one that is served."""
    error: str = ""


class Watcher:
    """Looks at the indexes now and then, and reloads those that have a new generation."""

    def __init__(
        self, collections: Collections, indexes: Mapping[str, Path], seconds: float
    ) -> None:
        """Bind what is served.

        Args:
            collections: reloaded one by one.
            indexes: collection → folder.
            seconds: between two looks.
        """
        self._collections = collections
        self._indexes = indexes
        self._seconds = seconds
        self._seen = {name: _Seen() for name in indexes}

    async def run(self) -> None:
        """Look until cancelled; an index that can't be read or opened leaves what is served."""
        while True:
            await asyncio.sleep(self._seconds)
            for name, folder in self._indexes.items():
                try:
                    await self._look(name, folder)
                except RetrievalError as error:
                    if error.message != self._seen[name].error:
                        LOG.warning("%s is not reloaded: %s", name, error.message)
                    self._seen[name].error = error.message

    async def _look(self, name: str, folder: Path) -> None:
        """Reload once a new generation has stayed for a look, or has long been coming."""
        generation = await asyncio.to_thread(read_generation, folder)
        seen = self._seen[name]
        serves = self._collections.generation(name)
        seen.newer = seen.newer + 1 if generation != serves else 0
        settled = generation == seen.generation
        seen.generation = generation
        if seen.newer and (settled or seen.newer >= MOST_LOOKS):
            started = time.perf_counter()
            await self._collections.reload(name)
            LOG.info("%s: reloaded in %.2f s", name, time.perf_counter() - started)
            seen.newer, seen.error = 0, ""
