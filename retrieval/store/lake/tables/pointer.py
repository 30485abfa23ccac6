"""Pointers, the commit points of a lake: each names one version of every table.

A pointer is an object ``commits/N.json`` that is written once, if it is absent, and never changes.
The generation with the highest number is the newest. What no pointer names does not count.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from retrieval.domain.records import (
    ChunkSettings,
    FileChoice,
    GenerationId,
    IndexInfo,
    ModelIdentity,
    ReadSettings,
    RootInfo,
)
from retrieval.errors import (
    IndexDamaged,
    IndexLocked,
    IndexVersionError,
    NotAnIndex,
    NotFound,
    StorageError,
)
from retrieval.store.disk.files.vector_file import WrittenFile
from retrieval.store.disk.lexical.segment_files import LexicalRecord
from retrieval.store.disk.tables.identity import new_id
from retrieval.store.disk.writing.commit import utc_now
from retrieval.store.lake.place import COMMITS, Place
from retrieval.store.location import index_in
from retrieval.store.objects import PUBLISHED
from retrieval.store.records import AnnSettings

FORMAT: Final = 1
"""Version of the tables and pointers; a higher one was written by a newer version."""

_SUFFIX: Final = ".json"
_DIGITS: Final = 20


class _Missing(StorageError):
    """There is no pointer of a generation."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of rows of a generation."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    vectors: int = 0
    unused_vectors: int = 0


@dataclass(frozen=True, slots=True)
class NextIds:
    """The ids that the next rows get; ids are never used again."""

    document: int = 1
    chunk: int = 1
    vector: int = 1
    text: int = 1


@dataclass(frozen=True, slots=True)
class AnnPart:
    """A part of the approximate index of the vectors."""

    id: str
    """Lance's id of the part."""
    rows: int
    """Number of vectors in it."""
    size: int
    """Size in bytes."""


@dataclass(frozen=True, slots=True)
class AnnRecord:
    """The approximate index of the vectors."""

    settings: AnnSettings
    parts: tuple[AnnPart, ...]
    """The first one, and those of vectors that came later."""

    @property
    def rows(self) -> int:
        """Number of vectors in the index."""
        return sum(part.rows for part in self.parts)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class MissedAnn:
    """An approximate index that was discarded because it missed the target recall."""

    settings: AnnSettings
    rows: int
    """Number of vectors that there were."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Everything that a commit records beside the rows of its tables."""

    generation: int
    """Number of commits; 0 after ``set_model`` only."""
    index_id: str
    commit_id: str
    created_at: str
    updated_at: str
    model: ModelIdentity
    chunking: ChunkSettings
    language: str
    index_type: str = "auto"
    target_recall: float = 0.98
    tables: Mapping[str, int] = field(default_factory=dict)
    """Version of each table; a table without rows yet is missing."""
    table_ids: Mapping[str, str] = field(default_factory=dict)
    """A random id of each table's version. Of an index that was copied, or restored from a backup,
    both go on with the same numbers."""
    counts: Counts = Counts()
    next_ids: NextIds = NextIds()
    words: LexicalRecord | None = None
    """Files of the lexical index; None before the first text."""
    roots: Mapping[str, RootInfo] = field(default_factory=dict)
    ann: AnnRecord | None = None
    """The approximate index; None if vectors are searched exactly."""
    missed: MissedAnn | None = None
    """The approximate index that was tried last, if it was discarded."""

    def table_id(self, name: str) -> str:
        """Return what only this version of a table has, in all copies of the index."""
        return self.table_ids.get(name, self.commit_id)  # pointers of older versions have no ids

    @property
    def identity(self) -> GenerationId:
        """Identity of the generation."""
        return GenerationId(self.index_id, self.generation, self.commit_id)

    @property
    def info(self) -> IndexInfo:
        """Description and counts of the generation."""
        counts = self.counts
        return IndexInfo(
            generation=self.generation,
            model=self.model,
            chunking=self.chunking,
            documents=counts.documents,
            chunks=counts.chunks,
            tokens=counts.tokens,
            vectors=counts.vectors,
            unused_vectors=counts.unused_vectors,
            segments=1 if counts.vectors else 0,
            index_type=self.index_type,
            target_recall=self.target_recall,
            language=self.language,
            created_at=self.created_at,
            updated_at=self.updated_at,
            index_id=self.index_id,
            commit_id=self.commit_id,
        )


