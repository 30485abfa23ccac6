"""Make a document of passages that a client has cut: their texts, sections, pages and tokens."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from indexer.ingest.writer.uploads.upload import PassageText
from indexer.parse.base.outline import MAX_SECTIONS, one_line, title_of
from retrieval.domain.records import Chunk, Document, Section, TokenCounter
from retrieval.errors import InvalidArgument

BETWEEN: Final = "\n\n"
"""Stands between two passages in the document's text."""
MAX_HEADINGS: Final = 32
"""Maximum depth of headings; Markdown and HTML have 6."""
MAX_PAGES: Final = 100_000
"""Maximum number of a page. A document lists where each page begins, also those without text."""


def document_of(uri: str, passages: Sequence[PassageText]) -> Document:
    """Return the document that passages make up; its title is the last part of the URI.

    Raises:
        InvalidArgument: there is no passage, one is blank or has a NUL, or its headings or page are
            out of range.
    """
    _check(passages)
    text = BETWEEN.join(one.text for one in passages)
    starts = list(_starts(passages))
    return Document(
        uri,
        title_of(uri),
        "text",
        text,
        _sections(passages, starts),
        page_starts=_page_starts(passages, starts),
    )


def chunks_of(passages: Sequence[PassageText], counter: TokenCounter) -> list[Chunk]:
    """Return a chunk for each passage of a document made by ``document_of``.

    Args:
        passages: the same as for that.
        counter: tokenizer of the model.
    """
    counts = counter.count([one.text for one in passages])
    chunks: list[Chunk] = []
    line = 1
    for number, (one, start, tokens) in enumerate(
        zip(passages, _starts(passages), counts, strict=True)
    ):
        last = line + one.text.count("\n")
        end, pages = start + len(one.text), (one.page, one.page)
        chunks.append(
            Chunk(number, start, end, one.text, line, last, _headings(one), tokens, *pages)
        )
        line = last + BETWEEN.count("\n")
    return chunks


def _check(passages: Sequence[PassageText]) -> None:
    if not passages:
        raise InvalidArgument("passages are empty; give at least one", field="passages")
    for number, one in enumerate(passages):
        if not one.text.strip():
            raise _wrong(number, "text is blank")
        if "\0" in one.text:
            raise _wrong(number, "text has a NUL character")
        if len(one.heading_path) > MAX_HEADINGS:
            raise _wrong(number, f"heading_path has more than {MAX_HEADINGS} headings")
        if not all(map(one_line, one.heading_path)):
            raise _wrong(number, "heading_path has a blank heading")
        if not 0 <= one.page <= MAX_PAGES:
            raise _wrong(number, f"page is {one.page}; it must be from 1 to {MAX_PAGES}")
    for number, (before, one) in enumerate(pairwise(passages), 1):
        if one.page < before.page or (one.page and not before.page):
            raise _wrong(
                number, f"page is {one.page} after page {before.page}; pages must be in order"
            )


def _wrong(number: int, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"passages[{number}].{what}", field=f"passages[{number}].{what.partition(' ')[0]}"
    )


def _starts(passages: Sequence[PassageText]) -> Iterator[int]:
    at = 0
    for one in passages:
        yield at
        at += len(one.text) + len(BETWEEN)


def _headings(one: PassageText) -> tuple[str, ...]:
    return tuple(map(one_line, one.heading_path))


def _sections(passages: Sequence[PassageText], starts: Sequence[int]) -> tuple[Section, ...]:
    """Return a section for each run of passages under the same headings."""
    sections: list[Section] = []
    for one, start in zip(passages, starts, strict=True):
        path = _headings(one)
        if not sections or (sections[-1].heading_path != path and len(sections) < MAX_SECTIONS):
            sections.append(Section(start, path, len(path)))
    return tuple(sections)


def _page_starts(passages: Sequence[PassageText], starts: Sequence[int]) -> tuple[int, ...]:
    pages: list[int] = []
    if not passages[0].page:
        return ()
    for one, start in zip(passages, starts, strict=True):
        # Pages without a passage begin where the next one does; the first begins at 0.
        pages += [start if pages or start else 0] * (one.page - len(pages))
    return tuple(pages)
