"""Chunks that begin in a table have the names of its columns, within their tokens."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.chunking.chunk import chunk_document
from indexer.parse.base.compose import Composer
from retrieval.domain.records import Chunk, ChunkSettings, Document, Section, Table, TokenCounter
from retrieval.encoding.tokenizer import Tokenizer
from tests.indexer.chunking.test_chunk import Drifting, Words, check

NAMES = ("Part", "Quantity", "Place of storage")
STOCK = [[f"Valve {n}. It is big.", str(10 + n), f"works {n}"] for n in range(12)]


def composed(rows: Sequence[Sequence[str]], header_rows: int = 1, before: str = "") -> Document:
    composer = Composer()
    composer.add(before)
    composer.add_table(rows, header_rows)
    composer.add("After the table.")
    return composer.document("a.docx", "docx")


def cut(document: Document, tokens: int, counter: TokenCounter | None = None) -> list[Chunk]:
    sizes = ChunkSettings(tokens, tokens // 8)
    chunks = chunk_document(document, counter or Words(), sizes)
    check(document, chunks, counter or Words(), tokens)
    return chunks


def test_every_chunk_of_a_table_has_the_names_of_its_columns() -> None:
    first, *others = cut(composed([NAMES, *STOCK]), 40)
    assert first.text.startswith("Part | Quantity | Place of storage\nValve 0.")
    assert first.table_header == ""
    assert len(others) > 2
    for chunk in others:
        assert chunk.table_header == "Part | Quantity | Place of storage"
        assert chunk.token_count + 7 <= 40
        assert chunk.text.startswith("Valve")


def test_rows_are_cut_between_lines() -> None:
    for chunk in cut(composed([NAMES, *STOCK]), 30):
        assert all(
            line.startswith(("Valve", "Part", "After")) for line in chunk.text.split("\n") if line
        )


def test_text_after_a_table_has_none() -> None:
    chunks = cut(composed([NAMES, *STOCK[:1]], before="Before it. " * 9), 20)
    assert chunks[-1].text.startswith("After the table") or "Valve" in chunks[-1].text
    assert [
        chunk.table_header for chunk in chunks if chunk.text.startswith(("Before", "After"))
    ] == ["" for chunk in chunks if chunk.text.startswith(("Before", "After"))]


def test_a_table_whose_names_are_not_in_its_text() -> None:
    rows = "1 | 2\n3 | 4"
    document = Document(
        "a.html", "a", "html", rows, (Section(0, ()),), tables=(Table(0, len(rows), "x | y", 0),)
    )
    (chunk,) = cut(document, 40)
    assert (chunk.text, chunk.table_header) == (rows, "x | y")
    (whole,) = cut(document, 0)
    assert whole.table_header == "x | y"


def test_the_names_go_on_to_the_rows() -> None:
    before = "One two three four five six seven eight. " * 4
    chunks = cut(composed([NAMES, ["word " * 10] * 3, ["word " * 10] * 3], before=before), 39)
    assert not any(chunk.text.endswith("Place of storage") for chunk in chunks)
    assert any(chunk.text.startswith("Part | Quantity") for chunk in chunks)


@pytest.mark.parametrize("count", [30, 5_000])
def test_names_take_a_quarter_of_a_chunk_at_most(count: int) -> None:
    names = [f"name{n}" for n in range(count)]
    chunks = cut(composed([names, *[[str(n)] * 9 for n in range(40)]]), 80)
    header = chunks[-1].table_header
    assert header == " | ".join(names[:9]) + " | …"
    assert Words().count([header]) == [19]


def test_a_long_row_keeps_as_many_names_as_fit() -> None:
    rows = [["word " * 12, "word " * 12, "word " * 12] for _ in range(4)]
    chunks = cut(composed([NAMES, *rows]), 42)
    assert chunks[1].token_count == 38
    assert chunks[1].table_header == "Part | …"


CELLS = st.sampled_from(
    ["", "one", "two words", "A sentence. And one.", "x" * 60, "é🦀", "word " * 9]
)
TABLES = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=14)
)


@settings(deadline=None)
@given(
    st.lists(TABLES, min_size=1, max_size=3), st.integers(0, 2), st.integers(1, 60), st.booleans()
)
def test_any_tables(
    minilm_folder: Path,
    tables: list[list[list[str]]],
    header_rows: int,
    tokens: int,
    drifting: bool,
) -> None:
    composer = Composer()
    for rows in tables:
        composer.add("Text before it. And more.")
        composer.add_table(rows, header_rows)
    composer.add("The end.")
    document = composer.document("a.docx", "docx")
    counter = Drifting() if drifting else Words()
    for chunk in cut(document, tokens, counter):
        around = [
            table
            for table in document.tables
            if table.rows_start == chunk.char_start
            or table.char_start < chunk.char_start < table.char_end
        ]
        names = around[0].header if around else ""
        if not chunk.table_header:
            (taken,) = counter.count([f"{names.split(' | ')[0]} | …\n"])
            room = min(tokens // 4, tokens - chunk.token_count)
            assert not names or taken > room or "|" not in names
            continue
        (taken,) = counter.count([f"{chunk.table_header}\n"])
        assert taken <= tokens // 4
        assert taken + chunk.token_count <= tokens
        assert names.startswith(chunk.table_header.removesuffix(" | …"))


def test_names_are_counted_by_the_models_tokenizer(minilm_folder: Path) -> None:
    counter = Tokenizer.from_folder(minilm_folder, max_tokens=256)
    for chunk in cut(composed([NAMES, *STOCK]), 40, counter)[1:]:
        assert chunk.table_header == "Part | Quantity | Place of storage"
        assert counter.count([f"{chunk.table_header}\n{chunk.text}"])[0] <= 40
