"""Find the places of texts, i.e. the passages that have them, reading no more than needed.

One text may be in every document of an index, so reading all its places would cost as much as
reading the index. Every query here reads a limited number of places of each text, in the order in
which they were indexed. An index of the table has that order, so nothing needs sorting.
"""

import json
from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from retrieval.domain.bounded_cache import Recent
from retrieval.store.disk.filtering.conditions import filter_check
from retrieval.store.disk.tables.rows import Rows, damaged_row
from retrieval.store.filters.language import Filter
from retrieval.store.records import PassageKey, TextKey

_FEW: Final = 4
"""Nearly every text has fewer places than this. They are read in one step and cached."""
_WIDEN: Final = 8
"""Factor by which the number of places to read grows; three steps reach 2,048."""
_MAX_RECENT: Final = 1 << 15
"""Maximum number of places cached."""


class _Standing(NamedTuple):
    """A passage of a vector: the id of its text, and its place."""

    text_id: int
    document_id: int
    ordinal: int


class Places:
    """Places of the texts of one generation; safe to share between threads."""

    def __init__(self, rows: Rows) -> None:
        """Read from a generation's tables by running queries with ``rows``."""
        self._rows = rows
        # A generation never changes, so nothing in the cache becomes stale.
        self._recent = Recent[int, list[_Standing]](_MAX_RECENT, len)

    def first(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        filter: Filter | None = None,
        *,
        named: Sequence[TextKey] | None = None,
    ) -> list[list[list[PassageKey]]]:
        """Return the first places of some groups of texts, text by text.

        Args:
            groups: groups of texts, each in order.
            limit: maximum number of places for each group.
            filter: if given, return only places in documents that pass this filter.
            named: all texts of the ranking; None if these are the texts of the groups.

        Returns:
            for each group, the places of its first texts until there are ``limit`` of them. Texts
            after that are left out.

        Raises:
            IndexDamaged: a vector has no place.
        """
        wanted = _Wanted(groups, limit)
        beside = {
            text.text_id
            for text in (named if named is not None else (t for group in groups for t in group))
            if text.text_id
        }
        known = self._known(wanted.asked(), beside) if filter is None else {}
        wanted.take(known, whole=True)
        most = _FEW
        while asked := wanted.asked():
            most = min(most, limit)
            wanted.take(self._read(asked, most, beside, filter), whole=False, most=most)
            most *= _WIDEN
        return wanted.found()

    def counts(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], filter: Filter | None = None
    ) -> list[int]:
        """Count the places of each of some texts.

        Takes time linear in the number of places, most of it for the filter if there is one.

        Args:
            texts: texts to count places of.
            named: all texts of the ranking.
            filter: if given, count only places in documents that pass this filter.
        """
        beside = sorted({text.text_id for text in named if text.text_id})
        counts = [0] * len(texts)
        for numbers, condition in _kinds(texts, beside):
            if numbers:
                joined, parameters = _joined(filter)
                rows = self._rows(
                    f"""SELECT w.key, count(*) FROM json_each(?) w
                        CROSS JOIN chunks k ON {condition} {joined} GROUP BY w.key""",
                    (_keys(texts, numbers), *_beside(condition, beside), *parameters),
                )
                for row, count in rows:
                    counts[numbers[row]] = count
        return counts

    def _known(self, texts: Sequence[TextKey], beside: set[int]) -> dict[TextKey, list[PassageKey]]:
        """Return the places of the texts whose vectors have few places."""
        vector_ids = list(dict.fromkeys(text.vector_id for text in texts))
        standing = self._recent.get_or_read(vector_ids, self._read_standing)
        return {
            text: [
                (document_id, ordinal)
                for text_id, document_id, ordinal in standing[text.vector_id]
                if (text_id == text.text_id if text.text_id else text_id not in beside)
            ]
            for text in texts
            if len(standing[text.vector_id]) <= _FEW
        }

    def _read_standing(self, vector_ids: Sequence[int]) -> dict[int, list[_Standing]]:
        """Read the first ``_FEW`` passages of each vector, and one more to see if that is all."""
        rows = self._rows(
            """SELECT w.value, c.id, c.text_id, c.document_id, c.ordinal FROM json_each(?) w
               CROSS JOIN chunks c ON c.id IN
                   (SELECT k.id FROM chunks k WHERE k.vector_id = w.value ORDER BY k.id LIMIT ?)""",
            (json.dumps(vector_ids), _FEW + 1),
        )
        standing: dict[int, list[_Standing]] = {vector_id: [] for vector_id in vector_ids}
        for vector_id, _, *place in sorted(rows):
            standing[vector_id].append(_Standing(*place))
        if not all(standing.values()):
            raise damaged_row("it has a vector that is some passage's, and names none")
        return standing

    def _read(
        self, texts: Sequence[TextKey], most: int, beside: set[int], filter: Filter | None
    ) -> dict[TextKey, list[PassageKey]]:
        """Read the first places of each text."""
        found: dict[TextKey, list[PassageKey]] = {text: [] for text in texts}
        joined, parameters = _joined(filter)
        for numbers, condition in _kinds(texts, beside):
            if not numbers:
                continue
            rows = self._rows(
                f"""SELECT w.key, c.id, c.document_id, c.ordinal FROM json_each(?) w
                    CROSS JOIN chunks c ON c.id IN
                        (SELECT k.id FROM chunks k {joined} WHERE {condition}
                         ORDER BY k.id LIMIT ?)""",
                (
                    _keys(texts, numbers),
                    *parameters,
                    *_beside(condition, sorted(beside)),
                    most,
                ),
            )
            for number, places in groupby(sorted(rows), itemgetter(0)):
                found[texts[numbers[number]]] = [(row[2], row[3]) for row in places]
        return found


