"""What writers and commits look up in an index's tables."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.records import (
    ContainerStamp,
    DocumentRow,
    FileStamp,
    IndexInfo,
    RootInfo,
    Skipped,
)
from retrieval.store.disk.filtering.conditions import filter_check
from retrieval.store.disk.filtering.patterns import Parameter
from retrieval.store.disk.info import load_info, load_roots, load_segments
from retrieval.store.disk.tables.database import LOOKUP_BATCH, sqlite_errors
from retrieval.store.disk.tables.rows import DOCUMENT_QUERY, read_document
from retrieval.store.filters.language import Filter
from retrieval.store.records import KnownFile, SegmentInfo

_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)

_FILE_COLUMNS = "id, sha256, size, mtime_ns, sidecar_size, sidecar_mtime_ns"


class SearchSettings(NamedTuple):
    """How the vectors of an index are to be searched."""

    index_type: str
    target_recall: float
    dim: int


class SegmentRows(NamedTuple):
    """Rows of a segment."""

    ids: NDArray[np.int64]
    """Vector id of each, int64 [n]."""
    rows: NDArray[np.int64]
    """Their numbers in the segment, int64 [n]."""


class Lookups:
    """Reads the tables: outside a commit the last one, within a commit also its own changes."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Read by a writer's connection."""
        self.folder = folder
        self._connection = connection

    @property
    def info(self) -> IndexInfo | None:
        """Description and counts of the index; None until ``set_model`` was called once."""
        with sqlite_errors(self.folder):
            if not self._connection.execute("SELECT count(*) FROM index_info").fetchone()[0]:
                return None
            return load_info(self.folder, self._connection)

    def newest_generation(self) -> int:
        """Return the number of the newest generation; 0 before the first."""
        with sqlite_errors(self.folder):
            row = self._connection.execute("SELECT generation FROM index_info").fetchone()
            return int(row[0]) if row else 0

    def roots(self) -> dict[str, RootInfo]:
        """Return every root that was ever indexed or written, by name."""
        with sqlite_errors(self.folder):
            return load_roots(self._connection)

    def root(self, name: str) -> RootInfo | None:
        """Return one root; None if nothing was ever indexed or written there."""
        with sqlite_errors(self.folder):
            return load_roots(self._connection, name).get(name)

    def known_files(self, root: str) -> dict[str, KnownFile]:
        """Return the records of all documents under a root, by URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                f"SELECT uri, {_FILE_COLUMNS} FROM documents WHERE root = ?", [root]
            )
            return {
                uri: KnownFile(document_id, sha256, FileStamp(*stamp))
                for uri, document_id, sha256, *stamp in rows
            }

    def known_file(self, uri: str) -> KnownFile | None:
        """Return the record of one document; None if there is no such document."""
        with sqlite_errors(self.folder):
            row = self._connection.execute(
                f"SELECT {_FILE_COLUMNS} FROM documents WHERE uri = ?", [uri]
            ).fetchone()
            return KnownFile(row[0], row[1], FileStamp(*row[2:])) if row else None

    def document_row(self, uri: str) -> DocumentRow | None:
        """Return a document without its text; None if there is no such document."""
        with sqlite_errors(self.folder):
            row = self._connection.execute(f"{DOCUMENT_QUERY} WHERE d.uri = ?", [uri]).fetchone()
            return read_document(row) if row else None

    def pushed_container(self, uri: str) -> tuple[str, ContainerStamp] | None:
        """Return the container that a URI is, or that it lies in, with its stamp; None if none.

        Only containers that were written over the API count.
        """
        ends = [at for at, character in enumerate(uri) if character == "/"]
        above = [uri, *(uri[:end] for end in reversed(ends))]
        with sqlite_errors(self.folder):
            for start in range(0, len(above), LOOKUP_BATCH):
                batch = above[start : start + LOOKUP_BATCH]
                marks = ", ".join("?" * len(batch))
                row = self._connection.execute(
                    f"""SELECT c.uri, c.size, c.mtime_ns, c.rules
                        FROM containers c JOIN roots r ON r.name = c.root
                        WHERE r.path = '' AND c.uri IN ({marks}) ORDER BY c.uri""",
                    batch,
                ).fetchone()
                if row:
                    return row[0], ContainerStamp(*row[1:])
        return None

    def skipped_in(self, uri: str) -> list[Skipped]:
        """Return what was skipped of a container, itself included, in order of URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                """SELECT uri, root, reason, detail FROM skipped
                   WHERE uri = ? OR (uri > ? AND uri < ?) ORDER BY uri""",
                [uri, f"{uri}/", f"{uri}0"],  # "0" comes after "/"
            )
            return [Skipped(*row) for row in rows]

    def count_built(self, prefix: str = "", filter: Filter | None = None) -> int:
        """Count the documents that come from builds; see ``pushed_documents``."""
        tests, parameters = _selection(prefix, filter)
        with sqlite_errors(self.folder):
            return int(
                self._connection.execute(
                    f"""SELECT count(*) FROM documents d LEFT JOIN roots r ON r.name = d.root
                        WHERE {" AND ".join([*tests, "r.path IS NOT ''"])}""",
                    parameters,
                ).fetchone()[0]
            )

    def pushed_documents(self, prefix: str = "", filter: Filter | None = None) -> list[str]:
        """Return the URIs of documents in pushed roots, in order.

        Args:
            prefix: start of the URIs; empty for all.
            filter: if given, return only documents that pass this filter.
        """
        tests, parameters = _selection(prefix, filter)
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                f"""SELECT d.uri FROM documents d JOIN roots r ON r.name = d.root
                    WHERE {" AND ".join([*tests, "r.path = ''"])} ORDER BY d.uri""",
                parameters,
            )
            return [row[0] for row in rows]

    def find_vectors(self, content_keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the vector ids of the texts that have a vector already, by content key."""
        keys = list(dict.fromkeys(content_keys))
        found: dict[bytes, int] = {}
        with sqlite_errors(self.folder):
            for start in range(0, len(keys), LOOKUP_BATCH):
                batch = keys[start : start + LOOKUP_BATCH]
                marks = ", ".join("?" * len(batch))
                found.update(
                    self._connection.execute(
                        f"SELECT content_key, id FROM vectors WHERE content_key IN ({marks})",
                        batch,
                    )
                )
        return found

    def skipped(self, root: str) -> list[Skipped]:
        """Return the files that the last build skipped under a root, in order of URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                "SELECT uri, root, reason, detail FROM skipped WHERE root = ? ORDER BY uri", [root]
            )
            return [Skipped(*row) for row in rows]

    def containers(self, root: str) -> dict[str, ContainerStamp]:
        """Return the stamps of what need not be read again under a root, by URI."""
        with sqlite_errors(self.folder):
            rows = self._connection.execute(
                "SELECT uri, size, mtime_ns, rules FROM containers WHERE root = ?", [root]
            )
            return {uri: ContainerStamp(*stamp) for uri, *stamp in rows}

    def truncated_chunks(self, document_id: int | None = None) -> int:
        """Count the chunks that were longer than the model takes.

        Args:
            document_id: the document; None for the whole index.
        """
        query = "SELECT count(*) FROM chunks c JOIN vectors v ON v.id = c.vector_id WHERE truncated"
        parameters = []
        if document_id is not None:
            query, parameters = f"{query} AND c.document_id = ?", [document_id]
        with sqlite_errors(self.folder):
            return int(self._connection.execute(query, parameters).fetchone()[0])

    def segments(self) -> list[SegmentInfo]:
        """Return every segment, oldest first."""
        with sqlite_errors(self.folder):
            return load_segments(self._connection.execute)

    def plain_segments(self, max_rows: int, after: int) -> list[SegmentInfo]:
        """Return segments that never had an approximate index, oldest first.

        Args:
            max_rows: maximum number of rows of a segment.
            after: ids are greater than this one.

        Returns:
            the segments; their unused rows are not counted, because that takes longer than the
            rest of a small commit.
        """
        with sqlite_errors(self.folder):
            found = self._connection.execute(
                """SELECT id, file, rows, bytes FROM segments
                   WHERE rows <= ? AND id > ? AND id NOT IN (SELECT segment_id FROM ann_files)
                   AND id NOT IN (SELECT segment_id FROM ann_missed) ORDER BY id""",
                [max_rows, after],
            )
            return [
                SegmentInfo(identifier, file, rows, 0, size, None, None, "", 0, "")
                for identifier, file, rows, size in found
            ]

    def search_settings(self) -> SearchSettings | None:
        """Return how vectors are to be searched; None if the index has no model yet."""
        with sqlite_errors(self.folder):
            row = self._connection.execute(
                "SELECT index_type, target_recall, dim FROM index_info"
            ).fetchone()
            return SearchSettings(*row) if row else None

    def rows_of(self, segment_id: int, *, used: bool) -> SegmentRows:
        """Return the rows of a segment whose vectors are still in the index, in order.

        Args:
            segment_id: the segment.
            used: whether to leave out vectors that no chunk uses.
        """
        query = "SELECT id, row FROM vectors WHERE segment_id = ?"
        if used:
            query += " AND id NOT IN (SELECT vector_id FROM unused_vectors)"
        with sqlite_errors(self.folder):
            rows = self._connection.execute(f"{query} ORDER BY row", [segment_id])
            pairs = np.array(rows.fetchall(), np.int64).reshape(-1, 2)
            return SegmentRows(pairs[:, 0].copy(), pairs[:, 1].copy())


def _selection(prefix: str, filter: Filter | None) -> tuple[list[str], list[Parameter]]:
    """Return conditions on a table of documents called ``d``, and their parameters."""
    tests: list[str] = ["d.uri >= ?"]
    parameters: list[Parameter] = [prefix]
    if (end := after_prefix(prefix)) is not None:
        tests.append("d.uri < ?")
        parameters.append(end)
    if filter is not None:
        check = filter_check(filter)
        tests.append(check.text)
        parameters += check.parameters
    return tests, parameters


def after_prefix(prefix: str) -> str | None:
    """Return the first text after all that begin with a prefix, in the order of code points.

    Returns:
        the text; None if there is none.
    """
    for end in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[end]) + 1
        if following <= _LAST_CHARACTER:
            # UTF-8 has no surrogates.
            following = _SURROGATES.stop if following in _SURROGATES else following
            return prefix[:end] + chr(following)
    return None
