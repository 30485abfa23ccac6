"""Character recognition: of scanned pages and pictures, with each engine and without any."""

import io
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import fpdf
import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image

from indexer.parse.formats import ParseOptions, parse, unsupported
from indexer.parse.ocr import recognize
from indexer.parse.ocr.recognize import Recognized
from indexer.parse.pdf.recognized import recognized_lines
from indexer.skip import SkipDocument
from retrieval.domain.records import ReadSettings
from tests.indexer.parse.pdf.make_pdf import Piece, pdf_of

PAGE: list[Piece] = [
    (72, 780, 24, "Care of pumps"),
    (72, 740, 11, "The pump lifts water from the lower basin into the upper one."),
    (72, 724, 11, "A valve keeps it from running back."),
]
needs_rapidocr = pytest.mark.skipif(
    not recognize._has_rapidocr(), reason="the extra ocr is not installed"
)


def picture(pieces: list[Piece] = PAGE, dots: int = 150) -> Image.Image:
    """A page as a picture."""
    with pdfium.PdfDocument(pdf_of([pieces])) as pdf:
        return pdf[0].render(scale=dots / 72).to_pil().convert("L")


def scan(*pages: Image.Image | str) -> bytes:
    """A PDF whose pages are pictures or texts."""
    pdf = fpdf.FPDF(unit="pt", format=(595, 842))
    pdf.set_font("helvetica", size=11)
    for page in pages:
        pdf.add_page()
        if isinstance(page, str):
            pdf.multi_cell(0, 14, page)
        else:
            pdf.image(page, 0, 0, 595, 842)
    return bytes(pdf.output())


def saved(image: Image.Image, format_: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **settings)
    return stream.getvalue()


def refused(name: str, data: bytes, options: ParseOptions | None = None) -> str:
    with pytest.raises(SkipDocument) as caught:
        parse(name, data, options or ParseOptions())
    return str(caught.value)


def with_languages(*languages: str) -> ParseOptions:
    return ParseOptions(reading=ReadSettings("", (), languages))


@pytest.fixture(autouse=True)
def _no_engine_is_kept() -> Iterator[None]:
    recognize.recognizer.cache_clear()
    yield
    recognize.recognizer.cache_clear()


@pytest.fixture
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognize, "_has_rapidocr", lambda: False)
    monkeypatch.setenv("PATH", "")


# Without an engine.


@pytest.mark.usefixtures("without_engine")
@pytest.mark.parametrize("extension", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".JPG"])
def test_pictures_name_the_extra_that_they_need(extension: str) -> None:
    needs = f"{extension.lower()} needs pip install 'gte-retrieval[ocr]'"
    assert unsupported(f"a{extension}") == needs
    assert refused(f"a{extension}", b"x") == f"unsupported format: {needs}"


@pytest.mark.usefixtures("without_engine")
def test_scanned_files_name_the_extra_that_they_need() -> None:
    blank = Image.new("L", (40, 40), 128)
    assert refused("a.pdf", scan(blank, blank)) == (
        "scanned, no text: 2 pages; needs pip install 'gte-retrieval[ocr]'"
    )


@pytest.mark.usefixtures("without_engine")
def test_scanned_pages_among_others_are_named() -> None:
    words = "A page with enough text that it is no scan with a number on it."
    document = parse("a.pdf", scan(words, Image.new("L", (40, 40), 128), words))
    assert document.metadata["unread"] == ["page 2"]
    assert "recognized" not in document.metadata


def test_an_engine_for_the_languages_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognize, "_has_rapidocr", lambda: True)
    monkeypatch.setenv("PATH", "")
    data = scan(Image.new("L", (40, 40), 128))
    assert refused("a.pdf", data, with_languages("en", "ru")) == (
        "scanned, no text: 1 pages; recognizing ru needs Tesseract"
    )


# With RapidOCR.


@needs_rapidocr
def test_a_scanned_page_is_recognised_and_says_so() -> None:
    words = "A page with enough text that it is no scan with a number on it."
    parts: list[None] = []
    options = ParseOptions(part_done=lambda: parts.append(None))
    document = parse("a.pdf", scan(words, picture(), words), options)
    assert document.metadata["recognized"] == ["page 2"]
    assert "unread" not in document.metadata
    start, end = document.page_starts[1:]
    assert document.text[start:end].split() == " ".join(text for *_, text in PAGE).split()
    assert len(parts) == 1


