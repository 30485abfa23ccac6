"""Parts of texts by characters and lines, against slices of the whole text."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.records import (
    CharRange,
    Chunk,
    Document,
    LineRange,
    Section,
    SourceFile,
    TextPart,
)
from retrieval.errors import IndexDamaged, InvalidArgument, NotFound
from retrieval.store import Reader, StagedChunk, StagedDocument, open_reader
from retrieval.store.disk.reading import text_parts
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS
from tests.store.test_store import key, new_writer, unit_vectors

PARAGRAPH = "Käse, 🧀 und 𝔅rot\r\nzwei\rdrei\n\n\u2028vier e\u0301\n"
TEXTS = {
    "d/empty": ("", 5),
    "d/blank": ("\n\n", 0),  # no passage
    "d/one": ("🧀", 1),
    "d/two": ("a\nb", 1),
    "d/short": (PARAGRAPH, 7),
    "d/unended": (f"{PARAGRAPH}Ende 🧀", 9),
    "d/long": (PARAGRAPH * (3 * TEXT_PART_CHARS // len(PARAGRAPH)), 40_000),
    "d/whole": (PARAGRAPH * 50, 10_000),  # one passage
    "d/line": ("🧀" * 1_000, 100),
}
"""URI → text, and the length of its passages; 0 for none."""


def cut(uri: str, text: str, size: int) -> StagedDocument:
    """A document in passages that overlap by a quarter."""
    starts = range(0, len(text), max(1, size * 3 // 4)) if size else []
    chunks = []
    for ordinal, start in enumerate(starts):
        end = min(start + size, len(text))
        lines = 1 + text.count("\n", 0, start), 1 + text.count("\n", 0, end - 1)
        chunk = Chunk(ordinal, start, end, text[start:end], *lines, (), 1)
        chunks.append(StagedChunk(chunk, 1))
    document = Document(uri, uri, "text", text, (Section(0, ()),))
    return StagedDocument(document, SourceFile(Path("/x"), uri, "d", 1, 0), "0" * 64, chunks)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("texts")
    with new_writer(folder) as writer, writer.commit() as commit:
        commit.add_vectors([key("any")], unit_vectors(1), [False])
        for uri, (text, size) in TEXTS.items():
            commit.put_document(cut(uri, text, size))
    with open_reader(folder) as opened:
        yield opened


def expected(text: str, start: int, end: int) -> TextPart:
    """The part, by counting line feeds from the beginning."""
    line_count = text.count("\n") + (text[-1:] not in ("", "\n"))
    if start >= end:
        return TextPart("", start, start, 0, 0, line_count)
    first, last = text.count("\n", 0, start), text.count("\n", 0, end - 1)
    return TextPart(text[start:end], start, end, first + 1, last + 1, line_count)


def part(reader: Reader, uri: str, *asked: object) -> TextPart:
    return reader.text_part(reader.document_by_uri(uri).id, *asked)  # type: ignore[arg-type]


uris = st.sampled_from(sorted(TEXTS))
near = st.integers(0, 300) | st.integers(0, 4 * TEXT_PART_CHARS)


@given(uris, near, st.none() | near, st.none() | st.integers(1, 3 * TEXT_PART_CHARS))
def test_a_range_of_characters_is_a_slice(
    reader: Reader, uri: str, start: int, length: int | None, most: int | None
) -> None:
    text = TEXTS[uri][0]
    end = None if length is None else start + length
    begin = min(start, len(text))
    stop = min(len(text) if end is None else end, len(text), begin + (most or len(text)))
    assert part(reader, uri, CharRange(start, end), most) == expected(text, begin, stop)


@given(uris, near.map(lambda at: at + 1), st.none() | near, st.integers(1, 300) | near | st.none())
def test_a_range_of_lines_is_whole_lines(
    reader: Reader, uri: str, start: int, more: int | None, most: int | None
) -> None:
    text = TEXTS[uri][0]
    lines = text.split("\n")  # not splitlines: a lone \r and U+2028 end no line
    offsets = list(accumulate((len(line) + 1 for line in lines), initial=0))

    def begins(line: int) -> int:
        return min(offsets[min(line - 1, len(lines))], len(text))

    begin = begins(start)
    stop = len(text) if more is None else begins(start + more + 1)
    most = most or None
    if most and stop - begin > most:
        fitting = [at for at in offsets if begin < at <= begin + most]
        stop = fitting[-1] if fitting else begin + most
    asked = LineRange(start, None if more is None else start + more)
    assert part(reader, uri, asked, most) == expected(text, begin, stop)


@pytest.mark.parametrize("uri", sorted(TEXTS))
def test_the_parts_of_a_text_are_the_text(
    reader: Reader, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_parts, "_BLOCK_CHARS", 1_000)
    text, found, at = TEXTS[uri][0], "", 0
    most = max(1, len(text) // 7)
    while at < len(text):
        one = part(reader, uri, CharRange(at), most)
        assert one.char_start == at
        found += one.text
        at = one.char_end
    assert found == text == reader.document_text(reader.document_by_uri(uri).id)
    found, line = "", 1
    while (one := part(reader, uri, LineRange(line, line + 2))).text:
        assert one.line_start == line
        found += one.text
        line = one.line_end + 1
        if line > 500:  # enough of a long text
            break
    assert text.startswith(found)
    assert line > 500 or found == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharRange(-1), "chars.start is -1; it must be at least 0"),
        (lambda: CharRange(5, 4), "chars.end is 4; it must be at least the start, 5"),
        (lambda: LineRange(0), "lines.start is 0; it must be at least 1"),
        (lambda: LineRange(2, 1), "lines.end is 1; it must be at least the start, 2"),
    ],
)
def test_a_range_that_ends_before_it_starts_is_refused(make: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        make()  # type: ignore[operator]
    assert caught.value.metadata["field"] == message.split(" ", maxsplit=1)[0]


def test_a_document_that_is_not_there(reader: Reader) -> None:
    with pytest.raises(NotFound):
        reader.text_part(999, CharRange())


def test_a_text_that_is_cut_short_is_damage(tmp_path: Path) -> None:
    import sqlite3

    with new_writer(tmp_path) as writer, writer.commit() as commit:
        commit.add_vectors([key("any")], unit_vectors(1), [False])
        commit.put_document(cut("d/a", PARAGRAPH, 7))
    database = sqlite3.connect(tmp_path / "index.db")
    with database:
        database.execute("UPDATE document_texts SET text = substr(text, 1, 5)")
    database.close()
    with open_reader(tmp_path) as opened, pytest.raises(IndexDamaged, match="another length"):
        opened.text_part(1, LineRange(3))
