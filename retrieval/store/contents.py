"""What the tables hold: documents, their texts and passages, and where each vector stands."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from retrieval.errors import IndexDamaged, NotFound
from retrieval.found import Hit, Passage, SectionText
from retrieval.recent import Recent
from retrieval.records import DocumentRow, IndexInfo, Skipped
from retrieval.store.database import DATABASE_NAME, LOOKUP_BATCH
from retrieval.store.filter_tree import BUILT_IN, Field
from retrieval.store.filters import Filter
from retrieval.store.rows import (
    DOCUMENT_QUERY,
    FIELD_NAMES_QUERY,
    PASSAGE_QUERY,
    WANTED_PASSAGES_QUERY,
    StoredPassage,
    damaged_row,
    document_row,
    passage_place,
    stored_passage,
)
from retrieval.store.sections import MOST_AROUND, Neighbour, stretch_around
from retrieval.store.snapshot import Snapshot
from retrieval.store.texts import Stretch, read_text, read_texts, read_wanted

_RECENT_CHARS: Final = 8 << 20
"""Most characters of the passages that are kept in memory."""
_RECENT_PLACES: Final = 1 << 15
"""Most places of vectors that are."""
_CHARS_BESIDE_TEXT: Final = 1_000
"""What else is kept of a passage, in characters, about."""

_Place = tuple[int, int]
"""(document id, ordinal) of a passage."""


class _Standing(NamedTuple):
    """A passage that has a vector: which text it is, and where it stands."""

    text_id: int
    document_id: int
    ordinal: int


class _Checked(NamedTuple):
    """A passage as it was read, and found to be whole."""

    passage: Passage
    """Without a score."""
    vector_id: int


class Contents:
    """Documents and passages of one generation; safe to share between threads."""

    def __init__(self, snapshot: Snapshot, info: IndexInfo) -> None:
        """Read from a snapshot."""
        self.folder = snapshot.folder
        self.info = info
        self._snapshot = snapshot
        self._rows = snapshot.rows
        # A generation never changes, so nothing that is kept grows old.
        self._recent_passages = Recent[_Place, _Checked](
            _RECENT_CHARS, lambda one: len(one.passage.text) + _CHARS_BESIDE_TEXT
        )
        self._recent_places = Recent[int, list[_Standing]](_RECENT_PLACES, len)

    def unknown_fields(self, where: Filter) -> dict[str, str]:
        """The fields of metadata in a filter that no document has, each with a name close to it.

        The name is that of a field which documents have; empty where none is close.
        """
        unknown = [field for field in where.metadata_fields if not self._has_field(field)]
        if not unknown:
            return {}
        known = [*BUILT_IN, *(row[0] for row in self._rows(FIELD_NAMES_QUERY, []))]
        return {
            field.name: next(iter(get_close_matches(field.name, known, 1)), "") for field in unknown
        }

    def _has_field(self, field: Field) -> bool:
        marks = ", ".join("?" * len(field.keys))
        query = f"SELECT 1 FROM metadata_values WHERE key IN ({marks}) LIMIT 1"
        return bool(self._rows(query, field.keys))

    def places_of_texts(
        self, vector_ids: Sequence[int], text_ids: Sequence[int], where: Filter | None = None
    ) -> list[list[_Place]]:
        """Where each of n texts stands: (document id, ordinal), in order.

        In several places, where the same text occurs more than once; nowhere, where a filter is
        given or all texts of a vector are named.

        Args:
            vector_ids: n, the texts' vectors.
            text_ids: n; 0: all texts of the vector but those that are named beside it.
            where: only places in documents that pass this filter.

        Raises:
            IndexDamaged: a vector stands nowhere.
        """
        distinct = list(dict.fromkeys(vector_ids))
        if where is not None:
            standing = self._read_standing(distinct, where)
        else:
            standing = self._recent_places.get_or_read(distinct, self._read_standing)
        named = set(filter(None, text_ids))
        return [
            [
                (document_id, ordinal)
                for text, document_id, ordinal in standing[vector_id]
                if (text == text_id if text_id else text not in named)
            ]
            for vector_id, text_id in zip(vector_ids, text_ids, strict=True)
        ]

    def _read_standing(
        self, vector_ids: Sequence[int], where: Filter | None = None
    ) -> dict[int, list[_Standing]]:
        passes, parameters = ("", ()) if where is None else where.check
        joined = f"JOIN documents d ON d.id = c.document_id AND ({passes})" if passes else ""
        standing: dict[int, list[_Standing]] = {vector_id: [] for vector_id in vector_ids}
        for start in range(0, len(vector_ids), LOOKUP_BATCH):
            batch = vector_ids[start : start + LOOKUP_BATCH]
            marks = ", ".join("?" * len(batch))
            rows = self._rows(
                f"SELECT c.vector_id, c.text_id, c.document_id, c.ordinal FROM chunks c {joined} "
                f"WHERE c.vector_id IN ({marks}) ORDER BY c.document_id, c.ordinal",
                (*parameters, *batch),
            )
            for vector_id, *place in rows:
                standing[vector_id].append(_Standing(*place))
        if not all(standing.values()):
            raise damaged_row("it has a vector that is some passage's, and names none")
        return standing

    def vectors_of_document(self, document_id: int) -> list[int]:
        """The vector id of each passage of a document, in order."""
        rows = self._rows(
            "SELECT vector_id FROM chunks WHERE document_id = ? ORDER BY ordinal", [document_id]
        )
        return [row[0] for row in rows]

    def sample_places(self, count: int) -> list[_Place]:
        """(document id, ordinal) of some passages, spread evenly over the index."""
        count = min(count, self.info.chunks)
        step = max(1, self.info.chunks // max(1, count))
        rows = self._rows(
            """SELECT document_id, ordinal FROM
                   (SELECT document_id, ordinal, row_number() OVER (ORDER BY id) - 1 AS number
                    FROM chunks)
               WHERE number % ? = 0 LIMIT ?""",
            [step, count],
        )
        return [(row[0], row[1]) for row in rows]

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """The passages that a search has found, in its order.

        Raises:
            NotFound: no such document or passage.
            IndexDamaged: what the index holds of one has changed, or it has another vector.
        """
        places = [(hit.document_id, hit.ordinal) for hit in hits]
        found = self._recent_passages.get_or_read(places, self._read_passages)
        passages = []
        for hit, place in zip(hits, places, strict=True):
            passage, vector_id = found[place]
            if vector_id != hit.vector_id:
                raise damaged_row(f"it takes passage {hit.ordinal} of {passage.uri} for another")
            passages.append(passage._replace(score=hit.score, scores=hit.scores))
        return passages

    def _read_passages(self, places: Sequence[_Place]) -> dict[_Place, _Checked]:
        found = read_wanted(self._rows, WANTED_PASSAGES_QUERY, places)
        rows = {passage_place(row): row for row in found}
        for place in places:
            if place not in rows:
                raise _no_passage(*place)
        checked = self._checked([rows[place] for place in places])
        return dict(zip(places, checked, strict=True))

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """One passage.

        Raises:
            NotFound: no such document or passage.
            IndexDamaged: what the index holds of it has changed.
        """
        return self._passages([self._passage_row(document_id, ordinal)])[0]

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
        return self._passages(rows)

    def section(self, document_id: int, ordinal: int, most_chars: int) -> SectionText:
        """A passage and those around it under the same headings, as one text.

        Args:
            document_id: of its document.
            ordinal: its position there.
            most_chars: length that the text stays within; the passage itself is always in it.

        Raises:
            NotFound: no such document or passage.
        """
        rows = self._rows(
            "SELECT ordinal, char_start, char_end, heading_path FROM chunks "
            "WHERE document_id = ? AND ordinal BETWEEN ? AND ? ORDER BY ordinal",
            [document_id, ordinal - MOST_AROUND, ordinal + MOST_AROUND],
        )
        stretch = stretch_around(ordinal, [Neighbour(*row) for row in rows], most_chars)
        if stretch is None:
            raise _no_passage(document_id, ordinal)
        text = read_text(self._rows, Stretch(document_id, stretch.start, stretch.end))
        return SectionText(text, stretch.start, stretch.end, stretch.complete)

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
        whole = Stretch(document_id, 0, self.document(document_id).char_count)
        return read_text(self._rows, whole)

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

    def _passage_row(self, document_id: int, ordinal: int) -> tuple[Any, ...]:
        """The row of ``PASSAGE_QUERY`` of one passage.

        Raises:
            NotFound: no such document or passage.
        """
        rows = self._rows(
            f"{PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal = ?", [document_id, ordinal]
        )
        if not rows:
            raise _no_passage(document_id, ordinal)
        return rows[0]

    def _passages(self, rows: Sequence[tuple[Any, ...]]) -> list[Passage]:
        """Rows of ``PASSAGE_QUERY`` with their texts, checked."""
        return [one.passage for one in self._checked(rows)]

    def _checked(self, rows: Sequence[tuple[Any, ...]]) -> list[_Checked]:
        stored = [stored_passage(row) for row in rows]
        return [
            _Checked(one.passage(text, math.nan), one.vector_id)
            for one, text in zip(stored, self._texts(stored), strict=True)
        ]

    def _texts(self, stored: Sequence[StoredPassage]) -> Iterator[str]:
        """The texts of passages, each as it was embedded."""
        stretches = [Stretch(one.document_id, one.char_start, one.char_end) for one in stored]
        for one, text in zip(stored, read_texts(self._rows, stretches), strict=True):
            # SQLite's pages carry no checksums: what is shown must be what was embedded.
            embedded = one.embedded_text(text, context=self.info.chunking.context)
            if hashlib.sha256(embedded.encode(errors="surrogatepass")).digest() != one.content_key:
                raise IndexDamaged(
                    f"passage {one.ordinal} of {one.uri} in {self.folder} is not the text that "
                    "was embedded; see what else is wrong with: "
                    f"indexer verify --index {self.folder}",
                    file=DATABASE_NAME,
                )
            yield text


def _no_passage(document_id: int, ordinal: int) -> NotFound:
    return NotFound(f"no passage {ordinal} of a document {document_id}")
