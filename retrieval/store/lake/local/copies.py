"""Copies of tables in the cache folder, which several processes of this machine share.

The folder of an index in the cache folder has

- ``tables/NAME.lance/…``: copied files, under the names that they have in the store, which are
  random; they never change,
- ``tables/NAME.lance/opened/PLAN/…``: what Lance opens: the manifest of one version, whose name is
  a number that another copy of the index gives to another version, and links to the folders above,
- ``plans/NAME-VERSION-ID.json``: the files that one version of a table needs, with their sizes,
  and samples of them once they are there,
- ``uses/ID``: the plans that one opened generation uses. Its process holds a lock on the file, so
  that of a killed process means nothing,
- ``parts/ID-N``: files that are not whole yet.

What needs several of these at once is done under one lock for the whole cache. Files that a use
names are never deleted for lack of room. All other files may be, those of the plan that was used
least recently first; superseded versions go an hour after their last use in any case. A planned
file counts as if it were there, so that processes that copy at the same time keep to the limit
together.
"""

import fcntl
import json
import os
import secrets
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from retrieval.store.disk.files.vector_file import sample_sha256
from retrieval.store.lake.local.cache_folder import files_in
from retrieval.store.lake.place import TABLES, WORDS

_LOCK: Final = "lock"
_PLANS: Final = "plans"
_USES: Final = "uses"
_PARTS: Final = "parts"
_OPENED: Final = "opened"
_MANIFESTS: Final = "_versions"
"""Folder of a table in which files are named by numbers."""
_UNUSED_SECONDS: Final = 3600.0
"""After this time, versions of tables are deleted that no opened generation uses, and files of
words that may have to make room, if no generation of their index is open. A process that opens
words notes the time of it, and keeps the files open from then on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of one version of a table."""

    table: str
    version: int
    id: str
    """See ``Pointer.table_id``."""
    files: Mapping[str, int]
    """Name under the table's folder → size in bytes."""
    samples: Mapping[str, str] = field(default_factory=dict)
    """Name → SHA-256 of some blocks of the file; empty until all files have been copied."""

    @property
    def name(self) -> str:
        """Name among the plans of an index."""
        return f"{self.table}-{self.version}-{self.id}"


