"""What the tables hold: documents, their texts and passages, and where each vector stands."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from retrieval.errors import IndexDamaged, NotFound
from retrieval.records import DocumentRow, IndexInfo, Passage, Skipped
from retrieval.store.filters import Filter
from retrieval.store.rows import (
    DOCUMENT_QUERY,
    PASSAGE_QUERY,
    damaged_row,
    document_row,
    passage_row,
)
from retrieval.store.schema import DATABASE_NAME, LOOKUP_BATCH, TEXT_PART_CHARS
from retrieval.store.snapshot import Snapshot


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

        Raises:
            IndexDamaged: one of them stands nowhere.
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
        if not all(places.values()):
            raise damaged_row("it has a vector that is some passage's, and names none")
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

    def passage(self, document_id: int, ordinal: int, *, vector_id: int | None = None) -> Passage:
        """One passage.

        Args:
            document_id: of which document.
            ordinal: which of its chunks.
            vector_id: the vector that it was found by; None: it was not found by one.

        Raises:
            NotFound: no such document or passage.
            IndexDamaged: what the index holds of it has changed, or it has another vector.
        """
        rows = self._rows(
            f"{PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal = ?", [document_id, ordinal]
        )
        if not rows:
            raise NotFound(f"no passage {ordinal} of a document {document_id}")
        return self._passage(rows[0], vector_id)

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """The passages around one, in order, itself left out.

        Raises:
            NotFound: no such document or passage.
        """
        self.passage(document_id, ordinal)
        rows = self._rows(
            f"{PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal BETWEEN ? AND ? "
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
            f"{DOCUMENT_QUERY} WHERE d.uri > ? ORDER BY d.uri LIMIT ?",
            [after_uri, limit],
        )
        return [document_row(row) for row in rows]

    def skipped(self) -> list[Skipped]:
        """Every file that the last builds left out, in order of URI."""
        rows = self._rows("SELECT uri, root, reason, detail FROM skipped ORDER BY uri", [])
        return [Skipped(*row) for row in rows]

    def _one_document(self, condition: str, value: int | str) -> DocumentRow:
        rows = self._rows(
            f"{DOCUMENT_QUERY} WHERE d.{condition}",
            [value],
        )
        if not rows:
            raise NotFound(f"no document {value}")
        return document_row(rows[0])

    def _passage(self, row: tuple[Any, ...], vector_id: int | None = None) -> Passage:
        passage, own_vector, content_key = passage_row(row)
        if vector_id not in (None, own_vector):
            raise damaged_row(f"it takes passage {passage.ordinal} of {passage.uri} for another")
        text = self._text(passage.document_id, passage.char_start, passage.char_end)
        # SQLite's pages carry no checksums: what is shown must be what was embedded.
        if hashlib.sha256(text.encode(errors="surrogatepass")).digest() != content_key:
            raise IndexDamaged(
                f"passage {passage.ordinal} of {passage.uri} in {self.folder} is not the text that "
                f"was embedded; see what else is wrong with: indexer verify --index {self.folder}",
                file=DATABASE_NAME,
            )
        return replace(passage, text=text)

    def _text(self, document_id: int, start: int, end: int) -> str:
        first, last = start // TEXT_PART_CHARS, max(start, end - 1) // TEXT_PART_CHARS
        rows = self._rows(
            "SELECT text FROM document_texts WHERE document_id = ? AND part BETWEEN ? AND ? "
            "ORDER BY part",
            [document_id, first, last],
        )
        offset = first * TEXT_PART_CHARS
        return "".join(row[0] for row in rows)[start - offset : end - offset]
