"""What filters cost: linear in documents, by indexes, and no longer than they are wanted."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.domain.deadline import answer_by
from retrieval.errors import DeadlinePassed, StorageError
from retrieval.store import open_reader, parse_filter
from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.filtering.conditions import Leaf, find_sql
from retrieval.store.disk.filtering.evaluation import FilterEvaluator
from retrieval.store.disk.reading.snapshot import CONNECTIONS, Snapshot, open_generation
from retrieval.store.disk.tables.schema import INSERT_METADATA_VALUE
from retrieval.store.filters.values import value_rows
from tests.store.disk.old_index import make_older
from tests.store.filters.test_filters import new_database
from tests.store.test_store import fill, unit_vectors

ENDLESS = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"

FILTERS = (
    *("owner=u5", "n<50", "n>=0", "kind=note", "NOT kind=note", "owner=u5 AND n>=0"),
    *("owner=u5 OR title:*7*", "size<100", "modified<1970-02-01", "extension=md", "chunks>0"),
    *("day IN (2001-02-01, 2002)", "modified IN (1970-01-01, 1970-01-03T00:00)"),
    *("label:*7*", "label:1*", "label:'[a-c!]*'", "title:*7?", "path:**/1*.md", "path:1/*"),
    *("path:1/**", "path:**/*.md", "path:?/**/1*", "uri:docs/?/*", "author:*"),
    f"owner IN ({','.join(f'u{number}' for number in range(1000))})",
    f"n IN ({','.join(map(str, range(0, 3000, 3)))})",
)


def database_of(documents: int) -> sqlite3.Connection:
    """Documents with metadata and one passage each, with no words and vectors."""
    connection = new_database()
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.executemany(
        "INSERT INTO documents (id, uri, path, root, title, format, encoding, extension, metadata, "
        "size, mtime_ns, sha256, char_count, chunk_count) "
        "VALUES (?1, 'docs/' || ?2, ?2, 'docs', 'T ' || ?1, 'text', 'utf-8', 'md', '{}', ?1, "
        "?1 * 86400000000000, '', 9, 1)",
        ((number, f"{number % 10}/{number}.md") for number in range(documents)),
    )
    connection.executemany(
        "INSERT INTO chunks (document_id, ordinal, vector_id, text_id, char_start, char_end, "
        "line_start, line_end, heading_path, token_count) "
        "VALUES (?1, 0, ?1, ?1, 0, 9, 1, 1, '', 1)",
        ((number,) for number in range(documents)),
    )
    for number in range(documents):
        fields = {
            "owner": f"u{number % 10}",
            "n": number,
            "kind": "note",
            "label": f"{number * 7919 % 4096:x}",
            "day": f"20{number % 25:02}-0{number % 9 + 1}-01",
        }
        rows = ((number, *row) for row in value_rows(fields))
        connection.executemany(INSERT_METADATA_VALUE, rows)
    return connection


def steps(connection: sqlite3.Connection, text: str, *, few: int) -> int:
    """Steps of SQLite's machine, in tens, that a filter takes; the same every time."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    def rows(sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        return connection.execute(sql, parameters).fetchall()

    connection.set_progress_handler(count, 10)
    FilterEvaluator(rows, few=few).passages(parse_filter(text).tree)
    connection.set_progress_handler(None, 0)
    return taken


@pytest.fixture(scope="module")
def one_and_ten() -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    with closing(database_of(300)) as one, closing(database_of(3000)) as ten:
        yield one, ten


@pytest.mark.parametrize("few", [-1, 2_000])
@pytest.mark.parametrize("text", FILTERS)
def test_ten_times_the_documents_cost_no_more_than_fifteen_times(
    one_and_ten: tuple[sqlite3.Connection, sqlite3.Connection], text: str, few: int
) -> None:
    once, ten_times = (steps(connection, text, few=few) for connection in one_and_ten)
    assert ten_times <= 15 * (once + 100)


