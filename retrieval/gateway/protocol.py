"""HTTP/1.1 of uvicorn, with limits on connections that are slow, silent or greedy."""

import asyncio
import socket
import struct
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from retrieval.gateway.config import HttpLimits

_DROP = struct.pack("ii", 1, 0)
"""Value of SO_LINGER that drops unsent bytes when a socket is closed."""
_BYTES_A_SECOND = 64 << 10
"""As for bodies: slowest client whose reading is waited for."""


class _LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers are slow or large, or that does not read answers."""

    limits: ClassVar[HttpLimits]
    _head_bytes = 0
    _in_head = True
    _hello: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._hello, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; refuse headers that are too large."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Expect the headers of another request."""
        super().on_message_begin()
        self._in_head = True
        if self._hello is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Start to answer the request."""
        self._in_head, self._head_bytes = False, 0
        if self._hello is not None:
            self._hello.cancel()
            self._hello = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request's body."""
        super().on_message_complete()
        self._in_head = True

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection once its client has read the last answer."""
        if self.transport.get_write_buffer_size() and self._stall is None:
            self._await_reader()
        super().timeout_keep_alive_handler()

    def _await_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        seconds = self.limits.stall_seconds + waiting / _BYTES_A_SECOND
        self._stall = self.loop.call_later(seconds, self._reset)

    def _await_head(self) -> None:
        self._hello = self.loop.call_later(self.limits.hello_seconds, self._hang_up)

    def _hang_up(self) -> None:
        self._hello = None
        self._reset()

    def _reset(self) -> None:
        """Drop the connection, and what its client has not read, from the kernel as well."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        self.transport.abort()

    def _refuse_head(self) -> None:
        text = b"the request's headers are too large"
        head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[431] + head % len(text) + text)
        self.transport.close()


def limited_protocol(limits: HttpLimits) -> type[HttpToolsProtocol]:
    """Return a protocol for ``uvicorn.Config(http=…)`` with these limits."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


def protocol_options(limits: HttpLimits) -> dict[str, Any]:
    """Return keywords of ``uvicorn.Config`` for these limits."""
    return {
        "http": limited_protocol(limits),
        "ws": "none",
        "timeout_keep_alive": limits.idle_seconds,
        "h11_max_incomplete_event_size": limits.head_bytes,
    }
