"""The engine's parts, one for each subject of requests."""

from datetime import UTC, datetime
from typing import NamedTuple

import retrieval
from retrieval.service.collections.open_collections import Collections
from retrieval.service.config import Limits, Writing
from retrieval.service.engine.bounds import server_limits
from retrieval.service.engine.calls import Call
from retrieval.service.engine.catalog import Catalog
from retrieval.service.engine.documents import Documents
from retrieval.service.engine.searches import Searches
from retrieval.service.engine.texts import Texts
from retrieval.service.observability.observer import Observer
from retrieval.service.scheduling.pools import Pools


class ServerInfo(NamedTuple):
    """What a server says about itself."""

    version: str
    started_at: datetime
    limits: dict[str, int]
    """By their fields in the contract's ``ServerLimits``."""
    writable: bool
    """Whether it takes documents."""


class Engine:
    """Answers requests from the open collections."""

    def __init__(
        self,
        collections: Collections,
        limits: Limits,
        observer: Observer,
        pools: Pools,
        *,
        writing: Writing | None = None,
    ) -> None:
        """Share these with all requests; the server counts as started now.

        Args:
            collections: what is searched.
            limits: of requests.
            observer: learns of every search.
            pools: threads for what blocks.
            writing: how the server takes documents; None if it doesn't.
        """
        self.searches = Searches(collections, limits, observer, pools)
        self.texts = Texts(collections, limits, pools)
        self.documents = Documents(collections, limits, pools)
        self.catalog = Catalog(collections)
        self._limits = limits
        self._writing = writing
        self._started = datetime.now(UTC)

    def server_info(self, call: Call) -> ServerInfo:
        """Return the server's version and limits."""
        call.begin("read")
        return ServerInfo(
            retrieval.__version__,
            self._started,
            server_limits(self._limits, self._writing),
            writable=self._writing is not None,
        )
