"""Find encoded data in a text: data URIs and long runs of base64, which say nothing to a reader.

Pictures in Markdown, payloads in links, keys, certificates and tokens are found. Hex dumps, DNA
sequences, long words, names and paths, minified code and scripts without spaces are not: a run
counts as base64 only if capitals, small letters and digits alternate as they do at random.
"""

import re
from collections.abc import Iterator
from heapq import merge
from typing import Final

MIN_RUN_CHARS: Final = 128
"""Length from which a run of base64 is data rather than a hash, a key or a short token. No word
longer than 128 bytes can be searched for."""
MIN_DATA_URI_CHARS: Final = 64
"""Length of a data URI's payload from which it is data rather than an example."""

_MIN_SHARE: Final = 0.17
"""Share of capitals and of small letters in base64, at least: 0.4 for either at random."""
_MIN_CHANGES: Final = 0.43
"""Changes between capitals, small letters, digits and signs for each character of base64, at least:
0.64 at random."""
_MAX_SIGNS: Final = 0.15
"""Share of signs in base64, at most: 0.03 at random, 0.2 in titles with signs between words."""
_MAX_WORDS: Final = 0.25
"""Share of small letters in fours or more, at most. At random it is 0.07, in names that C++ mangled
0.44. These four limits miss 0.1 % of random base64 of 128 characters, and take 0.2 % of the 8,987
names of 128 characters or more in two libraries for data."""
_MIN_DIFFERENT: Final = 16
"""Different characters in base64, at least: a few again and again are no data. At random there were
47 or more in each of 20,000 runs of 128."""
_WORD: Final = 4
_JUDGED_CHARS: Final = 1 << 16
"""Number of characters of a run to look at before judging it: bounds the time."""

_SIGN: Final = "[A-Za-z0-9+/_%-]"
"""A character of base64, of its variant for URLs, or of either when quoted for a URL."""
_LINE_CHARS: Final = 40
"""Signs on a line of a run of several lines, at least. Programs write 60 to 76."""
_NEXT_LINE: Final = r"""(?:["'\\,]{0,2}+[ \t]*+\\?+\r?\n[ \t>]*+(?:b?["'])?+)"""
"""Line end within a run; each line may be quoted, as in source code and in mails."""
_LAST_LINE: Final = (
    rf"(?:{_SIGN}*+={{1,2}}+|(?={_SIGN}*?[0-9])(?={_SIGN}*?[A-Z])(?={_SIGN}*?[a-z])"
    rf"{_SIGN}{{1,40}}+(?=[\"'\s]|\Z))"
)
"""Rest of a run that is shorter than a line: it is padded, or no word."""
_MORE_LINES: Final = rf"(?:{_NEXT_LINE}{_SIGN}{{{_LINE_CHARS},}}+)*+(?:{_NEXT_LINE}{_LAST_LINE})?+"
_RUN: Final = re.compile(rf"{_SIGN}*+(?:={{1,2}}+|{_MORE_LINES}={{0,2}}+)")
_LINE: Final = re.compile(rf"{_SIGN}{{{MIN_RUN_CHARS},}}+={{0,2}}+")
_LINE_BEFORE: Final = r"""(?:(?:["']b?)?+[ \t>]*+\n\r?+\\?[ \t]*+["'\\,]{0,2}+)"""
_BACKWARDS: Final = re.compile(rf"{_SIGN}*+(?:{_LINE_BEFORE}{_SIGN}{{{_LINE_CHARS},}}+)*+")
"""The part of a run before a place, in a reversed text."""

_WORDS: Final = re.compile(rf"(?:{_SIGN}{{0,{_LINE_CHARS - 1}}}+{_NEXT_LINE})*+")
"""Words on lines of their own before a run."""

_STEP: Final = MIN_RUN_CHARS // 2
"""Every run of twice this length contains a whole block of this length that begins at a multiple of
it. So it is enough to look at the beginning of each block, which takes 1 ns for a character."""
_OTHER_BLOCKS: Final = re.compile(rf"(?:(?!{_SIGN}{{{_STEP}}}).{{{_STEP}}})*+", re.DOTALL)
_LONG_LINE: Final = re.compile(
    rf"""\n[ \t>"'b]*+(?=[+/_%-]{{0,8}}+[A-Za-z0-9]){_SIGN}{{{_LINE_CHARS}}}"""
)
_LOOK_BACK: Final = 4 * _STEP