def is_lake(place: Place) -> bool:
    """Whether a place holds an index of this store, even an unusable one.

    Raises:
        StorageError: the place can't be looked into.
    """
    try:
        place.objects.names(COMMITS)
    except NotFound:
        return False
    return True


def generations(place: Place) -> list[int]:
    """Return the numbers of all generations that pointers name, the oldest first.

    Raises:
        NotAnIndex: there is no index.
        StorageError: the pointers can't be listed.
    """
    try:
        names = place.objects.names(COMMITS)
    except NotFound as error:
        raise not_a_lake(place) from error
    return sorted(number for name in names if (number := number_of(name)) is not None)


def number_of(name: str) -> int | None:
    """Return the generation that an object among the pointers names; None if it is no pointer."""
    stem = name.removesuffix(_SUFFIX)
    is_pointer = stem != name and stem.isdecimal() and len(stem) == _DIGITS
    return int(stem) if is_pointer else None


def not_a_lake(place: Place) -> NotAnIndex:
    """Return the error for a place without pointers."""
    if place.local is not None and place.local.is_file():
        return NotAnIndex(f"{place} is a file; an index is a folder")
    held = index_in(place.local) if place.local is not None else None
    if held is not None:
        return NotAnIndex(f"{place} holds an index of another kind: give --index {held}")
    if place.local is None and place.objects.list(PUBLISHED):
        return NotAnIndex(
            f"{place.address} holds copies of a folder that `indexer publish` has made; serve them "
            f"with: retrieval serve --index docs={place.address} --pull DIR"
        )
    return NotAnIndex(
        f"{place.address} is not an index; make one with: "
        f"indexer build DOCS --index {place.address}"
    )


def newest(place: Place) -> Pointer | None:
    """Read the newest pointer; None if nothing was committed yet.

    Raises:
        NotAnIndex: there is no index.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the pointer is malformed.
        StorageError: the pointer can't be read.
    """
    numbers = generations(place)
    return read_pointer(place, numbers[-1]) if numbers else None


def read_newest(place: Place) -> Pointer:
    """Read the newest pointer of an index that has a commit; see ``newest``.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
    """
    pointer = newest(place)
    if pointer is None:
        raise NotAnIndex(
            f"{place.address} holds an index with nothing committed yet; build it first"
        )
    return pointer


