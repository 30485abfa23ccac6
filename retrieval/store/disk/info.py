"""Read an index's description, counts and version without opening its files."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.domain.records import (
    ChunkSettings,
    FileChoice,
    GenerationId,
    IndexInfo,
    ModelIdentity,
    ReadSettings,
    RootInfo,
)
from retrieval.errors import NotAnIndex, StorageError
from retrieval.store.disk.lexical.segment_files import lexical_state
from retrieval.store.disk.tables.database import DATABASE_NAME, sqlite_errors
from retrieval.store.disk.tables.identity import FileIdentity, file_identity, read_identity
from retrieval.store.disk.tables.read_only import connect_for_reading, frozen_stamps, open_live
from retrieval.store.disk.tables.rows import damaged_row, from_json
from retrieval.store.disk.tables.write_ahead_log import is_copied
from retrieval.store.records import AnnSettings, IndexStatus, SegmentInfo


def load_info(folder: Path, connection: sqlite3.Connection) -> IndexInfo:
    """Read an index's description and counts in the connection's present snapshot.

    Raises:
        NotAnIndex: nothing was committed yet, so the index has no model.
    """
    row = connection.execute(
        """SELECT generation, model_name, model_source, model_location, model_revision,
                  model_fingerprint, dim, max_tokens, dtype, chunk_tokens, chunk_overlap,
                  created_at, updated_at,
                  (SELECT count(*) FROM documents),
                  (SELECT count(*) FROM chunks),
                  (SELECT coalesce(sum(token_count), 0) FROM chunks),
                  (SELECT coalesce(sum(rows), 0) FROM segments),
                  (SELECT count(*) FROM unused_vectors),
                  (SELECT count(*) FROM segments), index_type, target_recall,
                  context, text_fields, language, index_id, commit_id
           FROM index_info"""
    ).fetchone()
    if row is None:
        raise NotAnIndex(f"{folder} holds an index with nothing committed yet; build it first")
    return IndexInfo(
        generation=row[0],
        model=ModelIdentity(*row[1:9]),
        chunking=ChunkSettings(row[9], row[10], bool(row[21]), tuple(from_json(row[22]))),
        created_at=row[11],
        updated_at=row[12],
        documents=row[13],
        chunks=row[14],
        tokens=row[15],
        vectors=row[16],
        unused_vectors=row[17],
        segments=row[18],
        index_type=row[19],
        target_recall=row[20],
        language=row[23],
        index_id=row[24],
        commit_id=row[25],
    )


def load_segments(
    execute: Callable[[str, Sequence[object]], Iterable[tuple[Any, ...]]],
) -> list[SegmentInfo]:
    """Read the records of an index's segments, oldest first.

    Args:
        execute: function that runs a statement in the snapshot to read.
    """
    rows = execute(
        """SELECT s.id, s.file, s.rows, coalesce(u.count, 0), s.bytes, a.settings,
                  m.settings,
                  coalesce(a.file, ''), coalesce(a.bytes, 0), coalesce(a.sha256, '')
           FROM segments s
           LEFT JOIN ann_files a ON a.segment_id = s.id
           LEFT JOIN ann_missed m ON m.segment_id = s.id
           LEFT JOIN (SELECT v.segment_id, count(*) AS count
                      FROM unused_vectors u JOIN vectors v ON v.id = u.vector_id
                      GROUP BY v.segment_id) u ON u.segment_id = s.id
           ORDER BY s.id""",
        [],
    )
    return [
        SegmentInfo(
            identifier,
            file,
            count,
            unused,
            size,
            _ann_settings(ann) if ann else None,
            _ann_settings(missed) if missed else None,
            *named,
        )
        for identifier, file, count, unused, size, ann, missed, *named in rows
    ]


def _ann_settings(text: str) -> AnnSettings:
    try:
        return AnnSettings.from_json(text)
    except (ValueError, TypeError) as error:
        raise damaged_row("the settings of an approximate index have changed") from error


def load_roots(connection: sqlite3.Connection, name: str | None = None) -> dict[str, RootInfo]:
    """Read the roots that were ever indexed, by name, in the connection's present snapshot.

    Args:
        connection: to the index's database.
        name: the root to read; None for all.

    Raises:
        IndexDamaged: the record of a root is malformed.
    """
    test, parameters = ("", []) if name is None else ("WHERE name = ?", [name])
    rows = connection.execute(
        f"SELECT name, path, choice FROM roots {test} ORDER BY name", parameters
    )
    return {name: RootInfo(name, path, _choice(choice)) for name, path, choice in rows}


def _reading(raw: Mapping[str, Any]) -> ReadSettings:
    """Return how files were read; an older version recorded nothing, and had no choices."""
    return ReadSettings(
        encoding=str(raw.get("encoding", "")),
        read_as=tuple((str(end), str(key)) for end, key in raw.get("read_as", ())),
        ocr_languages=tuple(map(str, raw.get("ocr_languages", ()))),
    )


def _choice(text: str) -> FileChoice | None:
    if not text:
        return None
    try:
        raw = from_json(text)
        include, exclude = (tuple(map(str, raw[name])) for name in ("include", "exclude"))
        return FileChoice(
            include,
            exclude,
            ignore_files=bool(raw["ignore_files"]),
            listed=bool(raw["listed"]),
            # An older version took them in.
            generated=bool(raw.get("generated", True)),
            reading=_reading(raw.get("reading", {})),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise damaged_row("a root's choice of files is not as it was written") from error


def read_info(folder: Path) -> IndexInfo:
    """Read an index's description and counts.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged: see ``connect_for_reading``.
    """
    with closing(connect_for_reading(folder)) as connection, sqlite_errors(folder):
        return load_info(folder, connection)


@dataclass(frozen=True, slots=True)
class DiskVersion:
    """Identity of the generation in a folder, and of its database file.

    Two versions differ if the generation, the index, or the copy of the index differs.
    """

    place: FileIdentity
    identity: GenerationId | None
    """None if the index is frozen (see ``ReadConnection``); ``stamps`` then identify it."""
    stamps: tuple[tuple[int, int], ...] = ()
    """See ``frozen_stamps``; empty if the index is not frozen."""
    copied: bool = True
    """See ``is_copied``. A reader that was opened before is worth opening again, so that it no
    longer keeps the log from beginning anew."""


def read_version(folder: Path) -> DiskVersion:
    """Read which generation of which index is in a folder now; takes about 0.5 ms.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
        IndexVersionError, IndexDamaged, StorageError: see ``connect_for_reading``.
    """
    # Read before the database is opened: if the file is replaced in between, the next read differs.
    place = file_identity(folder)
    with sqlite_errors(folder):
        connection = open_live(folder)
        if connection is None:
            return DiskVersion(place, None, frozen_stamps(folder))
        with closing(connection):
            identity = read_identity(folder, connection)
            return DiskVersion(place, identity, copied=is_copied(folder / DATABASE_NAME))


def read_status(folder: Path) -> IndexStatus:
    """Read everything that an index records about itself, in one snapshot.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged: see ``connect_for_reading``.
    """
    with closing(connect_for_reading(folder)) as connection, sqlite_errors(folder):
        connection.execute("BEGIN")
        return IndexStatus(
            load_info(folder, connection),
            load_segments(connection.execute),
            load_roots(connection),
            lexical_state(connection),
            _bytes_on_disk(folder),
        )


def _bytes_on_disk(folder: Path) -> int:
    """Return the total size of a folder's files, in bytes; a build may be changing them.

    Raises:
        StorageError: the folder can't be looked into.
    """
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # listed, then removed
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError as error:
        raise StorageError(f"can't look into {folder}: {error.strerror}") from error
    return total
