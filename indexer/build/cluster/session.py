"""Connection to a Ray cluster, or a cluster of this machine alone for one build."""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Final

from retrieval.errors import ClusterUnavailable, InvalidArgument

LOCAL: Final = "local"
"""Address that means a cluster of this machine, for the time of the build."""

CONNECT_SECONDS: Final = 5.0
"""Time to reach the cluster's address, and for each answer while connecting."""

_LOOPBACK: Final = "127.0.0.1"

_LOCAL_STORE_BYTES: Final = 512 << 20
"""Shared memory of a local cluster's objects: several times what a build has there at once."""

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # send nothing anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # this program reports what goes wrong, in a line
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # of connecting; each takes CONNECT_SECONDS and more
    "RAY_py_gcs_connect_timeout_s": f"{CONNECT_SECONDS:.0f}",
}
"""Settings that Ray takes from the environment; those that the user made stay."""


@contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Connect to a cluster, and disconnect at the end.

    Args:
        address: ``local``; ``auto`` for the cluster that this machine is a node of; or the address
            of a cluster's head, such as ``10.0.0.1:6379``.

    Yields:
        the module ``ray``, connected.

    Raises:
        InvalidArgument: Ray is not installed, or the address can't be one.
        ClusterUnavailable: no cluster answers there.
    """
    _check_reachable(address)
    if "ray" not in sys.modules:  # it takes these when it is imported
        for name, value in (_ENVIRONMENT | _environment_of(address)).items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise InvalidArgument("--ray needs Ray: pip install 'gte-retrieval[ray]'") from error
    if ray.is_initialized():  # by the program that calls this one
        yield ray
        return
    own = tempfile.mkdtemp(prefix="gte-ray-") if address == LOCAL else None
    # Ray prints what becomes of nodes to standard output, where the report of a build goes.
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        try:
            with _silence(), _same_sigterm():
                _connect(ray, address, own)
            yield ray
        finally:
            # Also where the head is lost: without it, Ray's threads crash this program.
            ray.shutdown()
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)


def head_of(ray: ModuleType) -> tuple[str, int]:
    """Return host and port of the head that Ray is connected to."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def check_answers(head: tuple[str, int], seconds: float) -> None:
    """Connect to a head, and hang up.

    Args:
        head: its host and port.
        seconds: time to wait for it.

    Raises:
        OSError: nothing listens there.
    """
    socket.create_connection(head, seconds).close()


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does to this program: Ray sets a handler of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _environment_of(address: str) -> dict[str, str]:
    """Return settings for a cluster of this machine; none for others."""
    if address != LOCAL:
        return {}
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # where Ray listens on loopback only
    if "RAY_AUTH_MODE" in os.environ:
        return loopback
    # Other users of this machine can't use the cluster. Without this, Ray makes a token, too, and
    # leaves it in the home folder.
    return loopback | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _connect(ray: ModuleType, address: str, own: str | None) -> None:
    """Connect; ``own`` is the folder for the sockets and logs of a local cluster."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if own is not None:
            ray.init(
                address=LOCAL,
                num_cpus=_cores(),
                include_dashboard=False,
                object_store_memory=_LOCAL_STORE_BYTES,
                _node_ip_address=_LOOPBACK,
                _temp_dir=own,
                **quiet,
            )
            # Ray's protocol runs code: nobody else may reach it.
            _check_loopback(ray)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _unavailable(address, error) from error


def _check_loopback(ray: ModuleType) -> None:
    """Refuse a local cluster that others can reach.

    Raises:
        RuntimeError: it listens on all interfaces.
    """
    if not ray.get_runtime_context().gcs_address.startswith(f"{_LOOPBACK}:"):
        ray.shutdown()
        raise RuntimeError("it would listen on all interfaces; don't import ray before")


def _unavailable(address: str, error: Exception) -> ClusterUnavailable:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    what = "a Ray cluster of this machine can't start"
    what = what if address == LOCAL else f"no Ray cluster at {address}"
    return ClusterUnavailable(f"{what}: {reason}", address=address)


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what Ray's C++ libraries write to standard error while they start."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_reachable(address: str) -> None:
    """Refuse an address at which nothing listens: Ray would try for minutes.

    Raises:
        InvalidArgument: it is no address of a cluster.
        ClusterUnavailable: nothing listens there.
    """
    if address in ("auto", LOCAL):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise InvalidArgument(
            f"--ray is {address!r}; give local, auto, or the address of the cluster's head, such "
            f"as 10.0.0.1:6379"
        )
    try:
        check_answers((host.strip("[]"), int(port)), CONNECT_SECONDS)
    except (OSError, OverflowError) as error:
        raise _unavailable(address, error) from error


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
