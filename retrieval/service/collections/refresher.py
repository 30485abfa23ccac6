"""Show what was just written: reloads after commits, gathered and without a look at the disk.

``Watcher`` finds commits of other processes by looking. Here a writer tells of its own commits.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

from retrieval.errors import NotFound, NotServing, RetrievalError
from retrieval.service.collections.open_collections import Collections

LOG = logging.getLogger(__name__)

_DELAY_SECONDS: Final = 0.5
"""From a commit to the reload that shows it if nobody waits for that. Half of the second in which
a change is to be visible is left to the reload itself."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0
"""Pauses before another attempt if a reload fails: each is twice as long, up to the last."""


@dataclass(slots=True)
class _Collection:
    """What is known about the commits of one collection."""

    wanted: int = 0
    """Newest generation that is known to be committed."""
    waiting: list[tuple[int, "asyncio.Future[None]"]] = field(default_factory=list)
    """Who waits, and for which generation."""
    urgent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while somebody waits."""
    task: "asyncio.Task[None] | None" = None
    """Reloads until all is shown; None if all is."""


class Refresher:
    """Reloads collections after commits; belongs to the event loop.

    One reload at a time runs for a collection, and shows all commits that came before it. If nobody
    waits, it begins half a second after the first commit. Reloads take at most half of the time,
    however many commits there are.
    """

    def __init__(self, collections: Collections) -> None:
        """Reload these."""
        self._collections = collections
        self._known: dict[str, _Collection] = {}

    def committed(self, name: str, generation: int) -> None:
        """Show a generation that was committed soon, without waiting for it."""
        if generation <= self._collections.generation(name):
            return
        known = self._known.setdefault(name, _Collection())
        known.wanted = max(known.wanted, generation)
        if known.task is None:
            known.task = asyncio.create_task(self._refresh(name, known), name=f"refresh {name}")

    async def shown(self, name: str, generation: int) -> None:
        """Wait until a collection answers from a committed generation, or from a later one.

        Raises:
            NotServing: the generation is committed, but can't be opened.
        """
        if generation <= self._collections.generation(name):
            return
        self.committed(name, generation)
        known = self._known[name]
        future = asyncio.get_running_loop().create_future()
        known.waiting.append((generation, future))
        known.urgent.set()
        await future

    def close(self) -> None:
        """Reload no more."""
        for known in self._known.values():
            if known.task is not None:
                known.task.cancel()

    async def _refresh(self, name: str, known: _Collection) -> None:
        """Reload until all commits are shown."""
        pause = 0.0
        left: RetrievalError = NotServing("the server is shutting down")
        try:
            while known.waiting or known.wanted > self._collections.generation(name):
                await asyncio.sleep(pause)
                if not known.waiting:
                    await _or_timeout(known.urgent, _DELAY_SECONDS)
                started = time.monotonic()
                waiting, known.waiting = known.waiting, []
                known.urgent.clear()
                wanted = known.wanted
                try:
                    await self._collections.reload(name, level=logging.DEBUG)
                except RetrievalError as error:
                    _fail(waiting, name, error)
                    if isinstance(error, NotFound):
                        left = error
                        return
                    pause = min(max(_FIRST_PAUSE_SECONDS, 2 * pause), _MAX_PAUSE_SECONDS)
                    LOG.warning("%s can't be refreshed: %s; trying again", name, error.message)
                else:
                    if self._collections.generation(name) < wanted == known.wanted:
                        known.wanted = 0  # another index is there by now
                    self._settle(name, known, waiting)
                    pause = time.monotonic() - started
        finally:
            known.task = None
            _fail(known.waiting, name, left)
            self._known.pop(name, None)

    def _settle(
        self,
        name: str,
        known: _Collection,
        waiting: list[tuple[int, "asyncio.Future[None]"]],
    ) -> None:
        """Tell those that waited when the reload began, and those whose generation it shows."""
        served = self._collections.generation(name)
        for _generation, future in waiting:
            _tell(future)
        for generation, future in known.waiting:
            if generation <= served:
                _tell(future)
        known.waiting = [each for each in known.waiting if not each[1].done()]


def _tell(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _fail(
    waiting: list[tuple[int, "asyncio.Future[None]"]], name: str, error: RetrievalError
) -> None:
    """Tell those that wait why they can't see what was committed."""
    for generation, future in waiting:
        if not future.done():
            future.set_exception(
                NotServing(
                    f"the change is committed in generation {generation} of collection {name!r}, "
                    f"but searches can't see it yet: {error.message}"
                )
            )


async def _or_timeout(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than this."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
