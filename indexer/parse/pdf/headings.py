"""Headings of a PDF by the size of type, and its title: the largest lines at its top."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from indexer.parse.base.outline import words
from indexer.parse.pdf.lines import Line
from indexer.parse.pdf.rows import Grid

_LARGER: Final = 1.15
"""A line is a heading if its type is this many times as large as the text's."""
_LITTLE_LARGER: Final = 1.1
"""So is one in slightly larger type, if it is set off from the line above."""
_SET_OFF: Final = 1.6
"""Distance from the line above, in type sizes, from which a line is set off."""
_BULLETS: Final = tuple("•◦▪‣·●○■□➢✓–—*-")
_SAME_SIZE: Final = 0.5
"""Sizes that differ by less, in points, are the same."""
_MAX_STEP: Final = 2.1
"""Lines of one heading are at most this many type sizes apart."""
_MAX_HEADING: Final = 150
"""Longer lines in large type, in characters, are taken for text."""
_MAX_TITLE: Final = 300
"""As above, for the title, which may run over more lines."""
_MIN_TITLE: Final = 3
"""Fewer Latin letters in the largest type are an initial or a logo."""
_PART: Final = re.compile(
    r"[01]\.? .*|(?:(?:\d{1,2}|[A-Z]|[IVX]{1,5})[.:)]|\d{1,2}(?:\.\d{1,2}){1,4}) .*"
    r"|(?i:(?:chapter|part|section|appendix|kapitel|chapitre|cap[ií]tulo) [\divx]+\b.*"
    r"|(?:table of )?contents|inhalt(?:sverzeichnis)?|sommaire|table des mati[eè]res|[ií]ndice"
    r"|abstract|summary|introduction|foreword|preface|einleitung|zusammenfassung|vorwort"
    r"|please wait\.*)",
)
"""Headings of parts, which are no titles."""
_CENTRED_MARGIN: Final = 0.04
"""A centred line is indented on both sides by this share of the width of the text, and by as much
on either side, within this share."""
_TITLE_LINES: Final = 12
"""Number of lines at the top of the first page that may be the title in usual type."""
_MAX_ABOVE_TITLE: Final = 500
"""Maximum number of characters above the title, as of a letterhead."""
_LONGEST_WORD: Final = 25
_SENTENCE_SPACES: Final = 4
"""A line of more words that begins with a small letter, or ends with a full stop, is part of a
text."""
_LONG_LINE: Final = 50
"""Longer lines above, in characters, are text, below which no title stands."""
_FEWEST_NAMES: Final = 2
_MAX_HEADING_SHARE: Final = 0.2
"""If more of the text than this is in large type, it is a poster and has no headings."""
_MAX_LEVELS: Final = 4
"""Smaller sizes of type all make the last level: they differ by layout, not by rank."""
_MAX_AUTHOR_LINES: Final = 8
"""Lines of small type among the names of authors, such as their universities, at most."""
_JOINS: Final = words(
    "and & und et y e i en och og de da di del della der den van von la le ter al"
)
"""Words between names, and in them."""
_NAME_MARKS: Final = re.compile(r"[∗*†‡§¶#⋆]|[a-z]\d|\d,\d|[¹²³⁴⁵⁶⁷⁸⁹]|@")
"""Marks of footnotes at names, and addresses."""
_BY: Final = re.compile(r"(?:by|von|par|por|di|door|av|af)\s", re.IGNORECASE)
_SEPARATED: Final = re.compile(r"[,;·|]| and | & | und | et | y ")


class Large(NamedTuple):
    """A line in large type, or several that make one heading."""

    page: int
    start: int
    """Number of its first block on the page."""
    end: int
    """Number of the block after its last."""
    size: float
    text: str


Block = Line | Grid
"""Part of a page."""


def usual_size(pages: Iterable[Sequence[Line]]) -> float:
    """Return the type size, to half a point, of most of the text; 0 if it is unknown."""
    chars: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            chars[round(2 * line.size) / 2] += len(line.text)
    return chars.most_common(1)[0][0] if chars else 0.0


def large_lines(pages: Sequence[Sequence[Block]], usual: float) -> list[Large]:
    """Return the lines whose type is larger than usual; those of one heading are joined."""
    if not usual:
        return []
    found: list[Large] = []
    for number, blocks in enumerate(pages):
        for place, block in enumerate(blocks):
            if isinstance(block, Grid) or block.size <= _LITTLE_LARGER * usual:
                continue
            if not block.upright or block.text.startswith(_BULLETS):
                continue
            above = blocks[place - 1] if place else None
            last = found[-1] if found else None
            is_next = last is not None and (last.page, last.end) == (number, place)
            if last and is_next and isinstance(above, Line) and _continues(above, block):
                text = f"{last.text}\n{block.text}"
                found[-1] = last._replace(end=place + 1, text=text)
            elif block.size > _LARGER * usual or _is_set_off(above, block):
                found.append(Large(number, place, place + 1, block.size, block.text))
    return [large for large in found if _has_words(large.text)]


def _is_set_off(above: Block | None, line: Line) -> bool:
    """Whether a line is not just the next one of a paragraph."""
    if not isinstance(above, Line):
        return True
    return not 0 < above.end_y - line.y <= _SET_OFF * line.size


def _continues(above: Line, below: Line) -> bool:
    """Whether a line in large type is the next line of the same heading."""
    step = above.end_y - below.y
    return abs(above.size - below.size) < _SAME_SIZE and 0 < step <= _MAX_STEP * below.size


