"""What the tables hold: documents, their texts and passages, and where each vector stands."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from retrieval.errors import IndexDamaged, NotFound
from retrieval.records import DocumentRow, IndexInfo, Passage, Skipped
from retrieval.store.filters import Filter
from retrieval.store.schema import DATABASE_NAME, LOOKUP_BATCH, TEXT_PART_CHARS
from retrieval.store.snapshot import Snapshot

_DOCUMENT_COLUMNS = (
    "id, uri, title, format, encoding, metadata, size, mtime_ns, char_count, chunk_count"
)
_PASSAGE_QUERY = """
    SELECT c.document_id, d.uri, d.title, c.ordinal, c.char_start, c.char_end, c.line_start,
           c.line_end, c.heading_path, c.token_count, d.metadata, v.content_key
    FROM chunks c JOIN documents d ON d.id = c.document_id JOIN vectors v ON v.id = c.vector_id
"""


class Contents:
    """Documents and passages of one generation; safe to share between threads."""

    def __init__(self, snapshot: Snapshot, info: IndexInfo) -> None:
        """Read from a snapshot."""
        self.folder = snapshot.folder
        self.info = info
        self._snapshot = snapshot
        self._rows = snapshot.rows

    def places_of_vectors(
        self, vector_ids: Sequence[int], where: Filter | None = None
    ) -> dict[int, list[tuple[int, int]]]:
        """Where each vector's text stands: (document id, ordinal), in order.

        In several places, where the same text occurs more than once.

        Args:
            vector_ids: which vectors.
            where: only places in documents that pass this filter.
        """
        passes, parameters = ("", ()) if where is None else (where.condition, where.parameters)
        joined = f"JOIN documents d ON d.id = c.document_id AND ({passes})" if passes else ""
        places: dict[int, list[tuple[int, int]]] = {vector_id: [] for vector_id in vector_ids}
        for start in range(0, len(vector_ids), LOOKUP_BATCH):
            batch = vector_ids[start : start + LOOKUP_BATCH]
            marks = ", ".join("?" * len(batch))
            rows = self._rows(
                f"SELECT c.vector_id, c.document_id, c.ordinal FROM chunks c {joined} "
                f"WHERE c.vector_id IN ({marks}) ORDER BY c.document_id, c.ordinal",
                (*parameters, *batch),
            )
            for vector_id, document_id, ordinal in rows:
                places[vector_id].append((document_id, ordinal))
        return places

    def sample_places(self, count: int) -> list[tuple[int, int]]:
        """(document id, ordinal) of some passages, spread evenly over the index."""
        step = max(1, self.info.chunks // max(1, count))
        rows = self._rows(
            """SELECT document_id, ordinal FROM
                   (SELECT document_id, ordinal, row_number() OVER (ORDER BY id) - 1 AS number
                    FROM chunks)
               WHERE number % ? = 0 LIMIT ?""",
            [step, count],
        )
        return [(row[0], row[1]) for row in rows]

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """One passage.

        Raises:
            NotFound: no such document or passage.
        """
        rows = self._rows(
            f"{_PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal = ?", [document_id, ordinal]
        )
        if not rows:
            raise NotFound(f"no passage {ordinal} of a document {document_id}")
        return self._passage(rows[0])

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """The passages around one, in order, itself left out.

        Raises:
            NotFound: no such document or passage.
        """
        self.passage(document_id, ordinal)
        rows = self._rows(
            f"{_PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal BETWEEN ? AND ? "
            f"AND c.ordinal != ? ORDER BY c.ordinal",
            [document_id, ordinal - before, ordinal + after, ordinal],
        )
        return [self._passage(row) for row in rows]

    def document(self, document_id: int) -> DocumentRow:
        """One document.

        Raises:
            NotFound: no such document.
        """
        return self._one_document("id = ?", document_id)

    def document_by_uri(self, uri: str) -> DocumentRow:
        """One document by its URI.

        Raises:
            NotFound: no such document.
        """
        return self._one_document("uri = ?", uri)

    def document_text(self, document_id: int) -> str:
        """A document's whole text.

        Raises:
            NotFound: no such document.
        """
        return self._text(document_id, 0, self.document(document_id).char_count)

    def documents(self, limit: int, after_uri: str = "") -> list[DocumentRow]:
        """Documents in order of URI.

        Args:
            limit: most documents to return.
            after_uri: only those after this one; empty = from the first.
        """
        rows = self._rows(
            f"SELECT {_DOCUMENT_COLUMNS} FROM documents WHERE uri > ? ORDER BY uri LIMIT ?",
            [after_uri, limit],
        )
        return [_document_row(row) for row in rows]

    def skipped(self) -> list[Skipped]:
        """Every file that the last builds left out, in order of URI."""
        rows = self._rows("SELECT uri, root, reason, detail FROM skipped ORDER BY uri", [])
        return [Skipped(*row) for row in rows]

    def _one_document(self, condition: str, value: int | str) -> DocumentRow:
        rows = self._rows(
            f"SELECT {_DOCUMENT_COLUMNS} FROM documents WHERE {condition}",
            [value],
        )
        if not rows:
            raise NotFound(f"no document {value}")
        return _document_row(rows[0])

    def _passage(self, row: tuple[Any, ...]) -> Passage:
        document_id, uri, title, ordinal, start, end, line_start, line_end = row[:8]
        text = self._text(document_id, start, end)
        # SQLite's pages carry no checksums: what is shown must be what was embedded.
        if hashlib.sha256(text.encode(errors="surrogatepass")).digest() != row[11]:
            raise IndexDamaged(
                f"passage {ordinal} of {uri} in {self.folder} is not the text that was embedded; "
                f"see what else is wrong with: indexer verify --index {self.folder}",
                file=DATABASE_NAME,
            )
        return Passage(
            name=f"documents/{document_id}/passages/{ordinal}",
            document_id=document_id,
            uri=uri,
            title=title,
            ordinal=ordinal,
            char_start=start,
            char_end=end,
            line_start=line_start,
            line_end=line_end,
            heading_path=tuple(_json(row[8])),
            text=text,
            token_count=row[9],
            metadata=_json(row[10]),
            score=float("nan"),
        )

    def _text(self, document_id: int, start: int, end: int) -> str:
        first, last = start // TEXT_PART_CHARS, max(start, end - 1) // TEXT_PART_CHARS
        rows = self._rows(
            "SELECT text FROM document_texts WHERE document_id = ? AND part BETWEEN ? AND ? "
            "ORDER BY part",
            [document_id, first, last],
        )
        offset = first * TEXT_PART_CHARS
        return "".join(row[0] for row in rows)[start - offset : end - offset]


def _json(text: str) -> Any:  # noqa: ANN401  (whatever was stored)
    """What a column of JSON holds.

    Raises:
        IndexDamaged: it is no JSON any more.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise IndexDamaged(
            f"{DATABASE_NAME} is damaged: a field is no JSON; restore it from a backup, or build "
            f"the index anew",
            file=DATABASE_NAME,
        ) from error


def _document_row(row: Sequence[Any]) -> DocumentRow:
    modified = datetime.fromtimestamp(row[7] // 1_000_000_000, UTC)
    return DocumentRow(
        id=row[0],
        uri=row[1],
        title=row[2],
        format=row[3],
        encoding=row[4],
        metadata=_json(row[5]),
        size_bytes=row[6],
        modified_at=modified.isoformat().replace("+00:00", "Z"),
        char_count=row[8],
        chunk_count=row[9],
    )
