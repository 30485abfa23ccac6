"""The lexical index: how texts are cut, BM25 against a sum by hand, commits, damage."""

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store import Reader, Writer, open_reader, open_writer, parse_filter, verify
from retrieval.store.disk.lexical import lexical_index as lexical
from retrieval.store.disk.lexical import lexical_writer
from retrieval.store.disk.lexical.analysis import identifiers_analyzer, words_analyzer
from retrieval.store.lexical.folding import identifiers_of, words_of
from retrieval.store.lexical.query import WEIGHTS
from tests.store.test_store import key, new_writer, places_of_texts, staged, unit_vectors

K1, B = 1.2, 0.75
SEEDS = count()


def put(writer: Writer, uri: str, texts: Sequence[str]) -> None:
    """One commit of one document, with a vector for each text that has none."""
    with writer.commit() as commit:
        known = writer.find_vectors(key(text) for text in texts)
        new = [text for text in dict.fromkeys(texts) if key(text) not in known]
        if new:
            vectors = unit_vectors(len(new), seed=next(SEEDS))
            ids = commit.add_vectors([key(text) for text in new], vectors, [False] * len(new))
            known |= dict(zip(map(key, new), ids, strict=True))
        commit.put_document(staged(uri, list(texts), [known[key(text)] for text in texts]))


def texts_of(reader: Reader, query: str, k: int = 10, where: str = "") -> list[str]:
    """The texts that a query finds, best first."""
    condition = parse_filter(where) if where else None
    hits = reader.search_lexical(query, k, filter=condition)
    places = places_of_texts(reader, hits.vector_ids.tolist(), hits.text_ids.tolist(), condition)
    return [reader.passage(*standing[0]).text for standing in places]


@pytest.mark.parametrize(
    ("text", "words", "identifiers"),
    [
        ("The Cats are running", "cat run", ""),
        ("getUserName of HTTPServer", "getusernam httpserver get user name http server", ""),
        ("get_user __init__", "get user init", "get_user __init__"),
        ("os.path.join(a)", "os path join", "os.path.join"),
        ("v1.2.3, CVE-2021-44228", "v1 2 3 cve 2021 44228", "v1.2.3 cve-2021-44228"),
        ("C++ and C#", "c c", "c++ c#"),
        ("std::vector x->y", "std vector x y", "std::vector x->y"),
        ("état naïve ﬁne ＡＢＣ", "etat naiv fine abc", ""),
        ("東京タワー end", "東京 京タ タワ ワー end", ""),
        ("字", "字", ""),
        ("kill -9", "kill 9", ""),
        ("x" * 129, "", ""),
        ("", "", ""),
    ],
)
def test_how_texts_are_cut(text: str, words: str, identifiers: str) -> None:
    assert " ".join(words_analyzer("en").analyze(words_of(text))) == words
    assert " ".join(identifiers_analyzer().analyze(identifiers_of(text))) == identifiers


