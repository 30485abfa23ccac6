"""What a generation takes over from an older one is what it would read itself."""

import random
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.store import Location, Reader, open_reader, open_writer
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.keyed import Keyed, KeyedTexts
from retrieval.store.lake.tables.layout import Layout
from retrieval.store.lake.tables.pointer import read_newest
from tests.store.test_store import fill, key, new_writer, staged, unit_vectors

TABLES = ("documents", "texts", "chunks", "values", "vectors")


@given(
    old=st.lists(st.integers(-3, 6)),
    new=st.lists(st.integers(-3, 9)),
    gone=st.none() | st.sets(st.integers(0, 20)),
    is_sorted=st.booleans(),
)
def test_rows_are_found_by_numbers(
    old: list[int], new: list[int], gone: set[int] | None, *, is_sorted: bool
) -> None:
    old = sorted(old) if is_sorted else old
    kept = None if gone is None else np.array([row not in gone for row in range(len(old))], bool)
    left = np.array(old, np.int64) if kept is None else np.array(old, np.int64)[kept]
    keys = np.concatenate([left, np.array(new, np.int64)])
    carried = Keyed(np.array(old, np.int64)).carried(kept, keys)
    expected = {one: np.flatnonzero(keys == one).tolist() for one in range(-4, 11)}
    every = np.arange(-4, 11)
    for one, rows in expected.items():
        assert carried.rows(one).tolist() == rows
    assert carried.counts(every).tolist() == [len(rows) for rows in expected.values()]
    assert carried.rows_of(every).tolist() == carried.every.tolist()
    assert carried.every.tolist() == list(chain(*expected.values()))
    found, inside = carried.find(every)
    assert inside.tolist() == [bool(rows) for rows in expected.values()]
    assert keys[found].tolist() == every[inside].tolist()


@given(
    old=st.lists(st.text("aé😀", max_size=3), unique=True),
    new=st.lists(st.text("aé😀", max_size=3), unique=True),
    gone=st.none() | st.sets(st.integers(0, 20)),
)
def test_rows_are_found_by_texts(old: list[str], new: list[str], gone: set[int] | None) -> None:
    kept = None if gone is None else np.array([row not in gone for row in range(len(old))], bool)
    left = [one for row, one in enumerate(old) if gone is None or row not in gone]
    texts = left + [one for one in new if one not in left]
    carried = KeyedTexts(pa.array(old, pa.string())).carried(kept, pa.array(texts, pa.string()))
    for one in [*texts, *old]:
        assert carried.find(one) == (texts.index(one) if one in texts else None)
    assert [texts[row] for row in carried.between("", None)] == sorted(texts)
    inside = [one for one in sorted(texts) if "aé" <= one < "é"]
    assert [texts[row] for row in carried.between("aé", "é")] == inside


def in_memory(generation: Generation) -> list[object]:
    """All that a generation keeps in memory, after each part of it was used."""
    columns = [
        *(("documents", name) for name in ("id", "uri", "title")),
        *(("chunks", name) for name in ("id", "document_id", "ordinal", "vector_id", "text_id")),
        *(("vectors", name) for name in ("id", "content_key", "truncated")),
        *(("texts", name) for name in ("document_id", "part")),
        *(("values", name) for name in ("document_id", "key")),
    ]
    tables = ("chunks", "texts", "values")
    return [
        *(generation.column(*one).to_pylist() for one in columns),
        [generation.rows_of(name, range(1, 99)).tolist() for name in tables],
        [generation.passages_of(one).tolist() for one in range(1, 30)],
        *(one.every.tolist() for one in (generation.by_vector, generation.by_text)),
        generation.vector_rows.every.tolist(),
        generation.content_keys.every.tolist(),
        generation.rows_by_uri().tolist(),
        generation.rows_by_uri("d/2", "d/7").tolist(),
        generation.used.tolist(),
        generation.all_vectors().tolist(),
        generation.shared_vectors.tolist(),
        [generation.layout(name).rows for name in TABLES],
        [generation.layout(n).addresses(np.arange(generation.layout(n).rows)) for n in TABLES],
    ]


