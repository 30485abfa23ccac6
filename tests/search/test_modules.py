"""How many modules a reader of one search has to open."""

import sys
from pathlib import Path
from types import FrameType

from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import open_reader
from tests.store.test_store import key, new_writer, staged, unit_vectors


def test_a_hybrid_search_enters_few_modules(tmp_path: Path) -> None:
    texts = [f"alpha beta gamma n{number}" for number in range(40)]
    with new_writer(tmp_path) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key(text) for text in texts], unit_vectors(40), [False] * 40)
        commit.put_document(staged("d/a", texts, ids))
    entered = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.add(frame.f_globals.get("__name__", ""))

    query = Query(text="alpha n7 gamma")
    embedded = EmbeddedText(unit_vectors(1)[0], 3, truncated=False)
    with open_reader(tmp_path) as reader:
        searcher = Searcher(reader)
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            result = searcher.search(query, embedded)
        finally:
            sys.setprofile(before)
    assert result.mode == "hybrid"
    ours = {name for name in entered if name.startswith("retrieval.")}
    parts = {name for name in ours if name.startswith(("retrieval.store.", "retrieval.search."))}
    assert len(parts) <= 13, sorted(parts)
    assert len(ours) <= 17, sorted(ours)