@given(text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_cut(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    words_analyzer("en").analyze(words_of(text))
    identifiers_analyzer().analyze(identifiers_of(text))


def by_hand(headers: Sequence[str], texts: Sequence[str], query: str) -> list[float]:
    """BM25 of each text, summed over the fields."""
    words, identifiers = words_analyzer("en"), identifiers_analyzer()
    whole = [f"{header}\n{text}" for header, text in zip(headers, texts, strict=True)]
    fields = {
        "words": ([words.analyze(words_of(one)) for one in whole], words.analyze(words_of(query))),
        "title": (
            [words.analyze(words_of(one)) for one in headers],
            words.analyze(words_of(query)),
        ),
        "identifiers": (
            [identifiers.analyze(identifiers_of(one)) for one in whole],
            identifiers.analyze(identifiers_of(query)),
        ),
    }
    scores = [0.0] * len(texts)
    for field, (documents, terms) in fields.items():
        average = sum(map(len, documents)) / len(documents)
        for term in terms:
            having = sum(term in document for document in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            for number, document in enumerate(documents):
                if tf := Counter(document)[term]:
                    norm = K1 * (1 - B + B * len(document) / average)
                    scores[number] += WEIGHTS[field] * idf * tf * (K1 + 1) / (tf + norm)
    return scores


# No more than 40 words a text: the engine keeps longer lengths roughly.
_WORDS = st.sampled_from(["alpha", "beta", "gamma", "get_user", "v1.2", "deltaEcho", "the"])
_TEXTS = st.lists(
    st.lists(_WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=12, unique=True
)


@given(
    texts=_TEXTS,
    query=st.lists(_WORDS, min_size=1, max_size=4).map(" ".join),
    commits=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_scores_are_bm25_however_often_was_committed(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str, commits: int
) -> None:
    folder = tmp_path_factory.mktemp("index")
    parts = [texts[n::commits] for n in range(commits)]
    with new_writer(folder) as writer:
        for number, part in enumerate(parts):
            if part:
                put(writer, f"d/{number}", part)
    headers = [
        f"D/{number} › H › {ordinal}"
        for number, part in enumerate(parts)
        for ordinal in range(len(part))
    ]
    ordered = [text for part in parts for text in part]
    expected = dict(zip(ordered, by_hand(headers, ordered, query), strict=True))
    with open_reader(folder) as reader:
        hits = reader.search_lexical(query, 100)
        found = dict(zip(texts_of(reader, query, 100), hits.scores.tolist(), strict=True))
    assert found == pytest.approx(
        {text: score for text, score in expected.items() if score > 0}, abs=2e-3
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with new_writer(tmp_path / "index") as writer:
        put(writer, "d/a", ["install the server", "the quick brown fox", "server install guide"])
        put(writer, "d/b", ["a fox and a server", "configuration of clients", "config_path is set"])
    return tmp_path / "index"


def test_phrases_beginnings_and_titles(folder: Path) -> None:
    with open_reader(folder) as reader:
        assert texts_of(reader, '"install guide"')[0] == "server install guide"
        assert set(texts_of(reader, "config*")) == {
            "configuration of clients",
            "config_path is set",
        }
        assert texts_of(reader, "config_path")[0] == "config_path is set"
        # Titles are the URIs in capitals: D/A and D/B.
        assert set(texts_of(reader, "title:b")) == {
            *("a fox and a server", "configuration of clients", "config_path is set")
        }
        assert len(texts_of(reader, 'title:"d b"')) == 3
        assert texts_of(reader, 'title:nowhere "') == []
        assert texts_of(reader, "the of a") == []


def test_what_is_removed_or_filtered_is_not_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(folder) as writer, writer.commit() as commit:
        commit.remove_document("d/a")
    for few in (lexical._FEW_IDS, 0):
        monkeypatch.setattr(lexical, "_FEW_IDS", few)
        with open_reader(folder) as reader:
            assert texts_of(reader, "fox", 1) == ["a fox and a server"]
            assert texts_of(reader, "server fox", where="path:a") == []
            assert texts_of(reader, "server fox", where="path:b") == ["a fox and a server"]


def test_a_text_that_comes_back_is_found_again(folder: Path) -> None:
    with open_writer(folder) as writer:
        with writer.commit() as commit:
            commit.remove_document("d/a")
        put(writer, "d/c", ["the quick brown fox"])
    with open_reader(folder) as reader:
        assert texts_of(reader, "brown") == ["the quick brown fox"]


def lexical_files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("lexical-*")}


def lose_view(folder: Path) -> None:
    """As a copy that keeps no links."""
    (view,) = folder.glob("lexical-*.view")
    shutil.rmtree(view)


def test_files_that_no_commit_names_go_and_a_reader_keeps_its_own(folder: Path) -> None:
    reader = open_reader(folder)
    before = lexical_files(folder)
    (folder / "lexical-abc.tmp").mkdir()
    (folder / "lexical-abc.tmp" / "x.term").write_text("cut off")
    (folder / f"lexical-{'0' * 32}.term").write_text("cut off")
    with open_writer(folder) as writer:
        assert lexical_files(folder) == before
        for number in range(20):  # enough to be merged
            put(writer, f"d/{number}", [f"text number {number}"])
        writer.compact()
    assert not lexical_files(folder) & before
    with reader:
        assert set(texts_of(reader, "fox")) == {"the quick brown fox", "a fox and a server"}
        assert texts_of(reader, "number") == []
    with open_reader(folder) as new:
        assert len(texts_of(new, "number", 100)) == 20
    assert list(verify(folder)) == []


def test_reading_writes_nothing_into_the_index(folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("lexical-*")}
    with open_reader(folder) as reader:
        texts_of(reader, "fox")
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("lexical-*")} == before


def test_a_lock_that_the_engine_takes_late_is_in_nobodys_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread of the engine's may put it into the folder of links when that is to be removed."""
    links = tmp_path / "links"
    links.mkdir()
    lose_view(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    rmdir, removed = os.rmdir, []

    def lock_first(path: str, **options: Any) -> None:
        if not removed:
            removed.append(path)
            next(links.iterdir()).joinpath(".tantivy-meta.lock").touch()
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", lock_first)
    with open_reader(folder) as reader:
        assert removed
        assert len(texts_of(reader, "fox")) == 2
    assert list(links.iterdir()) == []


def test_damage_is_noticed_and_mended(folder: Path) -> None:
    for path in sorted(path for path in folder.glob("lexical-*") if path.is_file()):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(IndexDamaged, match="indexer compact"):
            open_reader(folder)
        (problem,) = verify(folder)
        assert problem.file == path.name
        path.write_bytes(data)
    path.unlink()
    with pytest.raises(IndexDamaged, match="missing"):
        open_reader(folder)
    with open_writer(folder) as writer:
        writer.compact()
    assert list(verify(folder)) == []
    with open_reader(folder) as reader:
        assert len(texts_of(reader, "fox")) == 2


def test_a_write_that_the_disk_refuses_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lexical_files(folder)

    def refuse(_path: Path, _folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with open_writer(folder) as writer:
        with monkeypatch.context() as patched, pytest.raises(StorageError, match="No space"):
            patched.setattr(lexical_writer, "_move", refuse)
            put(writer, "d/c", ["another text"])
        assert lexical_files(folder) == before
        with open_reader(folder) as reader:
            assert texts_of(reader, "another") == []
        put(writer, "d/c", ["another text"])
    with open_reader(folder) as reader:
        assert texts_of(reader, "another") == ["another text"]


def test_another_language_is_taken_up(folder: Path) -> None:
    with open_writer(folder) as writer:
        put(writer, "d/c", ["die Häuser der Städte"])
        with open_reader(folder) as reader:
            assert texts_of(reader, "Haus") == []
        with writer.commit() as commit:
            commit.set_language("de")
        writer.maintain()
    with open_reader(folder) as reader:
        assert reader.info.language == "de"
        assert texts_of(reader, "Haus") == ["die Häuser der Städte"]
        assert len(texts_of(reader, "fox")) == 2
    assert list(verify(folder)) == []


def test_threads_search_at_once(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with open_reader(folder) as reader, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tuple(texts_of(reader, "server fox")), range(200)))
    assert len(set(found)) == 1
    assert np.isfinite(len(found[0]))