@pytest.mark.parametrize("seed", range(2))
def test_a_generation_carries_on_what_it_would_read(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    index = Location("lance", str(tmp_path / "lake"))
    place = Place.of(index)
    older: Generation | None = None
    with new_writer(index) as writer:
        for number in range(9):
            with writer.commit() as commit:
                for _ in range(rng.randrange(1, 4)):
                    uri = f"d/{rng.randrange(9)}"
                    if rng.random() < 0.3:
                        commit.remove_document(uri)
                        continue
                    texts = [f"text {rng.randrange(25)}" for _ in range(rng.randrange(5))]
                    known = commit.find_vectors([key(text) for text in texts])
                    for text in texts:
                        if key(text) not in known:
                            cut = [rng.random() < 0.3]
                            vectors = unit_vectors(1, rng.randrange(99))
                            (known[key(text)],) = commit.add_vectors([key(text)], vectors, cut)
                    commit.put_document(staged(uri, texts, [known[key(text)] for text in texts]))
            if number in (3, 7):
                writer.compact()
            generation = Generation(place, read_newest(place), older)
            expected = in_memory(Generation(place, generation.pointer))
            for at, (one, two) in enumerate(zip(in_memory(generation), expected, strict=True)):
                assert (number, at, one) == (number, at, two)
            older = generation if rng.random() < 0.7 else older


def test_nothing_is_taken_over_from_another_index(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path / "lake")
    fill(Location("lance", str(place.folder)), 3)
    older = Generation(place, read_newest(place))
    expected = in_memory(older)
    place.folder.rename(tmp_path / "old")
    fill(Location("lance", str(place.folder)), 3, name="d/other", seed=5)
    replaced = Generation(place, read_newest(place), older)
    assert in_memory(replaced) == in_memory(Generation(place, read_newest(place))) != expected


def test_an_older_version_of_a_table_is_not_mixed_with_a_newer_one(tmp_path: Path) -> None:
    """Deletions never come back, except if versions are compared the wrong way round."""
    uri = str(tmp_path / "a.lance")
    lance.write_dataset(pa.table({"id": range(10)}), uri)
    lance.write_dataset(pa.table({"id": range(10, 14)}), uri, mode="append").delete("id in (3, 12)")
    before, after = (Layout.of(lance.dataset(uri, version=one)) for one in (2, 3))
    carried = after.since(before)
    assert carried.kept is not None
    assert (np.flatnonzero(~carried.kept).tolist(), carried.new) == ([3, 12], [])
    assert after.addresses(np.array([2, 3, 11])) == [2, 4, (1 << 32) + 3]
    back = before.since(after)
    assert back.kept is not None
    assert (back.kept.any(), back.new) == (False, [0, 1])


def _bytes() -> tuple[int, int]:
    """Bytes that this process has read and written so far, also those of cached files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    numbers = dict(line.split(": ") for line in lines)
    return int(numbers["rchar"]), int(numbers["wchar"])


def _costs(index: Location, passages: int) -> list[int]:
    """Bytes that small commits and reopening read and write in an index of some size."""
    fill(index, passages, name="d/large")

    def change(number: int) -> None:
        with writer.commit() as commit:
            text = f"another {number}"
            ids = commit.add_vectors([key(text)], unit_vectors(1, number), [False])
            commit.put_document(staged("d/small", [text, text], ids * 2))

    def read(reader: Reader) -> None:
        assert reader.passage(reader.document_by_uri("d/small").id, 0).text
        assert reader.search_lexical("another", 5).text_ids.size
        assert reader.search_vectors(unit_vectors(1), 5, filter=None).vector_ids.size

    with open_writer(index) as writer:
        for number in (1, 2):
            change(number)
        with open_reader(index) as first:
            read(first)
            started = _bytes()
            change(3)
            changed = _bytes()
            with open_reader(index, before=first) as second:
                assert second.search_vectors(unit_vectors(1), 5).vector_ids.size
                assert second.passage(second.document_by_uri("d/small").id, 0).text == "another 3"
            opened = _bytes()
    commit, reopen = np.subtract(changed, started), np.subtract(opened, changed)
    return [*commit.tolist(), *reopen.tolist()]


def test_a_small_commit_reads_and_writes_as_much_in_a_large_index(tmp_path: Path) -> None:
    small = _costs(Location("lance", str(tmp_path / "small")), 20)
    large = _costs(Location("lance", str(tmp_path / "large")), 3000)
    # A writer that read the columns of ids of 3,000 passages again would read 17 KB more.
    for one, other in zip(small, large, strict=True):
        assert other < one + 4_000, (small, large)


def test_searches_go_on_while_a_later_generation_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    place = Place.of(index)
    older = Generation(place, read_newest(place))
    in_memory(older)
    fill(index, 2, name="d/new")
    carry, searches = Generation._carry_table, []

    def while_searching(self: Generation, before: Any, name: str) -> Any:
        search = Thread(target=lambda: older.columns("documents", ["uri"]), daemon=True)
        search.start()
        search.join(5)
        searches.append(search.is_alive())
        return carry(self, before, name)

    monkeypatch.setattr(Generation, "_carry_table", while_searching)
    later = Generation(place, read_newest(place), older)
    assert searches
    assert not any(searches)
    assert in_memory(later) == in_memory(Generation(place, later.pointer))


def test_texts_may_be_larger_than_two_gigabytes(tmp_path: Path) -> None:
    """Arrow's strings end there; those of its other type do not."""
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    place = Place.of(index)
    older = Generation(place, read_newest(place))
    assert older.column("documents", "uri").type == pa.large_string()
    assert older.column("values", "key").type == pa.large_string()
    fill(index, 2, name="d/new")
    later = Generation(place, read_newest(place), older)
    assert later.column("documents", "uri").type == pa.large_string()