_DATA: Final = "data:"
_DATA_URI: Final = re.compile(
    r"data:(?P<kind>[a-z]{1,20}+)?/[\w.+-]{1,100}+(?:;[\w.=+-]{1,100}+){0,8}+,", re.ASCII
)
_BASE64: Final = ";base64,"
_UNREADABLE: Final = frozenset({"application", "audio", "font", "image", "video"})
"""Kinds of data that say nothing to a reader even if they are not in base64."""
_QUOTED: Final = {'"': re.compile(r'[^"\n]*+'), "'": re.compile(r"[^'\n]*+")}
_BARE: Final = re.compile(r"[^\s\"'<>()\\]*+")

_KIND: Final = re.compile("[A-Z]++|[a-z]++|[0-9]++|[+/_%-]++")


def encoded_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of encoded data; the ranges may overlap. Takes linear time."""
    yield from _data_uris(text)
    yield from _runs(text)


def _data_uris(text: str) -> Iterator[tuple[int, int]]:
    at = text.find(_DATA)
    while at >= 0:
        end = at + len(_DATA)
        beginning = _DATA_URI.match(text, at)
        if beginning and not (at and text[at - 1].isalnum()):
            end = _payload_end(text, beginning)
            if end - beginning.end() >= MIN_DATA_URI_CHARS:
                yield at, end
        at = text.find(_DATA, end)


def _payload_end(text: str, beginning: re.Match[str]) -> int:
    """Return where the payload of a data URI ends; its start if it is readable."""
    start = beginning.end()
    if beginning[0].endswith(_BASE64):
        return _end(_RUN, text, start)
    if beginning["kind"] not in _UNREADABLE:
        return start
    before = text[beginning.start() - 1 : beginning.start()]
    return _end(_QUOTED.get(before, _BARE), text, start)


def _runs(text: str) -> Iterator[tuple[int, int]]:
    done = 0
    for place in merge(_blocks(text), _long_lines(text)):
        if place < done:
            continue
        before = text[max(done, place - _LOOK_BACK) : place][::-1]
        start = _end(_WORDS, text, place - _end(_BACKWARDS, before, 0))
        end = _end(_RUN, text, start)
        if _is_base64(text, start, end):
            yield start, end
        else:  # one of its lines may be
            for line in _LINE.finditer(text, start, end):
                if _is_base64(text, *line.span()):
                    yield line.span()
        done = max(place + 1, end)


def _blocks(text: str) -> Iterator[int]:
    """Yield the places of all blocks that hold nothing but signs."""
    place = 0
    while (place := _end(_OTHER_BLOCKS, text, place)) + _STEP <= len(text):
        yield place
        place += _STEP


def _long_lines(text: str) -> Iterator[int]:
    """Yield the places of lines that begin with enough signs to be of a run on several lines."""
    return (line.end() - _LINE_CHARS for line in _LONG_LINE.finditer(text))


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return where a pattern that matches anything ends."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _is_base64(text: str, start: int, end: int) -> bool:
    if end - start < MIN_RUN_CHARS:
        return False
    total = capitals = small = signs = words = 0
    kinds = _KIND.findall(text, start, min(end, start + _JUDGED_CHARS))
    for kind in kinds:
        first, length = kind[0], len(kind)
        total += length
        if first.isupper():
            capitals += length
        elif first.islower():
            small += length
            words += length if length >= _WORD else 0
        elif not first.isdigit():
            signs += length
    return (
        len(set(text[start : min(end, start + _JUDGED_CHARS)])) >= _MIN_DIFFERENT
        and min(capitals, small) >= _MIN_SHARE * total
        and len(kinds) >= _MIN_CHANGES * total
        and signs <= _MAX_SIGNS * total
        and words <= _MAX_WORDS * total
    )
