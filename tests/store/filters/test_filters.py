"""Filters: what they mean, against a plain evaluation in Python; and what they refuse."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from retrieval.domain.metadata import Metadata
from retrieval.domain.records import Document, SourceFile
from retrieval.errors import InvalidArgument
from retrieval.store import StagedDocument
from retrieval.store.disk.filtering.conditions import filter_check
from retrieval.store.disk.filtering.evaluation import FilterEvaluator
from retrieval.store.disk.filtering.patterns import Sql, glob_sql, path_glob_sql
from retrieval.store.disk.tables.filter_functions import (
    filter_glob,
    filter_path_glob,
    register_functions,
)
from retrieval.store.disk.tables.schema import migrations
from retrieval.store.disk.writing.commit import DiskCommit
from retrieval.store.filters.language import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_FILTER_CHARS,
    MAX_VALUES,
    Filter,
    parse_filter,
)
from tests.store.stores import HAS_LANCE


def nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


DOCUMENTS: Mapping[str, tuple[str, int, str, Metadata]] = {
    # uri: (title, size, modified, metadata)
    "docs/guides/a.md": (
        "Alpha",
        100,
        "2023-12-31T23:59:59",
        {"tag": ["a", "b", "d, e"], "year": "2020", "date": "2024-05-01", "author": "Smith, John"},
    ),
    "docs/guides/deep/b.MD": (
        "Beta",
        2048,
        "2024-01-01T00:00:00",
        {
            "tag": "b",
            "date": 2024,
            "version": "3.10",
            "author": {"name": "Nan", "Born In": 1970},
            "draft": True,
        },
    ),
    "docs/c.rst": (
        'It\'s "C"',
        10**7,
        "2024-01-01T23:59:59",
        {"year": 1999, "lang": "de", "date": "unknown", "ratio": 1e-07, "draft": False},
    ),
    "docs/x/y.txt": ("%_*?[", 0, "2024-06-15T12:00:00", {}),
    "notes/guides/a.md": (
        "日本語",
        5,
        "2025-01-01T00:00:00",
        {"tag": "ä", "作者": "王", "team name": "X", "1st": "q", "size": "XL", "id": 2**53 + 1},
    ),
}


def put(
    connection: sqlite3.Connection, uri: str, row: tuple[str, int, str, Metadata], text: str = ""
) -> None:
    """Write a document and its metadata as a commit does."""
    title, size, modified, metadata = row
    document = Document(uri, title, "text", text, (), metadata=metadata)
    source = SourceFile(Path(uri), uri, uri.split("/", maxsplit=1)[0], size, nanoseconds(modified))
    DiskCommit(Path(), connection).put_document(StagedDocument(document, source, "", []))


def new_database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    register_functions(connection)
    migrations.apply(Database(connection))
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = new_database()
    for uri, row in DOCUMENTS.items():
        put(connection, uri, row)
    yield connection
    connection.close()


def passing(database: sqlite3.Connection, text: str) -> set[str]:
    """URIs that pass, found and checked: both must agree."""
    rows = database.execute("SELECT id, uri FROM documents").fetchall()
    found, checked = both_ways(database, parse_filter(text))
    assert found == checked
    return {uri for number, uri in rows if number in found}


def both_ways(database: sqlite3.Connection, where: Filter) -> tuple[list[int], list[int]]:
    """Ids of the documents that pass: those that are found, and those that are checked to pass."""
    ids = [row[0] for row in database.execute("SELECT id FROM documents ORDER BY id")]

    def rows(sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        return database.execute(sql, parameters).fetchall()

    found = FilterEvaluator(rows).documents(where.tree)
    # As where each comparison leaves many documents.
    widely = FilterEvaluator(rows, few=-1).documents(where.tree)
    assert (found[ids] == widely[ids]).all()
    check = filter_check(where)
    query = f"SELECT d.id FROM documents d WHERE {check.text} ORDER BY d.id"
    checked = rows(query, check.parameters)
    if HAS_LANCE:
        from tests.store.filters.columns import InColumns, passing

        in_columns = passing(where.tree, InColumns(database))
        assert in_columns.tolist() == found[ids].tolist()
    return [number for number in ids if found[number]], [row[0] for row in checked]


ALL = set(DOCUMENTS)
A, B, C, X, N = DOCUMENTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path:guides/**", {A, B, N}),
        ("path:guides/*", {A, N}),
        ("path:**/a.md", {A, N}),
        ("path:** ", ALL),
        ("uri:docs/*.rst", {C}),
        ("path:*.rst", {C}),
        ("path:guides/?.md", {A, N}),
        ("root=notes", {N}),
        ("extension=md", {A, B, N}),
        ("extension=.MD", {A, B, N}),
        ("extension in (md, txt)", {A, B, X, N}),
        ("extension NOT IN (md)", {C, X}),
        ("modified>=2024-01-01", {B, C, X, N}),
        ("modified>2024-01-01", {X, N}),
        ("modified<2024-01-01", {A}),
        ("modified<=2024-01-01", {A, B, C}),
        ("modified=2024-01-01", {B, C}),
        ("modified!=2024-01-01", {A, X, N}),
        ("modified=2024-01-01T23:59:59", {C}),
        ("modified>=2024-06-15T14:00:00+02:00", {X, N}),
        ("size<1k", {A, X, N}),
        ("size>=2KB AND size<2.5kib", {B}),
        ("size>9MB", {C}),
        ('tag IN ("a", "c")', {A}),
        ("tag=b", {A, B}),
        ("Tag=b AND Extension=md", {A, B}),
        ("tag='d, e'", {A}),
        ("tag=e", set()),
        ("author=John", set()),
        ("author='Smith, John'", {A}),
        ("author:Smith*", {A}),
        ("author.name=Nan", {B}),
        ('"Author.Born In"<2000', {B}),
        ("author:*", {A, B}),
        ("NOT author:*", {C, X, N}),
        # A value of another type does not pass, and NOT passes exactly the rest.
        ("date>2030", set()),
        ("date<2024", set()),
        ("date<=2024", {B}),
        ("NOT date<=2024", {A, C, X, N}),
        ("date>=2024-01-01", {A}),
        ("date=2024-05-01", {A}),
        ("date>=unknown", {C}),
        ("author>=A", {A}),
        ("author.name>=A", {B}),
        ("author.name<=Nan", {B}),
        ("author.name<=1e5", set()),
        ("author.name>=1e5", {B}),
        ("author.name>=inf", set()),
        ("ratio<0.001", {C}),
        ("ratio=0.0000001", {C}),
        ("ratio=1e-07", {C}),
        ("draft=true", {B}),
        ("draft='true'", {B}),
        ("year='2020'", {A}),
        ("version=3.1", {B}),
        ("version>='3.1'", {B}),
        ("version:3.10", {B}),
        ("version:3.1", set()),
        ("draft!=true", {A, C, X, N}),
        ("draft>=a", set()),
        ("id=9007199254740993", {N}),
        ("id=9007199254740992", set()),
        ("id>9007199254740992", {N}),
        # Any field has a name.
        ("作者=王", {N}),
        ('"作者"=王', {N}),
        ('"Team Name"=X', {N}),
        ("'team  name'=X", {N}),
        ("1st=q", {N}),
        ("meta.size=XL", {N}),
        ('meta."size"=XL', {N}),
        ("META.Size:X*", {N}),
        ("meta.tag=ä", {N}),
        ("size=5", {N}),
        ('"size"=5', {N}),
        # Lists of values.
        ("tag IN ()", set()),
        ("tag NOT IN ()", ALL),
        ("path IN ()", set()),
        ("size IN (5, 2KB)", {B, N}),
        ("year IN (2020, 1999.0)", {A, C}),
        ("date IN (2024-05-01, 2024)", {A, B}),
        ("date IN (2024-05-01T00:00, 'unknown')", {A, C}),
        ("modified IN (2024-01-01, 2025-01-01T00:00)", {B, C, N}),
        # Values out of every range.
        ("modified>=9999-12-31", set()),
        ("modified<9999-12-31", ALL),
        ("modified>0001-01-01T00:00:00+14:00", ALL),
        ("modified=0001-01-01", set()),
        ("modified IN (9999-12-31, 0001-01-01)", set()),
        ("date<9999-12-31T23:59:59-14:00", {A}),
        ("size<999999999999999g", ALL),
        ("year>-9223372036854775808", set()),
        ("year>-9223372036854775807", {A, C}),
        ("year<" + "9" * 400, set()),
        ("tag=ä", {N}),
        ("tag!=b", {C, X, N}),
        ("tag:*", {A, B, N}),
        ("year>=2000", {A}),
        ("year<2000", {C}),
        ("year>100", {A, C}),
        ("NOT year>100", {B, X, N}),
        ("lang=de OR year=2020 AND tag=a", {A, C}),
        ("(lang=de OR year=2020) AND NOT tag=a", {C}),
        ("not not root=docs", {A, B, C, X}),
        ('title="It\'s \\"C\\""', {C}),
        ("title='%_*?['", {X}),
        ("title:%*", {X}),
        ("title=日本語", {N}),
        ('path:guides/** AND modified>=2024-01-01 AND tag IN ("a","b")', {B}),
        ('title="x\' OR 1=1 --"', set()),
        ("tag='\"; DROP TABLE documents; --'", set()),
        ("missing=1", set()),
    ],
)
def test_what_a_filter_lets_through(
    database: sqlite3.Connection, text: str, expected: set[str]
) -> None:
    assert passing(database, text) == expected


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 1, "expected a field"),
        ("   ", 4, "expected a field"),
        ("path", 5, "expected =, !="),
        ("path:", 6, "expected a value"),
        ("path:a AND", 11, "expected a field"),
        ("path:a path:b", 8, "expected AND, OR or the end"),
        ("(path:a", 8, "expected ')'"),
        ("path:a)", 7, "expected AND, OR or the end"),
        ("tag IN (,)", 9, "expected a value"),
        ("tag IN (a,)", 11, "expected a value"),
        ("tag IN (a b)", 11, "expected ')'"),
        ("tag NOT a", 9, "expected IN"),
        ("modified>yesterday", 10, "expected a date"),
        ("modified:2024*", 10, "is compared with"),
        ("size>big", 6, "expected a number"),
        ('title="open', 7, "expected a value"),
        ("a/b=1", 1, "expected a field"),
        ("-a=1", 1, "expected a field"),
        ("meta.=1", 6, "expected a name right after"),
        ("meta. 'x'=1", 7, "expected a name right after"),
        ("size=XL", 6, "is meta.size"),
        ("modified>2024-W01-1", 10, "expected a date"),
        ("size>1e400", 6, "expected a number"),
        ("tag == a", 6, "expected a value"),
        ("tag=a; x=1", 8, "expected AND, OR or the end"),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)) as caught:
        parse_filter(text)
    assert caught.value.metadata == {"field": "filter", "position": str(position)}
    assert f"at character {position}:" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=" + "a" * MAX_FILTER_CHARS, "characters; at most"),
        ("(" * 60 + "a=b" + ")" * 60, "levels of parentheses"),
        ("NOT " * 60 + "a=b", "levels of parentheses"),
        ("a IN (" + ",".join(["x"] * 20_001) + ")", "more than 20000 values"),
        (" OR ".join(["a=b"] * 201), "more than 200 conditions"),
        ("a:" + "x" * 1_025, "at most 1024 characters"),
        ("a=\ud800", "not Unicode text"),
        ("a=\0", "not Unicode text"),
    ],
)
def test_limits(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_filter(text)


@given(st.text(alphabet=st.sampled_from("ab=:<>!()',\"\\ AND OR NOT IN *?[%;"), max_size=40))
@settings(max_examples=300, deadline=None)
@example("a='\\")
def test_whatever_is_written_is_a_filter_or_an_error(
    database: sqlite3.Connection, text: str
) -> None:
    """Nothing else is raised, and what parses is SQL with as many marks as values."""
    try:
        parse_filter(text)
    except InvalidArgument:
        return
    assert passing(database, text) <= ALL


@given(
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
)
@settings(max_examples=200, deadline=None)
def test_a_quoted_value_is_data(database: sqlite3.Connection, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    wanted = {uri for uri, row in DOCUMENTS.items() if row[0] == value}
    assert passing(database, f'title="{quoted}"') == wanted


def slow_glob(pattern: list[str], parts: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(slow_glob(pattern[1:], parts[at:]) for at in range(len(parts) + 1))
    return bool(parts) and pattern[0] in ("*", parts[0]) and slow_glob(pattern[1:], parts[1:])


@given(
    pattern=st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=6),
    parts=st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6),
)
def test_paths_match_part_by_part(pattern: list[str], parts: list[str]) -> None:
    assert filter_path_glob("/".join(pattern), "/".join(parts)) == slow_glob(pattern, parts)


PATTERNS = st.text(st.sampled_from("ab*?[]!-^/."), max_size=9)
PLACES = st.text(st.sampled_from("ab*?[]!-^/.\0\ud7ff\ue000\U0010ffff"), max_size=9)


@given(
    pattern=PATTERNS | st.lists(PATTERNS | st.just("**"), max_size=4).map("/".join),
    texts=st.lists(PLACES, max_size=8),
)
@settings(max_examples=400, deadline=None)
@example("[!a]/b", ["a/b", "//b", "b/b", "[!a]/b"])
@example("a/**", ["a", "a/", "a/b", "ab", "a0"])
@example("**/*.b", ["x/.b", ".b", "a.b/", "a\0/x.b"])
@example("[b-a]*", ["b", "a", ""])
@example("*[", ["[", "a[", "a"])
def test_patterns_match_in_sql_as_in_python(pattern: str, texts: list[str]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        register_functions(connection)
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [[text] for text in texts])
        for make, matches in ((glob_sql, filter_glob), (path_glob_sql, filter_path_glob)):
            sql = make("x", pattern)
            found = connection.execute(f"SELECT x FROM t WHERE {sql.text}", sql.parameters)
            wanted = [text for text in texts if matches(pattern, text)]
            assert sorted(row[0] for row in found) == sorted(wanted)


@pytest.mark.parametrize(
    ("before", "after", "levels"),
    [("(tag=a OR (tag=c AND NOT (", ")))", 4), ("(NOT (tag=b AND ", "))", 3), ("NOT ", "", 1)],
)
def test_the_deepest_filters_are_run(
    database: sqlite3.Connection, before: str, after: str, levels: int
) -> None:
    depth = MAX_DEPTH // levels
    assert passing(database, before * depth + "tag=b" + after * depth) <= ALL


def test_the_longest_filters_are_run(database: sqlite3.Connection) -> None:
    assert passing(database, " OR ".join(["tag=b"] * MAX_CONDITIONS)) == {A, B}
    assert passing(database, " AND ".join(["tag=b"] * MAX_CONDITIONS)) == {A, B}
    members = ",".join(f"x{number}" for number in range(MAX_VALUES - 1))
    assert passing(database, f"tag IN ({members}, b)") == {A, B}
    assert passing(database, f"title NOT IN ({members}, Beta)") == ALL - {B}
    first = date(2020, 1, 1).toordinal()
    dates = ",".join(str(date.fromordinal(first + day)) for day in range(9000))
    assert passing(database, f"modified IN ({dates})") == ALL
    assert passing(database, f"date IN ({dates}, 2024)") == {A, B}


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not filter_path_glob("*a" * 40 + "b", "a" * 2000)
    assert not filter_path_glob("**/a/" * 40 + "b", "a/" * 2000 + "c")


@pytest.mark.parametrize(
    ("make", "pattern", "text"),
    [
        (glob_sql, "*a" * 500 + "b", "a" * 2000),
        (glob_sql, "*[a-b]?" * 140 + "c", "a" * 2000),
        (path_glob_sql, "*a" * 40 + "b/" + "*a" * 40 + "c", "a" * 1000 + "/" + "a" * 1000),
        (path_glob_sql, "**/a/" * 200 + "b", "a/" * 2000 + "c"),
        (path_glob_sql, "**/*a" + "?" * 40 + "b", "a" * 2000 + "c"),
        (path_glob_sql, "a*/**/[^a]" + "*a" * 400 + "b", "a/" * 2000 + "b"),
    ],
)
def test_a_hostile_pattern_takes_no_time_in_sql(
    make: Callable[[str, str], Sql], pattern: str, text: str
) -> None:
    sql = make("x", pattern)
    with closing(sqlite3.connect(":memory:")) as connection:
        register_functions(connection)
        connection.execute("CREATE TABLE t AS SELECT ? AS x", [text])
        started = time.process_time()
        rows = connection.execute(f"SELECT 1 FROM t WHERE {sql.text}", sql.parameters).fetchall()
        assert not rows
        assert time.process_time() - started < 1
