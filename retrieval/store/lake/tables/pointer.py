"""Pointers, the commit points of a lake: each names one version of every table.

A pointer is an object ``commits/N.json`` that is written once, if it is absent, and never changes.
The generation with the highest number is the newest. What no pointer names does not count.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
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
    StorageError,
)
from retrieval.store.disk.files.vector_file import WrittenFile, sync
from retrieval.store.disk.lexical.segment_files import LexicalRecord

FORMAT: Final = 1
"""Version of the tables and pointers; a higher one was written by a newer version."""

COMMITS: Final = "commits"
"""Name of the folder of pointers."""
_SUFFIX: Final = ".json"
_DIGITS: Final = 20


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
    counts: Counts = Counts()
    next_ids: NextIds = NextIds()
    words: LexicalRecord | None = None
    """Files of the lexical index; None before the first text."""
    roots: Mapping[str, RootInfo] = field(default_factory=dict)

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


def is_lake(place: Path) -> bool:
    """Whether a folder holds an index of this store, even an unusable one.

    Raises:
        StorageError: the folder can't be looked into.
    """
    try:
        return (place / COMMITS).is_dir()
    except OSError as error:
        raise StorageError(f"can't look into {place}: {error.strerror}") from error


def generations(place: Path) -> list[int]:
    """Return the numbers of all generations that pointers name, the oldest first.

    Raises:
        NotAnIndex: there is no index.
        StorageError: the pointers can't be listed.
    """
    try:
        names = os.listdir(place / COMMITS)  # noqa: PTH208 -- names are enough
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_a_lake(place) from error
    except OSError as error:
        raise StorageError(f"can't look into {place}: {error.strerror}") from error
    stems = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdecimal() and len(stem) == _DIGITS)


def not_a_lake(place: Path) -> NotAnIndex:
    """Return the error for a folder without pointers."""
    if place.is_file():
        return NotAnIndex(f"{place} is a file; an index is a folder")
    return NotAnIndex(
        f"{address(place)} is not an index; make one with: "
        f"indexer build DOCS --index {address(place)}"
    )


def address(place: Path) -> str:
    """Return the location of an index as a user types it."""
    return f"lance://{place}"


def newest(place: Path) -> Pointer | None:
    """Read the newest pointer; None if nothing was committed yet.

    Raises:
        NotAnIndex: there is no index.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the pointer is malformed.
        StorageError: the pointer can't be read.
    """
    numbers = generations(place)
    return read_pointer(place, numbers[-1]) if numbers else None


def read_newest(place: Path) -> Pointer:
    """Read the newest pointer of an index that has a commit; see ``newest``.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
    """
    pointer = newest(place)
    if pointer is None:
        raise NotAnIndex(
            f"{address(place)} holds an index with nothing committed yet; build it first"
        )
    return pointer


def read_pointer(place: Path, generation: int) -> Pointer:
    """Read the pointer of a generation; see ``newest``."""
    path = _path(place, generation)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    try:
        whole = json.loads(content)
        body = whole["commit"]
        digest = whole["sha256"]
        found = int(whole["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path) from error
    if found > FORMAT:
        raise IndexVersionError(
            f"{address(place)} was written by a newer version of this program; "
            "upgrade, or build the index anew in another place"
        )
    if _digest(body) != digest or body.get("generation") != generation:
        raise _damaged(path)
    try:
        return _from_json(body)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path) from error


def put_pointer(place: Path, pointer: Pointer) -> None:
    """Publish a generation, durably and only if there is none of its number.

    Raises:
        IndexLocked: another writer has published a generation of this number; nothing was changed.
        StorageError: the pointer can't be written.
    """
    body = _as_json(pointer)
    whole = {"format": FORMAT, "sha256": _digest(body), "commit": body}
    final = _path(place, pointer.generation)
    made = final.with_name(f"{secrets.token_hex(8)}.tmp")
    try:
        with made.open("xb") as file:
            file.write(json.dumps(whole, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            final.hardlink_to(made)
            sync(final.parent)
        finally:
            made.unlink()
    except FileExistsError as error:
        raise overtaken(place) from error
    except OSError as error:
        with suppress(OSError):
            made.unlink(missing_ok=True)
        raise StorageError(
            f"can't write {final}: {error.strerror}; what was committed before is untouched"
        ) from error


def overtaken(place: Path) -> IndexLocked:
    """Return the error for a commit that another writer's has overtaken."""
    return IndexLocked(
        f"{address(place)} was written by another process at the same time; nothing was changed; "
        "try again",
        holder="unknown",
    )


def remove_pointer(place: Path, generation: int) -> None:
    """Forget a generation that nobody needs any more.

    Raises:
        OSError: the pointer can't be removed.
    """
    _path(place, generation).unlink(missing_ok=True)


def pointer_path(place: Path, generation: int) -> Path:
    """Return the path of a generation's pointer."""
    return _path(place, generation)


def _path(place: Path, generation: int) -> Path:
    return place / COMMITS / f"{generation:0{_DIGITS}d}{_SUFFIX}"


def _damaged(path: Path) -> IndexDamaged:
    return IndexDamaged(
        f"{path} is damaged; restore it from a backup, or build the index anew",
        file=f"{COMMITS}/{path.name}",
    )


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _as_json(pointer: Pointer) -> dict[str, Any]:
    bare = replace(pointer, roots={}, tables={}, words=None)
    words = pointer.words
    return {
        **asdict(bare),
        "tables": dict(pointer.tables),
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
        }
    )


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
