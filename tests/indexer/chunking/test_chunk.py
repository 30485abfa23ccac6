"""Chunking: exact offsets, nothing lost, limits kept, structure followed; for three tokenizers."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.chunking.chunk import chunk_document
from indexer.chunking.omit import MAX_OMITTED_CHARS
from indexer.chunking.units import BATCH_CHARS, CHARS_PER_TOKEN, _cut_points, cut_units
from indexer.parse.formats import parse
from retrieval.domain.embedded_text import without
from retrieval.domain.records import Chunk, ChunkSettings, Document, TokenCounter
from retrieval.encoding.tokenizer import Tokenizer
from retrieval.errors import InvalidArgument


class Words:
    """One token for each word, as text is counted by eye."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def adds_up(self, text: str) -> bool:
        return True

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]


class Drifting:
    """Two tokens for most characters, white space included, one more for each long text."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [2 * len(text) - text.count("a") + len(text) // 10 for text in texts]

    def adds_up(self, text: str) -> bool:
        return False

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text)) for _ in range(2 - (text[i] == "a"))]


@pytest.fixture(scope="module")
def wordpiece(minilm_folder: Path) -> Tokenizer:
    """A real model's tokenizer."""
    return Tokenizer.from_folder(minilm_folder, max_tokens=256)


def chunks_of(text: str, tokens: int, overlap: int = 0, uri: str = "a.md") -> list[Chunk]:
    document = parse(uri, text.encode())
    chunks = chunk_document(document, Words(), ChunkSettings(tokens, overlap))
    check(document, chunks, Words(), tokens)
    return chunks


def check(document: Document, chunks: list[Chunk], counter: TokenCounter, tokens: int) -> None:
    """What holds for all chunks, whatever the document and the tokenizer."""
    text = document.text
    covered = bytearray(len(text))
    for start, end in document.omitted:
        covered[start:end] = b"\1" * (end - start)
    left_out = bytes(covered)
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        read = without(chunk.text, chunk.omitted)
        assert chunk.token_count == counter.count([read])[0]
        inside = left_out[chunk.char_start : chunk.char_end]
        assert sum(end - start for start, end in chunk.omitted) == sum(inside) <= MAX_OMITTED_CHARS
        assert all(all(inside[start:end]) for start, end in chunk.omitted)
        assert not inside[0]
        assert not inside[-1]
        assert chunk.line_start == 1 + text.count("\n", 0, chunk.char_start)
        assert chunk.line_end == 1 + text.count("\n", 0, chunk.char_end)
        if tokens:
            assert chunk.token_count <= tokens or len(read) == 1
            assert len(read) <= CHARS_PER_TOKEN * tokens
        covered[chunk.char_start : chunk.char_end] = b"\1" * len(chunk.text)
    assert all(covered[i] or character.isspace() for i, character in enumerate(text))


