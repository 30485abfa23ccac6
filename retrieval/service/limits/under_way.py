"""Requests and messages under way, within the server's limits.

gRPC reads a message as fast as it arrives, and hands it over once it is complete. Before that, only
the system knows how many bytes a connection has brought. So a message that arrives at once, as
nearly all do, is counted when it is complete; for one that takes longer, its connection is checked
a few dozen times a second.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import takewhile
from typing import Final, NamedTuple, TypeAlias

from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument, NotServing, Overloaded, RetrievalError, TooSlow
from retrieval.service.config import MESSAGE_COPIES, Limits
from retrieval.service.limits.hang_up import Peers
from retrieval.service.limits.memory import Trimmer


class Admission:
    """Counts requests in flight; admits none before the server is ready or while it stops.

    Belongs to the event loop: not thread-safe.
    """

    def __init__(self, limit: int) -> None:
        """Start closed.

        Args:
            limit: of requests in flight at once.
        """
        self._limit = limit
        self._closed_because = "the server is still loading"
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def under_way(self) -> int:
        """Number of requests in flight now."""
        return self._active

    def open(self) -> None:
        """Admit requests from now on."""
        self._closed_because = ""

    def close(self) -> None:
        """Admit no more requests; those in flight go on."""
        self._closed_because = "the server is shutting down"

    def check_open(self) -> None:
        """Refuse a request while the server loads or shuts down.

        Raises:
            NotServing: it does.
        """
        if self._closed_because:
            raise NotServing(f"{self._closed_because}: try again in a moment")

    def enter(self) -> None:
        """Count a request, until ``leave``.

        Raises:
            NotServing: as ``check_open``.
            Overloaded: too many requests are in flight.
        """
        self.check_open()
        if self._active >= self._limit:
            raise Overloaded(
                f"the server takes at most {counted(self._limit, 'request')} at once: "
                "try again in a moment",
                limit="concurrent_requests",
            )
        self._active += 1
        self._idle.clear()

    def leave(self) -> None:
        """Undo one ``enter``: the request has its answer."""
        self._active -= 1
        if self._active == 0:
            self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Wait until no request is in flight.

        Args:
            timeout: longest wait in seconds.

        Returns:
            whether that happened in time.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True


End: TypeAlias = Callable[[RetrievalError], Coroutine[None, None, None]]
"""Ends a request with an error."""

_GRACE_SECONDS: Final = 0.025
"""Messages that arrive within this time are not checked on the way. On a loopback connection, about
25 MB can arrive in it from all peers together."""
_SLOWEST_BYTES_A_SECOND: Final = 64 << 10
"""Lowest average rate at which a large message may arrive or be taken: half a megabit a second."""
_LARGE: Final = 1 << 20
"""Bytes from which on a message's memory is worth giving back; see ``memory.Trimmer``."""
_REBASE_SECONDS: Final = 1.0
"""How often to take a new base for the bytes that connections have brought."""
_WINDOW: Final = 64 << 10
"""Bytes of other frames that may arrive with a message: HTTP/2's default flow-control window."""
_IDLE_SECONDS: Final = 60.0
"""After this time without a message, check whether a connection still exists."""
_SLOW_SHARE: Final = 4
"""One in this many requests in flight may have a slow message, so that peers that begin requests
and send nothing more leave room for others."""
_SLOW_SECONDS: Final = 1.0
"""Age from which on a message counts as slow."""


_ALLOWED_A_MESSAGE: Final = 1024
_ALLOWED_A_SECOND: Final = 64
"""Bytes of other frames that are expected on a connection: the headers of a message, and pings. A
peer that hides a message behind them would need days for a megabyte."""


class _Connection:
    """What is known about a connection that brings messages."""

    __slots__ = ("allowance", "base", "pending", "used", "whole")

    def __init__(self) -> None:
        self.base = 0
        """Bytes that it had brought at the last check without a message on its way."""
        self.whole = 0
        """Bytes of the messages completed since then."""
        self.pending = 0
        """Number of messages on their way."""
        self.used = 0.0
        """``time.monotonic()`` when it last began a message."""
        self.allowance = float(_WINDOW)
        """Bytes of other frames that may still be taken for what they are, while messages that may
        idle are pending."""


class Sender(NamedTuple):
    """Who sends a message."""

    peer: str
    """The other end of the connection, as gRPC names it."""
    who: str
    """A name for the caller, under which all of its messages count."""


