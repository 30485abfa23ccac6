"""Pictures of text (PNG, JPEG, TIFF): pages whose text is recognised."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from indexer.parse.ocr.recognize import MAX_SIDE, Recognized, recognizer
from indexer.parse.pdf.pages import Pages
from indexer.parse.pdf.pdf import MAX_RECOGNIZED
from indexer.parse.pdf.recognized import recognized_lines
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

if TYPE_CHECKING:
    from indexer.parse.ocr.recognize import Picture

_FORMATS: Final = ("PNG", "JPEG", "TIFF")
_MAX_PIXELS: Final = 100_000_000
"""Larger pictures are refused: they would take more memory than a reader has. A page of A3 at 600
pixels an inch has 70 million."""
_SUBFILE_TYPE: Final = 254
_LEAST_SIDE: Final = 16
"""Smaller pictures have no text."""
_SEARCHED: Final = 200
"""Rows of pixels above the end of a strip in which the emptiest is looked for."""


def parse_image(
    uri: str,
    data: bytes,
    languages: Sequence[str] = (),
    part_done: Callable[[], None] = lambda: None,
) -> Document:
    """Make a document of a picture; the pictures of a TIFF file are its pages.

    Args:
        uri: as in ``Document``.
        data: the file.
        languages: of the text; see ``recognizer``.
        part_done: called after each page.

    Raises:
        SkipDocument: the file is damaged or too large, or no engine for its languages is installed.
    """
    engine = recognizer(tuple(languages))
    pages = Pages()
    with parser_errors_as_damage(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        for number, picture in enumerate(_pictures(image)):
            pages.lines.append([])
            if number >= MAX_RECOGNIZED:
                pages.unread.append(number)
                continue
            found: list[Recognized] = []
            top = 0
            for strip in _strips(picture):
                found += (_lower(line, top) for line in engine(strip))
                top += strip.shape[0]
                part_done()
            pages.lines[-1] = recognized_lines(found, picture.shape[0], 1)
            if found:
                pages.recognized.append(number)
    return pages.document(uri, "image")


def _pictures(image: Image.Image) -> Iterator["Picture"]:
    """Yield the pictures of a file as they are meant to be seen: upright, on white.

    Raises:
        SkipDocument: one has too many pixels.
    """
    for frame in ImageSequence.Iterator(image):
        width, height = frame.size
        if width * height > _MAX_PIXELS:
            raise SkipDocument(SkipReason.OVER_LIMIT, f"{width} × {height} pixels")
        if min(width, height) < _LEAST_SIDE or _is_thumbnail(frame):
            continue
        upright = ImageOps.exif_transpose(frame)
        if upright.width > MAX_SIDE:
            upright.thumbnail((MAX_SIDE, upright.height))
        if upright.has_transparency_data:
            opaque = upright.convert("RGBA")
            upright = Image.new("RGBA", opaque.size, "white")
            upright.alpha_composite(opaque)
        yield np.asarray(upright.convert("RGB"))


def _is_thumbnail(frame: Image.Image) -> bool:
    """Return whether a picture of a TIFF file is a smaller version of another."""
    tags = getattr(frame, "tag_v2", {})
    return bool(tags.get(_SUBFILE_TYPE, 0) & 1)


def _strips(picture: "Picture") -> Iterator["Picture"]:
    """Yield the parts of a picture from top to bottom, cut between lines where it is long."""
    while picture.shape[0] > MAX_SIDE:
        rows = picture[MAX_SIDE - _SEARCHED : MAX_SIDE]
        emptiest = int(rows.std(axis=(1, 2)).argmin())
        end = MAX_SIDE - _SEARCHED + emptiest + 1
        yield picture[:end]
        picture = picture[end:]
    if picture.shape[0] >= _LEAST_SIDE:
        yield picture


def _lower(line: Recognized, top: int) -> Recognized:
    return line._replace(top=line.top + top, bottom=line.bottom + top)
