"""How the chunks of a folder begin and end: what a reader would find odd about them.

    python -m benchmarks.corpora.chunk_ends FOLDER [--model mini-gte-en-v1] [--chunk-tokens 254]
        [--show KIND]

Reads every file that is not a container, cuts it as a build does, and counts chunks of these kinds:

- ``ends with a heading``, though its text comes next;
- ``rows without columns``: begins in a table, below its first row, without its columns' names;
- ``within an item``: begins in a list item, below its first line;
- ``within a sentence``: begins with a small letter that does not begin a line;
- ``encoded``: half of what is embedded is in words of 60 and more characters of base64;
- ``few words``: has at most three words, and is not a whole document.

``--show`` prints the places of one kind.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from indexer.chunking.chunk import chunk_document
from indexer.files.discover import discover
from indexer.parse.formats import is_container, parse
from indexer.skip import SkipDocument
from retrieval.domain.embedded_text import without
from retrieval.domain.records import Chunk, ChunkSettings, Document
from retrieval.encoding.model_cards import OWN_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.tokenizer import Tokenizer

_WORD: Final = re.compile(r"[^\W_]+")
_ITEM: Final = re.compile(r"([ \t]*)(?:[-*+•]|\d{1,3}[.)])[ \t]")
_ROW: Final = re.compile(r"[^\n|]*\|[^\n]*\|[^\n]*|[^\n|]*\S \| \S[^\n]*")
_ENCODED: Final = re.compile(
    r"(?=\S{0,60}[a-z])(?=\S{0,60}[A-Z])(?=\S{0,60}[0-9])[A-Za-z0-9+/=_%-]{60,}"
)


def kinds(document: Document, chunks: Sequence[Chunk], number: int) -> Iterator[str]:
    """Yield what is odd about a chunk."""
    chunk, text = chunks[number], document.text
    read = without(chunk.text, chunk.omitted)
    if number + 1 < len(chunks) and _ends_with_heading(document, chunk):
        yield "ends with a heading"
    before = text[: chunk.char_start].rpartition("\n")
    on_line = not before[2].strip()
    if on_line and not chunk.table_header and _is_row_below(before[0], chunk.text):
        yield "rows without columns"
    if on_line and _is_within_item(before[0], before[2], chunk.text):
        yield "within an item"
    if not on_line and chunk.text[0].islower():
        yield "within a sentence"
    if 2 * sum(map(len, _ENCODED.findall(read))) > len(read):
        yield "encoded"
    if len(chunks) > 1 and len(_WORD.findall(read)) <= 3:
        yield "few words"


def _ends_with_heading(document: Document, chunk: Chunk) -> bool:
    section = max(
        (one for one in document.sections if one.char_start < chunk.char_end),
        key=lambda one: one.char_start,
    )
    if not section.level or section.char_start < chunk.char_start:
        return False
    lines = document.text[section.char_start : chunk.char_end].split("\n")
    named = [line for line in lines if _WORD.search(line)]
    title = set(_WORD.findall(section.heading_path[-1]))
    return len(named) == 1 and bool(title & set(_WORD.findall(named[0])))


def _is_row_below(before: str, text: str) -> bool:
    """Whether a chunk begins with a row of a table whose first row is before it."""
    above = before.rpartition("\n")[2]
    return bool(_ROW.fullmatch(text.partition("\n")[0]) and _ROW.fullmatch(above))


def _is_within_item(before: str, indent: str, text: str) -> bool:
    """Whether a chunk begins with an indented line below a list item that it continues."""
    if not indent or _ITEM.match(indent + text):
        return False
    for line in reversed(before.split("\n")[-40:]):
        if (item := _ITEM.match(line)) and len(item[1]) < len(indent):
            return True
        if line.strip() and not line.startswith((" ", "\t")):
            return False
    return False


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=OWN_MODEL)
    parser.add_argument("--chunk-tokens", type=int, default=254)
    parser.add_argument("--show")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_folder(find_model(options.model).path, max_tokens=8192)
    sizes = ChunkSettings(options.chunk_tokens, options.chunk_tokens // 8)
    found: Counter[str] = Counter()
    for file in discover([options.folder]).files:
        if is_container(file.uri):
            continue
        try:
            document = parse(file.uri, file.path.read_bytes())
        except SkipDocument:
            continue
        chunks = chunk_document(document, tokenizer, sizes)
        found.update(documents=1, chunks=len(chunks), tokens=sum(c.token_count for c in chunks))
        for number, chunk in enumerate(chunks):
            for kind in kinds(document, chunks, number):
                found[kind] += 1
                if kind == options.show:
                    print(f"{file.uri}:{chunk.line_start}-{chunk.line_end}")
    for name, count in found.items():
        print(f"{count:>9}  {name}")


if __name__ == "__main__":
    main()