PIECES = st.sampled_from(
    (
        *("# Title\n", "## Part\n", "\n\n", "\n", " \n \n", "\r\n", " ", "  ", "\t", "\u2003"),
        *(
            "word ",
            "Sentence one. ",
            "Is it? Yes! ",
            "unaffable ",
            "a",
            "x" * 150,
            "日本語。",
            "é🦀",
        ),
        *("- item\n", "1. item\n", "```\n", "code(x)\n", "    indented\n", "| a | b |\n", "\u00ad"),
        *("word " * 40, "https://example.org/a/b?c=d#e ", "\u200b", "e\u0301"),
    )
)
SOURCES = st.lists(PIECES, max_size=40).map("".join)
SIZES = st.integers(1, 40).flatmap(
    lambda tokens: st.builds(ChunkSettings, st.just(tokens), st.integers(0, tokens // 2))
)


def documents(source: str) -> list[Document]:
    # A last character that shows, as no document is without one.
    return [parse(f"a.{kind}", f"{source}.".encode()) for kind in ("md", "txt")]


@settings(deadline=None)
@given(SOURCES, SIZES)
def test_any_document_with_wordpiece(
    wordpiece: Tokenizer, source: str, sizes: ChunkSettings
) -> None:
    for document in documents(source):
        chunks = chunk_document(document, wordpiece, sizes)
        check(document, chunks, wordpiece, sizes.chunk_tokens)


@settings(deadline=None)
@given(SOURCES, SIZES, st.sampled_from([Words(), Drifting()]))
def test_any_document_with_other_tokenizers(
    source: str, sizes: ChunkSettings, counter: TokenCounter
) -> None:
    for document in documents(source):
        check(document, chunk_document(document, counter, sizes), counter, sizes.chunk_tokens)


@settings(deadline=None)
@given(SOURCES, SIZES, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=5))
@example(". . .", ChunkSettings(0, 0), [(0, 2), (3, 9)])
def test_any_document_with_ranges_left_out(
    source: str, sizes: ChunkSettings, ranges: list[tuple[int, int]]
) -> None:
    for document in documents(source):
        length = len(document.text)
        omitted = tuple(sorted((min(start, length), min(end, length))) for start, end in ranges)
        shortened = replace(document, omitted=omitted)
        chunks = chunk_document(shortened, Words(), sizes)
        check(shortened, chunks, Words(), sizes.chunk_tokens)


def test_what_is_left_out_takes_no_tokens() -> None:
    text = (
        "# Pumps\n\nThe pump <!-- is not --> lifts\n\n<!-- a b c d e f -->\n\nwater.\n<!-- end -->"
    )
    comments = tuple(match.span() for match in re.finditer("<!--.*?-->", text))
    document = replace(parse("a.md", text.encode()), omitted=comments)
    (chunk,) = chunk_document(document, Words(), ChunkSettings(6, 0))
    assert without(chunk.text, chunk.omitted) == "# Pumps\n\nThe pump  lifts\n\n\n\nwater."
    assert chunk.text.endswith("water.")
    assert (chunk.token_count, chunk.line_start, chunk.line_end) == (6, 1, 7)


@pytest.mark.parametrize("tokens", [0, 40])
def test_a_chunk_is_cut_where_too_much_is_left_out(tokens: int) -> None:
    text = "Before it. " + "x" * (MAX_OMITTED_CHARS + 1) + " After it."
    document = replace(parse("a.md", text.encode()), omitted=((11, 12 + MAX_OMITTED_CHARS),))
    chunks = chunk_document(document, Words(), ChunkSettings(tokens, 0))
    check(document, chunks, Words(), tokens)
    assert [(chunk.text, chunk.token_count) for chunk in chunks] == [
        ("Before it.", 2),
        ("After it.", 2),
    ]
    assert chunks[1].char_end == len(text)


@settings(deadline=None)
@given(SOURCES, SIZES)
@example("# Title\n" * 5 + "\t# Title\n", ChunkSettings(11, 2))
def test_chunks_move_on_and_repeat_no_more_than_asked(source: str, sizes: ChunkSettings) -> None:
    for document in documents(source):
        chunks = chunk_document(document, Words(), sizes)
        starts = [section.char_start for section in document.sections]
        for before, after in pairwise(chunks):
            assert before.char_start < after.char_start
            assert before.char_end < after.char_end
            repeated = document.text[after.char_start : before.char_end]
            # A unit may be part of a word, which Words counts as one.
            assert Words().count([repeated])[0] <= sizes.chunk_overlap + 1
            # What is repeated is of the section in which the chunk before was cut, and of no other.
            assert not any(after.char_start < start < before.char_end for start in starts)


@given(SOURCES, st.integers(1, 40))
def test_units_tile_the_document(source: str, tokens: int) -> None:
    for document in documents(source):
        position = 0
        for unit in cut_units(document, Words(), tokens):
            assert unit.start == position < unit.end
            assert unit.tokens == Words().count([document.text[unit.start : unit.end]])[0] <= tokens
            assert document.sections[unit.section].char_start <= unit.start
            position = unit.end
        assert position == len(document.text)


def test_sentences_and_paragraphs_stay_whole() -> None:
    text = "One two three. Four five six! “Seven eight?” Nine.\n\nTen (see e. g. This) 3. Eleven."
    assert [chunk.text for chunk in chunks_of(text, 8)] == [
        "One two three. Four five six! “Seven eight?”",
        "Nine.\n\nTen (see e. g. This) 3. Eleven.",
    ]


def test_a_chunk_ends_with_a_paragraph_if_it_is_full_enough() -> None:
    paragraph = "One two three four five six seven eight."
    text = f"{paragraph}\n\nNine ten. Eleven twelve. {paragraph}"
    assert chunks_of(text, 10)[0].text == paragraph
    assert chunks_of(text, 11)[0].text == f"{paragraph}\n\nNine ten."
    assert chunks_of(text, 12)[0].text == f"{paragraph}\n\nNine ten. Eleven twelve."


def test_code_is_cut_between_lines() -> None:
    text = "Text.\n\n```py\na = b. C\nd = e\n\nf = g. H\n```\n\nMore text. And more."
    assert [chunk.text for chunk in chunks_of(text, 6)] == [
        "Text.\n\n```py\na = b. C",
        "d = e",
        "f = g. H\n```",
        "More text. And more.",
    ]


FENCE = "```\n" + "x = 1\n\n" * 8 + "```\n"
TABLE = "| a | b |\n|---|---|\n" + "| one | two |\n" * 6


@pytest.mark.parametrize("block", [FENCE, TABLE])
def test_code_and_tables_stay_whole_where_they_fit(block: str) -> None:
    text = "# Head\n\n" + "word " * 25 + "\n\n" + block + "\n" + "after " * 10 + "\n"
    chunks = chunks_of(text, 40)
    assert any(block.strip() in chunk.text for chunk in chunks)
    assert len(chunks) in {2, 3}
    # Where it does not fit into any chunk, it is cut between lines.
    assert all(chunk.text.count("\n") for chunk in chunks_of("# Head\n\n" + block * 9, 40))


def test_long_code_is_cut_at_blank_lines() -> None:
    text = "```\n" + "\n".join(f"a {n}\nb {n}\n" for n in range(40)) + "```\n"
    chunks = chunks_of(text, 33)
    assert len(chunks) > 3
    assert all(chunk.text.startswith(("a ", "```")) for chunk in chunks)


def test_overlap_repeats_whole_sentences() -> None:
    text = "A one two. B three four. C five six. D seven eight. E nine ten."
    assert [chunk.text for chunk in chunks_of(text, 9, overlap=4)] == [
        "A one two. B three four. C five six.",
        "C five six. D seven eight. E nine ten.",
    ]
    assert [chunk.text for chunk in chunks_of(text, 9, overlap=2)] == [
        "A one two. B three four. C five six.",
        "D seven eight. E nine ten.",
    ]


def section(name: str, words: int) -> str:
    return f"# {name}\n\n" + "word " * (words - 3) + "end.\n\n"


def test_sections_start_chunks_without_overlap() -> None:
    chunks = chunks_of(section("One", 50) + section("Two", 50), 100, overlap=50)
    assert [chunk.heading_path for chunk in chunks] == [("One",), ("Two",)]
    assert chunks[1].text.startswith("# Two")


def test_an_overlap_may_begin_with_the_heading_of_the_section_that_is_cut() -> None:
    # The sections share a chunk, as the first is a heading alone.
    text = "# A\n\n# B\n\nOne. " + "Word " * 7 + "end."
    first, second = chunks_of(text, 12, overlap=3)
    assert first.text == "# A\n\n# B\n\nOne."
    assert second.text.startswith("# B\n\nOne. Word")
    # The overlap stops at the heading, though it has room for the section before.
    assert chunks_of(text, 12, overlap=6) == [first, second]
    assert chunks_of(text, 12, overlap=2)[1].text.startswith("One. Word")


def test_small_sections_share_a_chunk() -> None:
    text = section("A", 15) + section("B", 5) + section("C", 40) + section("D", 40)
    chunks = chunks_of(text, 100)
    assert [chunk.heading_path for chunk in chunks] == [("C",), ("D",)]


def test_a_small_section_stands_alone_if_the_next_does_not_fit() -> None:
    chunks = chunks_of(section("A", 20) + section("B", 95), 100)
    assert [chunk.heading_path for chunk in chunks] == [("A",), ("B",)]


def test_headings_and_stubs_go_with_what_follows() -> None:
    text = "# A\n\n## Long heading of eight words, not less\n\n" + section("B", 30)[2:]
    chunks = chunks_of(text, 20)
    assert "B" in chunks[0].text
    chunks = chunks_of("A few words.\n\n" + section("B", 95), 50)
    assert chunks[0].text.startswith("A few words.\n\n# B")
    assert chunks[0].heading_path == ("B",)


def test_front_matter_goes_with_the_first_section() -> None:
    text = "---\ntitle: A document of some kind\n---\n\n" + section("B", 60)
    assert chunks_of(text, 50)[0].heading_path == ("B",)


def test_a_stub_at_the_end_goes_with_what_is_before() -> None:
    chunks = chunks_of(section("A", 60) + "# License\n\nFree.", 100)
    assert len(chunks) == 1
    assert chunks[0].heading_path == ("A",)
    assert len(chunks_of(section("A", 98) + "# License\n\nFree.", 100)) == 2


def test_the_heading_is_that_of_most_characters() -> None:
    chunks = chunks_of("# A\n\n" + "a " * 5 + "\n\n# B\n\n" + "longer " * 6, 100)
    assert [chunk.heading_path for chunk in chunks] == [("B",)]
    assert chunks_of("# A\n\n# B\n\n", 100)[0].heading_path == ("A",)


@pytest.mark.parametrize("uri", ["a.rst", "a.html", "a.txt"])
def test_other_formats(uri: str) -> None:
    heading = {"a.rst": "Title\n=====\n\n", "a.html": "<h1>Title</h1>"}.get(uri, "")
    lines = {"a.html": "<pre>" + "a = f. X\n" * 20 + "</pre>"}.get(uri, "Sentence here. " * 20)
    chunks = chunks_of(heading + lines, 12, uri=uri)
    assert len(chunks) > 3
    assert all(chunk.heading_path == (("Title",) if heading else ()) for chunk in chunks)
    if uri == "a.html":
        assert chunks[-1].text.startswith("a = f.")


def test_table_rows_of_html_stay_whole() -> None:
    row = "<tr><td>one, two, etc.<td>Three</tr>"
    chunks = chunks_of(f"<table>{row * 6}</table>", 10, uri="a.html")
    assert {chunk.text for chunk in chunks} == {"one, two, etc. | Three\none, two, etc. | Three"}


def test_one_chunk_for_a_whole_document(wordpiece: Tokenizer) -> None:
    text = "\n\n# A\n\ntext\n\n## B\n\nmore\n\n## C\n\n"
    document = parse("a.md", text.encode())
    (chunk,) = chunk_document(document, wordpiece, ChunkSettings(0, 20))
    check(document, [chunk], wordpiece, 0)
    assert (chunk.char_start, chunk.heading_path) == (2, ("A",))
    assert (chunk.line_start, chunk.line_end) == (3, 11)


def test_a_whole_document_with_sections_apart_has_no_heading() -> None:
    assert chunks_of("# A\n\n# B", 0)[0].heading_path == ()


def test_white_space_alone_gives_no_chunk() -> None:
    document = Document("a.txt", "a", "text", " \n ", parse("a.txt", b"x").sections)
    for tokens in (0, 10):
        assert chunk_document(document, Words(), ChunkSettings(tokens, 0)) == []


def test_a_character_of_many_tokens_stays() -> None:
    document = parse("a.txt", b"xaxx")
    chunks = chunk_document(document, Drifting(), ChunkSettings(1, 0))
    assert [(chunk.text, chunk.token_count) for chunk in chunks] == [
        ("x", 2),
        ("a", 1),
        ("x", 2),
        ("x", 2),
    ]


@pytest.mark.parametrize(
    ("tokens", "overlap", "field"),
    [(-1, 0, "chunk_tokens"), (10, -1, "chunk_overlap"), (10, 6, "chunk_overlap")],
)
def test_sizes_that_make_no_sense(tokens: int, overlap: int, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        chunk_document(parse("a.txt", b"text"), Words(), ChunkSettings(tokens, overlap))
    assert caught.value.metadata["field"] == field


class Watched(Words):
    """Notes the most characters asked for at once."""

    counted = 0
    spanned = 0

    def count(self, texts: Sequence[str]) -> list[int]:
        self.counted = max(self.counted, sum(map(len, texts)))
        return super().count(texts)

    def spans(self, text: str) -> list[tuple[int, int]]:
        self.spanned = max(self.spanned, len(text))
        return super().spans(text)


@pytest.mark.parametrize("piece", ["word ", "x", "Word. ", "word\n\n", "\n", " ", "日"])
@pytest.mark.parametrize("tokens", [0, 100])
def test_the_tokenizer_is_never_given_too_much(piece: str, tokens: int) -> None:
    text = "." + piece * (2_500_000 // len(piece)) + "."
    document = parse("a.txt", text.encode())
    counter = Watched()
    chunks = chunk_document(document, counter, ChunkSettings(tokens, tokens // 10))
    assert chunks[0].char_start == 0
    assert chunks[-1].char_end == len(text)
    assert counter.counted <= BATCH_CHARS
    assert counter.spanned <= 50_000


class TokenByToken:
    """A tokenizer whose counts of words don't add up, so that each token's place is asked for."""

    def __init__(self, counter: TokenCounter) -> None:
        self.count, self.spans = counter.count, counter.spans

    def adds_up(self, text: str) -> bool:
        return False


@given(
    st.lists(
        st.sampled_from(
            ["duck", "x" * 70, "antidisestablishmentarianism", "a,b;" * 30, "日本語", "é"]
        ),
        min_size=40,
    ),
    st.sampled_from([" ", "", " \n", "\t\t"]),
    st.integers(1, 40),
)
def test_a_long_sentence_is_cut_by_words_where_it_is_cut_by_tokens(
    wordpiece: Tokenizer, words: list[str], space: str, tokens: int
) -> None:
    text = space.join(words)
    cuts = _cut_points(text, wordpiece, tokens)
    assert cuts == _cut_points(text, TokenByToken(wordpiece), tokens)
    assert cuts[-1] == len(text)
