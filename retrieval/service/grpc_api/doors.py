"""Doors: services of other packages that a server answers on its own port.

A package offers a door as an entry point of the group ``retrieval.doors``: a function that takes a
``Host`` and returns a ``Door``. So this package need not know the one that offers it; decision
record 32 tells why.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final, Protocol

import grpc.aio

from retrieval.errors import InvalidArgument
from retrieval.service.access.token_file import Scope
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.refresher import Refresher
from retrieval.service.config import ServiceConfig
from retrieval.service.limits.under_way import Transfers
from retrieval.service.observability.metrics import Metrics

LOG = logging.getLogger(__name__)

GROUP: Final = "retrieval.doors"
"""Group of the entry points."""


class Door(Protocol):
    """A service that the server answers beside its own."""

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """Full name of each of its services → the scope of a token that its methods need."""
        ...

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the handlers of its services.

        The server admits, limits and observes their requests as its own. A method is called with
        ``interceptors.current_call`` set, and may raise the errors of ``retrieval.errors``.
        """
        ...

    async def start(self) -> None:
        """Be ready to answer; called once the collections are open.

        Raises:
            RetrievalError: it can't.
        """
        ...

    def drain(self) -> None:
        """Begin nothing more: the server is about to stop, and waits for requests in flight."""
        ...

    async def stop(self) -> None:
        """End everything; called once the server has closed its connections."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What a server lends to a door. All of it belongs to the server's event loop."""

    config: ServiceConfig
    collections: Collections
    refresher: Refresher
    transfers: Transfers
    """Limits the bytes of messages that the door holds."""
    metrics: Metrics
    say_serving: Callable[[str, bool], Awaitable[None]]
    """Reports the health of a service by its full name."""


def open_doors(host: Host) -> list[Door]:
    """Return the doors that the installed packages offer.

    Raises:
        InvalidArgument: there are none.
    """
    doors: list[Door] = [entry.load()(host) for entry in entry_points(group=GROUP)]
    if not doors:
        raise InvalidArgument(
            "this installation can't take documents: no package offers an entry point in "
            f"{GROUP!r}; install gte-retrieval again",
            field="writable",
        )
    return doors
