"""The target of a client: the server's address, checked before gRPC misunderstands it."""

import ipaddress
import re

from retrieval.domain.arguments import kind_of
from retrieval.errors import InvalidArgument

DEFAULT_PORT = 50051
_MAX_PORT = 65_535

_NATIVE = re.compile(r"(unix:|unix-abstract:|vsock:|dns:|ipv4:|ipv6:|xds:|google-c2p:)")
"""gRPC's own schemes (https://github.com/grpc/grpc/blob/master/doc/naming.md)."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ENCRYPTED = ("https", "grpcs")


def check_target(target: str) -> None:
    """Refuse a target that is neither ``HOST:PORT`` nor a name of gRPC's such as ``dns:///host:port``.

    Raises:
        InvalidArgument: the target is malformed; the message says what to write instead.
    """
    if not isinstance(target, str):
        if target is None:
            raise InvalidArgument("no target: give the server's HOST:PORT", field="target")
        raise InvalidArgument(
            f"target is {kind_of(target)}; give the server's HOST:PORT as a text", field="target"
        )
    if not target.strip():
        raise InvalidArgument("no target: give the server's HOST:PORT", field="target")
    if _NATIVE.match(target):
        return
    scheme = _SCHEME.match(target)
    if scheme:
        rest = target[scheme.end() :].split("/", 1)[0]
        tls = "; connect with TLS (--tls or --ca FILE; in Python tls=Tls())"
        raise InvalidArgument(
            f"target is {target!r}, which is an address for browsers: give {_with_port(rest)!r}"
            f"{tls if scheme[1].lower() in _ENCRYPTED else ''}",
            field="target",
        )
    _check_host_and_port(target)


def _check_host_and_port(target: str) -> None:
    host, colon, port = target.rpartition(":")
    if target.count(":") > 1 and not target.startswith("["):
        raise _malformed(target, f"put an IPv6 address in brackets, such as '[::1]:{port}'")
    if not colon or target.endswith("]"):
        raise _malformed(target, f"it has no port; give HOST:PORT, such as {_with_port(target)!r}")
    if not host:
        raise _malformed(target, f"it has no host; give HOST:PORT, such as '127.0.0.1:{port}'")
    if re.search(r"[\s/@?#]", target):
        raise _malformed(target, "give HOST:PORT and nothing else")
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= _MAX_PORT:
        raise _malformed(target, f"the port must be a number from 1 to {_MAX_PORT}, not {port!r}")


def _with_port(address: str) -> str:
    """Return an address with its own port, or with the default one."""
    return address if re.search(r":[0-9]+$", address) else f"{address.rstrip(':')}:{DEFAULT_PORT}"


def _malformed(target: str, advice: str) -> InvalidArgument:
    return InvalidArgument(f"target is {target!r}: {advice}", field="target")


def is_loopback(target: str) -> bool:
    """Return whether a target is on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
