"""Quotas: how many documents and bytes a token has put today, within what it may put in a day.

A put counts once it is committed, an unchanged document included. What the puts under way would
add counts against the quota meanwhile, so that many at once can't exceed it. Days are those of UTC.

The counts are in a file, written at most once a second. So they survive restarts; a crash or a
power cut forgets the last second at most. The counts are of one server: servers that share a token
file must not share the file of counts.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from retrieval.errors import QuotaExceeded
from retrieval.service.access.callers import Caller
from retrieval.store.durable_files import OWNER_ONLY, replacing

LOG = logging.getLogger(__name__)

_SECONDS: Final = 1.0
"""Between two looks whether there is something to write."""
_MAX_FILE_BYTES: Final = 64 << 20
_VERSION: Final = 1


def today() -> date:
    """Return the present day of UTC."""
    return datetime.now(UTC).date()


def _exceeded(message: str, quota: str) -> QuotaExceeded:
    """Return the error of a quota that is used up for today."""
    error = QuotaExceeded(f"{message}: try again after midnight UTC", quota=quota)
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    error.retry_seconds = (midnight - now).total_seconds()
    return error


class Quotas:
    """Counts of what tokens put; belongs to the event loop."""

    def __init__(self, file: Path | None, *, day: Callable[[], date] = today) -> None:
        """Read the counts of today, if there are some.

        Args:
            file: of the counts; None if there are no tokens.
            day: returns the present day.
        """
        self._file = file
        self._now = day
        self._day = day()
        self._documents = Counter[str]()
        self._bytes = Counter[str]()
        self._reserved: dict[Reservation, None] = {}
        self._changed = False
        self._failed = False
        self._read()

    def reserve(self, caller: Caller, size: int) -> "Reservation":
        """Count a document against its caller's quota while it is under way.

        Args:
            caller: who puts it.
            size: its bytes.

        Returns:
            what to settle or to give up; either ends it.

        Raises:
            QuotaExceeded: the caller may put no more today, or not this much.
        """
        reservation = Reservation(self, caller, size)
        if not any(caller.quota):
            return reservation
        self._begin_day()
        under_way = [each for each in self._reserved if each.caller.name == caller.name]
        documents = self._documents[caller.name] + len(under_way)
        size_so_far = self._bytes[caller.name] + sum(each.size for each in under_way)
        if 0 < caller.quota.documents <= documents:
            message = f"this token may put {caller.quota.documents} documents a day"
            raise _exceeded(message, "documents")
        if 0 < caller.quota.bytes < size_so_far + size:
            message = (
                f"this token may put {caller.quota.bytes} bytes a day, {size_so_far} are used and "
                f"this document has {size}"
            )
            raise _exceeded(message, "bytes")
        self._reserved[reservation] = None
        return reservation

    def used(self, name: str) -> tuple[int, int]:
        """Return the documents and bytes that a token has put today."""
        self._begin_day()
        return self._documents[name], self._bytes[name]

    async def run(self) -> None:
        """Write changed counts until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the counts if they have changed."""
        if not self._changed or self._file is None:
            return
        self._changed = False
        content = {
            "version": _VERSION,
            "day": self._day.isoformat(),
            "documents": dict(self._documents),
            "bytes": dict(self._bytes),
        }
        try:
            await asyncio.to_thread(_replace, self._file, json.dumps(content))
        except OSError as error:
            self._changed = True
            if not self._failed:
                LOG.warning(
                    "quotas are kept in memory alone: can't write %s: %s",
                    self._file,
                    error.strerror,
                )
            self._failed = True
        else:
            self._failed = False

    def end(self, reservation: "Reservation", documents: int) -> None:
        """Count a reservation's document, or as many as it turned out to hold; 0 for none."""
        if self._reserved.pop(reservation, self) is self or not documents:
            return
        self._begin_day()
        self._documents[reservation.caller.name] += documents
        self._bytes[reservation.caller.name] += reservation.size
        self._changed = True

    def _begin_day(self) -> None:
        """Forget the counts of another day."""
        if self._now() != self._day:
            self._day = self._now()
            self._documents.clear()
            self._bytes.clear()
            self._changed = True

    def _read(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            with self._file.open("rb") as file:
                content = json.loads(file.read(_MAX_FILE_BYTES))
            if content["day"] == self._day.isoformat():
                self._documents.update({str(k): int(v) for k, v in content["documents"].items()})
                self._bytes.update({str(k): int(v) for k, v in content["bytes"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            LOG.warning("quotas begin at zero: can't read %s: %s", self._file, error)


class Reservation:
    """One document that is under way."""

    def __init__(self, quotas: Quotas, caller: Caller, size: int) -> None:
        """Reserve nothing yet; see ``Quotas.reserve``."""
        self._quotas = quotas
        self.caller = caller
        self.size = size

    def settle(self, documents: int) -> None:
        """Count the put: it is committed.

        Args:
            documents: how many it has become; an archive holds several.
        """
        self._quotas.end(self, documents)

    def give_up(self) -> None:
        """Count nothing, unless it is settled already."""
        self._quotas.end(self, 0)


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step.

    Raises:
        OSError: it can't be written.
    """
    with replacing(path, path.with_name(f"{path.name}.new"), mode=OWNER_ONLY) as file:
        file.write(text.encode())
