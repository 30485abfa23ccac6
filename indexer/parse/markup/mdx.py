"""MDX: Markdown with JSX, rewritten as Markdown in which CommonMark finds the same blocks.

To CommonMark a tag at the start of a line opens a block of HTML, in which nothing is a heading or
code until the next blank line. In MDX a tag ends with itself: what follows is Markdown, and may be
indented under the tag. So tags at the starts of lines are taken out, what stands under them is
moved to their indentation, and so are the ``import`` and ``export`` lines of JavaScript.
"""

import re
from bisect import bisect_right
from functools import lru_cache
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+\Z")
_INDENT: Final = re.compile(r"[ \t]*")
_FENCE: Final = re.compile(r"(`{3,}|~{3,})[^`]*$")
_TAG: Final = re.compile(r"</?(?:(?P<name>[A-Za-z][\w.-]*(?::[A-Za-z][\w-]*)?)(?=[\s/>{])|(?=>))")
_IN_TAG: Final = re.compile(r"""["'`{}<>]|\n[ \t\r]*\n""")
_MAX_TAG_CHARS: Final = 100_000
"""Longer tags are none: the file is broken, and its rest is read as Markdown."""
_CLOSING: Final = re.compile(r"</[A-Za-z>]")
_OPENING: Final = re.compile(r"<[A-Za-z][^<>]*(?<!/)>")
_VOID: Final = frozenset(
    {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}
)

ESM: Final = re.compile(
    r"""import[ ]+(?:type[ ]+)?(?:['"]|[\w$*{][^'"\n]*\bfrom[ ]*['"]|\{\s*$)"""
    r"""|export[ ]+(?:default\b|const\b|let\b|var\b|function\b|class\b|async\b|type\b|\{|\*)"""
)
"""Start of a line of JavaScript between paragraphs."""
_MAX_ESM_LINES: Final = 200
"""Longer statements end here: a bracket is missing."""


_SPECIAL: Final = re.compile(
    r"\n(?:[ \t]*+(?:<[A-Za-z/>]|`{3}|~{3})|import\b|export\b)"  # no "^", which is slow
)
"""Start of a line that may be a tag, a fence or JavaScript, with the line end before it."""
_MAX_START_CHARS: Final = 200
"""Number of characters to look for such a start in at the start of a file."""


class Shadow(NamedTuple):
    """A text rewritten for CommonMark, and where its lines come from."""

    text: str
    starts: list[int]
    """First character of each line or run of lines."""
    origins: list[int]
    """Its place in the file."""
    scripts: list[tuple[int, int]]
    """Ranges of the file that are JavaScript."""

    def origin(self, place: int) -> int:
        """Return where a character of the text is in the file."""
        line = bisect_right(self.starts, place) - 1
        return self.origins[line] + place - self.starts[line] if line >= 0 else place


class _Element(NamedTuple):
    """An open element."""

    indent: int
    """Indentation of its tag as rewritten, to which its content is moved."""
    content: int | None
    """Indentation of its content in the file; None until there is some."""


def shadow_of(text: str, start: int) -> Shadow:
    """Return a file as Markdown without its tags and scripts.

    Args:
        text: the file.
        start: first character after the front matter.
    """
    return _Rewriter(text, start).run()


