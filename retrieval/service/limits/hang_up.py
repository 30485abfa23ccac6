"""Hanging up on peers by file descriptor: gRPC itself has no way to do so.

This module finds the process's connections among its open files, reads how much they have brought,
and closes them. gRPC owns those files, so ``RETRIEVAL_SERVER_OFF=hang-up`` turns all of it off; see
``switches``. Then, as on a system that doesn't list a process's open files:

- peers that stall keep their connections, and a message that arrives slowly counts with the most
  bytes that it may have;
- when the server stops, gRPC ends requests that it has not read with ``CANCELLED`` in place of
  ``UNAVAILABLE``.
"""

import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from retrieval.service.limits.switches import is_on

_OPEN_FILES = Path("/dev/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_TCP_INFO: Final = 11
"""Socket option; ``socket`` doesn't name it everywhere."""
_BYTES_RECEIVED: Final = 128
"""Offset of ``tcpi_bytes_received`` (64 bits) in Linux's ``struct tcp_info``, since Linux 4.1."""


def hang_up(port: int) -> None:
    """Stop listening on a port, and close all connections made to it; what was sent still arrives.

    A gRPC server that stops ends requests that it has not looked at yet with ``CANCELLED``, as if
    the caller had given up. Requests on a connection that is closed get ``UNAVAILABLE``, which
    clients retry.

    Args:
        port: of this process. Stop the server that listens there next.
    """
    for descriptor, listener in _sockets(port, listening=True):
        # Put another socket in its place: gRPC closes it by its number, and would report an error.
        with listener, socket.socket(listener.family) as unused:
            os.dup2(unused.fileno(), descriptor, inheritable=False)
    for _, connection in _sockets(port, listening=False):
        with connection, suppress(OSError):  # closed meanwhile
            connection.shutdown(socket.SHUT_RDWR)


class Peers:
    """The process's connections, by gRPC's names for their other ends.

    A name is that of ``ServicerContext.peer``, such as ``ipv4:127.0.0.1:40312``. Not thread-safe.
    """

    def __init__(self) -> None:
        """Start without knowing any connection."""
        self._numbers: dict[str, int] = {}
        """Name → number of the socket, which may have been closed since."""

    def received(self, peer: str) -> int | None:
        """Return how many bytes a connection has brought since it was made.

        Returns:
            the bytes; None if there is no such connection, or the system doesn't tell.
        """
        if sys.platform != "linux" or (number := self._number(peer)) is None:
            return None
        connection = socket.socket(fileno=number)
        try:
            info = connection.getsockopt(
                socket.IPPROTO_TCP, _TCP_INFO, _BYTES_RECEIVED + struct.calcsize("Q")
            )
        except OSError:  # closed meanwhile
            return None
        finally:
            connection.detach()  # the socket is gRPC's
        if len(info) < _BYTES_RECEIVED + struct.calcsize("Q"):
            return None  # an older Linux
        return int(struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0])

    def hang_up(self, peer: str) -> None:
        """Close a connection from this side, with all of its requests."""
        if (number := self._number(peer)) is None:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
            # The number may belong to another connection by now.
            if _name(connection) == peer:
                connection.shutdown(socket.SHUT_RDWR)

    def _number(self, peer: str) -> int | None:
        """Return the number of a connection's socket; None if there is none."""
        if (number := self._numbers.get(peer)) is not None and _name_of(number) == peer:
            return number
        self._numbers = {name: number for number in _open_files() if (name := _name_of(number))}
        return self._numbers.get(peer)


def _open_files() -> list[int]:
    """Return the numbers of the process's open files; none if the system doesn't list them."""
    if not is_on("hang-up") or not _OPEN_FILES.is_dir():
        return []
    return [int(file.name) for file in _OPEN_FILES.iterdir()]


def _name_of(number: int) -> str:
    """Return the name of a socket's other end; empty if the file is no connection."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return ""
        connection = socket.socket(fileno=number)
    except OSError:  # closed meanwhile
        return ""
    try:
        return _name(connection)
    except OSError:  # it listens, or is closed
        return ""
    finally:
        connection.detach()


def _name(connection: socket.socket) -> str:
    """Return the name of the other end as gRPC writes it; empty if it is not TCP.

    Raises:
        OSError: it is not connected.
    """
    if connection.family not in _FAMILIES:
        return ""
    host, port, *_ = connection.getpeername()
    if connection.family == socket.AF_INET6:
        # gRPC listens for both kinds of addresses on one socket, and names each by its own kind.
        if host.startswith("::ffff:"):
            return f"ipv4:{host.removeprefix('::ffff:')}:{port}"
        return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}"
    return f"ipv4:{host}:{port}"


def _sockets(port: int, *, listening: bool) -> list[tuple[int, socket.socket]]:
    """Return the process's sockets at one of its ports: their numbers, and duplicates of them."""
    found, duplicates = [], set[int]()
    for descriptor in _open_files():
        if descriptor in duplicates:
            continue  # closed since it was listed
        with suppress(OSError):  # the same
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            one = socket.socket(fileno=os.dup(descriptor))
            listens = bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            is_tcp = one.family in _FAMILIES and one.type == socket.SOCK_STREAM
            if is_tcp and one.getsockname()[1] == port and listens == listening:
                found.append((descriptor, one))
                duplicates.add(one.fileno())
            else:
                one.close()
    return found
