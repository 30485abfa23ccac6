"""Minimal client connections, for many clients that share a machine with the server.

If clients and server share the cores, the server lacks the time that the clients take. These
connections do no more than the protocols require: unary gRPC calls over HTTP/2 (RFC 9113; header
compression by the ``hpack`` library), and GET over HTTP/1.1.
"""

import asyncio
import struct
from collections import deque
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE, _MAX_CONCURRENT_STREAMS = 4, 3
_WINDOW = 65_535
_MOST_WINDOW = 2**31 - 1
_HEAD = struct.Struct(">BHBBI")

_CANCELLED, _UNAVAILABLE = 1, 14  # as gRPC numbers them


def frame(
    kind: int, flags: int, stream: int, payload: bytes, *, length: int | None = None
) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, section 4.1); its stated length may be wrong."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


@dataclass(slots=True)
class _Call:
    """A call in flight."""

    message: bytes
    """The message in gRPC's framing."""
    future: "asyncio.Future[int]"
    answered: int = 0
    """Bytes of the answer's data so far."""


class GrpcConnection(asyncio.Protocol):
    """Connection that calls one method, many times at once."""

    def __init__(self, authority: str, method: str, timeout_seconds: float) -> None:
        """Prepare the headers that all calls share.

        Args:
            authority: host and port.
            method: full name, ``/package.Service/Method``.
            timeout_seconds: the deadline sent to the server.
        """
        self._headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", f"{round(timeout_seconds * 1000)}m"),
        ]
        self._encoder, self._decoder = Encoder(), Decoder()
        self._numbers = count(1, 2)
        self._calls: dict[int, _Call] = {}
        self._held: deque[_Call] = deque()
        self._window = _WINDOW
        self._most_calls = 2**31
        self._received = b""
        self._since_update = 0
        self._block = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface, and open the largest window."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HIHI", 2, 0, _INITIAL_WINDOW_SIZE, _MOST_WINDOW)
        update = struct.pack(">I", _MOST_WINDOW - _WINDOW)
        transport.write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, update)
        )

    async def call(self, message: bytes) -> tuple[int, int]:
        """Call the method with an encoded message.

        Returns:
            the gRPC status of the answer, and the bytes of its data.
        """
        if self._lost:
            return _UNAVAILABLE, 0
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        call = _Call(b"\0" + struct.pack(">I", len(message)) + message, future)
        self._held.append(call)
        self._send_held()
        return await future, call.answered

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Fail all calls in flight."""
        self._lost = True
        waiting = [*self._calls.values(), *self._held]
        self._calls.clear()
        self._held.clear()
        for call in waiting:
            call.future.set_result(_UNAVAILABLE)

    def data_received(self, data: bytes) -> None:
        """Parse the frames received."""
        received, at = self._received + data, 0
        while len(received) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(received, at)
            end = at + _HEAD.size + (high << 16 | low)
            if end > len(received):
                break
            self._take(kind, flags, stream, received[at + _HEAD.size : end])
            at = end
        self._received = received[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._take_data(stream, len(payload))
        elif kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & _END_HEADERS:
                headers = self._decoder.decode(self._block)
                self._block = b""
                status = next((value for name, value in headers if name == "grpc-status"), "")
                if status:
                    self._end(stream, int(status))
        elif kind == RST_STREAM:
            self._end(stream, _CANCELLED)
        elif kind == SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _MAX_CONCURRENT_STREAMS:
                    self._most_calls = value
            self._transport.write(frame(SETTINGS, _ACK, 0, b""))
        elif kind == PING and not flags & _ACK:
            self._transport.write(frame(PING, _ACK, 0, payload))
        elif kind == GOAWAY:
            self._transport.close()
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
            self._send_held()

    def _take_data(self, stream: int, size: int) -> None:
        if call := self._calls.get(stream):
            call.answered += size
        self._since_update += size
        if self._since_update > _MOST_WINDOW // 2:
            update = struct.pack(">I", self._since_update)
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, update))
            self._since_update = 0

    def _end(self, stream: int, status: int) -> None:
        if call := self._calls.pop(stream, None):
            call.future.set_result(status)
            self._send_held()

    def _send_held(self) -> None:
        """Send the calls that the server has room for, oldest first."""
        parts = []
        while self._held and len(self._calls) < self._most_calls:
            call = self._held[0]
            if len(call.message) > self._window:
                break
            self._held.popleft()
            self._window -= len(call.message)
            stream = next(self._numbers)
            self._calls[stream] = call
            block = self._encoder.encode(self._headers)
            parts.append(frame(HEADERS, _END_HEADERS, stream, block))
            parts.append(frame(DATA, _END_STREAM, stream, call.message))
        if parts:
            self._transport.write(b"".join(parts))


class HttpConnection(asyncio.Protocol):
    """HTTP/1.1 connection for one request at a time."""

    def __init__(self, url: str) -> None:
        """Prepare the headers that all requests share.

        Args:
            url: of the server; its path does not matter.
        """
        self._end = f" HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAccept: */*\r\n\r\n".encode()
        self._received = b""
        self._future: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def get(self, path: str) -> int:
        """Send a GET; return the status of the answer, 0 if none came."""
        self._future = asyncio.get_running_loop().create_future()
        self._transport.write(b"GET " + path.encode("ascii") + self._end)
        return await self._future

    async def post(self, path: str, body: bytes) -> int:
        """Send JSON by POST; return the status of the answer, 0 if none came."""
        self._future = asyncio.get_running_loop().create_future()
        kind = b"\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
        version, headers = self._end[:9], self._end[9:]
        self._transport.write(b"POST " + path.encode("ascii") + version + kind + headers + body)
        return await self._future

    def data_received(self, data: bytes) -> None:
        """Collect the bytes of an answer until it is complete."""
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        if len(body) >= (lengths or [0])[0]:
            self._received = b""
            self._answer(int(head.split(b" ", 2)[1]) if lengths and body else 0)

    def connection_lost(self, _exc: Exception | None) -> None:
        """End the request in flight."""
        self._answer(0)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _answer(self, status: int) -> None:
        if self._future and not self._future.done():
            self._future.set_result(status)