def _has_words(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return len(text) <= _MAX_TITLE and letters > len(text) // 2


def title_of_page(larges: Sequence[Large], pages: Sequence[Sequence[Block]]) -> Large | None:
    """Return the largest lines at the top of the first page; None if all its text is alike."""
    page = next((number for number, blocks in enumerate(pages) if blocks), 0)
    there = [large for large in larges if large.page == page and _may_be_title(large.text)]
    if not there:
        return None
    largest = max(large.size for large in there)
    first = next(large for large in there if large.size > largest - _SAME_SIZE)
    above = [len(line.text) for line in pages[page][: first.start] if isinstance(line, Line)]
    is_below_text = sum(length > _LONG_LINE for length in above) > 1
    return None if is_below_text or sum(above) > _MAX_ABOVE_TITLE else first


def centred_title(pages: Sequence[Sequence[Block]]) -> str:
    """Return the first centred lines of the first page that are set off; empty if none are.

    For files in one size of type, such as those made of plain text.
    """
    page = next((blocks for blocks in pages if blocks), [])
    lines = [line for line in page if isinstance(line, Line) and line.upright and line.size]
    if not lines:
        return ""
    left, right = min(line.x for line in lines), max(line.right for line in lines)
    margin = _CENTRED_MARGIN * (right - left)
    found: list[str] = []
    for number, line in enumerate(lines[:_TITLE_LINES]):
        indent, rest = line.x - left, right - line.right
        is_centred = min(indent, rest) > margin and abs(indent - rest) < margin
        is_set_off = number == 0 or lines[number - 1].end_y - line.y > _SET_OFF * line.size
        if found and not is_set_off:
            found = [*found, line.text] if is_centred else []
        elif found:
            break
        elif is_centred and is_set_off and _has_words(line.text):
            found = [line.text]
    title = "\n".join(found)
    return title if len(title) <= _MAX_HEADING and title and _may_be_title(title) else ""


def _may_be_title(text: str) -> bool:
    """Whether a line is more than an initial, a part of a sentence, or the heading of a part."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall(r"[^\W\d_]+", line)), default=0)
    if longest < (_MIN_TITLE if line.isascii() else 1) or _PART.fullmatch(line):
        return False
    if " " not in line and len(line) > _LONGEST_WORD and line.isascii():
        return False  # letters of a font that doesn't say what they stand for
    is_long = line.count(" ") >= _SENTENCE_SPACES
    return not (is_long and (line[0].islower() or line.endswith(".")))


def headings(
    larges: Sequence[Large], pages: Sequence[Sequence[Block]], title: Large | None
) -> list[tuple[int, Large]]:
    """Return the headings of a document and their levels, by the size of type.

    The names of authors below the title are no headings.

    Args:
        larges: from ``large_lines``.
        pages: blocks of the pages.
        title: from ``title_of_page``.
    """
    names = set(_authors(larges, title)) if title else set()
    found = [
        large
        for large in larges
        if large == title or (large not in names and len(large.text) <= _MAX_HEADING)
    ]
    chars = sum(len(block.text) for blocks in pages for block in blocks if isinstance(block, Line))
    if sum(len(large.text) for large in found if large != title) > _MAX_HEADING_SHARE * chars:
        return []
    sizes: list[float] = []
    for size in sorted({large.size for large in found}, reverse=True):
        if not sizes or sizes[-1] - size >= _SAME_SIZE:
            sizes.append(size)
    return [
        (min(sum(size > large.size - _SAME_SIZE for size in sizes), _MAX_LEVELS), large)
        for large in found
    ]


def _authors(larges: Sequence[Large], title: Large) -> Iterator[Large]:
    """Yield the lines in large type below the title that name the authors."""
    after = list(larges[larges.index(title) + 1 :])
    below = [title]
    for large in after:
        if large.page != title.page or large.start - below[-1].end > _MAX_AUTHOR_LINES:
            break
        below.append(large)
    sizes = [large.size for large in after[len(below) - 1 :]]
    for number, large in enumerate(below[1:], 1):
        is_usual = any(abs(size - large.size) < _SAME_SIZE for size in sizes)
        is_alone = not is_usual and _leads_to_other(below, number)
        if is_alone or _names_people(large.text, is_usual=is_usual):
            yield large
        else:
            return


def _leads_to_other(larges: Sequence[Large], number: int) -> bool:
    """Whether a line and those of its size below it are followed at once by one of another size."""
    size = larges[number].size
    for line, below in pairwise(larges[number:]):
        if below.start != line.end:
            return False
        if abs(below.size - size) >= _SAME_SIZE:
            return True
    return False


def _names_people(text: str, *, is_usual: bool) -> bool:
    """Whether a line below a title names people.

    Args:
        text: the line.
        is_usual: whether headings elsewhere have its size.
    """
    line = " ".join(text.split())
    if "@" in line or _BY.match(line):
        return True
    parts = [part.strip(".,;()") for part in re.split(r"[\s,;·|]+", line)]
    names = [part for part in parts if part[:1].isalpha() and part.lower() not in _JOINS]
    if len(names) < _FEWEST_NAMES or not all(name[0].isupper() for name in names):
        return False
    marked = _NAME_MARKS.search(line) is not None
    return marked or (not is_usual and _SEPARATED.search(line) is not None)
