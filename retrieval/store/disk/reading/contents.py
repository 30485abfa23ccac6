"""What the tables hold: documents, their texts and passages, and where each vector stands."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from retrieval.domain.bounded_cache import Recent
from retrieval.domain.passages import Hit, Passage, SectionText
from retrieval.domain.records import DocumentRow, IndexInfo, Skipped
from retrieval.errors import IndexDamaged, NotFound
from retrieval.store.disk.reading.document_texts import TextPiece, read_spans, read_texts
from retrieval.store.disk.reading.places import Place, Places, TextKey
from retrieval.store.disk.reading.sections import AROUND, Neighbour, Stretch, stretch_around
from retrieval.store.disk.reading.snapshot import Snapshot
from retrieval.store.disk.tables.database import DATABASE_NAME
from retrieval.store.disk.tables.rows import (
    DOCUMENT_QUERY,
    FIELD_NAMES_QUERY,
    NEIGHBOURS_QUERY,
    PASSAGE_QUERY,
    PASSAGES_QUERY,
    StoredPassage,
    damaged_row,
    document_row,
    passage_place,
    stored_passage,
)
from retrieval.store.filters.language import Filter
from retrieval.store.filters.tree import BUILT_IN, Field

_RECENT_CHARS: Final = 8 << 20
"""Most characters of the passages that are kept in memory."""
_CHARS_BESIDE_TEXT: Final = 1_000
"""What else is kept of a passage, in characters, about."""


class DocumentPassage(NamedTuple):
    """A passage of a document, and what it is ranked by."""

    ordinal: int
    vector_id: int
    text_id: int


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
        self._recent_passages = Recent[Place, _Checked](
            _RECENT_CHARS, lambda one: len(one.passage.text) + _CHARS_BESIDE_TEXT
        )
        self.places = Places(snapshot.rows)
        """Where the texts of the generation stand."""

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
        self,
        vector_ids: Sequence[int],
        text_ids: Sequence[int],
        where: Filter | None = None,
        most: int | None = None,
    ) -> list[list[Place]]:
        """Where each of n texts stands: (document id, ordinal), in the order of indexing.

        In several places, where the same text occurs more than once; nowhere, where a filter is
        given or all texts of a vector are named.

        Args:
            vector_ids: n, the texts' vectors.
            text_ids: n; 0: all texts of the vector but those that are named beside it.
            where: only places in documents that pass this filter.
            most: how many places of each; None: all.

        Raises:
            IndexDamaged: a vector stands nowhere.
        """
        groups = [[TextKey(*pair)] for pair in zip(vector_ids, text_ids, strict=True)]
        found = self.places.first(groups, self.info.chunks if most is None else most, where)
        return [places for (places,) in found]

    def passages_of_documents(
        self, document_ids: Sequence[int]
    ) -> dict[int, list[DocumentPassage]]:
        """Of each document its passages, in order."""
        rows = self._rows(
            """SELECT c.document_id, c.ordinal, c.vector_id, c.text_id FROM json_each(?) w
               CROSS JOIN chunks c ON c.document_id = w.value""",
            [json.dumps(list(document_ids))],
        )
        passages: dict[int, list[DocumentPassage]] = {one: [] for one in document_ids}
        for document_id, *passage in sorted(rows):
            passages[document_id].append(DocumentPassage(*passage))
        return passages

    def sample_places(self, count: int) -> list[Place]:
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

    def _read_passages(self, places: Sequence[Place]) -> dict[Place, _Checked]:
        found = read_spans(self._rows, PASSAGES_QUERY, [(one, at, at) for one, at in places])
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
        (around,) = self.neighbours_of([(document_id, ordinal)], before=before, after=after)
        return around

    def neighbours_of(
        self, places: Sequence[Place], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """The passages around each of some that exist, in order, itself left out.

        All are read by a fixed number of queries.
        """
        spans = [(document, ordinal - before, ordinal + after) for document, ordinal in places]
        rows = {passage_place(row): row for row in read_spans(self._rows, PASSAGES_QUERY, spans)}
        keys = sorted(rows)
        checked = self._checked([rows[key] for key in keys])
        found = {key: one.passage for key, one in zip(keys, checked, strict=True)}
        return [
            [
                found[document, at]
                for at in range(first, last + 1)
                if at != ordinal and (document, at) in found
            ]
            for (document, first, last), (_, ordinal) in zip(spans, places, strict=True)
        ]

    def section(self, document_id: int, ordinal: int, most_chars: int) -> SectionText:
        """A passage and those around it under the same headings, as one text.

        Args:
            document_id: of its document.
            ordinal: its position there.
            most_chars: length that the text stays within; the passage itself is always in it.

        Raises:
            NotFound: no such document or passage.
        """
        (stretch,) = self.stretches([(document_id, ordinal)], most_chars)
        (section,) = self.sections([(document_id, stretch)])
        return section

    def stretches(self, places: Sequence[Place], most_chars: int) -> list[Stretch]:
        """How far the section around each of some passages goes; see ``section``.

        All are found by a fixed number of queries.
        """
        found: dict[Place, Stretch] = {}
        for around in AROUND:
            left = [place for place in dict.fromkeys(places) if place not in found]
            if not left:
                break
            spans = [(document, at - around, at + around) for document, at in left]
            neighbours: dict[int, dict[int, Neighbour]] = {}
            for document_id, *row in read_spans(self._rows, NEIGHBOURS_QUERY, spans):
                neighbours.setdefault(document_id, {})[row[0]] = Neighbour(*row)
            for document_id, ordinal in left:
                beside = neighbours.get(document_id, {})
                if ordinal not in beside:
                    raise _no_passage(document_id, ordinal)
                stretch = stretch_around(ordinal, beside, most_chars, around)
                if stretch is not None:
                    found[document_id, ordinal] = stretch
        return [found[place] for place in places]

    def sections(self, stretches: Sequence[tuple[int, Stretch]]) -> list[SectionText]:
        """The texts of some stretches, each given with the id of its document."""
        pieces = [TextPiece(document_id, one.start, one.end) for document_id, one in stretches]
        return [
            SectionText(text, one.start, one.end, one.complete)
            for (_, one), text in zip(stretches, read_texts(self._rows, pieces), strict=True)
        ]

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
        whole = TextPiece(document_id, 0, self.document(document_id).char_count)
        return next(read_texts(self._rows, [whole]))

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
        pieces = [TextPiece(one.document_id, one.char_start, one.char_end) for one in stored]
        for one, text in zip(stored, read_texts(self._rows, pieces), strict=True):
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
