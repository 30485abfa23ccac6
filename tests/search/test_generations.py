"""Pages of a list that go on while the index changes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import PassageKey, Reader, open_reader
from tests.store.test_store import key, new_writer, staged, unit_vectors

WORDS = ["ferry", "lamp", "dough", "bee", "ice", "bow", "tree", "loaf", "rock", "nectar"]
TEXTS = [" ".join(Random(seed).choices(WORDS, k=4)) for seed in range(60)]
DOCUMENTS = 12
QUERY = "ferry dough lamp"
EMBEDDED = EmbeddedText(unit_vectors(1, seed=99)[0], 3, truncated=False)
LISTS: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "weighted": {"mode": "hybrid"},
    "rrf": {"mode": "hybrid", "fusion": "rrf"},
    "grouped": {"group_by_document": True, "group_size": 2},
    "collapsed": {"collapse": 0.7},
    "diverse": {"mmr": 0.4},
    "above": {"mode": "dense", "min_score": 0.0},
}


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Reader]]:
    """Eight generations: each adds, replaces and removes some of twelve documents."""
    folder, draw = tmp_path_factory.mktemp("generations"), Random(7)
    with ExitStack() as stack:
        readers = []
        for generation in range(8):
            with new_writer(folder) as writer, writer.commit() as commit:
                if not generation:
                    keys = [key(text) for text in dict.fromkeys(TEXTS)]
                    ids = commit.add_vectors(keys, unit_vectors(len(keys)), [False] * len(keys))
                    vector_of = dict(zip(dict.fromkeys(TEXTS), ids, strict=True))
                for number in draw.sample(range(DOCUMENTS), 4 if generation else 10):
                    uri = f"d/{number}"
                    if draw.random() < 0.2:
                        commit.remove_document(uri)
                        continue
                    texts = draw.sample(TEXTS, draw.randint(1, 6))
                    commit.put_document(staged(uri, texts, [vector_of[t] for t in texts]))
            readers.append(stack.enter_context(open_reader(folder)))
        yield readers


def page(
    reader: Reader, query: Query, seen: frozenset[PassageKey], k: int
) -> tuple[Sequence[PassageKey], bool]:
    asked = replace(query, k=k, offset=len(seen), seen=seen)
    result = Searcher(reader).search(asked, EMBEDDED if query.needs_embedding else None)
    if not query.group_by_document:
        assert [(one.document_id, one.ordinal) for one in result.passages] == [*result.entries]
    return result.entries, result.more


@pytest.mark.parametrize("name", sorted(LISTS))
@given(data=st.data())
@settings(deadline=None, max_examples=8)
def test_the_next_page_is_the_best_that_was_not_seen(
    generations: list[Reader], name: str, data: st.DataObject
) -> None:
    """Whichever generation each page is of, an older one included, as replicas may have."""
    query = Query(QUERY, **LISTS[name])
    seen: frozenset[PassageKey] = frozenset()
    more, always, listed = True, None, []
    while more:
        reader = data.draw(st.sampled_from(generations))
        k = data.draw(st.integers(2, 12))
        whole, _ = page(reader, query, frozenset(), 400)
        entries, more = page(reader, query, seen, k)
        fresh = [one for one in whole if one not in seen]
        if name != "diverse":  # what is seen takes part in the choice of the others
            assert [*entries] == fresh[:k]
        assert not seen.intersection(entries), "nothing comes twice"
        assert more == (len(fresh) > k)
        seen |= {*entries}
        always = {*whole} if always is None else always & {*whole}
        listed.append(len(entries))
    assert always is not None
    assert always <= seen, "what is there all the time is listed"
    assert {*whole} <= seen, "and all of the last generation"
    assert sum(listed) == len(seen)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_in_one_generation_pages_are_the_list(generations: list[Reader], name: str) -> None:
    query = Query(QUERY, **LISTS[name])
    for reader in generations[:3]:
        whole, _ = page(reader, query, frozenset(), 400)
        found: list[PassageKey] = []
        more = True
        while more:
            entries, more = page(reader, query, frozenset(found), 3)
            found += entries
        assert found == [*whole]
        assert len(whole) > 3


def test_scores_move_between_generations(generations: list[Reader]) -> None:
    """Otherwise the tests above would show little."""
    lists = []
    for reader in generations:
        result = Searcher(reader).search(Query(QUERY, k=100), EMBEDDED)
        lists.append({passage.name: passage.score for passage in result.passages})
    both = lists[0].keys() & lists[-1].keys()
    assert len(both) >= 3
    assert not np.allclose([lists[0][n] for n in both], [lists[-1][n] for n in both], atol=1e-4)
