"""Headings go with the text below them: no chunk ends with a heading whose text comes next."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.chunking.chunk import chunk_document
from indexer.parse.formats import parse
from retrieval.domain.records import Chunk, ChunkSettings, Document
from retrieval.encoding.tokenizer import Tokenizer
from tests.indexer.chunking.test_chunk import Words, check


class Part(NamedTuple):
    """A section of a made document."""

    level: int
    title: str
    blocks: Sequence[str]


BLOCKS = st.one_of(
    st.integers(1, 70).map(lambda words: "word " * (words - 1) + "end."),
    st.integers(1, 12).map(lambda count: "A sentence of five words. " * count),
    st.integers(1, 9).map(lambda lines: "\n".join("- an item" for _ in range(lines))),
    st.just("x" * 90),
)
PARTS = st.lists(
    st.builds(
        Part,
        st.integers(1, 3),
        st.integers(1, 5).map(lambda words: " ".join(f"Heading{n}" for n in range(words))),
        st.lists(BLOCKS, max_size=3),
    ),
    min_size=1,
    max_size=12,
)
SIZES = st.integers(8, 60).flatmap(
    lambda tokens: st.builds(ChunkSettings, st.just(tokens), st.integers(0, tokens // 2))
)


def setext(part: Part) -> str:
    rule = "=" if part.level == 1 else "-"
    return f"{part.title}\n{rule * len(part.title)}" if part.level < 3 else f"### {part.title}"


def rst(part: Part) -> str:
    rule = "=-~"[part.level - 1] * len(part.title)
    return f"{rule}\n{part.title}\n{rule}" if part.level == 1 else f"{part.title}\n{rule}"


HEADINGS = {
    "a.md": lambda part: f"{'#' * part.level} {part.title}",
    "b.md": setext,
    "c.rst": rst,
    "d.adoc": lambda part: f"{'=' * (part.level + 1)} {part.title}",
    "e.html": lambda part: f"<h{part.level}>{part.title}</h{part.level}>",
}


def document_of(uri: str, parts: Sequence[Part]) -> Document:
    paragraph = "<p>{}</p>" if uri.endswith("html") else "{}"
    blocks = [
        text
        for part in parts
        for text in (HEADINGS[uri](part), *map(paragraph.format, part.blocks))
    ]
    return parse(uri, "\n\n".join(blocks).encode())


def ends_with_heading(document: Document, chunk: Chunk) -> bool:
    """Whether the last words of a chunk are a heading."""
    section = max(
        (one for one in document.sections if one.char_start < chunk.char_end),
        key=lambda one: one.char_start,
    )
    words = re.findall(r"\w+", document.text[section.char_start : chunk.char_end])
    return words == section.heading_path[-1].split() if section.level else False


@settings(deadline=None)
@given(PARTS, SIZES, st.sampled_from(sorted(HEADINGS)))
@example([Part(1, "A", ["word " * 6]), Part(2, "B", []), Part(3, "C", ["word " * 40])],
         ChunkSettings(40, 5), "a.md")  # fmt: skip
@example([Part(1, "A", ["word " * 38]), Part(2, "B", ["word " * 30])], ChunkSettings(40, 5), "a.md")
@example([Part(1, "A", ["x " * 9]), Part(2, "B", ["x " * 31])], ChunkSettings(31, 0), "c.rst")
def test_no_chunk_ends_with_a_heading(
    parts: Sequence[Part], sizes: ChunkSettings, uri: str
) -> None:
    document = document_of(uri, parts)
    chunks = chunk_document(document, Words(), sizes)
    check(document, chunks, Words(), sizes.chunk_tokens)
    for chunk, following in pairwise(chunks):
        # A heading may end a chunk that has room for nothing below it.
        room = sizes.chunk_tokens - chunk.token_count
        headings_only = not re.search(r"word|sentence|item|x|end", chunk.text)
        if headings_only and (room < 1 or following.text.startswith(("Heading", "#", "="))):
            continue
        assert not ends_with_heading(document, chunk)


def test_a_heading_without_text_goes_with_the_heading_below_it() -> None:
    text = "# Water\n\n" + "word " * 12 + "\n\n## Care\n\n### Pumps\n\n" + "word " * 60
    document = parse("a.md", text.encode())
    first, second, _ = chunk_document(document, Words(), ChunkSettings(60, 0))
    assert first.text.endswith("word")
    assert second.text.startswith("## Care\n\n### Pumps\n\nword")


def test_a_heading_goes_with_the_table_or_code_below_it() -> None:
    table = "| a | b |\n|---|---|\n" + "| one | two |\n" * 6
    text = "# Water\n\n" + "word " * 30 + "\n\n## Care\n\n" + table
    document = parse("a.md", text.encode())
    first, second = chunk_document(document, Words(), ChunkSettings(40, 0))
    assert first.text.endswith("word")
    assert second.text == f"## Care\n\n{table.strip()}"


def test_a_long_sentence_makes_room_for_its_heading() -> None:
    document = parse("a.md", ("# Care of pumps\n\n" + "word " * 40).encode())
    chunks = chunk_document(document, Words(), ChunkSettings(40, 0))
    assert chunks[0].text.startswith("# Care of pumps\n\nword word")
    assert chunks[0].token_count > 30


@pytest.mark.parametrize("title", ["Care", "Care & use of *all* `pumps`", "日本"])
def test_headings_with_markup(minilm_folder: Path, title: str) -> None:
    tokenizer = Tokenizer.from_folder(minilm_folder, max_tokens=256)
    text = "# Water\n\n" + "word " * 50 + f"\n\n## {title}\n\n### Pumps\n\n" + "word " * 200
    document = parse("a.md", text.encode())
    first, second, *_ = chunk_document(document, tokenizer, ChunkSettings(100, 10))
    assert first.text.endswith("word")
    assert second.text.startswith(f"## {title}\n\n### Pumps")