class Incoming:
    """A request's message on its way to the server."""

    __slots__ = ("begun", "end", "error", "may_idle", "most", "sender", "size", "started")

    def __init__(self, sender: Sender, end: End, most: int, *, may_idle: bool) -> None:
        """Start to wait for it; see ``Transfers.receive``."""
        self.may_idle = may_idle
        self.begun = math.inf if may_idle else time.monotonic()
        """``time.monotonic()`` when its first bytes were noticed, or could have been sent."""
        self.sender = sender
        self.end = end
        self.most = most
        self.started = time.monotonic()
        self.size = 0
        """Bytes that have arrived, as far as is known."""
        self.error: RetrievalError | None = None
        """Why the server has stopped waiting for it; None while it waits."""


class Outgoing:
    """An answer's message on its way to a peer."""

    __slots__ = ("due", "peer", "size")

    def __init__(self, peer: str, size: int, due: float) -> None:
        """Start to wait; see ``Transfers.send``."""
        self.peer = peer
        self.size = size
        self.due = due


class Transfers:
    """The messages of all requests, within one budget of bytes.

    Belongs to the event loop: not thread-safe.
    """

    def __init__(self, limits: Limits, trimmer: Trimmer) -> None:
        """Begin with none.

        Args:
            limits: the budget, and the time that a message may take.
            trimmer: gives the memory of large messages back.
        """
        self._budget = limits.message_budget
        self._most = limits.message_bytes
        self._seconds = limits.stall_seconds
        self._most_slow = max(1, limits.concurrent_requests // _SLOW_SHARE)
        self._trimmer = trimmer
        self._peers = Peers()
        self._held = 0
        self._incoming: dict[Incoming, None] = {}
        self._outgoing: dict[Outgoing, None] = {}
        self._connections: dict[str, _Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rebased = 0.0
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> int:
        """Bytes that count against the budget now."""
        return self._held + MESSAGE_COPIES * sum(message.size for message in self._incoming)

    async def receive(
        self,
        read: Callable[[], Awaitable[object]],
        sender: Sender,
        end: End,
        most: int = 0,
        *,
        may_idle: bool = False,
    ) -> bytes:
        """Wait for a request's message.

        Args:
            read: waits for it and returns its bytes, or anything else if there is none.
            sender: of the message.
            end: ends the request if its message is too slow or too large; ``read`` must then raise.
            most: limits its bytes; 0 for ``Limits.message_bytes``.
            may_idle: whether the sender may take any time until the message begins.

        Returns:
            the message, which counts against the budget until ``release``; empty if there is none.

        Raises:
            Overloaded: the budget is used up.
        """
        message = Incoming(sender, end, most or self._most, may_idle=may_idle)
        connection = self._connections.get(sender.peer)
        if connection is None:
            connection = self._connections[sender.peer] = _Connection()
        connection.pending += 1
        self._incoming[message] = None
        self._watch()
        size = 0
        try:
            data = await read()
            if not isinstance(data, bytes):
                return b""  # the client has ended the request without a message
            size = len(data)
        finally:
            del self._incoming[message]
            connection.pending -= 1
            connection.whole += size
            connection.allowance += _ALLOWED_A_MESSAGE
            connection.used = message.started
            if message.size > _LARGE and not size:
                self._trimmer.freed(message.size)
        self.hold(size)
        return data

    def hold(self, size: int) -> None:
        """Count a complete message of ``size`` bytes, until ``release``.

        Raises:
            Overloaded: the budget is used up.
        """
        if self._held + MESSAGE_COPIES * size > self._budget:
            self._trimmer.freed(size)
            raise self._full()
        self._held += MESSAGE_COPIES * size

    def release(self, size: int) -> None:
        """Undo one ``hold``: the message is gone."""
        self._held -= MESSAGE_COPIES * size
        if size > _LARGE:
            self._trimmer.freed(size)

    def send(self, peer: str, size: int) -> Outgoing:
        """Count an answer's message until ``sent``; hang up on a peer that doesn't take it.

        Raises:
            Overloaded: the budget is used up.
        """
        self.hold(size)
        due = time.monotonic() + self._seconds + size / _SLOWEST_BYTES_A_SECOND
        message = Outgoing(peer, size, due)
        self._outgoing[message] = None
        self._watch()
        return message

    def sent(self, message: Outgoing) -> None:
        """Undo one ``send``; a second time does nothing."""
        if message in self._outgoing:
            del self._outgoing[message]
            self.release(message.size)

    def close(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
        self._trimmer.close()

    def _full(self) -> Overloaded:
        return Overloaded(
            f"messages in flight hold all of the {self._budget} bytes that the server allows: "
            "try again in a moment, or send less at once",
            limit="message_budget",
        )

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._look)

    def _look(self) -> None:
        """Check the messages on their way, and end those that are too slow or too large."""
        self._timer = None
        now = time.monotonic()
        begun = now - _GRACE_SECONDS
        # The oldest come first.
        slow = [
            message
            for message in takewhile(lambda message: message.started <= begun, self._incoming)
            if message.error is None
        ]
        self._measure(slow)
        self._end_late(slow, now)
        self._end_large(slow)
        for message in [message for message in self._outgoing if message.due < now]:
            self._peers.hang_up(message.peer)
        if now - self._rebased > _REBASE_SECONDS:
            self._rebase(now)
        if self._incoming or self._outgoing:
            self._watch()

    def _measure(self, slow: list[Incoming]) -> None:
        """Find out how many bytes of slow messages have arrived."""
        by_peer: dict[str, list[Incoming]] = {}
        for message in slow:
            by_peer.setdefault(message.sender.peer, []).append(message)
        for peer, messages in by_peer.items():
            received = self._peers.received(peer)
            connection = self._connections[peer]
            if received is None:
                left = sum(message.most for message in messages)  # assume the worst
            else:
                base = connection.base if connection.base <= received else 0  # a new connection
                left = max(0, received - base - connection.whole)
            # Attribute bytes to messages that may be large first: if small ones got more than they
            # may have, they would be ended. Those that may idle come last.
            for message in sorted(messages, key=lambda each: (each.may_idle, -each.most)):
                most = message.most if message.most == self._most else left
                message.size = min(left, most)
                left -= message.size
                if message.may_idle and message.size <= _WINDOW:
                    message.begun = math.inf
                elif message.begun == math.inf:
                    message.begun = time.monotonic()

    def _end_late(self, slow: list[Incoming], now: float) -> None:
        """End messages that are too slow or too large, and the oldest if too many are slow."""
        for message in slow:
            if message.size > message.most + _WINDOW:
                self._end(
                    message, InvalidArgument(f"the message has more than {message.most} bytes")
                )
        waiting = [message for message in slow if now - message.begun > _SLOW_SECONDS]
        surplus = len(waiting) - self._most_slow
        for number, message in enumerate(waiting):  # the oldest first
            seconds = self._seconds + message.size / _SLOWEST_BYTES_A_SECOND
            if message.error is not None:
                continue
            if now - message.begun > seconds:
                self._end(
                    message,
                    TooSlow(f"the request's message has not arrived within {seconds:.3g} s"),
                )
            elif number < surplus:
                self._end(
                    message,
                    Overloaded(
                        f"more than {self._most_slow} requests wait for their messages: "
                        "send a request's message together with its headers",
                        limit="slow_messages",
                    ),
                )

    def _end_large(self, slow: list[Incoming]) -> None:
        """Until the budget is kept, end the newest message of the caller that holds most."""
        there = [message for message in slow if message.size and message.error is None]
        total = self._held + MESSAGE_COPIES * sum(message.size for message in there)
        by_caller: Counter[str] = Counter()
        for message in there:
            by_caller[message.sender.who] += message.size
        while total > self._budget and there:
            ((who, _size),) = by_caller.most_common(1)
            message = max(
                (message for message in there if message.sender.who == who), key=lambda m: m.started
            )
            there.remove(message)
            by_caller[who] -= message.size
            total -= MESSAGE_COPIES * message.size
            self._end(message, self._full())

    def _end(self, message: Incoming, error: RetrievalError) -> None:
        message.error = error
        task = asyncio.get_running_loop().create_task(message.end(error))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _rebase(self, now: float) -> None:
        """Take a new base for each connection's bytes, and forget closed connections."""
        self._rebased = now
        idling = Counter(each.sender.peer for each in self._incoming if each.may_idle)
        for peer, connection in list(self._connections.items()):
            if connection.pending:
                if idling[peer] == connection.pending:
                    self._absorb(peer, connection)
                continue
            if not connection.whole and now - connection.used < _IDLE_SECONDS:
                continue
            received = self._peers.received(peer)
            if received is None:
                del self._connections[peer]
            else:
                connection.base, connection.whole, connection.used = received, 0, now
                connection.allowance = float(_WINDOW)

    def _absorb(self, peer: str, connection: _Connection) -> None:
        """Take the bytes beside messages for other frames, as far as that many are expected.

        Otherwise they would add up, and count as the beginning of a message that may idle.
        """
        connection.allowance += _ALLOWED_A_SECOND * _REBASE_SECONDS
        received = self._peers.received(peer)
        if received is None:
            return
        other = received - connection.base - connection.whole
        if other <= min(connection.allowance, _WINDOW):
            connection.base, connection.whole = received, 0
            connection.allowance -= max(0, other)
