"""Files made to harm their reader: bombs, deep nesting, and strange names."""

import io
import zipfile
from collections.abc import Iterator
from typing import Final

from tests.indexer import make_files

STRANGE_NAMES: Final = (
    "a\nb.md",
    "e\u0301🦀.md",
    "\u202egnp.md",
    "a'b\"c;d.md",
    "-rf.md",
    "%s.md",
    "é" * 120 + ".md",
)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files."""
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(1500 << 20))
    yield "zeros.zip", zeros.getvalue()
    nested = b"# text"
    for depth in range(12):
        nested = make_files.make_zip({"a.zip" if depth else "a.md": nested})
    yield "nested.zip", nested
    yield from _laughs()
    yield "deep.json", b"[" * 1_000_000
    yield "deep.html", b"<div>" * 1_000_000 + b"x"
    yield "deep.md", b"> " * 500_000 + b"x"
    yield "brackets.md", b"[" * 200_000
    yield "deep.py", b"(" * 500_000
    yield "deep.ts", b"{" * 500_000
    yield "deep.c", b"((((" * 200_000
    yield "deep.ipynb", b'{"cells":' * 100_000
    yield "long.csv", b"a," * 5_000_000
    yield "lines.txt", b"\n" * 20_000_000
    yield "heads.md", b"# a\n" * 1_000_000
    yield "heads.adoc", b"= a\n" * 1_000_000
    yield "parts.eml", b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 200_000
    yield "word.txt", b"x" * 20_000_000
    yield "deep.xml", b"<a>" * 1_000_000
    yield "wide.xml", b"<a>" + b"<b>x</b>y" * 500_000 + b"</a>"
    yield "deep.yaml", b"".join(b" " * n + b"a:\n" for n in range(2_000))
    yield "keys.yaml", b"a:\n  b: c\n" * 500_000
    yield "heads.tex", b"\\section{" * 500_000
    yield "heads.org", b"* a\n" * 1_000_000
    yield "macros.1", b".TH A 1\n" + b".It Fl a Ar b Op c\n" * 200_000
    yield "cues.srt", b"00:00:01,000 --> 00:00:02,000\na\n\n" * 200_000
    yield "zeros.unknown", bytes(50 << 20)
    yield "marks.txt", "e\u0301".encode() * 3_000_000


def _laughs() -> Iterator[tuple[str, bytes]]:
    """Yield documents whose main part has XML entities that expand to 10^20 times their size."""
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(20))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x>&l20;</x>'
    for end, make, part in (
        ("docx", make_files.make_docx, "word/document.xml"),
        ("pptx", make_files.make_pptx, "ppt/presentation.xml"),
        ("xlsx", make_files.make_xlsx, "xl/workbook.xml"),
        ("epub", make_files.make_epub, "OPS/book.opf"),
    ):
        with zipfile.ZipFile(io.BytesIO(make())) as archive:
            files: dict[str, str | bytes] = {
                name: archive.read(name) for name in archive.namelist()
            }
        yield f"laughs.{end}", make_files.make_zip({**files, part: bomb})
    yield "laughs.xml", bomb.encode()
