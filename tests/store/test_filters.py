"""Filters: what they mean, against a plain evaluation in Python; and what they refuse."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.store.filter_functions import filter_path_glob, register_functions
from retrieval.store.filters import MAX_FILTER_CHARS, parse_filter


def nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


DOCUMENTS = {
    # uri: (title, size, modified, metadata)
    "docs/guides/a.md": ("Alpha", 100, "2023-12-31T23:59:59", '{"tag": "a, b", "year": "2020"}'),
    "docs/guides/deep/b.MD": ("Beta", 2048, "2024-01-01T00:00:00", '{"tag": "b"}'),
    "docs/c.rst": ('It\'s "C"', 10**7, "2024-01-01T23:59:59", '{"year": "1999", "lang": "de"}'),
    "docs/x/y.txt": ("%_*?[", 0, "2024-06-15T12:00:00", "{}"),
    "notes/guides/a.md": ("日本語", 5, "2025-01-01T00:00:00", '{"tag": "ä"}'),
}


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    register_functions(connection)
    connection.execute(
        "CREATE TABLE documents (uri, root, title, format, encoding, size, mtime_ns, char_count,"
        " chunk_count, metadata)"
    )
    for uri, (title, size, modified, metadata) in DOCUMENTS.items():
        row = (uri, uri.split("/")[0], title, "text", "utf-8", size, nanoseconds(modified))
        connection.execute(
            "INSERT INTO documents VALUES (?,?,?,?,?,?,?,?,?,?)", (*row, 1, 1, metadata)
        )
    yield connection
    connection.close()


def passing(database: sqlite3.Connection, text: str) -> set[str]:
    where = parse_filter(text)
    sql = f"SELECT uri FROM documents d WHERE {where.condition}"
    return {row[0] for row in database.execute(sql, where.parameters)}


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
        ("tag='a, b'", {A}),
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
        ("tag IN ()", 9, "expected a value"),
        ("tag IN (a b)", 11, "expected ')'"),
        ("tag NOT a", 9, "expected IN"),
        ("modified>yesterday", 10, "expected a date"),
        ("modified:2024*", 10, "is compared with"),
        ("size>big", 6, "expected a number"),
        ('title="open', 7, "expected a value"),
        ("1=1", 1, "expected a field"),
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
        ("a IN (" + ",".join(["x"] * 500) + ")", "more than 200 values"),
    ],
)
def test_limits(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_filter(text)


@given(st.text(alphabet=st.sampled_from("ab=:<>!()',\"\\ AND OR NOT IN *?[%;"), max_size=40))
@settings(max_examples=300, deadline=None)
@example("a='\\")
def test_whatever_is_written_is_a_filter_or_an_error(text: str) -> None:
    """Nothing else is raised, and what parses is SQL with as many marks as values."""
    try:
        where = parse_filter(text)
    except InvalidArgument:
        return
    connection = sqlite3.connect(":memory:")
    register_functions(connection)
    connection.execute(
        "CREATE TABLE documents (uri, root, title, format, encoding, size, mtime_ns, char_count,"
        " chunk_count, metadata)"
    )
    sql = f"SELECT 1 FROM documents d WHERE {where.condition}"
    assert connection.execute(sql, where.parameters).fetchall() == []
    connection.close()


@given(value=st.text(max_size=30))
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


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not filter_path_glob("*a" * 40 + "b", "a" * 2000)
    assert not filter_path_glob("**/a/" * 40 + "b", "a/" * 2000 + "c")
