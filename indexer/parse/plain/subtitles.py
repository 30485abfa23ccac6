"""Subtitles: WebVTT and SubRip as text without numbers and marks, in sections by time.

The words of the cues follow each other as they are spoken; a new paragraph begins after a pause or
with another speaker. Each section holds the cues of about a minute, and its heading is the time
from the first to the last, so that a passage says where it is in the recording.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from indexer.decoding.decode import decode
from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import title_of
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.records import Document

SECTION_SECONDS: Final = 60.0
"""A minute of speech is about 150 words, which fill a chunk of 254 tokens: a shorter section leaves
chunks half empty, a longer one says less about the place of a passage."""
_PAUSE_SECONDS: Final = 4.0
"""A pause that begins a paragraph: speakers pause for about a second between sentences."""

_TIMES: Final = re.compile(
    r"[ \t]*+(?:(\d{1,6}):)?(\d{1,3}):(\d{1,2})[.,](\d{1,3})[ \t]*+-->[ \t]*+"
    r"(?:(\d{1,6}):)?(\d{1,3}):(\d{1,2})[.,](\d{1,3})"
)
_VOICE: Final = re.compile(r"<v(?:\.[^\s<>]*+)?[ \t]++([^<>]++)>")
_TAG: Final = re.compile(r"</?[A-Za-z0-9][^<>]*+>|\{\\[^{}]*+\}")


class _Cue(NamedTuple):
    start: float
    """Seconds."""
    end: float
    lines: list[str]


class _Span(NamedTuple):
    """Cues that make a section."""

    start: float
    end: float
    blocks: list[tuple[int, str]]
    """Number of line ends before each cue's text, and the text."""


def parse_subtitles(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of subtitles; its title is the file's name.

    Raises:
        SkipDocument: the data is binary, or has no cues.
    """
    source, encoding = decode(data, encoding)
    cues = list(_cues(source))
    if not cues:
        raise SkipDocument(SkipReason.DAMAGED, "no cues in it")
    composer = Composer()
    for span in _spans(cues):
        composer.begin_section(1, f"{_clock(span.start)} – {_clock(span.end)}")
        for line_ends, text in span.blocks:
            composer.add(text, line_ends)
    duration = _clock(max(cue.end for cue in cues))
    document = composer.document(uri, "subtitles", metadata=[("duration", duration)])
    return replace(document, title=title_of(uri), encoding=encoding)


def _spans(cues: Iterable[_Cue]) -> Iterator[_Span]:
    """Yield the sections; lines that the cue before had as well are left out."""
    span: _Span | None = None
    speaker, end = "", 0.0
    before: list[str] = []
    for cue in cues:
        named = next((voice.strip() for line in cue.lines for voice in _VOICE.findall(line)), "")
        lines = [line for line in map(_plain, cue.lines) if line]
        # Captions that roll up repeat what is still on the screen.
        new = [line for line in lines if line not in before]
        before = lines or before
        if not new:
            continue
        begins = span is None or not 0 <= cue.start - span.start < SECTION_SECONDS
        if span is not None and begins:
            yield span
        apart = begins or named not in ("", speaker) or cue.start - end > _PAUSE_SECONDS
        text = "\n".join(new)
        if named and (begins or named != speaker):
            text = f"{named}: {text}"
        speaker = named or speaker
        end = max(cue.start, cue.end)
        blocks = [] if span is None or begins else span.blocks
        blocks.append((2 if apart else 1, text))
        span = _Span(cue.start if span is None or begins else span.start, end, blocks)
    if span is not None:
        yield span


def _cues(source: str) -> Iterator[_Cue]:
    """Yield the cues; notes, styles, numbers and headers are left out."""
    cue: _Cue | None = None
    for line in source.splitlines():
        if (times := _TIMES.match(line)) is not None:
            if cue is not None:
                yield cue
            cue = _Cue(_seconds(times.groups()[:4]), _seconds(times.groups()[4:]), [])
        elif cue is not None and line.strip():
            cue.lines.append(line)
        elif cue is not None:
            yield cue
            cue = None
    if cue is not None:
        yield cue


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, _ = (int(part or 0) for part in parts)
    return hours * 3600.0 + minutes * 60.0 + seconds + float(f"0.{parts[3]}")


def _clock(seconds: float) -> str:
    """Return a time as ``1:02:03``, or ``02:03`` below an hour."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"


def _plain(line: str) -> str:
    """Return a line without tags."""
    line = _TAG.sub("", line) if "<" in line or "{" in line else line
    return " ".join(html.unescape(line).split())
