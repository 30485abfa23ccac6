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
    found: list[tuple[int, socket.socket]] = []
    for descriptor in _socket_descriptors():
        if any(descriptor == one.fileno() for _, one in found):
            continue  # closed meanwhile, and now the number of a duplicate
        with suppress(OSError):  # closed meanwhile
            one = socket.socket(fileno=os.dup(descriptor))
            listens = bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            is_tcp = one.family in _FAMILIES and one.type == socket.SOCK_STREAM
            if is_tcp and one.getsockname()[1] == port and listens == listening:
                found.append((descriptor, one))
            else:
                one.close()
    return found


def _socket_descriptors() -> list[int]:
    sockets = []
    with suppress(FileNotFoundError):  # the system has no such folder
        for descriptor in [int(file.name) for file in _OPEN_FILES.iterdir()]:
            with suppress(OSError):  # closed meanwhile, as what the folder was read with
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    sockets.append(descriptor)
    return sockets
