"""A client of HTTP/2 that does as it likes: it may stall, flood, or never read."""

import socket
import struct
import time
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = 1
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4
_FRAME = 16_384
_WINDOW = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113, section 4.1)."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def _literal(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


def header_block(headers: dict[str, str]) -> bytes:
    """Headers as literals that no table keeps (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + _literal(name) + _literal(value) for name, value in headers.items())


class RawConnection:
    """One connection; blocking, for one thread."""

    def __init__(self, target: str, *, answer_window: int = _WINDOW) -> None:
        """Connect and say hello.

        Args:
            target: ``HOST:PORT``.
            answer_window: bytes of each answer that the server may send.
        """
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, answer_window)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.ended: dict[int, float] = {}
        """Stream → when the server ended it."""
        self.closed = False
        """Whether the server hung up."""
        self._received = b""
        self._next_stream = 1
        self._windows: dict[int, int] = {0: _WINDOW}
        self._stream_window = _WINDOW

    def begin(self, method: str, *, token: str = "", **headers: str) -> int:
        """Send a request's headers; returns the number of its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._windows[stream] = self._stream_window
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if token:
            fields["authorization"] = f"Bearer {token}"
        self._send(frame(HEADERS, _END_HEADERS, stream, header_block(fields)))
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False, seconds: float = 20.0) -> int:
        """Send as much as the server's windows take, until the stream or the time ends.

        Returns:
            how many bytes were sent.
        """
        sent, deadline = 0, time.monotonic() + seconds
        while sent < len(data) and not self.over(stream) and time.monotonic() < deadline:
            self.listen(0.0)
            size = min(self._windows[0], self._windows[stream], len(data) - sent, _FRAME)
            if size <= 0:
                self.listen(0.02)
                continue
            last = end and sent + size == len(data)
            self._send(frame(DATA, _END_STREAM * last, stream, data[sent : sent + size]))
            self._windows[0] -= size
            self._windows[stream] -= size
            sent += size
        return sent

    def over(self, stream: int) -> bool:
        """Whether a stream has ended."""
        return self.closed or stream in self.ended

    def listen(self, seconds: float) -> None:
        """Take what the server says, for so long at most, or until it says something."""
        with suppress(TimeoutError, BlockingIOError):
            self.socket.settimeout(seconds)
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            self.closed |= not data
            self._received += data
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                break
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            payload, self._received = self._received[9 : 9 + size], self._received[9 + size :]
            self._take(kind, flags, stream, payload)

    def wait(self, stream: int, seconds: float) -> float:
        """Listen until a stream ends; returns how long that took, or infinity."""
        started = time.monotonic()
        while not self.over(stream):
            if time.monotonic() - started > seconds:
                return float("inf")
            self.listen(0.1)
        return time.monotonic() - started

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    for number in self._windows:
                        self._windows[number] += (value - self._stream_window) * bool(number)
                    self._stream_window = value
            self._send(frame(SETTINGS, _ACK, 0))
        elif kind == PING and not flags & _ACK:
            self._send(frame(PING, _ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            if stream in self._windows:
                self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == RST_STREAM or (flags & _END_STREAM and kind in (DATA, HEADERS)):
            self.ended.setdefault(stream, time.monotonic())

    def _send(self, data: bytes) -> None:
        self.socket.settimeout(10)
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            self.closed = True
