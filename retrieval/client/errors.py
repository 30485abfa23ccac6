"""From gRPC's errors to the client's exceptions, with advice if no connection was made.

gRPC ends a request with UNAVAILABLE and describes the last attempt in a text. The texts that are
recognised here come from grpcio 1.85; any other is shown as it is.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from retrieval.client.target import is_loopback
from retrieval.errors import ServiceError, ServiceUnavailable, UserError

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""In the order in which gRPC reads them."""

_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_HTTP_STATUS = re.compile(r"http2 header with status: (\d+)")
_PROXY_STATUS = re.compile(r"HTTP proxy returned response code (\d+)")
_LOOKUP = re.compile(r"address lookup failed for [^\]]*: ([^\]:]+)")
_LAST_ERROR = re.compile(r"last error: [A-Z_]+: (.*)", re.DOTALL)


def service_error(
    error: grpc.RpcError,
    *,
    target: str,
    timeout: float,
    unknown: str = "",
    encrypted: bool = False,
    has_certificate: bool = False,
) -> ServiceError:
    """Return the exception to raise for a failed call.

    Args:
        error: that gRPC raised.
        target: the server's address.
        timeout: of the call, in seconds.
        unknown: advice if the server does not know the method; empty for the general one.
        encrypted: whether the client speaks TLS.
        has_certificate: whether the client has a certificate of its own.

    Returns:
        ``ServiceUnavailable`` if no server answered or the server takes no requests, otherwise
        ``ServiceError``; with status, reason and metadata as the server gave them.
    """
    code = error.code()
    info = _error_info(error)
    details = error.details() or ""
    diagnosis = None
    if info is None:
        diagnosis = diagnose(details, target, encrypted=encrypted, has_certificate=has_certificate)
    if info is not None:
        message = details or code.name
    elif diagnosis is not None:
        message = diagnosis.message
    elif code is grpc.StatusCode.UNAVAILABLE:
        message = _no_answer(target, last_error(details))
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {target} within {timeout:g} s"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        advice = unknown or "it is another kind of server, or older"
        message = f"{target} does not know this request: {advice}"
    else:
        message = f"{target} answered {code.name}: {details or 'without a message'}"
    kind = ServiceUnavailable if code is grpc.StatusCode.UNAVAILABLE else ServiceError
    translated = kind(message, status=code.name, reason=info.reason if info else "")
    # Not as keywords: a server may name its metadata as it likes.
    translated.metadata.update(info.metadata if info else {"details": details})
    callers_mistake = diagnosis is not None and diagnosis.callers_mistake
    if callers_mistake or (unknown and code is grpc.StatusCode.UNIMPLEMENTED):
        translated.exit_code = UserError.exit_code
    return translated


def _no_answer(target: str, reason: str) -> str:
    # A refused connection just means that no server runs there.
    why = "" if not reason or "refused" in reason else f" ({reason})"
    return f"no server answers at {target}{why}; start one with `retrieval serve --index DIR`"


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """Return the ``ErrorInfo`` that our servers put into every error; None from other servers."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return None
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):
        # The details are malformed or contradict the status: not one of our servers.
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


class Diagnosis(NamedTuple):
    """Why a server was not reached."""

    message: str
    callers_mistake: bool
    """Whether the caller must change something before a retry can help."""


def diagnose(
    details: str,
    target: str,
    *,
    encrypted: bool,
    has_certificate: bool,
    environment: Mapping[str, str] = os.environ,
) -> Diagnosis | None:
    """Find out why a server was not reached.

    Args:
        details: gRPC's text.
        target: the server's address.
        encrypted: whether the client speaks TLS.
        has_certificate: whether the client has a certificate of its own.
        environment: may name a proxy.

    Returns:
        the reason and what to do; None if the text is not recognised.
    """
    status = _HTTP_STATUS.search(details)
    if status:
        return Diagnosis(
            f"{target} answered with HTTP status {status[1]}: a proxy in front of the server can't "
            "reach it, or this is another kind of server",
            callers_mistake=False,
        )
    proxy_status = _PROXY_STATUS.search(details)
    if proxy_status:
        return Diagnosis(
            f"the proxy in {_proxy_variable(environment)} refused to connect to {target} "
            f"(HTTP status {proxy_status[1]}); if the server needs no proxy, add its host to "
            "no_proxy",
            callers_mistake=True,
        )
    mistake = _tls_mistake(details, target, encrypted=encrypted, has_certificate=has_certificate)
    if mistake:
        return Diagnosis(mistake, callers_mistake=True)
    lookup = _LOOKUP.search(details)
    if lookup:
        return Diagnosis(
            f"can't find the host of {target} ({lookup[1]}): check the address",
            callers_mistake=False,
        )
    if "refused" in details and not is_loopback(target) and _proxy_variable(environment):
        return Diagnosis(
            f"no server answers at {target}, or the proxy in {_proxy_variable(environment)} does "
            "not answer; if the server needs no proxy, add its host to no_proxy",
            callers_mistake=False,
        )
    return None


def last_error(details: str) -> str:
    """Return gRPC's reason for the last failed attempt, on one line; empty if there is none."""
    found = _LAST_ERROR.search(details)
    return " ".join(found[1].split()) if found else ""


def _tls_mistake(
    details: str, target: str, *, encrypted: bool, has_certificate: bool
) -> str | None:
    certificate = _CERTIFICATE.search(details)
    if certificate:
        return (
            f"the certificate of {target} is not trusted ({certificate[1].strip()}): name the "
            "authority that signed it with --ca FILE (in Python tls=Tls(ca=...))"
        )
    if "Hostname Verification" in details:
        return (
            f"the certificate of {target} is for another host: connect by a name in the certificate"
        )
    if "WRONG_VERSION_NUMBER" in details:
        return (
            f"{target} does not speak TLS: leave out --tls, --ca, --cert and --key (in Python "
            "tls=...), or start the server with --tls-cert and --tls-key"
        )
    if "Failed parsing HTTP/2" in details:
        return (
            f"{target} is not a gRPC server: it answers in another protocol, such as HTTP/1.1; "
            "give the address that `retrieval serve` listens on"
        )
    # The server hung up before a request was sent; after one, it may just be shutting down.
    if "failed to connect" in details and re.search("Socket closed|reset by peer", details):
        return _hung_up(target, encrypted=encrypted, has_certificate=has_certificate)
    return None


def _hung_up(target: str, *, encrypted: bool, has_certificate: bool) -> str:
    if not encrypted:
        return (
            f"{target} closed the connection at once, as a server with TLS does: connect with TLS "
            "(--tls or --ca FILE; in Python tls=Tls())"
        )
    if has_certificate:
        return (
            f"{target} closed the connection after the TLS handshake: it may not trust the "
            "certificate of --cert (in Python tls=Tls(cert=..., key=...))"
        )
    return (
        f"{target} closed the connection after the TLS handshake, as a server does that needs "
        "client certificates: give --cert and --key (in Python tls=Tls(cert=..., key=...))"
    )


def _proxy_variable(environment: Mapping[str, str]) -> str:
    return next((name for name in _PROXY_VARIABLES if environment.get(name)), "")