@needs_rapidocr
def test_the_title_of_a_scan_is_its_largest_line() -> None:
    document = parse("a.pdf", scan(picture()))
    assert document.title == "Care of pumps"
    assert document.text.startswith("Care of pumps\n\nThe pump lifts")


@needs_rapidocr
def test_a_scan_with_a_stamp_is_a_scan() -> None:
    pdf = fpdf.FPDF(unit="pt", format=(595, 842))
    pdf.add_page()
    pdf.image(picture(), 0, 0, 595, 842)
    pdf.set_font("helvetica", size=8)
    pdf.text(400, 830, "Archive, sheet 7")
    document = parse("a.pdf", bytes(pdf.output()))
    assert document.metadata["recognized"] == ["page 1"]
    assert "lower basin" in document.text
    assert "sheet 7" in document.text


@needs_rapidocr
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.png", lambda image: saved(image, "PNG")),
        ("a.PNG", lambda image: saved(image.convert("1"), "PNG")),
        ("a.jpg", lambda image: saved(image, "JPEG")),
        ("a.jpeg", lambda image: saved(image.convert("CMYK"), "JPEG")),
        ("a.tif", lambda image: saved(image, "TIFF", compression="group4")
            if image.mode == "1" else saved(image.convert("1"), "TIFF", compression="group4")),
        ("a.tiff", lambda image: saved(image, "TIFF")),
    ],
)  # fmt: skip
def test_pictures_of_text(name: str, save: Callable[[Image.Image], bytes]) -> None:
    document = parse(name, save(picture()))
    assert (document.format, document.title) == ("image", "Care of pumps")
    assert document.metadata == {"recognized": ["page 1"]}
    assert "The pump lifts water from the lower basin" in document.text


@needs_rapidocr
def test_the_pictures_of_a_tiff_are_pages() -> None:
    second = picture([(72, 700, 14, "The second page of it")])
    data = saved(picture(), "TIFF", save_all=True, append_images=[second])
    document = parse("a.tif", data)
    assert document.metadata["recognized"] == ["page 1", "page 2"]
    assert document.text[document.page_starts[1] :] == "The second page of it"


@needs_rapidocr
def test_pictures_are_read_as_they_are_meant_to_be_seen() -> None:
    turned = picture().rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    assert "lower basin" in parse("a.jpg", saved(turned, "JPEG", exif=exif)).text
    ink = picture()
    glass = Image.merge("LA", (Image.new("L", ink.size, 0), Image.eval(ink, lambda x: 255 - x)))
    assert "lower basin" in parse("a.png", saved(glass, "PNG")).text


@needs_rapidocr
def test_a_long_picture_is_read_in_strips() -> None:
    tall = Image.new("L", (700, 6000), 255)
    line = picture([(72, 800, 14, "A line of the long picture")]).crop((0, 0, 700, 120))
    for top in range(0, 5900, 250):
        tall.paste(line, (0, top))
    text = parse("a.png", saved(tall, "PNG")).text
    assert text.count("A line of the long picture") == 24


@needs_rapidocr
def test_pictures_without_text_and_damaged_ones_are_skipped() -> None:
    assert refused("a.png", saved(Image.new("L", (300, 300), 200), "PNG")) == "no text"
    assert refused("a.png", saved(Image.new("L", (3, 3)), "PNG")) == "no text"
    assert refused("a.png", b"no picture").startswith("damaged")
    assert refused("a.png", saved(picture(), "PNG")[:2000]).startswith("damaged")


@needs_rapidocr
def test_a_picture_of_too_many_pixels_is_refused() -> None:
    data = saved(Image.new("1", (40_000, 40_000)), "PNG")
    assert len(data) < 1_000_000
    assert refused("a.png", data).startswith(("over a limit", "damaged"))


@needs_rapidocr
def test_no_model_is_looked_for_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    engine = recognize.recognizer(("de", "en"))
    lines = engine(np.asarray(picture().convert("RGB")))
    assert lines[0].text == "Care of pumps"


