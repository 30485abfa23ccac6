"""Small real files in every binary format, made by other people's libraries."""

import io
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import docx
import fpdf
import pptx
import xlsxwriter
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE


def make_docx() -> bytes:
    file = docx.Document()
    file.core_properties.title = ""
    file.core_properties.author = "A. Author"
    file.core_properties.keywords = "one, two"
    file.add_heading("Of Ducks", 0)
    file.add_paragraph("First words.")
    file.add_heading("Feathers", 1)
    paragraph = file.add_paragraph("They are ")
    paragraph.add_run("water").bold = True
    paragraph.add_run("proof.\tTabbed\nline")
    for item in ("white", "brown"):
        file.add_paragraph(item, style="List Bullet")
    code = file.styles.add_style("Code", WD_STYLE_TYPE.PARAGRAPH)
    for line in ("def quack():", "    return 1"):
        file.add_paragraph(line, style=code)
    file.add_heading("Sizes", 2)
    table = file.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ("Kind", "Weight", "Mallard", "1.1 kg"), strict=True):
        cell.text = text
    file.add_heading("Notes", 1)
    file.sections[0].header.paragraphs[0].text = "page header"
    file.sections[0].footer.paragraphs[0].text = "page footer"
    file.add_comment(file.add_paragraph("A remark.").runs, "comment of a reviewer", "R. Viewer")
    body = file.element.body
    for piece in _TRICKY:
        body.insert(len(body) - 1, parse_xml(piece.replace("W", nsdecls("w"), 1)))
    return _saved(file.save)


# What python-docx itself would not read.
_TRICKY = (
    '<w:p W><w:ins w:id="1" w:author="a"><w:r><w:t>inserted words</w:t></w:r></w:ins>'
    '<w:del w:id="2" w:author="a"><w:r><w:delText>deleted words</w:delText></w:r></w:del></w:p>',
    "<w:sdt W><w:sdtContent><w:p><w:r><w:t>controlled words</w:t></w:r></w:p></w:sdtContent>"
    "</w:sdt>",
    '<w:p W><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>HYPERLINK "x"'
    "</w:instrText></w:r><w:r><w:t>linked words</w:t></w:r></w:p>",
    "<w:p W><w:r><w:t>Before a box.</w:t></w:r><w:r><w:pict><w:txbxContent><w:p><w:r>"
    "<w:t>boxed words</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>",
)