class _Rewriter:
    """Rewrites a file line by line."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._position = start
        self._lines: list[str] = []
        self._shadow = Shadow("", [], [], [])
        self._length = 0
        self._open: list[_Element] = []
        self._is_broken = False

    def run(self) -> Shadow:
        is_blank = True
        while self._position < len(self._text):
            if plain := self._plain():
                is_blank = not plain[:-1].rpartition("\n")[2].strip()
                continue
            line = self._line()
            bare = line.strip()
            if is_blank and ESM.match(line):
                self._skip_script()
            elif fence := _FENCE.match(bare):
                self._copy_fenced(fence[1])
            elif bare.startswith("<") and self._skip_tags(line):
                bare = ""  # a tag ends a paragraph
            else:
                self._copy(line)
                self._close(bare)
            is_blank = not bare
        return self._shadow._replace(text="".join(self._lines))

    def _plain(self) -> str:
        """Take over the lines before the next one that may be more than Markdown; return them."""
        if self._moves():
            return ""
        start = self._position
        special = _SPECIAL.search(self._text, max(0, start - 1))
        plain = self._text[start : special.start() + 1 if special else None]
        if start == 0 and _SPECIAL.match("\n" + self._text[:_MAX_START_CHARS]):
            plain = ""
        if plain:
            self._take(len(plain))
            self._close(plain)
        return plain

    def _moves(self) -> bool:
        """Whether lines get another indentation."""
        return bool(self._open) and self._open[-1].indent != self._open[-1].content

    def _take(self, length: int) -> None:
        """Take over a part of the file as it is."""
        self._add(self._text[self._position : self._position + length], self._position)
        self._position += length

    def _copy_fenced(self, fence: str) -> None:
        """Take code over, to the fence that ends it."""
        closing = _closing(fence).search(self._text, self._position + len(self._line()) - 1)
        stop = closing.end() + 1 if closing else len(self._text)
        if not self._moves():
            self._take(stop - self._position)
        while self._position < stop and (line := self._line()):
            self._copy(line)

    def _line(self) -> str:
        match = _LINE.match(self._text, self._position)
        return match[0] if match else ""

    def _copy(self, line: str) -> None:
        """Take a line over, with its indentation."""
        width = len(line) - len(line.lstrip(" \t"))
        indent = self._indent(width) if line.strip() else 0
        self._add(" " * indent + line[width:], self._position + width - indent)
        self._position += len(line)

    def _add(self, line: str, origin: int) -> None:
        self._shadow.starts.append(self._length)
        self._shadow.origins.append(origin)
        self._lines.append(line)
        self._length += len(line)

    def _indent(self, width: int) -> int:
        """Return the indentation that replaces one of the file."""
        if not self._open:
            return width
        element = self._open[-1]
        if element.content is None:
            element = self._open[-1] = element._replace(content=width)
        return element.indent + max(0, width - (element.content or 0))

    def _skip_script(self) -> None:
        """Leave out the lines of a statement: to the next blank line outside brackets."""
        start, depth = self._position, 0
        for _ in range(_MAX_ESM_LINES):
            line = self._line()
            if not line or (not line.strip() and depth <= 0):
                break
            depth += sum(map(line.count, "{[(")) - sum(map(line.count, "}])"))
            self._position += len(line)
        self._shadow.scripts.append((start, self._position))
        self._add("\n", start)

    def _skip_tags(self, line: str) -> bool:
        """Leave out the tags that a line begins with; return whether there are any."""
        text, width = self._text, len(line) - len(line.lstrip(" \t"))
        position = self._position + width
        found = False
        while tag := _TAG.match(text, position):
            end = 0 if self._is_broken else _tag_end(text, tag.end())
            self._is_broken |= end < 0
            if end <= 0:
                break
            found = True
            if text.startswith("</", position):
                del self._open[-1:]
            elif text[end - 2] != "/" and (tag["name"] or "") not in _VOID:
                self._open.append(_Element(self._indent(width), None))
            else:
                self._indent(width)
            position = end
        if not found:
            return False
        self._position = position
        rest = self._line()
        width = len(rest) - len(rest.lstrip(" \t"))
        self._close(rest)
        self._add(rest[width:] or "\n", position + width)
        self._position += len(rest)
        return True

    def _close(self, line: str) -> None:
        """Close the elements that end within a line."""
        if self._open and "</" in line:
            count = len(_CLOSING.findall(line)) - len(_OPENING.findall(line))
            del self._open[len(self._open) - max(0, min(count, len(self._open))) :]


@lru_cache
def _closing(fence: str) -> re.Pattern[str]:
    """Return the pattern of the line that ends a fence, with the line end before it."""
    return re.compile(rf"\n[ \t]*+{fence}{fence[0]}*+[ \t\r]*+(?=\n|\Z)")


def _tag_end(text: str, start: int) -> int:
    """Return the end of a tag; 0 if it is none, and -1 if it is too long for one."""
    depth, quote = 0, ""
    for mark in _IN_TAG.finditer(text, start, start + _MAX_TAG_CHARS):
        character = mark[0]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'`":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        elif depth <= 0:
            return mark.end() if character == ">" else 0
    return 0 if len(text) - start < _MAX_TAG_CHARS else -1
