"""Put the characters of right-to-left lines into the order in which they are read.

A PDF draws glyphs at places, and a line of Arabic or Hebrew has no other order. PDFium turns such
lines round, but not always well: the letters of one glyph (lam-alef) stay reversed, and words in
Latin letters inside the line lose their order or their spaces. Here the places of the characters
decide. The rules are those of the Unicode bidirectional algorithm (UAX #9), applied backwards.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe]")
_ARABIC: Final = re.compile("[\u0600-\u08ff\ufb50-\ufdff\ufe70-\ufefe]")
_SEPARATORS: Final = ".,:/"
"""Kept between digits, as in 3.5 and 10:30."""
_SIGNS: Final = "+-"
"""Kept between digits too, except in Arabic."""
_SAME_PLACE: Final = 0.01
"""Characters whose left edges differ by less, in points, are of one glyph."""
_WORD_GAP: Final = 0.2
"""Smallest gap between words that have no space between them, in type sizes."""
_APART: Final = 1.0
"""Words further apart than this, in type sizes, are no phrase but cells of a table."""
_RIGHTWARDS: Final = ("L", "N")
"""Kinds of letters and digits that are read from left to right."""
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_MIRRORED: Final = _CLOSING | {closing: opening for opening, closing in _CLOSING.items()}


class Glyph(NamedTuple):
    """A character, or the characters of one glyph, and where it is drawn."""

    text: str
    left: float
    right: float


def has_right_to_left(text: str) -> bool:
    """Whether a text has letters of a script that is written from right to left."""
    return not text.isascii() and _RIGHT_TO_LEFT.search(text) is not None


def is_right_to_left(text: str) -> bool:
    """Whether most letters of a text are of a script that is written from right to left."""
    letters = Counter(map(_kind, text))
    return letters["R"] > letters["L"]


def in_reading_order(chars: Sequence[Glyph], size: float, *, from_right: bool) -> list[Glyph]:
    """Return the glyphs of a line in the order in which they are read, with spaces between words.

    Args:
        chars: the characters of the line in PDFium's order. Spaces that it made up have no width.
        size: type size.
        from_right: whether the text around it is read from right to left. If it isn't, the line may
            be all the same; its ends tell.
    """
    seen = _from_left_to_right(list(_glyphs(chars)), size)
    kinds = ["L" if "L" in map(_kind, glyph.text) else _kind(glyph.text[0]) for glyph in seen]
    is_arabic = any(_ARABIC.search(glyph.text) for glyph in seen)
    line = _Line(seen, kinds, size, _SEPARATORS if is_arabic else _SEPARATORS + _SIGNS)
    if from_right or _ends_in_right_to_left(kinds):
        order = line.of_right_to_left(0, len(seen))
    else:
        order = line.of_left_to_right()
    return _balanced([seen[index] for index in order])


def _ends_in_right_to_left(kinds: Sequence[str]) -> bool:
    """Whether a line begins and ends with right-to-left letters, or has more of these words."""
    letters = [kind for kind in kinds if kind in ("L", "R")]
    if not letters:
        return False
    if letters[0] == letters[-1]:
        return letters[0] == "R"
    return letters.count("R") > letters.count("L")


class _Made(NamedTuple):
    """A glyph, and whether a made-up space stands between it and the one before."""

    glyph: Glyph
    spaced: bool


def _glyphs(chars: Sequence[Glyph]) -> Iterator[_Made]:
    """Yield the glyphs of characters: those at the same place are of one.

    So are left-to-right letters and digits that follow each other, so that a word stays together
    where two lines are drawn over each other.
    """
    group: list[Glyph] = []
    spaced = due = False
    for char in chars:
        if char.text.isspace() and char.right - char.left < _SAME_PLACE:
            due = True
            continue
        if group and (due or not _belongs(group, char)):
            yield _Made(_one(group), spaced)
            group, spaced, due = [], due, False
        group.append(char)
    if group:
        yield _Made(_one(group), spaced)


def _belongs(group: Sequence[Glyph], char: Glyph) -> bool:
    """Whether a character belongs to the glyph or the word before it."""
    if _kind(char.text) == "R":
        return _kind(group[0].text) == "R" and abs(char.left - group[0].left) < _SAME_PLACE
    last = group[-1]
    is_word = _kind(char.text) in _RIGHTWARDS and _kind(last.text) in _RIGHTWARDS
    return is_word and char.left >= last.left


def _one(group: Sequence[Glyph]) -> Glyph:
    """Return the glyph of the characters that have the same place, or the word.

    PDFium turns the characters of one glyph round like those of several. Only the ligatures that
    have a code point of their own are in order already: PDFium itself takes them apart.
    """
    text = "".join(char.text for char in group)
    is_turned = text not in _ligatures() or text[::-1] in _ligatures()
    if len(text) > 1 and _kind(text[0]) == "R" and is_turned:
        letters = [char for char in reversed(text) if not unicodedata.combining(char)]
        text = "".join(letters) + "".join(filter(unicodedata.combining, text))
    return Glyph(text, group[0].left, max(char.right for char in group))


@lru_cache(maxsize=1)
def _ligatures() -> frozenset[str]:
    """Return the letters of the Arabic ligatures that have a code point."""
    points = (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFEFF))
    return frozenset(unicodedata.normalize("NFKC", chr(point)) for point in points)


def _from_left_to_right(made: Sequence[_Made], size: float) -> list[Glyph]:
    """Return glyphs in the order of their places, with a space in each gap between words."""
    spaced = {number for number, glyph in enumerate(made) if glyph.spaced}
    letters = sorted(glyph.left for glyph, _ in made if not unicodedata.combining(glyph.text[0]))
    order = sorted(range(len(made)), key=lambda number: _place(made[number].glyph, letters))
    seen: list[Glyph] = []
    last = -1
    for number in order:
        glyph = made[number].glyph
        if seen and not (seen[-1].text.isspace() or glyph.text.isspace()):
            gap = glyph.left - seen[-1].right
            neighbours = abs(number - last) == 1 and max(number, last) in spaced
            # A word in Latin letters is a word of its own. Some programs draw the space after it
            # on the side where no reader looks for it.
            scripts = {_kind(seen[-1].text[-1]), _kind(glyph.text[0])} == {"L", "R"}
            if neighbours or scripts or gap > _WORD_GAP * size:
                seen.append(Glyph(" ", seen[-1].right, glyph.left))
        seen.append(glyph)
        last = number
    return seen


def _place(glyph: Glyph, letters: Sequence[float]) -> float:
    """Return where a glyph is drawn; for a vowel mark, just to the left of its letter.

    Args:
        glyph: the glyph.
        letters: left edges of the letters, in order.
    """
    if not unicodedata.combining(glyph.text[0]):
        return glyph.left
    letter = bisect_right(letters, glyph.left) - 1
    return (letters[letter] if letter >= 0 else glyph.left) - _SAME_PLACE


@lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    """Return "R", "L", "N" for a digit, or "S" for what takes its direction from its neighbours."""
    kind = unicodedata.bidirectional(char)
    if kind in ("R", "AL", "NSM"):
        return "R"
    if kind == "L":
        return "L"
    return "N" if kind in ("EN", "AN") else "S"


class _Line(NamedTuple):
    """A line as it is seen, from left to right."""

    glyphs: Sequence[Glyph]
    kinds: Sequence[str]
    size: float
    signs: str
    """Characters that may stand between two digits of a number."""

    def of_left_to_right(self) -> Iterator[int]:
        """Yield the order of a left-to-right line: its right-to-left runs are turned round."""
        kinds = self.kinds
        index = 0
        while index < len(kinds):
            if kinds[index] != "R":
                yield index
                index += 1
                continue
            end = stop = index + 1
            while stop < len(kinds) and kinds[stop] != "L":
                stop += 1
                if kinds[stop - 1] == "R":
                    end = stop
            yield from self.of_right_to_left(index, end)
            index = end

    def of_right_to_left(self, start: int, end: int) -> Iterator[int]:
        """Yield the order of a right-to-left run: from its end, without turning phrases round."""
        for part in reversed(list(self._parts(start, end))):
            yield from part

    def _parts(self, start: int, end: int) -> Iterator[range]:
        """Yield the parts of a right-to-left run that are read from left to right."""
        index = start
        while index < end:
            stop = index + 1
            if self.kinds[index] in _RIGHTWARDS:
                stop = self._phrase_end(index, end)
            if stop > index + 1 and "L" not in self.kinds[index:stop]:
                yield from self._numbers(index, stop)
            else:
                yield range(index, stop)
            index = stop

    def _phrase_end(self, start: int, end: int) -> int:
        """Return where a left-to-right phrase ends: after its last letter or digit."""
        stop = start + 1
        for index in range(start + 1, end):
            glyph = self.glyphs[index]
            is_wide = glyph.text.isspace() and glyph.right - glyph.left > _APART * self.size
            if self.kinds[index] == "R" or is_wide:
                break
            if self.kinds[index] in _RIGHTWARDS:
                stop = index + 1
        return stop

    def _numbers(self, start: int, end: int) -> Iterator[range]:
        """Yield the numbers of a phrase without letters, and what stands between them."""
        begin = start
        for index in range(start + 1, end):
            before, here = self.kinds[index - 1], self.kinds[index]
            joins = before == here == "N" or (
                self.glyphs[index if here != "N" else index - 1].text in self.signs
                and self.kinds[index + 1 if here != "N" else index - 2] == "N"
            )
            if not joins:
                yield range(begin, index)
                begin = index
        yield range(begin, end)


def _balanced(glyphs: Sequence[Glyph]) -> list[Glyph]:
    """Return glyphs whose brackets face each other.

    PDFium has mirrored those that it turned round, and may have turned others round than we do.
    """
    result = list(glyphs)
    open_: list[int] = []
    lone: list[int] = []
    for index, glyph in enumerate(glyphs):
        if glyph.text in _CLOSING:
            open_.append(index)
        elif glyph.text in _MIRRORED:
            if open_ and _CLOSING[glyphs[open_[-1]].text] == glyph.text:
                open_.pop()
            else:
                lone.append(index)
    lone = sorted(lone + open_)
    for first, second in zip(lone[::2], lone[1::2], strict=False):
        pair = (glyphs[first].text, glyphs[second].text)
        for index, is_opening in ((first, True), (second, False)):
            if (glyphs[index].text in _CLOSING) != is_opening and pair[0] in (
                pair[1],
                _MIRRORED[pair[1]],
            ):
                result[index] = glyphs[index]._replace(text=_MIRRORED[glyphs[index].text])
    return result