def make_templated_docx() -> bytes:
    """A document as a publisher's template makes it, with headings of its own and a footnote."""
    file = docx.Document()
    for name, text in (
        ("Chapter Title", "On Swans"),
        ("Head A", "Feeding"),
        ("Head B", "In winter"),
    ):
        style = file.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
        file.add_paragraph(text, style=style)
        file.add_paragraph(f"About {text.lower()}.")
    for piece in (
        '<w:p W><w:pPr><w:outlineLvl w:val="0"/></w:pPr><w:r><w:t>Outlined</w:t></w:r></w:p>',
        '<w:p W><w:r><w:t>They hiss</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>',
    ):
        body = file.element.body
        body.insert(len(body) - 1, parse_xml(piece.replace("W", nsdecls("w"), 1)))
    notes = (
        f"<w:footnotes {nsdecls('w')}>"
        '<w:footnote w:type="separator" w:id="0"><w:p><w:r><w:t>line</w:t></w:r></w:p></w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>Seldom bite.</w:t></w:r></w:p></w:footnote>'
        "</w:footnotes>"
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    relation = f'<Relationship Id="notes" Type="{kind}" Target="footnotes.xml"/></Relationships>'
    with zipfile.ZipFile(io.BytesIO(_saved(file.save))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    names = "word/_rels/document.xml.rels"
    files[names] = files[names].replace(b"</Relationships>", relation.encode())
    return make_zip({**files, "word/footnotes.xml": notes})


_ODF_SPACES = (
    "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{space}:1.0"'
        for name, space in {
            "draw": "drawing",
            "fo": "xsl-fo-compatible",
            "manifest": "manifest",
            "meta": "meta",
            "office": "office",
            "presentation": "presentation",
            "style": "style",
            "svg": "svg-compatible",
            "table": "table",
            "text": "text",
        }.items()
    )
    + ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def make_odf(
    kind: str, body: str, styles: str = "", meta: str = "", more: Mapping[str, str] | None = None
) -> bytes:
    """An OpenDocument file: ``kind`` is text, presentation or spreadsheet."""
    media = f"application/vnd.oasis.opendocument.{kind}"
    files = {
        "mimetype": media,
        "META-INF/manifest.xml": f"<manifest:manifest{_ODF_SPACES}><manifest:file-entry "
        f'manifest:full-path="/" manifest:media-type="{media}"/></manifest:manifest>',
        "content.xml": f"<office:document-content{_ODF_SPACES}>"
        f"<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
        "</office:document-content>",
        "meta.xml": f"<office:document-meta{_ODF_SPACES}><office:meta>{meta}</office:meta>"
        "</office:document-meta>",
    }
    return make_zip({**files, **(more or {})})


def make_ods() -> bytes:
    """An OpenDocument spreadsheet of one sheet."""
    rows = "".join(
        f"<table:table-row>{''.join(map(_ods_cell, row))}</table:table-row>"
        for row in (("Kind", "Weight"), ("Mallard", "1.1 kg"), ("Swan", "11 kg"))
    )
    return make_odf("spreadsheet", f'<table:table table:name="Birds">{rows}</table:table>')


def _ods_cell(text: str) -> str:
    return (
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'
    )


def make_odt() -> bytes:
    """An OpenDocument text with a heading, a list, a table and a note."""
    row = "<table:table-row>" + "<table:table-cell><text:p>{}</text:p></table:table-cell>" * 2
    table = "".join(
        row.format(*cells) + "</table:table-row>"
        for cells in (("Kind", "Weight"), ("Mallard", "1.1 kg"), ("Swan", "11 kg"))
    )
    items = "".join(
        f"<text:list-item><text:p>{item}</text:p></text:list-item>" for item in ("white", "brown")
    )
    return make_odf(
        "text",
        '<text:h text:outline-level="1">Of Ducks</text:h>'
        '<text:p>They are<text:s text:c="2"/>water<text:span>proof.</text:span><text:note>'
        "<text:note-citation>1</text:note-citation><text:note-body><text:p>Seldom wet.</text:p>"
        "</text:note-body></text:note></text:p>"
        f'<text:list>{items}</text:list><text:h text:outline-level="2">Sizes</text:h>'
        f"<table:table>{table}</table:table><text:p>The end.</text:p>",
        meta="<dc:creator>A. Author</dc:creator><dc:title>Untitled</dc:title>",
    )


def make_rtf() -> bytes:
    """An RTF file with a heading, a list, a table and a note."""

    def row(*cells: str) -> str:
        texts = "".join(rf"\intbl {cell}\cell " for cell in cells)
        return rf"\trowd\cellx1\cellx2 {texts}\row\pard "

    items = "".join(rf"{{\listtext\bullet\tab}}{item}\par " for item in ("white", "brown"))
    return (
        r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial;}}{\stylesheet{\s0 Normal;}"
        r"{\s1\outlinelevel0 heading 1;}{\s2 heading 2;}}{\info{\title Untitled}"
        r"{\author A. Author}{\creatim\yr2024\mo5\dy1}}"
        r"\pard\s1 Of Ducks\par\pard They are {\b water}proof.{\super\chftn}"
        r"{\footnote\pard{\super\chftn} Seldom wet.\par}\par "
        rf"{items}\pard\s2 Sizes\par\pard "
        rf"{row('Kind', 'Weight')}{row('Mallard', '1.1 kg')}{row('Swan', '11 kg')}The end.\par}}"
    ).encode("ascii")


def make_odp() -> bytes:
    """An OpenDocument presentation of two slides, the first with a title."""

    def frame(text: str, top: str, kind: str = "outline") -> str:
        return (
            f'<draw:frame presentation:class="{kind}" svg:y="{top}"><draw:text-box>'
            f"<text:p>{text}</text:p></draw:text-box></draw:frame>"
        )

    first = (
        frame("They dive", "9cm")
        + frame("They swim", "5cm")
        + frame("Why ducks", "1cm", "title")
        + f"<presentation:notes>{frame('Speak slowly.', '0cm', 'notes')}</presentation:notes>"
    )
    second = frame("No title is here, but there are some more words than on the first.", "1cm")
    return make_odf("presentation", "".join(f"<draw:page>{s}</draw:page>" for s in (first, second)))


def make_pptx() -> bytes:
    file = pptx.Presentation()
    file.core_properties.title = "All About Ducks"
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text = "Why ducks"
    frame = slide.placeholders[1].text_frame
    frame.text = "They swim"
    paragraph = frame.add_paragraph()
    paragraph.text, paragraph.level = "and dive", 1
    slide.notes_slide.notes_text_frame.text = "Speak slowly."
    empty = file.slides.add_slide(file.slide_layouts[6])
    assert len(empty.shapes) == 0
    last = file.slides.add_slide(file.slide_layouts[5])
    last.shapes.title.text = "Numbers"
    table = last.shapes.add_table(2, 2, 0, 0, 9144000, 914400).table
    for row, texts in enumerate((("Kind", "Weight"), ("Mallard", "1.1 kg"))):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    return _saved(file.save)


def make_charted_pptx() -> bytes:
    """Two slides: one with a chart, one without a title."""
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Ducks by year"
    data = CategoryChartData()
    data.categories = ["Mallards", "Teals"]
    data.add_series("Counted on the lake", (31, 12))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 9144000, 4572000, data)
    bare = file.slides.add_slide(file.slide_layouts[6])
    bare.shapes.add_textbox(0, 0, 914400, 914400).text_frame.text = "No title here"
    return _saved(file.save)