# With Tesseract: a program that answers as Tesseract does.

TABLE = (
    "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
    "1\t1\t0\t0\t0\t0\t0\t0\t1240\t1754\t-1\t\n"
    "5\t1\t1\t1\t1\t1\t100\t100\t90\t30\t96\tУход\n"
    "5\t1\t1\t1\t1\t2\t200\t102\t90\t30\t96\tза\n"
    "5\t1\t1\t1\t2\t1\t100\t140\t90\t30\t96\tнасосами\n"
    "5\t1\t1\t1\t2\t2\t200\t140\t9\t30\t96\t \n"
)


@pytest.fixture
def tesseract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the program notes its arguments."""
    program = tmp_path / "tesseract"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nhead -c 2 > {tmp_path}/input\n'
        f"cat > /dev/null\ncat {tmp_path}/table\nexit $(cat {tmp_path}/status)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "table").write_text(TABLE, "utf-8")
    (tmp_path / "status").write_text("0")
    monkeypatch.setattr(recognize, "_has_rapidocr", lambda: False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_tesseract_is_used_where_it_is_installed(tesseract: Path) -> None:
    document = parse("a.pdf", scan(picture()), with_languages("ru", "deu"))
    assert document.text == "Уход за\nнасосами"
    assert document.metadata["recognized"] == ["page 1"]
    assert (tesseract / "arguments").read_text() == "stdin stdout -l rus+deu tsv\n"
    assert (tesseract / "input").read_text() == "P6"
    assert parse("a.png", saved(picture(), "PNG")).text == "Уход за\nнасосами"
    assert (tesseract / "arguments").read_text() == "stdin stdout tsv\n"


def test_tesseract_is_used_for_languages_that_rapidocr_does_not_know(
    tesseract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognize, "_has_rapidocr", lambda: True)
    assert parse("a.pdf", scan(picture()), with_languages("en", "ru")).text == "Уход за\nнасосами"
    assert "eng+rus" in (tesseract / "arguments").read_text()


def test_a_page_that_the_engine_fails_on_is_named(tesseract: Path) -> None:
    (tesseract / "status").write_text("1")
    words = "A page with enough text that it is no scan with a number on it."
    document = parse("a.pdf", scan(words, picture()))
    assert (document.text, document.metadata["unread"]) == (words, ["page 2"])


def test_a_failure_of_tesseract_is_the_reason(tesseract: Path) -> None:
    (tesseract / "status").write_text("1")
    assert refused("a.png", saved(picture(), "PNG")).startswith("scanned, no text: Tesseract")
    assert refused("a.pdf", scan(picture())).startswith("scanned, no text")


# Reading order.


def box(text: str, left: float, top: float, width: float = 200, height: float = 20) -> Recognized:
    return Recognized(text, left, top, left + width, top + height)


def order(*boxes: Recognized) -> list[str]:
    return [line.text for line in recognized_lines(boxes, 1000, 1)]


def test_columns_are_read_one_after_the_other() -> None:
    left = [box(f"left column line {n} of the page", 50, 100 + 30 * n) for n in range(5)]
    right = [box(f"right column line {n} of the page", 350, 105 + 30 * n) for n in range(5)]
    title = box("A title over both columns", 50, 20, 500, 30)
    mixed = [line for pair in zip(right, left, strict=True) for line in pair]
    assert order(title, *mixed) == [line.text for line in (title, *left, *right)]


def test_rows_of_a_table_stay_together() -> None:
    names = [box(f"bird {n}", 50, 100 + 30 * n, 80) for n in range(5)]
    sizes = [box(f"{n} kg", 350, 101 + 30 * n, 40) for n in range(5)]
    assert order(*sizes, *names) == [
        line.text for pair in zip(names, sizes, strict=True) for line in pair
    ]


def test_words_broken_at_line_ends_are_marked() -> None:
    lines = order(
        box("a pump that is lif-", 50, 100), box("ting water", 50, 130), box("-", 50, 160)
    )
    assert lines == ["a pump that is lif\ufffeting water", "-"]
    assert order(box("of 1990-", 50, 100), box("of", 50, 130)) == ["of 1990-", "of"]
