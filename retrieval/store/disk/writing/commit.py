"""One transaction: the vectors, documents and roots that it changes."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.metadata import Metadata
from retrieval.domain.records import ContainerStamp, Document, RootInfo, Skipped, SourceFile
from retrieval.errors import ForeignRoot, InvalidArgument
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.files.vector_file import (
    WrittenFile,
    adopt,
    open_vector_file,
    write_vector_file,
)
from retrieval.store.disk.lexical.lexical_merge import Prepared as PreparedLexical
from retrieval.store.disk.lexical.lexical_merge import put_in_place
from retrieval.store.disk.tables.rows import INSERT_CHUNK, chunk_values, document_values
from retrieval.store.disk.tables.schema import INSERT_METADATA_VALUE, TEXT_PART_CHARS, header_key
from retrieval.store.disk.writing.lookups import Lookups, SegmentRows
from retrieval.store.durable_files import storage_error
from retrieval.store.filters.values import value_rows
from retrieval.store.records import AnnSettings, SegmentInfo, StagedChunk, StagedDocument

_COPY_ROWS = 16_384
"""Number of rows copied at a time: 25 MB of vectors at 384 dimensions."""


class Outdated(Exception):
    """Gives a commit of maintenance up: what it was prepared for is no longer in the index."""


class Merged(NamedTuple):
    """A segment that was written outside a commit."""

    written: WrittenFile
    ids: NDArray[np.int64]
    """Vector id of each row, int64 [rows]."""


class Replaced(NamedTuple):
    """The result of ``DiskCommit.replace_segments``."""

    made: Sequence[int]
    """Ids of the new segments."""
    removed: int
    """Number of vectors that were dropped."""


class DiskCommit(Lookups):
    """One transaction; made by ``DiskWriter.commit``."""

    generation: int
    """Number of the generation that this commit makes. After a commit without changes, the number
    of the newest one."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Use ``DiskWriter.commit``."""
        super().__init__(folder, connection)
        row = connection.execute("SELECT generation FROM index_info").fetchone()
        self.generation = row[0] + 1 if row else 1
        self.added_vectors = False
        """Whether ``add_vectors`` has made a segment."""

    def add_vectors(
        self,
        content_keys: Sequence[bytes],
        vectors: NDArray[np.float32],
        truncated: Sequence[bool],
    ) -> list[int]:
        """Write vectors as a new segment, or as several if one would be too large.

        Args:
            content_keys: n distinct keys that the index does not hold yet: the SHA-256 (32 bytes)
                of each text in UTF-8. Readers check texts against it.
            vectors: float32 [n, dim], L2-normalised.
            truncated: whether each text was longer than the model takes.

        Returns:
            the vectors' ids, in order.

        Raises:
            StorageError: the file can't be written.
        """
        if len(content_keys) != len(vectors) or len(truncated) != len(vectors):
            raise InvalidArgument("content_keys, vectors and truncated differ in length")
        first = self._next_id("vectors")
        ids = list(range(first, first + len(vectors)))
        self.added_vectors = self.added_vectors or bool(ids)
        for at in range(0, len(ids), vector_file.MAX_SEGMENT_ROWS):
            part = slice(at, at + vector_file.MAX_SEGMENT_ROWS)
            named = np.array(ids[part], dtype=np.int64)
            segment_id = self.add_segment([vectors[part]], named, vectors.shape[1])
            self._connection.executemany(
                "INSERT INTO vectors (id, segment_id, row, content_key, truncated) "
                "VALUES (?,?,?,?,?)",
                (
                    (vector_id, segment_id, row, key, int(cut))
                    for row, (vector_id, key, cut) in enumerate(
                        zip(ids[part], content_keys[part], truncated[part], strict=True)
                    )
                ),
            )
        return ids

    def put_document(self, staged: StagedDocument) -> int:
        """Add a document, or replace the one of the same URI (which keeps its id).

        Returns:
            the document's id.
        """
        document, row = staged.document, document_values(staged)
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        updates = ", ".join(f"{column} = excluded.{column}" for column in row)
        cursor = self._connection.execute(
            f"INSERT INTO documents ({columns}) VALUES ({marks}) "
            f"ON CONFLICT (uri) DO UPDATE SET {updates} RETURNING id",
            list(row.values()),
        )
        document_id = int(cursor.fetchone()[0])
        for table in ("chunks", "document_texts", "metadata_values"):
            self._connection.execute(f"DELETE FROM {table} WHERE document_id = ?", [document_id])
        self._put_metadata(document_id, document.metadata)
        self._put_text(document_id, document.text)
        self._put_chunks(document_id, document, staged.chunks)
        self._connection.execute("DELETE FROM skipped WHERE uri = ?", [document.uri])
        return document_id

    def touch_document(self, document_id: int, source: SourceFile) -> None:
        """Record a document's new modification times when its content has not changed."""
        stamp = source.stamp
        self._connection.execute(
            "UPDATE documents SET mtime_ns = ?, sidecar_mtime_ns = ? WHERE id = ?",
            [stamp.mtime_ns, stamp.sidecar_mtime_ns, document_id],
        )

    def remove_document(self, uri: str) -> bool:
        """Remove a document with its text and chunks; return whether there was one."""
        return self._connection.execute("DELETE FROM documents WHERE uri = ?", [uri]).rowcount > 0

    def remove_under(self, uri: str) -> list[str]:
        """Remove a document, or all documents in a folder or container.

        Returns:
            the URIs of the removed documents, in order.
        """
        # A container that has lost a member must be read again by the next build.
        self._connection.execute(
            "DELETE FROM containers WHERE uri = ? OR (uri > ? AND uri < ?) "
            "OR substr(?, 1, length(uri) + 1) = uri || '/'",
            [uri, f"{uri}/", f"{uri}0", uri],
        )
        rows = self._connection.execute(
            "DELETE FROM documents WHERE uri = ? OR (uri > ? AND uri < ?) RETURNING uri",
            [uri, f"{uri}/", f"{uri}0"],  # "0" comes after "/"
        )
        return sorted(row[0] for row in rows.fetchall())

    def remove_documents(self, uris: Iterable[str]) -> None:
        """Remove documents that were written over the API; forget containers that are empty then.

        Args:
            uris: URIs of documents; others are passed over.
        """
        for uri in uris:
            self.remove_document(uri)
            while (found := self.pushed_container(uri)) and not self._holds_documents(found[0]):
                self.put_container(found[0], "", None)

    def _holds_documents(self, uri: str) -> bool:
        return bool(
            self._connection.execute(
                "SELECT EXISTS (SELECT 1 FROM documents WHERE uri = ? OR (uri > ? AND uri < ?))",
                [uri, f"{uri}/", f"{uri}0"],
            ).fetchone()[0]
        )

    def put_container(
        self, uri: str, root: str, stamp: ContainerStamp | None, skipped: Sequence[Skipped] = ()
    ) -> None:
        """Record a container that was written over the API, such as an archive.

        Args:
            uri: of the container; its documents are at and below this URI.
            root: name of its root.
            stamp: what it is recognised by; None to forget it.
            skipped: its parts that are not indexed, in place of those recorded before.
        """
        self._connection.execute(
            "DELETE FROM skipped WHERE uri = ? OR (uri > ? AND uri < ?)",
            [uri, f"{uri}/", f"{uri}0"],
        )
        self._connection.execute("DELETE FROM containers WHERE uri = ?", [uri])
        if stamp is not None:
            self._connection.execute(
                "INSERT INTO containers (uri, root, size, mtime_ns, rules) VALUES (?, ?, ?, ?, ?)",
                [uri, root, stamp.size, stamp.mtime_ns, stamp.rules],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO skipped (uri, root, reason, detail) VALUES (?, ?, ?, ?)",
                ((skip.uri, root, skip.reason, skip.detail) for skip in skipped),
            )

    def claim_root(self, root: RootInfo) -> None:
        """Record a root unless it is recorded already.

        Documents of a root come either from builds or over the API. Whoever adds documents claims
        their root in the same commit.

        Args:
            root: a root of a build, or a pushed one (see ``RootInfo.is_pushed``).

        Raises:
            ForeignRoot: the index has a root of this name that is written the other way.
        """
        row = self._connection.execute(
            "SELECT path FROM roots WHERE name = ?", [root.name]
        ).fetchone()
        if row is None and root.is_pushed:
            # An interrupted build of an older version added documents of a root without recording
            # it.
            built = "SELECT 'unknown' FROM documents WHERE root = ? LIMIT 1"
            row = self._connection.execute(built, [root.name]).fetchone()
        if row is None:
            self._connection.execute(
                "INSERT INTO roots (name, path, choice) VALUES (?, ?, ?)",
                [root.name, root.path, _choice_json(root)],
            )
        elif bool(row[0]) == root.is_pushed:
            raise other_kind(root)

    def set_root(
        self,
        root: RootInfo,
        skipped: Sequence[Skipped],
        containers: Mapping[str, ContainerStamp] = MappingProxyType({}),
    ) -> None:
        """Record a root with its skipped files and containers, replacing its earlier record.

        Args:
            root: name and path of the root, and how its files were chosen.
            skipped: the files that were left out.
            containers: stamps by URI of what need not be read again while it stays as it is.

        Raises:
            ForeignRoot: the index has a root of this name that is written the other way.
        """
        self.claim_root(root)
        name, choice = root.name, _choice_json(root)
        self._connection.execute(
            """INSERT INTO roots (name, path, choice) VALUES (?, ?, ?) ON CONFLICT (name)
               DO UPDATE SET path = excluded.path, choice = excluded.choice""",
            [name, root.path, choice],
        )
        self._connection.execute("DELETE FROM skipped WHERE root = ?", [name])
        self._connection.executemany(
            "INSERT OR REPLACE INTO skipped (uri, root, reason, detail) VALUES (?, ?, ?, ?)",
            ((skip.uri, skip.root, skip.reason, skip.detail) for skip in skipped),
        )
        self._connection.execute("DELETE FROM containers WHERE root = ?", [name])
        self._connection.executemany(
            "INSERT INTO containers (uri, root, size, mtime_ns, rules) VALUES (?, ?, ?, ?, ?)",
            (
                (uri, name, stamp.size, stamp.mtime_ns, stamp.rules)
                for uri, stamp in containers.items()
            ),
        )

    def replace_segments(
        self, sources: Sequence[SegmentInfo], merged: Sequence[Merged], dim: int
    ) -> Replaced:
        """Put segments that were written outside the commit in the place of others.

        Args:
            sources: the segments to replace. Their vectors that are not in ``merged`` are dropped
                if no chunk uses them. If another writer has begun to use some meanwhile, those
                become one more segment.
            merged: the new segments.
            dim: length of a vector.

        Raises:
            Outdated: another program has replaced some of the segments or dropped vectors.
            StorageError: a file can't be renamed or written.
        """
        marks, ids = ", ".join("?" * len(sources)), [source.id for source in sources]
        found = self._connection.execute(f"SELECT file FROM segments WHERE id IN ({marks})", ids)
        if {row[0] for row in found} != {source.file for source in sources}:
            raise Outdated
        made = []
        for one in merged:
            made.append(self._record_segment(adopt(self.folder, one.written), one.ids))
            if self._move(one.ids, made[-1]) != len(one.ids):
                raise Outdated
        removed = self._connection.execute(
            f"""DELETE FROM vectors WHERE segment_id IN ({marks})
                AND id IN (SELECT vector_id FROM unused_vectors)""",
            ids,
        ).rowcount
        rest = [(source, self.rows_of(source.id, used=False)) for source in sources]
        left = np.concatenate([rows.ids for _, rows in rest])
        if len(left):
            parts = read_rows(self.folder, rest, dim)
            made.append(self.add_segment(parts, left, dim))
            self._move(left, made[-1])
        self._connection.execute(f"DELETE FROM segments WHERE id IN ({marks})", ids)
        return Replaced(made, removed)

    def merge_segments(self, sources: Sequence[SegmentInfo], dim: int) -> None:
        """Merge segments into one within the commit.

        Args:
            sources: the segments; ``MAX_SEGMENT_ROWS`` rows at most.
            dim: length of a vector.

        Raises:
            StorageError, IndexDamaged: a file can't be written or read.
        """
        rows = [(source, self.rows_of(source.id, used=False)) for source in sources]
        ids = np.concatenate([one.ids for _, one in rows])
        self._move(ids, self.add_segment(read_rows(self.folder, rows, dim), ids, dim))
        self._connection.executemany(
            "DELETE FROM segments WHERE id = ?", ([source.id] for source in sources)
        )

    def _move(self, ids: NDArray[np.int64], segment_id: int) -> int:
        """Record that vectors are the rows of a segment, in order; return how many there are."""
        return self._connection.executemany(
            "UPDATE vectors SET segment_id = ?, row = ? WHERE id = ?",
            ((segment_id, row, vector_id) for row, vector_id in enumerate(ids.tolist())),
        ).rowcount

    def add_segment(
        self, parts: Iterable[NDArray[np.float32]], ids: NDArray[np.int64], dim: int
    ) -> int:
        """Write a segment's file and record it in the transaction.

        Args:
            parts: vectors of the segment, float32 [n, dim] each.
            ids: vector id of each row, int64 [rows]; at most ``MAX_SEGMENT_ROWS``.
            dim: length of a vector.

        Returns:
            the segment's id.

        Raises:
            InvalidArgument: there are too many rows.
            StorageError: the file can't be written.
        """
        if len(ids) > vector_file.MAX_SEGMENT_ROWS:
            raise InvalidArgument(
                f"a segment takes {vector_file.MAX_SEGMENT_ROWS} rows, not {len(ids)}"
            )
        written = write_vector_file(self.folder, parts, rows=len(ids), dim=dim)
        return self._record_segment(written, ids)

    def _record_segment(self, written: WrittenFile, ids: NDArray[np.int64]) -> int:
        named = ids.astype("<i8").tobytes()
        cursor = self._connection.execute(
            """INSERT INTO segments
               (file, rows, bytes, sha256, sample_sha256, vector_ids, ids_sha256, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            [
                *(written.name, len(ids), written.size, written.sha256, written.sample),
                *(named, hashlib.sha256(named).hexdigest(), utc_now()),
            ],
        )
        return int(cursor.lastrowid or 0)

    def put_ann(self, segment_id: int, pending: WrittenFile, settings: AnnSettings) -> None:
        """Record a segment's approximate index, replacing the previous one, if any.

        Raises:
            Outdated: another program has replaced the segment.
        """
        self.check_segment(segment_id)
        written = adopt(self.folder, pending)
        self._connection.execute(
            "INSERT OR REPLACE INTO ann_files VALUES (?, ?, ?, ?, ?, ?)",
            [
                *(segment_id, written.name, written.size, written.sha256),
                *(settings.as_json(), utc_now()),
            ],
        )
        self._forget_missed(segment_id)

    def check_segment(self, segment_id: int) -> None:
        """Make sure that a segment is still there.

        Raises:
            Outdated: another program has replaced it.
        """
        query = "SELECT 1 FROM segments WHERE id = ?"
        if not self._connection.execute(query, [segment_id]).fetchone():
            raise Outdated

    def set_ann_settings(self, segment_id: int, settings: AnnSettings) -> None:
        """Change the search settings of a segment's approximate index."""
        self._connection.execute(
            "UPDATE ann_files SET settings = ? WHERE segment_id = ?",
            [settings.as_json(), segment_id],
        )

    def remove_ann(self, segment_id: int) -> None:
        """Remove a segment's approximate index, so that it is searched exactly."""
        self._connection.execute("DELETE FROM ann_files WHERE segment_id = ?", [segment_id])
        self._forget_missed(segment_id)

    def put_missed(self, segment_id: int, settings: AnnSettings) -> None:
        """Record that an approximate index missed its target; the segment is searched exactly.

        Args:
            segment_id: the segment. Its approximate index is removed, if it has one.
            settings: the best settings measured; they decide when to try again.

        Raises:
            Outdated: another program has replaced the segment.
        """
        self.check_segment(segment_id)
        self.remove_ann(segment_id)
        self._connection.execute(
            "INSERT INTO ann_missed VALUES (?, ?)", [segment_id, settings.as_json()]
        )

    def _forget_missed(self, segment_id: int) -> None:
        self._connection.execute("DELETE FROM ann_missed WHERE segment_id = ?", [segment_id])

    def set_language(self, language: str) -> None:
        """Set the language of the texts; if it changes, this commit rebuilds the lexical index.

        Args:
            language: a key of ``retrieval.domain.languages.LANGUAGES``, or ``NO_LANGUAGE``.
        """
        self._connection.execute("UPDATE index_info SET language = ?", [language])

    def replace_lexical(self, made: PreparedLexical) -> None:
        """Put segments of the lexical index in the place of those that they were made from.

        Raises:
            Outdated: another writer has replaced some of these.
            StorageError: a file can't be written.
        """
        try:
            if not put_in_place(self.folder, self._connection, made):
                raise Outdated
        except (OSError, ValueError) as error:
            raise storage_error(
                f"can't write the lexical index of {self.folder}: {error}; "
                "what was committed before is untouched",
                error,
            ) from error

    def set_index_type(self, index_type: str, target_recall: float) -> None:
        """Set the kind of index and the target recall for later maintenance."""
        self._connection.execute(
            "UPDATE index_info SET index_type = ?, target_recall = ?", [index_type, target_recall]
        )

    def _next_id(self, table: str) -> int:
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = ?", [table]
        ).fetchone()
        return int(row[0]) + 1 if row else 1

    def _put_metadata(self, document_id: int, metadata: Metadata) -> None:
        rows = ((document_id, *row) for row in value_rows(metadata))
        self._connection.executemany(INSERT_METADATA_VALUE, rows)

    def _put_text(self, document_id: int, text: str) -> None:
        self._connection.executemany(
            "INSERT INTO document_texts (document_id, part, text) VALUES (?, ?, ?)",
            (
                (document_id, part, text[start : start + TEXT_PART_CHARS])
                for part, start in enumerate(range(0, len(text), TEXT_PART_CHARS))
            ),
        )

    def _put_chunks(
        self, document_id: int, document: Document, chunks: Sequence[StagedChunk]
    ) -> None:
        keys = [header_key(document.title, staged.chunk.heading_path) for staged in chunks]
        texts = [(staged.vector_id, key) for staged, key in zip(chunks, keys, strict=True)]
        self._connection.executemany(
            "INSERT INTO texts (vector_id, header) VALUES (?, ?) ON CONFLICT DO NOTHING", texts
        )
        self._connection.executemany(
            INSERT_CHUNK,
            (
                (document_id, *chunk_values(document.uri, staged), *text)
                for staged, text in zip(chunks, texts, strict=True)
            ),
        )


def _choice_json(root: RootInfo) -> str:
    return json.dumps(asdict(root.choice)) if root.choice else ""


def other_kind(root: RootInfo) -> ForeignRoot:
    """Return the error for a root whose name is one of the other kind."""
    if root.is_pushed:
        return ForeignRoot(
            f"documents of {root.name}/ come from a folder that is indexed by `indexer build`; "
            f"put documents under another first part of the URI",
            field="uri",
        )
    return ForeignRoot(
        f"documents of {root.name}/ are written over the API; rename the folder, or build it into "
        f"another index with --index",
        field="docs",
    )


def utc_now() -> str:
    """Return the present time as RFC 3339, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_rows(
    folder: Path, sources: Sequence[tuple[SegmentInfo, SegmentRows]], dim: int
) -> Iterator[NDArray[np.float32]]:
    """Yield vectors of some segments, in order, a few thousand at a time; float32 [n, dim] each."""
    for segment, (_, rows) in sources:
        if not len(rows):
            continue
        index = open_vector_file(folder / segment.file, rows=segment.rows, dim=dim)
        for start in range(0, len(rows), _COPY_ROWS):
            yield index.reconstruct_batch(rows[start : start + _COPY_ROWS])
