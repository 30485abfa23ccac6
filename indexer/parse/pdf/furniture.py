"""Page headers, page footers and page numbers: lines at the same place on most pages."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from indexer.parse.pdf.lines import Line

_FEWEST_TIMES: Final = 2
"""A single page has no line that others have too."""
_FEWEST_PAGES: Final = 3
"""Fewer pages say little about what changes from chapter to chapter."""
_SHARE: Final = 0.4
"""Share of the pages that a header stands on: those of left and right pages may differ."""
_FEW_PAGES: Final = 5
_SHARE_OF_FEW: Final = 0.6
"""As above, for fewer than five pages: two of three, three of four."""
_PLACE_SHARE: Final = 0.6
"""Share of the pages with a line at a place where headers name the chapter."""
_REPEATED: Final = 0.7
"""Share of these lines whose text stands there on several pages; titles of slides differ."""
_MAX_SHARE: Final = 0.25
"""If more of the text than this is repeated, the pages are filled-in copies of one form."""
_EDGE_LINES: Final = 3
"""Maximum number of lines of a header or footer."""
_SAME_PLACE: Final = 3.0
"""Greatest distance of the baselines of lines at the same place, in points."""
_SET_OFF: Final = 1.3
"""A header is this many times as far from the text as the text's lines are from each other."""
_OTHER_SIZE: Final = 1.05
"""A header that is not set off is in type that differs by this factor."""
_NUMBERS: Final = re.compile(r"\d++|\b[ivxlc]++\b")
_NUMBERED: Final = re.compile(
    r"(?:\b(?:page|seite|p[aá]gina?|str)\b\.?)? ?\d++(?: ?(?:of|/|von|de|sur) ?\d++)?$"
    r"|^\d++ ?(?=\D)|\b[ivxlc]++$",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W\d_]{3}")
_MAX_TEXTS: Final = 5
"""Number of texts that are kept as metadata; those of chapters are headings too."""
_MAX_CHARS: Final = 200
"""Longer lines are text."""


class _Edge(NamedTuple):
    """A line near the top or the bottom of a page, and set off from its text."""

    page: int
    number: int
    """Number of the line on its page."""
    is_top: bool
    y: float
    text: str
    """Its text with ``#`` for each number."""


def page_furniture(pages: Sequence[Sequence[Line]]) -> dict[int, set[int]]:
    """Return the numbers of the lines of each page that are page headers, footers or numbers."""
    filled = sum(map(bool, pages))
    found: dict[int, set[int]] = defaultdict(set)
    if filled < _FEWEST_TIMES:
        return found
    step = _usual_step(pages)
    edges = [edge for page, lines in enumerate(pages) for edge in _edges(page, lines, step)]
    for edge in (*_repeated(edges, filled), *_chapters(edges, filled)):
        found[edge.page].add(edge.number)
    chars = sum(len(pages[page][number].text) for page in found for number in found[page])
    if chars > _MAX_SHARE * sum(len(line.text) for lines in pages for line in lines):
        return {}
    return found


def header_texts(
    pages: Sequence[Sequence[Line]], furniture: Mapping[int, Iterable[int]]
) -> list[str]:
    """Return the most frequent texts among page headers and footers, without page numbers."""
    texts = Counter(
        text.strip()
        for page, numbers in furniture.items()
        for number in numbers
        if (text := _NUMBERED.sub("", pages[page][number].text)) and _WORD.search(text)
    )
    return [text for text, _ in texts.most_common(_MAX_TEXTS)]


def _usual_step(pages: Iterable[Sequence[Line]]) -> float:
    """Return the usual distance between lines of text, over all pages."""
    steps = [above.end_y - below.y for lines in pages for above, below in pairwise(lines)]
    return median([step for step in steps if step > 0] or [0.0])


def _edges(page: int, lines: Sequence[Line], step: float) -> Iterator[_Edge]:
    order = sorted(
        (number for number, line in enumerate(lines) if line.upright and line.size),
        key=lambda number: lines[number].y,
        reverse=True,
    )
    for is_top in (True, False):
        for number in _block(lines, order if is_top else order[::-1], step):
            line = lines[number]
            if len(line.text) <= _MAX_CHARS:
                text = _NUMBERS.sub("#", line.text.lower())
                yield _Edge(page, number, is_top, line.y, text)


def _block(lines: Sequence[Line], order: Sequence[int], step: float) -> list[int]:
    """Return the first lines of a page that are set off from the others; at most a few.

    Args:
        lines: the lines of the page.
        order: their numbers, beginning at an edge of the page.
        step: usual distance between lines.
    """
    baselines = 1
    for place, (before, number) in enumerate(pairwise(order), 1):
        gap = abs(lines[before].y - lines[number].y)
        if gap <= _SAME_PLACE:
            continue
        sizes = lines[before].size, lines[number].size
        if gap > _SET_OFF * step or (baselines == 1 and max(sizes) > _OTHER_SIZE * min(sizes)):
            return list(order[:place])
        baselines += 1
        if baselines > _EDGE_LINES:
            return []
    return []


def _repeated(edges: Iterable[_Edge], pages: int) -> Iterator[_Edge]:
    """Yield the lines whose text is at the same place on many pages."""
    groups: dict[tuple[bool, str], list[_Edge]] = defaultdict(list)
    for edge in edges:
        groups[edge.is_top, edge.text].append(edge)
    for (_, text), same in groups.items():
        usual = median(edge.y for edge in same)
        there = [edge for edge in same if abs(edge.y - usual) <= _SAME_PLACE]
        times = len({edge.page for edge in there})
        few = pages < _FEW_PAGES
        needed = _SHARE_OF_FEW * pages if few else max(_FEWEST_PAGES, _SHARE * pages)
        # Two pages may have the same title; only a number that counts them tells.
        is_telling = pages > _FEWEST_TIMES or "#" in text
        if times >= needed and is_telling:
            yield from there


def _chapters(edges: Iterable[_Edge], pages: int) -> Iterator[_Edge]:
    """Yield the lines at the same place on most pages whose text changes with the chapter."""
    places: dict[tuple[bool, int], list[_Edge]] = defaultdict(list)
    for edge in edges:
        places[edge.is_top, round(edge.y / _SAME_PLACE)].append(edge)
    for there in places.values():
        times = Counter(edge.text for edge in there)
        again = [edge for edge in there if times[edge.text] > 1]
        is_place = len({edge.page for edge in there}) >= max(_FEWEST_PAGES, _PLACE_SHARE * pages)
        if is_place and len(again) >= _REPEATED * len(there):
            yield from again