def test_ten_times_the_values_cost_no_more_than_fifteen_times(
    one_and_ten: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    for field in ("owner", "n", "title", "size", "path"):
        once, ten_times = (
            steps(one_and_ten[1], f"{field} IN ({','.join(map(str, range(count)))})", few=2_000)
            for count in (1_000, 10_000)
        )
        assert ten_times <= 15 * once, field


@pytest.mark.parametrize(
    "text",
    [
        *("owner=u5", "n<5", "n=5.5", "day>=2024-01-01", "owner IN (a, b)", "n IN (1, 2)"),
        *("label:ab*", "owner:*", "owner>a", "path:guides/*.md", "path:guides/**", "uri:docs/a*"),
        *("path=a.md", "root=docs", "title:A*", "title='A b'", "format=pdf", "encoding=utf-8"),
        *("extension=md", "extension IN (md, txt)", "size<1k", "characters>5", "chunks=1"),
        *("modified>=2024-01-01", "path:guides/**/*.md"),
    ],
)
def test_a_condition_finds_documents_by_an_index(
    one_and_ten: tuple[sqlite3.Connection, sqlite3.Connection], text: str
) -> None:
    tree = parse_filter(text).tree
    assert isinstance(tree, Leaf)
    for query in find_sql(tree):
        plan = one_and_ten[0].execute(f"EXPLAIN QUERY PLAN {query.text}", query.parameters)
        lines = [row[3] for row in plan]
        assert any(line.startswith(("SEARCH d", "SEARCH m")) for line in lines)
        assert not any(line.startswith(("SCAN d", "SCAN m")) for line in lines)


@contextmanager
def opened(folder: Path) -> Iterator[Snapshot]:
    snapshot = open_generation(folder).snapshot
    with closing(snapshot):
        yield snapshot


def test_a_query_ends_at_the_deadline_and_the_snapshot_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with opened(tmp_path) as snapshot:
        for _ in range(CONNECTIONS):
            token = answer_by.set(time.perf_counter() + 0.05)
            try:
                with pytest.raises(DeadlinePassed):
                    snapshot.rows(ENDLESS, [])
            finally:
                answer_by.reset(token)
        fill(tmp_path, 3, name="d/b.txt", seed=1)
        held = [snapshot._free.get() for _ in range(CONNECTIONS)]
        for connection in held:
            snapshot._free.put(connection)
            assert connection.execute("SELECT count(*) FROM documents").fetchone() == (1,)


def test_others_read_beside_a_query_that_takes_long(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with opened(tmp_path) as snapshot:
        threads = [threading.Thread(target=endless, args=[snapshot, 1.0]) for _ in range(2)]
        for thread in threads:
            thread.start()
        read = 0
        while threads[0].is_alive():
            assert snapshot.rows("SELECT count(*) FROM documents", []) == [(1,)]
            read += 1
        assert read > 3
        for thread in threads:
            thread.join()


def endless(snapshot: Snapshot, seconds: float) -> None:
    answer_by.set(time.perf_counter() + seconds)
    with pytest.raises(DeadlinePassed):
        snapshot.rows(ENDLESS, [])


def test_who_waits_for_a_connection_gives_up_at_its_deadline(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with opened(tmp_path) as snapshot:
        held = [snapshot._free.get() for _ in range(CONNECTIONS)]
        token = answer_by.set(time.perf_counter() + 0.1)
        try:
            with pytest.raises(DeadlinePassed):
                snapshot.rows("SELECT 1", [])
        finally:
            answer_by.reset(token)
        for connection in held:
            snapshot._free.put(connection)


def test_all_connections_see_one_commit_however_often_something_is_committed(
    tmp_path: Path,
) -> None:
    fill(tmp_path, 2)
    over = threading.Event()

    def commit() -> None:
        with closing(sqlite3.connect(tmp_path / "index.db", isolation_level=None)) as writer:
            while not over.wait(0.002):
                writer.execute("UPDATE index_info SET generation = generation + 1")

    writing = threading.Thread(target=commit)
    writing.start()
    seen = set()
    try:
        for _ in range(50):
            with opened(tmp_path) as snapshot:
                held = [snapshot._free.get() for _ in range(CONNECTIONS)]
                query = "SELECT generation FROM index_info"
                generations = {one.execute(query).fetchone()[0] for one in held}
                assert len(generations) == 1
                seen |= generations
                for connection in held:
                    snapshot._free.put(connection)
    finally:
        over.set()
        writing.join()
    assert len(seen) > 1


def test_an_index_that_is_upgraded_in_memory_has_as_many_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 2)
    make_older(tmp_path, "m013_filtered_columns")

    def refuse(_folder: Path) -> None:
        raise StorageError("the disk is read-only")

    monkeypatch.setattr("retrieval.store.disk.tables.read_only.connect_for_writing", refuse)
    with open_reader(tmp_path) as reader:
        for text, passes in (("path:**/a.txt", True), ("extension=txt", True), ("path=b", False)):
            hits = reader.search_vectors(unit_vectors(1), 2, filter=parse_filter(text))
            assert (hits.vector_ids >= 0).any() == passes
        snapshot = reader._snapshot
        held = [snapshot._free.get() for _ in range(CONNECTIONS)]
        for connection in held:
            assert connection.execute("SELECT path, extension FROM documents").fetchall() == [
                ("a.txt", "txt")
            ]
            snapshot._free.put(connection)


def test_a_filter_is_evaluated_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    with open_reader(tmp_path) as reader:
        where, statements = parse_filter("path:**/a*"), []
        evaluate = reader._vectors._evaluate

        def slowly(asked: Any) -> Any:
            statements.append(asked)
            time.sleep(0.1)
            return evaluate(asked)

        reader._vectors._evaluate = slowly  # type: ignore[method-assign]
        threads = [threading.Thread(target=reader.prepare, args=[where]) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statements == [where]
        assert reader.knows(where.text)


def test_one_that_fails_leaves_the_value_to_the_next() -> None:
    once, results = Once[str, int](10, lambda _: 1), []
    begun, go = threading.Event(), threading.Event()

    def fail() -> int:
        begun.set()
        go.wait()
        raise DeadlinePassed("late")

    def first() -> None:
        with pytest.raises(DeadlinePassed):
            once.get("a", fail)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    token = answer_by.set(time.perf_counter() + 0.05)
    with pytest.raises(DeadlinePassed):
        once.get("a", lambda: 2)
    answer_by.reset(token)
    go.set()
    results.append(once.get("a", lambda: 3))
    thread.join()
    assert results == [3]
    assert "a" in once
    assert not once._turns


def test_remembered_filters_stay_within_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 50)
    monkeypatch.setattr("retrieval.store.disk.vectors.vector_index._KEPT_BYTES", 50_000)
    with open_reader(tmp_path) as reader:
        texts = [f"size>{number} OR title='{'x' * 1_000}'" for number in range(40)]
        for text in texts:
            reader.prepare(parse_filter(text))
        kept = [text for text in texts if reader.knows(text)]
        assert kept == texts[-len(kept) :]
        assert 10 <= len(kept) <= 16


def test_ids_are_found_whether_passages_are_looked_up_or_all_in_memory() -> None:
    with closing(database_of(500)) as connection:

        def rows(sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
            return connection.execute(sql, parameters).fetchall()

        evaluator = FilterEvaluator(rows, few=10)
        before = {text: evaluator.passages(parse_filter(text).tree)[0] for text in FILTERS}
        evaluator._passages.get("", evaluator._read_all)
        for text, ids in before.items():
            assert (np.sort(ids) == evaluator.passages(parse_filter(text).tree)[0]).all(), text
