"""Texts put together from blocks: tables with the names of their columns, and unread parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.base.compose import Composer
from retrieval.domain.records import Table

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="|"), max_size=6)


def test_a_table_names_its_columns() -> None:
    composer = Composer()
    composer.add("Stock of parts")
    composer.add_table([["Part", "Quantity"], ["Valve", "24"], ["", ""], ["Pump", ""]], 1)
    composer.add("End")
    document = composer.document("docs/a.docx", "docx")
    assert document.text == "Stock of parts\n\nPart | Quantity\nValve | 24\nPump |\n\nEnd"
    (table,) = document.tables
    assert document.text[table.char_start : table.rows_start] == "Part | Quantity\n"
    assert document.text[table.rows_start : table.char_end] == "Valve | 24\nPump |"
    assert table.header == "Part | Quantity"


@pytest.mark.parametrize(
    ("rows", "header_rows", "header"),
    [
        ([["a", "b"], ["c", "d"]], 0, ""),
        ([["Year", "Year"], ["2023", "2024"], ["1", "2"]], 2, "Year 2023 | Year 2024"),
        ([["Part", "Place"], ["Part", "North"]], 2, "Part | Place North"),
        ([["a"], ["b", "c"]], 1, "a"),
    ],
)
def test_names_of_columns(rows: list[list[str]], header_rows: int, header: str) -> None:
    composer = Composer()
    composer.add_table(rows, header_rows)
    (table,) = composer.document("docs/a.docx", "docx").tables
    assert table.header == header


def test_a_table_without_text_is_none() -> None:
    composer = Composer()
    composer.add_table([["", " "], []], 1)
    assert composer.document("docs/a.docx", "docx").tables == ()


@given(
    st.lists(st.lists(st.lists(CELLS, max_size=3), max_size=4), max_size=3),
    st.integers(min_value=0, max_value=3),
)
def test_tables_are_where_they_say(tables: list[list[list[str]]], header_rows: int) -> None:
    composer = Composer()
    for rows in tables:
        composer.add("before")
        composer.add_table(rows, header_rows)
    document = composer.document("docs/a.docx", "docx")
    end = 0
    for table in document.tables:
        assert end < table.char_start <= table.rows_start <= table.char_end <= len(document.text)
        assert document.text[table.char_start - 2 : table.char_start] == "\n\n"
        assert document.text[table.char_end : table.char_end + 2] in ("\n\n", "")
        end = table.char_end
    assert all(isinstance(table, Table) for table in document.tables)


def test_parts_that_were_not_read_are_named() -> None:
    composer = Composer()
    composer.add("text")
    composer.unread("page 2")
    composer.unread("page 2")
    composer.unread("page 7")
    document = composer.document("docs/a.pdf", "pdf", metadata=[("unread", "no"), ("by", "Kim")])
    assert document.metadata == {"unread": ["page 2", "page 7"], "by": "Kim"}


def test_what_only_says_where_a_line_may_end_is_no_text() -> None:
    composer = Composer()
    composer.add_heading(1, "Dampf\u00adschiff")
    composer.add("The thermo\u200bstat\ufeff of the wa\u2060ter \u0645\u06cc\u200c\u062e\u0648")
    document = composer.document("a.html", "html")
    assert document.title == "Dampfschiff"
    assert document.text == (
        "Dampfschiff\n\nThe thermostat of the water \u0645\u06cc\u200c\u062e\u0648"
    )
