"""From a ranking of texts to the page of passages that a query asks for."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from retrieval.domain.passages import Hit, ScoreKind, StageScores
from retrieval.search.diversity import MMR_POOL, Head, by_document, collapse, diversify
from retrieval.search.query import Query
from retrieval.search.ranking import Ranked, Ranking, keys_of
from retrieval.store import DocumentPassage, PassageKey, Reader, TextKey

MAX_LOOKED_AT: Final = 1 << 15
"""Maximum number of passages to group by document: three for each of 11,000 documents."""
MAX_COMPARED: Final = 1 << 13
"""Maximum number of texts to compare when collapsing: eight for each of 1,000 passages."""
MAX_SIMILAR: Final = 100
"""Maximum number of collapsed passages to name with the passage that stands for them."""


class Page(NamedTuple):
    """Some entries of a list."""

    heads: list[Head]
    entries: tuple[PassageKey, ...]
    """The entries, see ``Query.seen``; those of a group are one entry."""
    more: bool
    """Whether there are entries after these."""


class Listing:
    """The list of passages that a query asks for, read page by page."""

    def __init__(self, reader: Reader, query: Query, ranking: Ranking) -> None:
        """Bind a checked query, and the ranking that it asks for."""
        self._reader = reader
        self._query = query
        self._ranking = ranking
        self._filter = query.parsed_filter
        # In float32, like the scores shown: min_score set to a shown score must keep its passage.
        self._lowest = np.float32(-math.inf if query.min_score is None else query.min_score)
        self._looked_at = 0

    def page(self) -> Page:
        """Return the page's passages in order.

        Where passages are grouped by document, ``k`` and ``offset`` count documents, and each has
        up to ``group_size`` passages, one after the other.

        A page leaves out the entries of the pages before. In the generation that those are of, they
        are the first ``offset`` ones of the list. In a later one the list may be another, and the
        page has the best of what was not seen yet.
        """
        query = self._query
        # One more than the page shows that there is more.
        heads = self._arranged(max(query.offset + query.k + 1, self._least))
        if query.seen:
            left = [head for head in heads if self._entry(head) not in query.seen]
        else:
            left = heads[query.offset :]
        page = left[: query.k]
        entries = tuple(map(self._entry, page))
        return Page(self.shown(page), entries, more=len(left) > query.k)

    def _entry(self, head: Head) -> PassageKey:
        hit = head.hit
        return hit.document_id, 0 if self._query.group_by_document else hit.ordinal

    def warnings(self) -> Iterator[str]:
        """Warn if the list ends only because no more passages are considered."""
        if self._looked_at:
            yield (
                f"the list is made of the best {self._looked_at} passages only; "
                "there may be more after it"
            )

    def first(self, limit: int) -> list[Head]:
        """Return the best ``limit`` entries, from the start of the list; see ``shown``."""
        return self._arranged(max(limit, self._least))[:limit]

    def shown(self, heads: Sequence[Head]) -> list[Head]:
        """Return entries of the list with what they stand for, and the others of their group."""
        named = self._named(heads)
        return self._grouped(named) if self._query.group_size > 1 else named

    @property
    def _least(self) -> int:
        """Length to which the list must be arranged, however little of it is asked for."""
        return MMR_POOL if self._query.mmr is not None else 0

    def _arranged(self, needed: int) -> list[Head]:
        """Return the list: at least ``needed`` entries, if available."""
        query = self._query
        # The query's own passage is not listed.
        wanted = needed + (query.passage is not None)
        shortens = query.group_by_document or query.collapse is not None
        most = MAX_LOOKED_AT if query.collapse is None else MAX_COMPARED
        if shortens:
            wanted = min(4 * wanted, most)
        while True:
            heads, complete = self._best(wanted, needed)
            if complete or len(heads) >= needed:
                break
            if shortens and wanted == most:
                self._looked_at = most
                break
            wanted = min(4 * wanted, most) if shortens else 2 * wanted
        if query.mmr is not None:
            heads = diversify(heads, self._reader.vectors, query.mmr)
        return heads

    def _best(self, wanted: int, needed: int) -> tuple[list[Head], bool]:
        """Return the list of the best texts or passages, and whether it is complete."""
        query = self._query
        texts, complete = self._texts(wanted)
        if query.collapse is not None:
            # One passage of each document is listed, so any number may be kept.
            most = wanted if query.group_by_document else needed
            heads = self._collapsed(texts, query.collapse, most)
        else:
            hits = self._hits(texts, wanted)
            complete = complete and len(hits) < wanted
            heads = [Head(hit) for hit in hits if hit[1:3] != query.passage]
        return by_document(heads) if query.group_by_document else heads, complete

    def _texts(self, wanted: int) -> tuple[Ranked, bool]:
        """Return the best texts, and whether there are no others."""
        texts = self._ranking.best(wanted)
        complete = len(texts.scores) < wanted
        kept = self._above_lowest(texts)
        return kept, complete or len(kept.scores) < len(texts.scores)

    def _above_lowest(self, texts: Ranked) -> Ranked:
        return texts.first(int(np.count_nonzero(texts.scores.astype(np.float32) >= self._lowest)))

    def _hits(self, texts: Ranked, limit: int) -> list[Hit]:
        """Return the first passages, text by text; those of one text in the order of indexing."""
        (places,) = self._reader.first_places([keys_of(texts)], limit, self._filter)
        return self._made(texts, places)

    def _made(self, texts: Ranked, places: Sequence[Sequence[PassageKey]]) -> list[Hit]:
        """Return the passages of the first texts."""
        count = len(places)
        return [
            Hit(score, *place, vector_id, scores)
            for vector_id, standing, score, scores in zip(
                texts.vector_ids[:count].tolist(),
                places,
                texts.scores[:count].tolist(),
                _stages(texts, count, self._ranking.kind),
                strict=True,
            )
            for place in standing
        ]

    def _collapsed(self, texts: Ranked, threshold: float, most: int) -> list[Head]:
        """Return the first passage of each text that is not nearly the same as a better one."""
        keys = keys_of(texts)
        # The query's own passage may come first.
        firsts = self._reader.first_places(
            [[key] for key in keys], 1 + (self._query.passage is not None), self._filter, named=keys
        )
        places = [
            [place for place in first if place != self._query.passage][:1] for (first,) in firsts
        ]
        texts = texts.take(np.flatnonzero([bool(some) for some in places]))
        keys = keys_of(texts)
        groups = collapse(texts.vector_ids.tolist(), self._reader.vectors, threshold, most)
        kept = [group[0] for group in groups]
        standing = [some for some in places if some]
        hits = self._made(texts.take(np.array(kept, dtype=np.int64)), [standing[n] for n in kept])
        return [
            Head(hit, texts=tuple(keys[number] for number in group))
            for hit, group in zip(hits, groups, strict=True)
        ]

    def _named(self, page: Sequence[Head]) -> list[Head]:
        """Return the heads of a page with the names of the passages that each stands for."""
        groups = [head.texts for head in page]
        if not any(groups):
            return list(page)
        # The head itself, and perhaps the query's own passage, are not named.
        limit = MAX_SIMILAR + 2
        listed = [text for group in groups for text in group]
        found = self._reader.first_places(groups, limit + 1, self._filter, named=listed)
        named = []
        for head, parts in zip(page, found, strict=True):
            places = [place for part in parts for place in part]
            others = [p for p in places if p not in (head.hit[1:3], self._query.passage)]
            count = len(others)
            if len(places) > limit:
                count = sum(self._reader.count_places(head.texts, listed, self._filter))
                count -= len(places) - len(others)
            named.append(head._replace(similar=tuple(others[:MAX_SIMILAR]), similar_count=count))
        return named

    def _grouped(self, page: Sequence[Head]) -> list[Head]:
        """Return the heads of a page, each followed by the best passages of its document."""
        passages = self._reader.passages_of_documents([head.hit.document_id for head in page])
        return [
            member for head in page for member in self._group(head, passages[head.hit.document_id])
        ]

    def _group(self, head: Head, passages: Sequence[DocumentPassage]) -> list[Head]:
        """Return the best passages of a document; all of them are scored, however low they rank."""
        vector_ids, text_ids = (
            np.unique(np.array(ids, dtype=np.int64))
            for ids in zip(*((one.vector_id, one.text_id) for one in passages), strict=True)
        )
        texts = self._above_lowest(self._ranking.of(vector_ids, text_ids))
        of_document = _of_document(keys_of(texts), head.hit.document_id, passages)
        hits = [hit for hit in self._made(texts, of_document) if hit[1:3] != self._query.passage]
        if self._query.collapse is None:
            others = [Head(hit) for hit in hits if hit[1:3] != head.hit[1:3]]
        else:
            groups = collapse(
                [hit.vector_id for hit in hits],
                self._reader.vectors,
                self._query.collapse,
                self._query.group_size,
            )
            others = [
                Head(hits[first], tuple(hits[n][1:3] for n in rest[:MAX_SIMILAR]), len(rest))
                for first, *rest in groups[1:]
            ]
        return [head, *others[: self._query.group_size - 1]]


def _of_document(
    texts: Sequence[TextKey], document_id: int, passages: Sequence[DocumentPassage]
) -> list[list[PassageKey]]:
    """Return where each text stands in a document."""
    named = {text.text_id for text in texts if text.text_id}
    places: dict[TextKey, list[PassageKey]] = {text: [] for text in texts}
    for ordinal, vector_id, text_id in passages:
        text = TextKey(vector_id, text_id if text_id in named else 0)
        if text in places:
            places[text].append((document_id, ordinal))
    return [places[text] for text in texts]


def _stages(texts: Ranked, count: int, kind: ScoreKind) -> Iterator[StageScores]:
    """Yield how each of the first ``count`` texts came to its score."""
    dense, lexical, fused = (
        [None if math.isnan(score) else score for score in part[:count].tolist()]
        for part in (texts.dense, texts.lexical, texts.fused)
    )
    reranked = texts.scores[:count].tolist() if kind == "rerank" else [None] * count
    dense_ranks, lexical_ranks = (
        [rank or None for rank in part[:count].tolist()]
        for part in (texts.dense_ranks, texts.lexical_ranks)
    )
    for scores in zip(dense, lexical, dense_ranks, lexical_ranks, fused, reranked, strict=True):
        yield StageScores(kind, *scores)
