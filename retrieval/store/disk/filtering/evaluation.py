"""Evaluate filters: find the documents that pass, and the vectors and texts of their passages.

Each comparison of a filter is one query that finds documents by an index. AND, OR and NOT work on
sets of documents, with one byte for each document of the index. SQLite returns the ids of a set as
one text: it joins them without the interpreter's lock, and a million take 20 ms to read. If one
comparison leaves few documents, the whole filter is checked on these instead.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.filtering.conditions import check_sql, find_sql
from retrieval.store.disk.filtering.patterns import Parameter, Sql
from retrieval.store.disk.tables.rows import Rows
from retrieval.store.filters.tree import And, Comparison, Condition, Exists, In, Not, Or

FEW_DOCUMENTS: Final = 2_000
"""Maximum number of documents to check one by one, which takes about 10 µs each."""

_LOOKED_UP: Final = 20_000
"""Maximum number of documents whose passages are looked up (4 µs each) before all passages are read
into memory, which takes 0.4 s a million, once for a generation."""

_BLOCK_ROWS: Final = 1 << 18
"""Passages to read with one query, so that the texts of their ids stay small."""

Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Passages:
    """All passages of a generation in columns; 12 bytes a passage while ids are below 2³¹."""

    document_ids: NDArray[np.integer[Any]]
    vector_ids: NDArray[np.integer[Any]]
    text_ids: NDArray[np.integer[Any]]


class FilterEvaluator:
    """Evaluates filters over one generation; safe to share between threads."""

    def __init__(self, rows: Rows, *, few: int = FEW_DOCUMENTS) -> None:
        """Read from a generation's tables.

        Args:
            rows: function that runs a query on the tables.
            few: maximum number of documents to check one by one.
        """
        self._rows = rows
        self._most_few = few
        self._passages = Once[str, _Passages](1, lambda _: 1)

    def passages(self, condition: Condition) -> tuple[Ids, Ids]:
        """Find the passages of the documents that pass.

        Returns:
            the ids of their vectors and of their texts; ids may occur several times.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
        """
        documents = self.documents(condition)
        ids = np.flatnonzero(documents)
        if len(ids) <= (self._most_few if "" in self._passages else _LOOKED_UP):
            return self._read_passages(
                "document_id IN (SELECT value FROM json_each(?))", (json.dumps(ids.tolist()),)
            )[1:]
        every = self._passages.get("", self._read_all)
        passing = documents[every.document_ids]
        return every.vector_ids[passing].astype(np.int64), every.text_ids[passing].astype(np.int64)

    def documents(self, condition: Condition) -> Mask:
        """Return whether each document passes, by id; ids without a document may pass too."""
        match condition:
            case And(parts):
                few = self._few(parts)
                if few is not None:
                    return self._mask(self._checked(few, condition))
                return reduce(np.logical_and, map(self.documents, parts))
            case Or(parts):
                return reduce(np.logical_or, map(self.documents, parts))
            case Not(part):
                return ~self.documents(part)
            case _:
                found = [self._mask(self._ids(query)) for query in find_sql(condition)]
                return reduce(np.logical_or, found, self._mask(np.empty(0, np.int64)))

    def _few(self, parts: Sequence[Condition]) -> Ids | None:
        """Return the documents that pass one of the conditions, if a query finds few of them."""
        for part in parts:
            if not isinstance(part, Comparison | In | Exists):
                continue
            found: list[Ids] = []
            for query in find_sql(part):
                limited = f"{query.text} LIMIT {self._most_few + 1}"
                found.append(self._ids(Sql(limited, query.parameters)))
            if sum(map(len, found)) <= self._most_few:
                return np.unique(np.concatenate([np.empty(0, np.int64), *found]))
        return None

    def _checked(self, ids: Ids, condition: Condition) -> Ids:
        """Return the documents among the given ones that pass."""
        check = check_sql(condition)
        these = "d.id IN (SELECT value FROM json_each(?))"
        query = f"SELECT d.id AS id FROM documents d WHERE {these} AND {check.text}"
        return self._ids(Sql(query, (json.dumps(ids.tolist()), *check.parameters)))

    def _ids(self, query: Sql) -> Ids:
        """Return the values of a query's column ``id``."""
        joined = f"SELECT group_concat(id) FROM ({query.text})"
        return numbers(self._rows(joined, query.parameters)[0][0])

    def _mask(self, ids: Ids) -> Mask:
        """Return the ids as a mask, bool [highest document id + 1]."""
        mask = np.zeros(self._most + 1, dtype=bool)
        mask[ids] = True
        return mask

    @cached_property
    def _most(self) -> int:
        return int(self._rows("SELECT max(id) FROM documents", [])[0][0] or 0)

    def _read_passages(
        self, condition: str, parameters: Sequence[Parameter]
    ) -> tuple[Ids, Ids, Ids]:
        """Read the document, vector and text ids of some passages."""
        rows = self._rows(
            "SELECT group_concat(document_id), group_concat(vector_id), group_concat(text_id) "
            f"FROM chunks WHERE {condition}",
            parameters,
        )
        documents, vectors, texts = map(numbers, rows[0])
        return documents, vectors, texts

    def _read_all(self) -> _Passages:
        most = int(self._rows("SELECT max(id) FROM chunks", [])[0][0] or 0)
        blocks = [
            self._read_passages("id > ? AND id <= ?", (start, start + _BLOCK_ROWS))
            for start in range(0, most, _BLOCK_ROWS)
        ]
        return _Passages(*map(_compact, zip(*blocks, strict=True)))


def numbers(text: str | None) -> Ids:
    """Parse numbers that SQLite has joined by commas, int64 [n]; return none for None."""
    return np.fromstring(text or "", dtype=np.int64, sep=",")


def _compact(blocks: Sequence[Ids]) -> NDArray[np.integer[Any]]:
    """Join arrays into one of int32 if its numbers fit, else of int64."""
    numbers = np.concatenate(blocks)
    return numbers.astype(np.int32) if numbers.max(initial=0) < 1 << 31 else numbers
