"""Reads the tables of one generation from copies on this machine, as far as there is room.

A table is copied as a whole: the files of one version of it, which never change. It is opened from
its copy if all of them are there, which asks the store nothing. Until then, and where there is no
room, it is read from the store. Tables are copied in the order of their use to a search.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import lance

from retrieval.errors import RetrievalError, StorageError
from retrieval.store.lake.local.cache_folder import cache_folder, cache_limit
from retrieval.store.lake.local.copies import Copies, Plan
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.pointer import Pointer
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    DOCUMENTS,
    TEXTS,
    VALUES,
    VECTORS,
    lance_errors,
    open_table,
)

ORDER: Final = (CHUNKS, DOCUMENTS, TEXTS, VALUES, VECTORS)
"""Tables to copy, in order. Searches read the others seldom or never."""
_DELAY_SECONDS: Final = 5.0
"""Time from opening an index to copying it. A command that answers one search has ended by then."""
_BEFORE_SWITCH_SECONDS: Final = 60.0
"""Maximum time to copy what is new of a generation before it is served. After a table was merged,
that is all of it; meanwhile the generation before is served from its copy."""

_THREADS: Final = 4
"""Files to copy at a time: small ones wait for the network, and searches need some of it."""

_log = logging.getLogger(__name__)


class Mirror:
    """The copies of one generation's tables; safe to share between threads."""

    def __init__(self, place: Place, pointer: Pointer, copies: Copies) -> None:
        """Use ``of``."""
        self._place = place
        self._pointer = pointer
        self._copies = copies
        self._lock = threading.Lock()
        self._whole: dict[str, Plan] = {}
        self._closed = False
        for name in ORDER:
            plan = self._known(name) if name in pointer.tables else None
            if plan and plan.samples and not copies.missing(plan) and copies.claim(plan):
                self._whole[name] = plan

    @classmethod
    def of(cls, place: Place, pointer: Pointer) -> "Mirror | None":
        """Use the copies of a generation; None if its tables are on this machine, or not copied.

        Args:
            place: the index.
            pointer: the generation.
        """
        if place.local is not None:
            return None
        try:
            limit = cache_limit()
            if not limit:
                return None
            return cls(place, pointer, Copies(cache_folder(), pointer.index_id, limit))
        except OSError as error:
            _warn(place, error)
            return None

    @property
    def whole(self) -> frozenset[str]:
        """Names of the tables that can be opened from their copies."""
        with self._lock:
            return frozenset(self._whole)

    def open(self, name: str, session: Any) -> Any:  # noqa: ANN401
        """See ``TableCopies``; None, too, if the copy is damaged."""
        with self._lock:
            plan = self._whole.get(name)
        if plan is None:
            return None
        try:
            path = str(self._copies.opened(plan))
            return lance.dataset(path, version=plan.version, session=session)
        except (OSError, ValueError, RuntimeError) as error:
            self.give_up(name, str(error))
            return None

    def give_up(self, name: str, reason: str) -> None:
        """See ``TableCopies``."""
        with self._lock:
            plan = self._whole.pop(name, None)
        if plan is None:
            return
        _log.warning(
            "The copy of table %s of %s is damaged and was deleted; it is read from the store: %s",
            name,
            self._place.address,
            reason.partition("\n")[0],
        )
        with _tolerated(self._place):
            self._copies.drop(plan)

    def close(self) -> None:
        """Stop copying."""
        self._closed = True

    # Copying.

    def copy(self, ready: Callable[[str], object], seconds: float | None = None) -> None:
        """Copy the tables that have no copy yet; failures are logged.

        Args:
            ready: is called with the name of each table that can be opened from its copy now.
            seconds: time after which to stop; None for no limit.
        """
        end = None if seconds is None else time.monotonic() + seconds
        started, copied = time.monotonic(), 0
        with _tolerated(self._place):
            for name in ORDER:
                if name not in self._pointer.tables or name in self.whole:
                    continue
                plan = self._planned(name)
                if not self._copies.claim(plan):
                    continue
                missing = self._copies.missing(plan)
                if not self._fetch_all(plan, missing, end):
                    return
                copied += sum(plan.files[file] for file in missing)
                plan = self._copies.completed(plan)
                with self._lock:
                    self._whole[name] = plan
                ready(name)
        if copied:
            _log.info(
                "Copied %.1f MB of the tables of %s in %.1f s",
                copied / 1e6,
                self._place.address,
                time.monotonic() - started,
            )

    def copy_before_switch(self) -> None:
        """Copy what is new of the generation, for a limited time."""
        self.copy(lambda _: None, _BEFORE_SWITCH_SECONDS)

    def start(self, ready: Callable[[str], object]) -> None:
        """Copy in the background after a while; see ``copy``."""
        wanted = [name for name in ORDER if name in self._pointer.tables]
        if not self.whole.issuperset(wanted):
            threading.Thread(target=self._run, args=(ready,), name="lake-copy").start()

    def _run(self, ready: Callable[[str], object]) -> None:
        end = time.monotonic() + _DELAY_SECONDS
        while time.monotonic() < end:
            if self._is_over():
                return
            time.sleep(0.05)
        try:
            self.copy(ready)
        except RuntimeError:  # no new threads once the interpreter shuts down
            if not self._is_over():
                raise

    def _is_over(self) -> bool:
        """Whether nobody needs the copy any more."""
        # A program that has ended waits for its threads.
        return self._closed or not threading.main_thread().is_alive()

    def _known(self, name: str) -> Plan | None:
        pointer = self._pointer
        return self._copies.known(name, pointer.tables[name], pointer.table_id(name))

    def _planned(self, name: str) -> Plan:
        """Return the files of a table.

        Raises:
            OSError, RetrievalError: the store can't be read.
        """
        known = self._known(name)
        if known is not None:
            return known
        version = self._pointer.tables[name]
        with lance_errors(self._place):
            rows = open_table(self._place, name, version).tracked_files(min_version=version)
            files = [
                row["path"]
                for row in rows.read_all().to_pylist()
                if row["version"] == version and row["type"] != "transaction file"
            ]
        listed = self._place.objects.list(f"{TABLES}/{name}.lance")
        sizes = {one.name: one.size for one in listed}
        missing = [file for file in files if file not in sizes]
        if missing:
            raise StorageError(f"{self._place.address} has no file {missing[0]} of {name}")
        return Plan(
            name, version, self._pointer.table_id(name), {file: sizes[file] for file in files}
        )

    def _fetch_all(self, plan: Plan, files: Sequence[str], end: float | None) -> bool:
        """Copy files; return whether all were copied, see ``_fetch``."""
        left, copied = deque(files), list[bool]()
        errors = list[OSError | RetrievalError]()

        def work() -> None:
            with suppress(IndexError):
                while not errors and all(copied):
                    try:
                        copied.append(self._fetch(plan, left.popleft(), end))
                    except (OSError, RetrievalError) as error:
                        errors.append(error)

        # A pool would keep a program that has ended from stopping these threads.
        threads = [threading.Thread(target=work) for _ in files[:_THREADS]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return len(copied) == len(files) and all(copied)

    def _fetch(self, plan: Plan, file: str, end: float | None) -> bool:
        """Copy a file; return whether it was copied, and not interrupted.

        Raises:
            OSError, RetrievalError: the file can't be read or written.
        """
        part = self._copies.part()
        try:
            with part.open("xb") as copy:
                for piece in self._place.bucket.stream(f"{TABLES}/{plan.table}.lance/{file}"):
                    copy.write(piece)
                    if self._is_over() or (end is not None and time.monotonic() > end):
                        return False
                size = copy.tell()
                copy.flush()
                os.fsync(copy.fileno())  # only its size is checked before it is used again
            if size != plan.files[file]:
                raise StorageError(
                    f"{file} of {plan.table} has {size} bytes instead of {plan.files[file]}"
                )
            self._copies.put(plan, file, part)
        finally:
            part.unlink(missing_ok=True)
        return True


@contextmanager
def _tolerated(place: Place) -> Iterator[None]:
    """Log what keeps copies from being made or deleted; the store is read then."""
    try:
        yield
    except (OSError, RetrievalError) as error:
        _warn(place, error)


def _warn(place: Place, error: OSError | RetrievalError) -> None:
    reason = error.message if isinstance(error, RetrievalError) else error.strerror or str(error)
    _log.warning(
        "The tables of %s can't be copied to %s (%s); they are read from the store",
        place.address,
        cache_folder(),
        reason,
    )
