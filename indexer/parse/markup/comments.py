"""Comments in Markdown: of HTML, MDX and Obsidian, and link targets that nothing refers to."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_OBSIDIAN_OPENING: Final = re.compile(r"(?:^|(?<=\s))%%(?!%)", re.MULTILINE)
_TARGETS: Final = ("[//]:", "[comment]:", "[_]:")
_LINK_TARGET: Final = re.compile(
    r"^ {0,3}\[(?://|comment|_)\]:[ \t]+(?:#|<#?>|/)[ \t]+(?:\".*\"|'.*'|\(.*\))[ \t]*\r?$",
    re.MULTILINE | re.IGNORECASE,
)
"""A definition that no link refers to, as in ``[//]: # (This is a comment.)``."""


def may_have_comments(text: str, *, mdx: bool, obsidian: bool) -> bool:
    """Return whether to look for comments; see ``find_comments``."""
    return (
        "<!--" in text
        or (mdx and "{/*" in text)
        or (obsidian and "%%" in text)
        or ("]: " in text and any(target in text for target in _TARGETS))
    )


def find_comments(
    text: str, start: int, code: Sequence[tuple[int, int]], *, mdx: bool, obsidian: bool
) -> list[tuple[int, int]]:
    """Return the ranges of the comments in a text.

    A comment without an end is none, so that no text is lost.

    Args:
        text: the file.
        start: first character after the front matter.
        code: ranges of code, in which nothing is a comment, in order.
        mdx: whether ``{/* */}`` is a comment.
        obsidian: whether ``%% %%`` is, on one line or from the start of a line to that of another.
    """
    kinds = [("<!--", "-->")]
    if mdx:
        kinds.append(("{/*", "*/}"))
    comments: list[tuple[int, int]] = []
    code_starts = [left for left, _ in code]

    def is_code(place: int) -> bool:
        number = bisect_right(code_starts, place) - 1
        return number >= 0 and place < code[number][1]

    for opening, closing in kinds:
        comments += _between(text, start, (opening, closing), is_code)
    if obsidian and "%%" in text:
        comments += _obsidian(text, start, is_code)
    if any(target in text for target in _TARGETS):
        found = (match.span() for match in _LINK_TARGET.finditer(text, start))
        comments += (span for span in found if not is_code(span[0]))
    return comments


def without_comments(html: str) -> str:
    """Return HTML of the same length with spaces in place of its comments."""
    parts, end = list[str](), 0
    for left, right in _between(html, 0, ("<!--", "-->"), lambda _: False):
        parts += html[end:left], " " * (right - left)
        end = right
    return "".join((*parts, html[end:]))


def _between(
    text: str, start: int, marks: tuple[str, str], is_code: Callable[[int], bool]
) -> Iterator[tuple[int, int]]:
    """Yield the ranges between marks whose first is not in code."""
    opening, closing = marks
    left = text.find(opening, start)
    while left >= 0:
        if is_code(left):
            left = text.find(opening, left + len(opening))
            continue
        right = text.find(closing, left + len(opening))
        if right < 0:
            return
        yield left, right + len(closing)
        left = text.find(opening, right + len(closing))


def _obsidian(text: str, start: int, is_code: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """Yield the comments between ``%%`` marks."""
    position = start
    while opening := _OBSIDIAN_OPENING.search(text, position):
        position = opening.end()
        if is_code(opening.start()):
            continue
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        right = text.find("%%", position, line_end)
        if right < 0 and _begins_line(text, opening.start()):
            right = text.find("\n%%", line_end)
            right = right + 1 if right >= 0 else -1
            if right < 0:
                return
        if right >= 0:
            position = right + len("%%")
            yield opening.start(), position


def _begins_line(text: str, place: int) -> bool:
    return place == 0 or text[place - 1] == "\n"
