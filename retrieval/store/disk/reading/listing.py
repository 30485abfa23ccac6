"""Documents in order of their URIs, and their numbers, restricted by a filter if there is one."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.deadline import check_wanted
from retrieval.domain.records import DocumentCounts, DocumentRow
from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.filtering.evaluation import FilterEvaluator, numbers
from retrieval.store.disk.tables.rows import DOCUMENT_QUERY, Rows, read_document
from retrieval.store.filters.language import Filter

_FEW: Final = 20_000
"""Maximum number of documents to sort by URI, which takes about 25 ms. If more documents pass, all
are looked at in order: a page of 1,000 is then among the first 50,000 of a million or so."""
_LOOK: Final = 10_000
"""Documents to look at with one query, in order of URI."""
_KEPT_BYTES: Final = 8 << 20
"""Bytes of cached filters: the documents that pass, one byte for each document of the index."""

Mask = NDArray[np.bool_]


class DocumentList:
    """The documents of one generation; safe to share between threads."""

    def __init__(self, rows: Rows) -> None:
        """Read from a generation's tables by running queries with ``rows``."""
        self._rows = rows
        self._evaluator = FilterEvaluator(rows)
        # Pages of one list follow each other.
        self._passing = Once[str, Mask](_KEPT_BYTES, lambda mask: mask.nbytes)

    def page(self, limit: int, after_uri: str, filter: Filter | None) -> list[DocumentRow]:
        """Return up to ``limit`` documents after a URI that pass a filter, in order of URI.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
        """
        if filter is None:
            return self._read("d.uri > ?", [after_uri], limit)
        passing = self._mask(filter)
        ids = np.flatnonzero(passing)
        if len(ids) <= _FEW:
            these = "d.id IN (SELECT value FROM json_each(?)) AND d.uri > ?"
            return self._read(these, [json.dumps(ids.tolist()), after_uri], limit)
        found: list[int] = []
        while len(found) < limit:
            check_wanted()
            rows = self._rows(
                "SELECT id, uri FROM documents WHERE uri > ? ORDER BY uri LIMIT ?",
                [after_uri, _LOOK],
            )
            found += [identifier for identifier, _ in rows if passing[identifier]]
            if len(rows) < _LOOK:
                break
            after_uri = rows[-1][1]
        these = "d.id IN (SELECT value FROM json_each(?))"
        return self._read(these, [json.dumps(found[:limit])], limit)

    def counts(self, filter: Filter) -> DocumentCounts:
        """Count the documents that pass a filter, and their passages.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
        """
        passing = self._mask(filter)
        ids, passages = map(
            numbers,
            # An index on chunk_count has both columns, so the documents need not be read.
            self._rows("SELECT group_concat(id), group_concat(chunk_count) FROM documents", [])[0],
        )
        chosen = passing[ids]
        return DocumentCounts(int(chosen.sum()), int(passages[chosen].sum()))

    def _mask(self, filter: Filter) -> Mask:
        """Return which ids are of a document that passes, bool [highest document id + 1]."""

        def evaluate() -> Mask:
            passing = self._evaluator.documents(filter.tree)
            there = np.zeros_like(passing)
            there[numbers(self._rows("SELECT group_concat(id) FROM documents", [])[0][0])] = True
            return passing & there

        return self._passing.get(filter.text, evaluate)

    def _read(self, condition: str, parameters: Sequence[object], limit: int) -> list[DocumentRow]:
        rows = self._rows(
            f"{DOCUMENT_QUERY} WHERE {condition} ORDER BY d.uri LIMIT ?", [*parameters, limit]
        )
        return [read_document(row) for row in rows]