def read_pointer(place: Place, generation: int) -> Pointer:
    """Read the pointer of a generation; see ``newest``."""
    name = pointer_name(generation)
    try:
        content = place.objects.read(name)
    except NotFound as error:
        raise _Missing(f"can't read {place.objects.where(name)}: it is missing") from error
    try:
        whole = json.loads(content)
        body = whole["commit"]
        digest = whole["sha256"]
        found = int(whole["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(place, name) from error
    if found > FORMAT:
        raise IndexVersionError(
            f"{place.address} was written by a newer version of this program; "
            "upgrade, or build the index anew in another place"
        )
    if _digest(body) != digest or body.get("generation") != generation:
        raise _damaged(place, name)
    try:
        return _from_json(body)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(place, name) from error


def put_pointer(place: Place, pointer: Pointer) -> None:
    """Publish a generation, durably and only if there is none of its number.

    Raises:
        IndexLocked: another writer has published a generation of this number; nothing was changed.
        StorageError: the pointer can't be written.
    """
    body = _as_json(pointer)
    whole = {"format": FORMAT, "sha256": _digest(body), "commit": body}
    content = json.dumps(whole, indent=1).encode()
    name = pointer_name(pointer.generation)
    try:
        written = place.objects.create(name, content)
    except StorageError:
        # The request may have been carried out although its answer was lost.
        if place.local is not None or not _is_published(place, pointer):
            raise
        return
    if not written and (place.local is not None or not _is_published(place, pointer)):
        raise overtaken(place)


def _is_published(place: Place, pointer: Pointer) -> bool:
    """Whether the pointer of a generation is the given one.

    Raises:
        StorageError: the store can't be reached, so nobody knows.
    """
    try:
        return read_pointer(place, pointer.generation).commit_id == pointer.commit_id
    except _Missing:
        return False
    except StorageError as error:
        raise StorageError(
            f"lost the connection to {place.address} while generation {pointer.generation} was "
            "published; run the command again, which goes on from whatever is there by then"
        ) from error


def boot_time() -> float:
    """Return the time since the machine was started, in seconds, including that of its sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def overtaken(place: Place) -> IndexLocked:
    """Return the error for a commit that another writer's has overtaken."""
    return IndexLocked(
        f"{place.address} was written by another process at the same time; nothing was changed; "
        "try again",
        holder="unknown",
    )


def following(pointer: Pointer, **changes: object) -> Pointer:
    """Return the pointer of the generation after another one."""
    return replace(
        pointer,
        generation=pointer.generation + 1,
        commit_id=new_id(),
        updated_at=utc_now(),
        **changes,  # type: ignore[arg-type]
    )


def with_table_ids(pointer: Pointer, base: Pointer) -> Pointer:
    """Return a pointer with a new id for each version of a table that its base does not have."""
    ids = {
        name: base.table_id(name) if base.tables.get(name) == version else new_id()
        for name, version in pointer.tables.items()
    }
    return replace(pointer, table_ids=ids)


def pointer_name(generation: int) -> str:
    """Return the name of a generation's pointer."""
    return f"{COMMITS}/{generation:0{_DIGITS}d}{_SUFFIX}"


def _damaged(place: Place, name: str) -> IndexDamaged:
    return IndexDamaged(
        f"{place.objects.where(name)} is damaged; restore it from a backup, or build the index "
        "anew",
        file=name,
    )


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _as_json(pointer: Pointer) -> dict[str, Any]:
    bare = replace(pointer, roots={}, tables={}, table_ids={}, words=None)
    words = pointer.words
    return {
        **asdict(bare),
        "tables": dict(pointer.tables),
        "table_ids": dict(pointer.table_ids),
        "roots": [asdict(root) for root in pointer.roots.values()],
        "words": {
            "language": words.language,
            "analysis": words.analysis,
            "meta": words.meta,
            "files": [asdict(file) for file in words.files],
        }
        if words
        else None,
    }


def _from_json(body: Mapping[str, Any]) -> Pointer:
    words = body["words"]
    chunking = dict(body["chunking"])
    chunking["text_fields"] = tuple(chunking["text_fields"])
    roots = [_root(raw) for raw in body["roots"]]
    return Pointer(
        **{
            **body,
            "model": ModelIdentity(**body["model"]),
            "chunking": ChunkSettings(**chunking),
            "counts": Counts(**body["counts"]),
            "next_ids": NextIds(**body["next_ids"]),
            "roots": {root.name: root for root in roots},
            "words": LexicalRecord(
                words["language"], words["analysis"], words["meta"], _files(words["files"])
            )
            if words
            else None,
            # Pointers of older versions have no such fields.
            "ann": _ann(body.get("ann")),
            "missed": _missed(body.get("missed")),
        }
    )


def _ann(raw: Mapping[str, Any] | None) -> AnnRecord | None:
    if raw is None:
        return None
    parts = tuple(AnnPart(**one) for one in raw["parts"])
    return AnnRecord(AnnSettings(**raw["settings"]), parts)


def _missed(raw: Mapping[str, Any] | None) -> MissedAnn | None:
    return None if raw is None else MissedAnn(AnnSettings(**raw["settings"]), raw["rows"])


def _files(raw: Sequence[Mapping[str, Any]]) -> list[WrittenFile]:
    return [WrittenFile(**one) for one in raw]


def _root(raw: Mapping[str, Any]) -> RootInfo:
    choice = raw["choice"]
    if choice is None:
        return RootInfo(raw["name"], raw["path"])
    reading = choice["reading"]
    settings = ReadSettings(
        encoding=reading["encoding"],
        read_as=tuple((end, key) for end, key in reading["read_as"]),
        ocr_languages=tuple(reading["ocr_languages"]),
    )
    lists = {name: tuple(choice[name]) for name in ("include", "exclude")}
    return RootInfo(
        raw["name"], raw["path"], FileChoice(**{**choice, **lists, "reading": settings})
    )
