"""Answers of bounded length: what of texts, metadata and lists fits into one.

Lengths are those of JSON, in UTF-16 code units, as clients in JavaScript count characters.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

ItemT = TypeVar("ItemT")

ANSWER_CHARS: Final = 20_000
"""An answer has fewer characters: about 5,000 tokens of English, 20,000 at worst. Claude Code, for
one, refuses answers of more than 25,000 tokens."""

_ELLIPSIS: Final = "…"
_BREAKS: Final = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))
"""Where a text is best divided, in order of preference."""


def as_json(value: object) -> str:
    """Return a value as compact JSON, in which texts stay readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def length(text: str) -> int:
    """Return the length of a text in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def json_length(value: object) -> int:
    """Return the length of a value's JSON."""
    return length(as_json(value))


def fitting(text: str, room: int) -> int:
    """Return the number of first characters of a text whose JSON, without quotes, fits."""
    text = text[: max(0, room)]  # no character takes less than one
    if _inner_length(text) <= room:
        return len(text)
    lengths = range(len(text) + 1)
    return max(0, bisect_right(lengths, room, key=lambda count: _inner_length(text[:count])) - 1)


def _inner_length(text: str) -> int:
    return json_length(text) - len('""')


def shortened(text: str, room: int) -> str:
    """Return a text, or its beginning and an ellipsis, so that its JSON fits."""
    if fitting(text, room) == len(text):
        return text
    return text[: fitting(text, room - len(_ELLIPSIS))] + _ELLIPSIS


def divided(text: str, room: int) -> str:
    """Return the first part of a text whose JSON fits: to the end of a paragraph, line or word.

    The part is at least three quarters of what fits, and one character even if none does.
    """
    count = fitting(text, room)
    if count == len(text):
        return text
    earliest = count - count // 4
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(text, earliest, count)]
        if ends:
            return text[: ends[-1]]
    return text[: max(1, count)]


def fitting_items(items: Iterable[ItemT], room: int) -> list[ItemT]:
    """Return the first items that fit into a list, with a comma after each; ask for no more."""
    fitting: list[ItemT] = []
    for item in items:
        room -= json_length(item) + 1
        if room < 0:
            break
        fitting.append(item)
    return fitting


def fitting_fields(fields: Mapping[str, Any], room: int) -> tuple[dict[str, Any], int]:
    """Return the fields that fit, long texts shortened, and the number of those left out.

    Args:
        fields: values that JSON knows.
        room: for all of them. One text may take a quarter of it.
    """
    shown: dict[str, Any] = {}
    longest = room // 4
    for name, value in fields.items():
        kept = shortened(value, longest) if isinstance(value, str) else value
        size = json_length({name: kept})
        if size <= room:
            shown[name] = kept
            room -= size
    return shown, len(fields) - len(shown)
