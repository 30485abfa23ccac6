"""What is embedded and found of a chunk: its text without encoded data and invisible characters."""

import base64
import hashlib
import random
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from indexer.commands.cli import cli
from retrieval.domain.passages import Passage, Span
from retrieval.search import Query, Searcher
from retrieval.store import open_reader, verify
from tests.indexer.build.test_build import Workplace
from tests.store.disk.old_index import make_older

PICTURE = base64.b64encode(random.Random(3).randbytes(45_000)).decode()
BEFORE, AFTER = "The pump is shown.\n\n![pump](", ")\n\nIts valve is red."
DATA_URI = f"data:image/png;base64,{PICTURE}"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def by_words(place: Workplace, words: str) -> list[Passage]:
    with open_reader(place.index) as reader:
        query = Query(text=words, mode="lexical", highlight=True, k=100)
        return list(Searcher(reader).search(query).passages)


def test_encoded_data_is_not_embedded_and_not_found(place: Workplace) -> None:
    place.write("a.md", f"{BEFORE}{DATA_URI}{AFTER}")
    place.write("b.md", f"{BEFORE}{AFTER}")
    report = place.build(chunk_tokens=0)
    # What is left of both is the same, so one vector serves both.
    assert (report.info.chunks, report.chunks_embedded, report.chunks_reused) == (2, 1, 1)
    assert list(verify(place.index)) == []
    first, second = by_words(place, "valve")
    assert first.text == f"{BEFORE}{DATA_URI}{AFTER}"
    assert first.omitted == (Span(len(BEFORE), len(BEFORE) + len(DATA_URI)),)
    assert second.omitted == ()
    assert first.token_count == second.token_count
    assert by_words(place, "base64") == by_words(place, "image") == []
    assert first.highlights
    assert [first.text[start:end] for start, end in first.highlights.terms] == ["valve"]


def test_no_word_is_marked_in_encoded_data(place: Workplace) -> None:
    place.write("a.md", f"{BEFORE}{DATA_URI}{AFTER} It is no image/png.")
    place.build(chunk_tokens=0)
    (found,) = by_words(place, "image")
    assert found.highlights
    assert [start > found.omitted[0].end for start, _ in found.highlights.terms] == [True]


def test_a_file_of_encoded_data_has_no_text(place: Workplace) -> None:
    place.write("a.txt", PICTURE[:4000])
    place.write("b.txt", "words")
    report = place.build(chunk_tokens=0)
    assert report.skipped == {"no text": 1}
    assert report.info.documents == 1


def test_how_it_is_shown(place: Workplace) -> None:
    place.write("a.md", f"{BEFORE}{DATA_URI}{AFTER}")
    place.build(chunk_tokens=0)
    run = CliRunner().invoke
    shown = run(cli, ["show", "docs/a.md", "--index", str(place.index)], catch_exceptions=False)
    assert f"![pump]([{len(DATA_URI)} characters not embedded])" in shown.output
    found = run(cli, ["search", "valve", "--mode", "lexical", "--index", str(place.index)])
    assert "![pump](…)" in found.output


def docbook(names: tuple[str, ...], rows: int) -> str:
    """A document of one table, which has a value of its own in each row."""
    entries = "".join(f"<entry>{name}</entry>" for name in names)
    body = "".join(f"<row><entry>valve{n}</entry><entry>{n}</entry></row>" for n in range(rows))
    return (
        "<article><title>Stock</title><informaltable><tgroup>"
        f"<thead><row>{entries}</row></thead><tbody>{body}</tbody></tgroup></informaltable></article>"
    )


def test_rows_are_embedded_and_found_with_the_names_of_their_columns(place: Workplace) -> None:
    place.write("a.xml", docbook(("Part", "Weight"), 60))
    first = place.build(chunk_tokens=60)
    assert list(verify(place.index)) == []
    assert first.info.chunks > 3
    with open_reader(place.index) as reader:
        row = reader.document_by_uri("docs/a.xml")
        text = reader.document_text(row.id)
        passages = [reader.passage(row.id, ordinal) for ordinal in range(row.chunk_count)]
    assert [one.table_header for one in passages[1:]] == ["Part | Weight"] * (len(passages) - 1)
    assert all(text[one.char_start : one.char_end] == one.text for one in passages)
    assert {one.ordinal for one in by_words(place, "weight")} == set(range(len(passages)))
    best = by_words(place, "weight valve59")[0]
    assert "valve59" in best.text
    assert by_words(place, '"part weight"')
    shown = CliRunner().invoke(cli, ["show", "docs/a.xml", "--index", str(place.index)])
    assert shown.output.count("(columns: Part | Weight)\nvalve") == len(passages) - 1
    found = CliRunner().invoke(
        cli, ["search", "valve59", "--mode", "lexical", "--index", str(place.index)]
    )
    assert "    Part | Weight\n    valve" in found.output


def test_equal_rows_under_other_names_have_other_vectors(place: Workplace) -> None:
    place.write("a.xml", docbook(("Part", "Weight"), 40))
    place.write("b.xml", docbook(("Part", "Price"), 40))
    report = place.build()
    assert report.chunks_embedded == report.info.chunks
    assert list(verify(place.index)) == []
    assert {one.uri for one in by_words(place, "price")} == {"docs/b.xml"}


def test_invisible_characters_are_no_part_of_a_word(place: Workplace) -> None:
    place.write(
        "a.txt", "The thermo\u200bstat\ufeff of the Dampf\u00adschiff\u00adfahrt is wa\u2060ter."
    )
    place.write("b.txt", "The thermostat of the Dampfschifffahrt is water.")
    place.write("c.txt", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
    report = place.build(chunk_tokens=0)
    assert (report.chunks_embedded, report.chunks_reused) == (2, 1)
    assert list(verify(place.index)) == []
    for query in ("thermostat", "thermo\u00adstat", "thermo*", "Dampfschifffahrt", '"is water"'):
        assert len(by_words(place, query)) == 2, query
    first = by_words(place, "Dampfschifffahrt")[0]
    assert first.highlights
    ((start, end),) = first.highlights.terms
    assert first.text[start:end] == "Dampf\u00adschiff\u00adfahrt"
    assert len(by_words(place, "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645")) == 1


def test_an_index_that_embedded_everything(place: Workplace) -> None:
    """Versions before 0.2 embedded invisible characters and encoded data."""
    place.write("a.txt", "The thermo\u200bstat.")
    place.build(chunk_tokens=0)
    make_older(place.index, "m014_embedded_texts")
    text = "The thermo\u200bstat."
    key = hashlib.sha256(text.encode()).digest()
    with sqlite3.connect(place.index / "index.db") as connection:
        connection.execute("UPDATE vectors SET content_key = ?", [key])
    connection.close()
    place.write("b.txt", "Another text.")
    place.build(chunk_tokens=0)
    assert list(verify(place.index)) == []
    (found,) = by_words(place, "thermostat")
    assert found.text == text