def make_xlsx() -> bytes:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"default_date_format": "yyyy-mm-dd"}) as book:
        birds = book.add_worksheet("Birds")
        birds.write_row(0, 0, ["Kind", "Weight", "Seen"])
        birds.write_row(1, 0, ["Mallard", 1.25])
        birds.write_datetime(1, 2, datetime(2024, 5, 1))
        birds.write_row(2, 0, ["Swan", 11, ""])
        book.add_worksheet("Empty")
        book.add_worksheet("Loose").write_row(3, 2, ["just", "words"])
    return stream.getvalue()


def make_pdf() -> bytes:
    """Two pages with bookmarks, and one that is empty."""
    pdf = fpdf.FPDF()
    pdf.set_title("Duck Manual")
    pdf.set_author("A. Author")
    pdf.set_subject("Keeping ducks")
    pdf.set_keywords("ducks, care")
    pdf.set_creation_date(datetime(2024, 5, 1, tzinfo=UTC))
    pdf.set_font("helvetica", size=11)
    pdf.add_page()
    pdf.start_section("Care")
    _heading(pdf, "1 Care")
    pdf.multi_cell(0, 5, PARAGRAPH, new_x="LMARGIN", new_y="NEXT", align="L")
    pdf.ln(8)
    pdf.multi_cell(0, 5, "A second paragraph.", new_x="LMARGIN", new_y="NEXT", align="L")
    pdf.add_page()
    pdf.add_page()
    pdf.start_section("Food", level=1)
    _heading(pdf, "1.1 Food")
    pdf.multi_cell(0, 5, "Grain and greens.", new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


PARAGRAPH = (
    "Ducks need water to swim in and a dry place to sleep, and they need company. " * 4
).strip()


def make_plain_pdf() -> bytes:
    """A PDF without bookmarks, whose headings are only larger."""
    pdf = fpdf.FPDF()
    pdf.set_font("helvetica", size=11)
    pdf.add_page()
    for title in ("Of Ducks", "Of Swans"):
        _heading(pdf, title)
        pdf.multi_cell(0, 5, PARAGRAPH, new_x="LMARGIN", new_y="NEXT", align="L")
    return bytes(pdf.output())


def make_columns_pdf() -> bytes:
    """A page in two columns."""
    pdf = fpdf.FPDF()
    pdf.set_font("helvetica", size=11)
    pdf.add_page()
    with pdf.text_columns(ncols=2, gutter=8, text_align="L", balance=True) as columns:
        columns.write("\n".join(f"Line {number} of the story." for number in range(1, 41)))
    return bytes(pdf.output())


def make_locked_pdf() -> bytes:
    pdf = fpdf.FPDF()
    pdf.set_encryption(owner_password="owner", user_password="user")
    pdf.add_page()
    pdf.set_font("helvetica", size=11)
    pdf.cell(text="secret")
    return bytes(pdf.output())


def _heading(pdf: fpdf.FPDF, text: str) -> None:
    pdf.set_font(size=18)
    pdf.cell(0, 12, text, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font(size=11)


CHAPTERS = (
    "<html><head><title>x</title></head><body><h1>One</h1><p>First chapter.</p></body></html>",
    "<html><body><h1>Two</h1><p>Second &amp; last.</p><h2>More</h2><p>End.</p></body></html>",
)


def make_epub(extra: dict[str, str] | None = None) -> bytes:
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    )
    items = "".join(f'<item id="c{n}" href="text/c%20{n}.xhtml"/>' for n in range(len(CHAPTERS)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(CHAPTERS)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>A Duck's Life</dc:title><dc:creator>A. Author</dc:creator>"
        "<dc:language>en</dc:language></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    files = {"META-INF/container.xml": container, "OPS/book.opf": package, **(extra or {})}
    files |= {f"OPS/text/c {n}.xhtml": chapter for n, chapter in enumerate(CHAPTERS)}
    return make_zip(files)


def make_zip(files: Mapping[str, str | bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Größe der Enten"
    message["From"] = "Zoë <zoe@example.org>"
    message["To"] = "list@example.org"
    message["Message-ID"] = "<1@example.org>"
    message["List-ID"] = "Ducks <ducks.example.org>"
    message["Date"] = "Wed, 01 May 2024 10:00:00 +0000"
    message.set_content("Hello,\n\nducks are größer.\n")
    message.add_alternative("<p>Hello, <b>HTML</b></p>", subtype="html")
    message.add_attachment("kind,weight\nduck,1\n", filename="sizes.csv", subtype="csv")
    message.add_attachment(b"\0\1", maintype="image", subtype="png", filename="duck.png")
    return bytes(message)


def _saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()
