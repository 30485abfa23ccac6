"""The connections to a server, as the system knows them: gRPC has no way to just hang up."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

_OPEN_FILES = Path("/dev/fd")


def hang_up(port: int) -> None:
    """Close all connections that others made to a port of this process; what was sent arrives.

    A gRPC server that stops ends requests that it hasn't looked at yet with ``CANCELLED``, as if
    the caller had given them up. Those of a connection that is closed get ``UNAVAILABLE``, which
    clients try again. Where the system doesn't tell what is open (Windows), nothing happens.

    Args:
        port: where the process listens; it goes on listening.
    """
    # Found first, and closed in one go: whoever was hung up on may be back in a millisecond.
    connections = _connections(port)
    for connection in connections:
        with suppress(OSError):  # closed meanwhile
            connection.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


def _connections(port: int) -> list[socket.socket]:
    """Duplicates of this process's sockets that others are connected to."""
    try:
        descriptors = [int(file.name) for file in _OPEN_FILES.iterdir()]
    except FileNotFoundError:
        return []
    found = []
    for descriptor in descriptors:
        with suppress(OSError):  # closed meanwhile
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            one = socket.socket(fileno=os.dup(descriptor))
            if _is_connected_to(one, port):
                found.append(one)
            else:
                one.close()
    return found


def _is_connected_to(one: socket.socket, port: int) -> bool:
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        one.getpeername()
    except OSError:  # it listens, or is closed by now
        return False
    return bool(one.getsockname()[1] == port)
