"""PDF files written by hand: text at places, glyphs of many characters, annotations, forms."""

from collections.abc import Iterable, Sequence

Piece = tuple[float, float, float, str]
"""Left edge, baseline, type size and text."""


def pdf_of(
    pages: Sequence[Iterable[Piece]],
    *,
    title: str = "",
    bookmarks: Sequence[str] = (),
    annotations: Sequence[str] = (),
    has_form: bool = False,
    broken: Sequence[int] = (),
) -> bytes:
    """Return a PDF of pages with text at places.

    Args:
        pages: the pieces of text of each page, in the order in which they are drawn.
        title: in the properties.
        bookmarks: titles of bookmarks, all of the first page.
        annotations: dictionaries of the annotations of the first page.
        has_form: whether the annotations are fields of a form.
        broken: numbers, from 0, of pages that can't be read.
    """
    objects: dict[int, bytes] = {}
    count, first_mark = len(pages), 10 + 2 * len(pages)
    kids = " ".join(f"{10 + 2 * number} 0 R" for number in range(count))
    marks = f"/Outlines {first_mark} 0 R" if bookmarks else ""
    first_note = first_mark + len(bookmarks) + 1
    notes = " ".join(f"{first_note + number} 0 R" for number in range(len(annotations)))
    forms = f"/AcroForm<</Fields[{notes}]>>" if has_form else ""
    objects |= {first_note + number: body.encode() for number, body in enumerate(annotations)}
    objects[1] = f"<</Type/Catalog/Pages 2 0 R{marks}{forms}>>".encode()
    objects[2] = f"<</Type/Pages/Kids[{kids}]/Count {count}>>".encode()
    objects[3] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
    objects[4] = b"<</Title " + _string(title) + b">>"
    for number, pieces in enumerate(pages):
        page = 10 + 2 * number
        annots = f"/Annots[{notes}]" if not number else ""
        objects[page] = (
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 3 0 R>>>>"
            f"/Contents {page + 1} 0 R{annots}>>"
        ).encode()
        if number in broken:
            objects[page] = b"null"
        content = b"".join(
            f"BT /F {size} Tf {x} {y} Td ".encode() + _string(text) + b" Tj ET\n"
            for x, y, size, text in pieces
        )
        objects[page + 1] = _stream(content)
    for number, mark in enumerate(bookmarks):
        follows = f"/Next {first_mark + number + 2} 0 R" if number + 1 < len(bookmarks) else ""
        objects[first_mark + number + 1] = (
            b"<</Title "
            + _string(mark)
            + f"/Parent {first_mark} 0 R/Dest[10 0 R/Fit]{follows}>>".encode()
        )
    last = first_mark + len(bookmarks)
    objects[first_mark] = f"<</First {first_mark + 1} 0 R/Last {last} 0 R>>".encode()
    return _file(objects)


def pdf_of_glyphs(lines: Sequence[Sequence[str]], width: float = 8.4) -> bytes:
    """Return a PDF of one page whose glyphs stand for given characters.

    Args:
        lines: glyphs of each line from left to right, as the characters that each stands for.
        width: width of each glyph, in points.
    """
    glyphs = dict.fromkeys(glyph for line in lines for glyph in line)
    codes = {glyph: 0x21 + number for number, glyph in enumerate(glyphs)}
    rows = "".join(f"<{code:02X}> <{_utf16(glyph)}>\n" for glyph, code in codes.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def "
        f"1 begincodespacerange <00> <FF> endcodespacerange {len(codes)} beginbfchar\n{rows}"
        "endbfchar endcmap end end"
    )
    content = "".join(
        f"BT /F 14 Tf 72 {700 - 20 * number} Td <"
        + "".join(f"{codes[glyph]:02X}" for glyph in line)
        + "> Tj ET\n"
        for number, line in enumerate(lines)
    )
    widths = f" {width / 14 * 1000:.0f}" * 200
    return _file(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R"
            b"/Resources<</Font<</F 5 0 R>>>>>>",
            4: _stream(content.encode()),
            5: f"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/FirstChar 33/LastChar 232"
            f"/Widths[{widths}]/ToUnicode 6 0 R>>".encode(),
            6: _stream(cmap.encode()),
        }
    )


def _utf16(text: str) -> str:
    return text.encode("utf-16-be").hex()


def _string(text: str) -> bytes:
    return b"<" + text.encode("cp1252").hex().encode() + b">"


def _stream(content: bytes) -> bytes:
    return b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)


def _file(objects: dict[int, bytes]) -> bytes:
    data = b"%PDF-1.5\n"
    places = {}
    for number, body in sorted(objects.items()):
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    size = max(objects) + 1
    rows = (b"%010d 00000 n \n" % places.get(number, 0) for number in range(1, size))
    table = b"0000000000 65535 f \n" + b"".join(rows)
    data += b"xref\n0 %d\n%strailer<</Size %d/Root 1 0 R/Info 4 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        size,
        table,
        size,
        start,
    )
    return data
