"""Rendering of passages as text for a terminal."""

import math
import re
import shutil
import textwrap
from collections.abc import Iterable

from retrieval.domain.passages import Passage
from retrieval.domain.wording import counted, on_one_line, printable

MAX_TEXT_LINES = 8
"""Lines that are shown of a passage, so that three fit on a screen; the rest is counted."""

MAX_SECTION_LINES = 200
"""Lines that are shown of a section or of a passage with neighbours, which the user asked for."""

_INDENT = "    "

_WRAPPED_AT = 60
"""Characters from which a line may have been wrapped by an editor, at 72 or 80, mid-paragraph."""
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s")
_PROSE = re.compile(r"""[\w"'`(\[*_“‘]""")


def passages_as_text(passages: Iterable[Passage], *, width: int | None = None) -> str:
    """Show ranked passages: title, headings, score, text and place.

    Args:
        passages: best first.
        width: columns; None for the terminal's, at most 100.

    Returns:
        lines, without a line end after the last; a note if there are no passages.
    """
    columns = width or min(shutil.get_terminal_size(fallback=(100, 24)).columns, 100)
    blocks = [_block(rank, passage, columns) for rank, passage in enumerate(passages, start=1)]
    return "\n\n".join(blocks) if blocks else "no passages found"


def _text(passage: Passage) -> tuple[str, int]:
    """Return the text to show of a passage, and the maximum number of lines."""
    if passage.section:
        return passage.section.text, MAX_SECTION_LINES
    most = MAX_SECTION_LINES if passage.before or passage.after else MAX_TEXT_LINES
    parts = (*passage.before, passage, *passage.after)
    return "\n\n".join(map(_marked, parts)), most


def _marked(passage: Passage) -> str:
    """Return the text under the names of its columns, if it has any.

    Highlighted words are in double asterisks, and what is not embedded is an ellipsis.
    """
    text, shown, at = passage.text, "", 0
    if passage.table_header:
        shown = f"{passage.table_header}\n"
    terms = passage.highlights.terms if passage.highlights else ()
    omitted = frozenset(passage.omitted)
    for start, end in sorted((*terms, *passage.omitted)):
        found = "…" if (start, end) in omitted else f"**{text[start:end]}**"
        shown += text[at:start] + found
        at = end
    return shown + text[at:]


def _pages(passage: Passage) -> str:
    if passage.page_start == passage.page_end:
        return f"page {passage.page_start}"
    return f"pages {passage.page_start}-{passage.page_end}"


def _score(passage: Passage) -> str:
    """Return the score; a fused one is followed by its parts."""
    if math.isnan(passage.score):
        return ""
    score = f"  {passage.score:.3f}"
    if passage.scores and passage.scores.kind in ("weighted", "rrf"):
        cosine, bm25 = passage.scores.dense, passage.scores.lexical
        score += f" (cosine {'-' if cosine is None else f'{cosine:.2f}'}, "
        score += f"BM25 {'-' if bm25 is None else f'{bm25:.1f}'})"
    return score


def _block(rank: int, passage: Passage, columns: int) -> str:
    title = " › ".join(_trail(passage))
    place = f"{passage.uri}:{passage.line_start}-{passage.line_end}"
    if passage.page_start:
        place = f"{passage.uri}, {_pages(passage)}"
    lines = [
        f"{rank:>2}.{_score(passage)}  {on_one_line(title)}",
        f"{_INDENT}{on_one_line(place)}",
    ]
    text, most = _text(passage)
    body = [
        wrapped
        for line in _reflowed(printable(text))
        for wrapped in textwrap.wrap(line, columns - len(_INDENT)) or [""]
    ]
    lines += [f"{_INDENT}{line}".rstrip() for line in body[:most]]
    if len(body) > most:
        lines.append(f"{_INDENT}… {counted(len(body) - most, 'more line')}")
    if passage.similar:
        count = passage.similar_count
        lines.append(f"{_INDENT}({count} more {'says' if count == 1 else 'say'} nearly the same)")
    return "\n".join(lines)


def _reflowed(text: str) -> list[str]:
    """Return the lines with hard-wrapped prose joined; code, tables, quotes, headings stay."""
    lines: list[str] = []
    fenced = joinable = in_item = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        item = _ITEM.match(line) is not None
        # Indented text continues a list item; elsewhere it may be code.
        prose = not item and _PROSE.match(line.lstrip() if in_item else line) is not None
        if prose and joinable and not fenced:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
            in_item = item
        # A short line ends its paragraph on purpose, as in verse and in addresses.
        joinable = not fenced and (prose or item) and len(line) >= _WRAPPED_AT
    return lines


def _trail(passage: Passage) -> list[str]:
    """Return title and headings, without repeating the title."""
    headings = list(passage.heading_path)
    if headings and headings[0] == passage.title:
        headings = headings[1:]
    return [" ".join(part.split()) for part in (passage.title, *headings)]
