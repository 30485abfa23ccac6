"""Fields and values that are suggested for filters: each condition passes what it counts."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from retrieval.errors import InvalidArgument
from retrieval.store.disk.filtering.suggestions import list_fields, list_values
from retrieval.store.filters.language import metadata_name, parse_field
from tests.store.filters.test_filters import DOCUMENTS, new_database, passing, put


class Rows:
    """Reads rows as a reader of an index does."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __call__(self, query: str, parameters: Any) -> list[Any]:
        return self.database.execute(query, parameters).fetchall()


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    database = new_database()
    for uri, row in DOCUMENTS.items():
        put(database, uri, row)
    odd = {"quo\"te'": "a\"b\\c'", "and": "x", "meta.x": "y", "": "z", "size": "L", "big": 1e21}
    put(database, "odd/not.md", ("AND", 1, "2024-01-01T00:00:00", odd))
    yield Rows(database)
    database.close()


def test_every_suggested_condition_passes_as_many_documents_as_it_says(rows: Rows) -> None:
    fields = [one for one in list_fields(rows) if one.has_values]
    assert {"root", "extension", "tag", "author.name", "作者", 'meta."size"'} <= {
        one.name for one in fields
    }
    checked = 0
    for field in fields:
        values = list_values(rows, field.name, "", 100)
        assert [one.document_count for one in values] == sorted(
            (one.document_count for one in values), reverse=True
        )
        for value in values:
            if value.text == "1e+21":  # no filter can say it
                assert value.filter == ""
                continue
            assert len(passing(rows.database, value.filter)) == value.document_count, value
            checked += 1
    assert checked > 40


def test_values_are_found_by_a_part_in_any_case(rows: Rows) -> None:
    found = list_values(rows, "author", "SMITH", 10)
    assert [(one.text, one.document_count) for one in found] == [("Smith, John", 1)]
    assert list_values(rows, "author", "%", 10) == []
    assert [one.text for one in list_values(rows, "root", "", 1)] == ["docs"]


@pytest.mark.parametrize(
    "name", ["size", "modified", "", "a b", "tag=", "tag=x OR root", "\0", '"', "meta."]
)
def test_what_has_no_list_of_values_is_refused(rows: Rows, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a field|are not listed") as refused:
        list_values(rows, name, "", 10)
    assert refused.value.metadata["field"] == "field"


@pytest.mark.parametrize("key", ["tag", "and", "meta.x", "", "size", "a b", 'q"', "\\", "1e5", "-"])
def test_a_name_in_a_filter_is_that_of_its_key(key: str) -> None:
    assert key in parse_field(metadata_name(key)).keys