class Copies:
    """The copies that one opened generation uses; safe to share between threads.

    Every method raises OSError if the folder can't be used.
    """

    def __init__(self, cache: Path, index_id: str, limit: int) -> None:
        """Begin to use copies of an index.

        Args:
            cache: the cache folder; made if it is missing.
            index_id: the index.
            limit: maximum size of everything in the cache folder, in bytes.
        """
        self._cache = cache
        self._folder = cache / index_id
        self._limit = limit
        for name in (_PLANS, _USES, _PARTS, TABLES):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._id = secrets.token_hex(8)
        self._claimed: dict[str, Plan] = {}
        self._made = 0
        path = self._folder / _USES / self._id
        with self._locked():
            use = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(use, fcntl.LOCK_EX)
            self._write_use()
        self._closer = weakref.finalize(self, _release, path, use)

    def close(self) -> None:
        """Stop using the copies; they stay until their room is needed."""
        self._closer()

    def table(self, name: str) -> Path:
        """Return the folder of a table's copies."""
        return self._folder / TABLES / f"{name}.lance"

    def opened(self, plan: Plan) -> Path:
        """Return a folder with the files of a plan only, which is made if it is missing."""
        root = self.table(plan.table) / _OPENED / plan.name
        root.mkdir(parents=True, exist_ok=True)
        for folder in {name.partition("/")[0] for name in plan.files} - {_MANIFESTS}:
            with suppress(FileExistsError):
                (root / folder).symlink_to(Path("..", "..", folder))
        return root

    def known(self, table: str, version: int, id: str) -> Plan | None:
        """Return the plan of a version of a table; None if there is none yet."""
        try:
            path = self._folder / _PLANS / f"{Plan(table, version, id, {}).name}.json"
            return Plan(table, version, id, **json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def claim(self, plan: Plan) -> bool:
        """Use the files of a plan from now on, and make room for those that are missing.

        Returns:
            whether there is room; otherwise nothing has changed.
        """
        with self._locked():
            if plan.name not in self._claimed and not self._make_room(plan):
                return False
            self._claimed[plan.name] = plan
            self._write_use()
            self._write_plan(plan)
            return True

    def completed(self, plan: Plan) -> Plan:
        """Record samples of the files of a plan, which have all been copied; return the plan."""
        paths = _paths(self._folder, plan.name, plan.files)
        whole = replace(plan, samples={name: sample_sha256(path) for name, path in paths.items()})
        with self._locked():
            self._write_plan(whole)
        return whole

    def missing(self, plan: Plan) -> list[str]:
        """Return the files of a plan that are missing, or have another size or sample."""
        return [
            name
            for name, path in _paths(self._folder, plan.name, plan.files).items()
            if _size(path) != plan.files[name]
            or (name in plan.samples and sample_sha256(path) != plan.samples[name])
        ]

    def part(self) -> Path:
        """Return the path of a new file that is not whole yet."""
        self._made += 1
        return self._folder / _PARTS / f"{self._id}-{self._made}-{secrets.token_hex(4)}"

    def put(self, plan: Plan, name: str, part: Path) -> None:
        """Give a whole file its name."""
        path = _paths(self._folder, plan.name, [name])[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)

    def drop(self, plan: Plan) -> None:
        """Delete the files of a plan, because one of them is damaged.

        Other processes that use them read from the store then, as this one does.
        """
        with self._locked():
            self._claimed.pop(plan.name, None)
            self._write_use()
            for path in _sizes(self._folder, plan.name, plan.files):
                path.unlink(missing_ok=True)
            (self._folder / _PLANS / f"{plan.name}.json").unlink(missing_ok=True)

    # Room.

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the whole cache."""
        lock = os.open(self._cache / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write_use(self) -> None:
        """Note the plans that are used; the file is read under the lock only."""
        path = self._folder / _USES / self._id
        path.write_text(json.dumps(sorted(self._claimed)))

    def _write_plan(self, plan: Plan) -> None:
        part = self.part()
        part.write_text(json.dumps({"files": dict(plan.files), "samples": dict(plan.samples)}))
        part.replace(self._folder / _PLANS / f"{plan.name}.json")

    def _make_room(self, plan: Plan) -> bool:
        """Delete what is not used until the missing files of a plan fit; return whether they do."""
        files = _sizes(self._folder, plan.name, plan.files)
        in_use = self._in_use()
        self._forget(plan, in_use.keys() | files.keys())
        # Files that are not whole yet are planned, and count as such.
        present = {path: size for path, size in files_in(self._cache) if path.parent.name != _PARTS}
        counted = {**present, **in_use}
        needed = sum(size for path, size in files.items() if path not in counted)
        over = sum(counted.values()) + needed - self._limit
        if over <= 0:
            return True
        kept = in_use.keys() | files.keys()
        removable = [path for path in dict.fromkeys(self._removable(present)) if path not in kept]
        if sum(present.get(path, 0) for path in removable) < over:
            return False  # nothing is deleted in vain
        for path in removable:
            if over <= 0:
                break
            path.unlink(missing_ok=True)
            over -= present.get(path, 0)
        return True

    def _forget(self, plan: Plan, kept: Set[Path]) -> None:
        """Delete other versions of a table that no generation has used for long."""
        used = {name for names in _live_uses(self._folder) for name in names}
        limit = time.time() - _UNUSED_SECONDS
        for path in (self._folder / _PLANS).glob(f"{plan.table}-*.json"):
            if path.stem != plan.name and path.stem not in used and _used_at(path) < limit:
                for file in [*_planned(self._folder, path), path]:
                    if file not in kept:
                        file.unlink(missing_ok=True)
        for root in (self.table(plan.table) / _OPENED).glob("*"):
            if (
                root.name != plan.name
                and not (self._folder / _PLANS / f"{root.name}.json").exists()
            ):
                shutil.rmtree(root, ignore_errors=True)

    def _in_use(self) -> dict[Path, int]:
        """Return the plans and files that opened generations use, with their sizes.

        What killed processes have left is deleted.
        """
        found: dict[Path, int] = {}
        for index in self._indexes():
            for name in {name for names in _live_uses(index) for name in names}:
                path = index / _PLANS / f"{name}.json"
                found.update({path: _size(path) or 0, **_planned(index, path)})
            live = {path.name for path in (index / _USES).iterdir()}
            for part in (index / _PARTS).iterdir():
                if part.name.partition("-")[0] not in live:
                    part.unlink(missing_ok=True)
        for plan in self._claimed.values():  # of which one may be about to be written
            found.update(_sizes(self._folder, plan.name, plan.files))
        return found

    def _removable(self, present: Mapping[Path, int]) -> Iterator[Path]:
        """Yield the files that may be deleted, in order: the least recently used come first."""
        plans = []
        for index in self._indexes():
            if not any((index / _USES).iterdir()):
                limit = time.time() - _UNUSED_SECONDS
                words = [path for path in present if path.is_relative_to(index / WORDS)]
                plans += [(m, [p]) for p in words if (m := _used_at(p)) < limit]
            for path in (index / _PLANS).glob("*.json"):
                plans.append((_used_at(path), [path, *_planned(index, path)]))
        planned = {file for _, files in plans for file in files}
        yield from (p for p in present if _is_copy(self._cache, p) and p not in planned)
        for _, files in sorted(plans, key=lambda one: one[0]):
            yield from files

    def _indexes(self) -> list[Path]:
        return [path for path in self._cache.iterdir() if (path / _USES).is_dir()]


def _release(path: Path, use: int) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        os.close(use)


def _live_uses(index: Path) -> Iterator[Sequence[str]]:
    """Yield the plans of each opened generation of an index; delete what killed processes left."""
    for path in (index / _USES).iterdir():
        with suppress(FileNotFoundError):
            use = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with suppress(ValueError):
                    yield json.loads(path.read_bytes() or b"[]")
            else:
                path.unlink(missing_ok=True)
            finally:
                os.close(use)


def _planned(index: Path, path: Path) -> dict[Path, int]:
    """Return the files that a plan names, with their sizes; none if the plan is gone."""
    try:
        files = json.loads(path.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return _sizes(index, path.stem, files)


def _paths(index: Path, plan: str, names: Iterable[str]) -> dict[str, Path]:
    """Return where the files of a plan are, by their names."""
    table = index / TABLES / f"{plan.partition('-')[0]}.lance"
    own = table / _OPENED / plan
    return {name: (own if name.startswith(_MANIFESTS) else table) / name for name in names}


def _sizes(index: Path, plan: str, files: Mapping[str, int]) -> dict[Path, int]:
    """Return the sizes of the files of a plan by their paths."""
    return {path: files[name] for name, path in _paths(index, plan, files).items()}


def _is_copy(cache: Path, path: Path) -> bool:
    """Whether a file is in the folder of tables of an index."""
    _, *folders = path.relative_to(cache).parent.parts or ("",)
    return folders[:1] == [TABLES]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
