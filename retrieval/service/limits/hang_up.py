"""The connections to a server, as the system knows them: gRPC has no way to just hang up."""

import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

_OPEN_FILES = Path("/dev/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_TCP_INFO: Final = 11
_BYTES_RECEIVED: Final = 128
"""Offset of ``tcpi_bytes_received`` (64 bits) in Linux's ``struct tcp_info``, since Linux 4.1."""


def hang_up(port: int) -> None:
    """Stop listening on a port, and close all connections made to it; what was sent arrives.

    A gRPC server that stops ends requests that it hasn't looked at yet with ``CANCELLED``, as if
    the caller had given them up. Those of a connection that is closed get ``UNAVAILABLE``, which
    clients try again. Where the system doesn't tell what is open (Windows), nothing happens.

    Args:
        port: of this process. Who listens there should be stopped next.
    """
    for descriptor, listener in _sockets(port, listening=True):
        # Another socket in its place: gRPC closes it by its number, and would complain of an error.
        with listener, socket.socket(listener.family) as unused:
            os.dup2(unused.fileno(), descriptor, inheritable=False)
    for _, connection in _sockets(port, listening=False):
        with connection, suppress(OSError):  # closed meanwhile
            connection.shutdown(socket.SHUT_RDWR)


class Peers:
    """The connections of this process by the names that gRPC gives to their other ends.

    A name is that of ``ServicerContext.peer``, such as ``ipv4:127.0.0.1:40312``. Not thread-safe.
    """

    def __init__(self) -> None:
        """Know no connection yet."""
        self._numbers: dict[str, int] = {}
        """Name → number of the socket, which may have been closed since."""

    def received(self, peer: str) -> int | None:
        """Return how many bytes a connection has brought since it was made.

        Returns:
            None: there is no such connection, or the system doesn't say.
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
            # The number may be another connection's by now.
            if _name(connection) == peer:
                connection.shutdown(socket.SHUT_RDWR)

    def _number(self, peer: str) -> int | None:
        """The number of a connection's socket; looks at all that are open if it isn't known."""
        if (number := self._numbers.get(peer)) is not None and _name_of(number) == peer:
            return number
        folder = _OPEN_FILES.iterdir() if _OPEN_FILES.is_dir() else ()
        numbers = [int(file.name) for file in folder]
        self._numbers = {name: number for number in numbers if (name := _name_of(number))}
        return self._numbers.get(peer)


def _name_of(number: int) -> str:
    """The name of a socket's other end; empty where a number is that of no connection."""
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
    """As gRPC writes it; empty for what is not TCP.

    Raises:
        OSError: it is not connected.
    """
    if connection.family not in _FAMILIES:
        return ""
    host, port, *_ = connection.getpeername()
    if connection.family == socket.AF_INET6:
        # gRPC listens on both kinds of addresses by one socket, and names each as what it is.
        if host.startswith("::ffff:"):
            return f"ipv4:{host.removeprefix('::ffff:')}:{port}"
        return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}"
    return f"ipv4:{host}:{port}"


def _sockets(port: int, *, listening: bool) -> list[tuple[int, socket.socket]]:
    """This process's sockets at a port of its own: their numbers, and duplicates of them."""
    folder = _OPEN_FILES.iterdir() if _OPEN_FILES.is_dir() else ()
    found, duplicates = [], set[int]()
    for descriptor in [int(file.name) for file in folder]:
        if descriptor in duplicates:
            continue  # closed since it was listed
        with suppress(OSError):  # as well
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
