"""The connections to a server, as the system knows them: gRPC has no way to just hang up."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

_OPEN_FILES = Path("/dev/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


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
