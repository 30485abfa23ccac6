"""Turns of writers on an object store, which has no locks.

Who writes keeps a small object with its name and renews it every few seconds. Others wait for it or
are refused. A turn only saves work that would be in vain: if two writers take the same turn, as
after a pause of one of them, the tables and the pointer decide.
"""

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from retrieval.errors import IndexLocked, NotFound, RetrievalError
from retrieval.store.disk.tables.locks import COMMIT_WAIT_SECONDS
from retrieval.store.lake.place import Place

RENEW_SECONDS: Final = 5.0
"""Time between two renewals of a turn: most commits end before the first."""
STALE_SECONDS: Final = 20.0
"""A turn that was not renewed for this long is taken over; less than a commit waits for one. Each
waiting process measures it with its own clock."""
_POLL_SECONDS: Final = (0.05, 0.2)
"""Least and greatest time between two attempts, so that waiting processes do not ask together."""
_FOLDER: Final = "turns"
_GIVEN_UP: Final[set[str]] = set()
"""Turns of this process that it could not give back, because the store did not answer."""


@contextmanager
def commit_turn(place: Place, seconds: float = COMMIT_WAIT_SECONDS) -> Iterator[None]:
    """Take the turn to commit; wait for other writers.

    Raises:
        IndexLocked: another process kept the turn all the time.
        StorageError: the store can't be used.
    """
    with _taken(place, "commit", seconds, is_brief=True):
        yield


@contextmanager
def build_turn(place: Place) -> Iterator[None]:
    """Take the turn to build; do not wait for another build.

    Raises:
        IndexLocked: another process builds.
        StorageError: the store can't be used.
    """
    with _taken(place, "build", STALE_SECONDS + RENEW_SECONDS, is_brief=False):
        yield


@contextmanager
def _taken(place: Place, name: str, seconds: float, *, is_brief: bool) -> Iterator[None]:
    turn = _Turn(place, f"{_FOLDER}/{name}.json")
    turn.take(time.monotonic() + seconds, is_brief=is_brief)
    ended = threading.Event()
    renewing = threading.Thread(target=turn.renew_until, args=(ended,), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        try:
            turn.give_back()
        except RetrievalError:  # others wait until it is stale
            _GIVEN_UP.add(turn.id)


class _Turn:
    """One turn of this process."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self.id = secrets.token_hex(8)
        self._mine = {**_this_process(), "turn": self.id, "renewed": 0}
        self._renewed = 0.0
        """When this process last knew that the turn was its own."""

    def take(self, deadline: float, *, is_brief: bool) -> None:
        """Take the turn; see ``commit_turn`` and ``build_turn``.

        Args:
            deadline: when to give up, a time of ``time.monotonic``.
            is_brief: whether to wait for a process that is known to be alive.
        """
        first: dict[str, Any] = {}
        since = 0.0
        while not self._place.objects.create(self._name, json.dumps(self._mine).encode()):
            other, now = self._read(), time.monotonic()
            if other is None:
                continue
            is_alive = _is_alive(other)
            if other.get("turn") != first.get("turn"):
                first, since = other, now
            elif other != first:
                first, since, is_alive = other, now, True
            if is_alive is False or now - since > STALE_SECONDS:
                if self._read() == other:
                    self._place.objects.delete([self._name])
                continue
            if now > deadline or (is_alive and not is_brief):
                raise self._refused(other)
            time.sleep(random.uniform(*_POLL_SECONDS))
        self._renewed = time.monotonic()

    def renew_until(self, ended: threading.Event) -> None:
        """Renew the turn until an event, or until another process has taken it over."""
        while not ended.wait(RENEW_SECONDS):
            with suppress(RetrievalError):  # tried again; others may take the turn meanwhile
                if not self._is_mine():
                    return
                self._mine["renewed"] += 1
                self._place.bucket.write(self._name, json.dumps(self._mine).encode())
                self._renewed = time.monotonic()

    def give_back(self) -> None:
        """Let others have the turn."""
        if time.monotonic() - self._renewed < STALE_SECONDS / 2 or self._is_mine():
            self._place.objects.delete([self._name])

    def _is_mine(self) -> bool:
        other = self._read()
        return other is not None and other.get("turn") == self.id

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._place.objects.read(self._name))
        except NotFound:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _refused(self, other: dict[str, Any]) -> IndexLocked:
        holder = f"process {other.get('pid', 'unknown')} on {other.get('host', 'another machine')}"
        return IndexLocked(
            f"{self._place.address} is being written by {holder}; try again when it is done",
            holder=str(other.get("pid", "unknown")),
        )


@cache
def _this_machine() -> dict[str, str]:
    """Return what tells whether a process id of a turn is one of this machine."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"host": socket.gethostname(), "ids": f"{boot} {os.readlink('/proc/self/ns/pid')}"}  # noqa: PTH115
    return {"host": socket.gethostname(), "ids": ""}


def _this_process() -> dict[str, Any]:
    return {**_this_machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """Return when a process of this machine began; None if it has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else after_name[19]


def _is_alive(other: dict[str, Any]) -> bool | None:
    """Whether the process of a turn is alive; None if only time can tell."""
    if other.get("turn") in _GIVEN_UP:
        return False
    ids = _this_machine()["ids"]
    if not ids or other.get("ids") != ids or not isinstance(other.get("pid"), int):
        return None
    return _started(other["pid"]) == other.get("started")
