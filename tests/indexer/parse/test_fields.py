"""Metadata keeps the types that it has in the files."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.files.sidecar import with_sidecar
from indexer.parse.formats import ParseOptions, parse
from indexer.skip import SkipDocument
from retrieval.domain.metadata import Metadata, as_doubles, flat_texts
from retrieval.domain.records import Document, SourceFile
from retrieval.store import StagedDocument
from retrieval.store.disk.tables.rows import document_values
from retrieval.store.filters.values import value_rows


def metadata_of(name: str, text: str) -> Metadata:
    return parse(name, text.encode()).metadata


def test_front_matter_has_types() -> None:
    matter = """---
year: 2024
rating: 4.5
version: 3.10
code: 007
huge: 123456789012345678901
exponent: 1e5
quoted: "2024"
draft: false
nothing: null
tilde: ~
author: Smith, John
authors: ["Smith, John", Nan, 3]
tags: red, blue
keywords: "red, blue"
numbers:
  - 1
  - 2.5
  - two, three
作者: 王
Team Name: X
"Quoted: Name": Y
1st: q
date: 2024-05-01
---
text
"""
    assert metadata_of("a.md", matter) == {
        "year": 2024,
        "rating": 4.5,
        "version": "3.10",
        "code": "007",
        "huge": "123456789012345678901",
        "exponent": "1e5",
        "quoted": "2024",
        "draft": False,
        "author": "Smith, John",
        "authors": ["Smith, John", "Nan", 3],
        "tags": ["red", "blue"],
        "keywords": "red, blue",
        "numbers": [1, 2.5, "two, three"],
        "作者": "王",
        "team name": "X",
        "quoted: name": "Y",
        "1st": "q",
        "date": "2024-05-01",
    }


def test_json_records_have_types() -> None:
    record = """{"text": "Long text.", "title": "T", "year": 2024, "price": 1.50,
        "big": 9007199254740993, "odd": NaN, "vast": 1e400, "on": true, "none": null,
        "tags": ["a, b", "c", 1], "by": {"Name": "Z", "body": "b", "born": {"in": 1970}},
        "all": [{"n": 1}, {"n": 2}]}"""
    document = parse("a.json", record.encode())
    assert document.metadata == {
        "year": 2024,
        "price": 1.5,
        "big": 2**53 + 1,
        "odd": "NaN",
        "vast": "1e400",
        "on": True,
        "tags": ["a, b", "c", 1],
        "by": {"Name": "Z", "body": "b", "born": {"in": 1970}},
        "all": [{"n": 1}, {"n": 2}],
    }
    assert document.text == "T\n\nLong text."
    assert flat_texts(document.metadata) == {
        "year": "2024",
        "price": "1.5",
        "big": "9007199254740993",
        "odd": "NaN",
        "vast": "1e400",
        "on": "true",
        "tags": "a, b, c, 1",
        "by.name": "Z",
        "by.body": "b",
        "by.born.in": "1970",
        "all.n": "1",
    }


def test_a_field_within_an_object_can_be_the_text() -> None:
    record = {"answer": {"body": "Long text.", "by": "Z"}, "text": "no", "n": 1}
    document = parse("a.json", json.dumps(record).encode(), ParseOptions(["answer.body"]))
    assert document.text == "Long text."
    assert document.metadata == {"answer": {"by": "Z"}, "text": "no", "n": 1}


def test_keywords_of_a_page_are_a_list() -> None:
    page = '<meta name="keywords" content="red, blue"><meta name="author" content="Smith, John">x'
    assert metadata_of("a.html", page) == {"keywords": ["red", "blue"], "author": "Smith, John"}


def test_addresses_of_a_mail_are_a_list() -> None:
    mail = 'From: "Smith, John" <j@x.org>\nTo: A <a@x.org>, b@x.org\n\nhi'
    metadata = metadata_of("a.eml", mail)
    assert metadata["to"] == ["A <a@x.org>", "b@x.org"]
    assert metadata["from"] == '"Smith, John" <j@x.org>'


@pytest.mark.parametrize(
    "date",
    [
        "Wed, 1 May 99999 10:00:00 +0000",
        "Wed, 1 May 0000 10:00:00 +0000",
        "Wed, 1 May 2024 10:00:00 +999999",
        "Wed, 1 May 2024 10:00:00 +" + "9" * 30,
        "Wed, 99 May 2024 99:99:99 +0000",
        "1",
    ],
)
def test_a_mail_of_any_date_is_read(date: str) -> None:
    assert "date" in metadata_of("a.eml", f"From: j@x.org\nDate: {date}\n\nhi")


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**60), 10**60),
        st.floats(),
        st.text(st.characters(), max_size=12),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=5), json_values, max_size=6))
def test_whatever_a_sidecar_says_can_be_stored_and_sent(fields: dict[str, Any]) -> None:
    bare = Document("docs/a.txt", "a", "text", "x", ())
    try:
        document = with_sidecar(bare, json.dumps(fields).encode())
    except SkipDocument:
        return
    source = SourceFile(Path("a"), "docs/a.txt", "docs", 1, 0)
    row = document_values(StagedDocument(document, source, "", []))
    stored = str(row["metadata"])
    stored.encode()
    assert json.loads(stored, parse_constant=pytest.fail) == document.metadata
    for _, _, _, text, _ in value_rows(document.metadata):
        assert text is None or "\0" not in text
    message = Struct()
    message.update({name: as_doubles(value) for name, value in document.metadata.items()})  # type: ignore[dict-item]
    assert Struct.FromString(message.SerializeToString()) == message
    for name, text in flat_texts(document.metadata).items():
        (name + text).encode()