class _Wanted:
    """Groups of texts, and the places of each text that are known so far."""

    def __init__(self, groups: Sequence[Sequence[TextKey]], limit: int) -> None:
        self._groups = groups
        self._limit = limit
        self._places: dict[TextKey, list[PassageKey]] = {}
        self._whole: set[TextKey] = set()

    def take(self, places: dict[TextKey, list[PassageKey]], *, whole: bool, most: int = 0) -> None:
        """Add places of texts: all places if ``whole``, else the first ``most``."""
        self._places.update(places)
        self._whole |= {
            text
            for text, found in places.items()
            if whole or len(found) < most or len(found) >= self._limit
        }

    def asked(self) -> list[TextKey]:
        """Return the texts to read next, assuming that each text has at least one place."""
        asked: dict[TextKey, None] = {}
        for group in self._groups:
            total = 0
            for text in group:
                if text in self._whole:
                    total += len(self._places[text])
                else:
                    asked[text] = None
                    total += max(1, len(self._places.get(text, ())))
                if total >= self._limit:
                    break
        return list(asked)

    def found(self) -> list[list[list[PassageKey]]]:
        """Return the places of each group; call it once ``asked`` returns nothing."""
        result = []
        for group in self._groups:
            parts: list[list[PassageKey]] = []
            left = self._limit
            for text in group:
                if left <= 0:
                    break
                parts.append(self._places[text][:left])
                left -= len(parts[-1])
            result.append(parts)
        return result


_NAMED: Final = "k.text_id = w.value"
_SINGLE: Final = "k.vector_id = w.value"
_OTHERS: Final = f"{_SINGLE} AND k.text_id NOT IN (SELECT value FROM json_each(?))"


def _kinds(texts: Sequence[TextKey], beside: Collection[int]) -> list[tuple[list[int], str]]:
    """Group texts by the condition that finds their places; return their numbers."""
    kinds: dict[str, list[int]] = {_NAMED: [], _SINGLE: [], _OTHERS: []}
    for number, text in enumerate(texts):
        kinds[_NAMED if text.text_id else _OTHERS if beside else _SINGLE].append(number)
    return [(numbers, condition) for condition, numbers in kinds.items()]


def _beside(condition: str, text_ids: Sequence[int]) -> tuple[str, ...]:
    return (json.dumps(text_ids),) if condition == _OTHERS else ()


def _keys(texts: Sequence[TextKey], numbers: Sequence[int]) -> str:
    """Return the ids that a query looks up, as JSON."""
    return json.dumps([texts[number].text_id or texts[number].vector_id for number in numbers])


def _joined(filter: Filter | None) -> tuple[str, tuple[object, ...]]:
    """Return a join that keeps only passages of documents that pass, and its parameters."""
    if filter is None:
        return "", ()
    passes, parameters = filter_check(filter)
    return f"CROSS JOIN documents d ON d.id = k.document_id AND ({passes})", parameters
