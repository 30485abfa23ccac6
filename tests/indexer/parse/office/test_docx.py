"""DOCX: hidden text, merged cells, drop caps, charts, pictures, and damaged parts."""

import io
import zipfile
from collections.abc import Mapping

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from indexer.parse.formats import parse
from tests.indexer import make_files
from tests.indexer.parse.test_formats import refused

SPACES = nsdecls("w", "r", "wp", "a", "pic") + (
    ' xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
    ' xmlns:v="urn:schemas-microsoft-com:vml"'
)


def make(*pieces: str, title: str = "", more: Mapping[str, str] | None = None) -> bytes:
    """A DOCX file of these elements of the body; ``more`` are parts that it has relations to."""
    file = docx.Document()
    file.core_properties.title = title
    for piece in pieces:
        file.element.body.insert(
            len(file.element.body) - 1, parse_xml(f"<w:x {SPACES}>{piece}</w:x>")[0]
        )
    stream = io.BytesIO()
    file.save(stream)
    with zipfile.ZipFile(stream) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    base = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
    for number, (name, content) in enumerate((more or {}).items()):
        kind = name.rstrip("0123456789")
        files[f"word/{name}.xml"] = content.encode()
        relation = f'<Relationship Id="x{number}" Type="{base}{kind}" Target="{name}.xml"/>'
        names = "word/_rels/document.xml.rels"
        files[names] = files[names].replace(
            b"</Relationships>", f"{relation}</Relationships>".encode()
        )
    return make_files.make_zip(files)


def p(text: str, properties: str = "", run: str = "") -> str:
    return (
        f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr>"
        f"<w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"
    )


def tc(text: str, properties: str = "", run: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(text, run=run)}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def tr(*cells: str, properties: str = "") -> str:
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(cells)}</w:tr>"


def test_hidden_text_is_left_out() -> None:
    file = docx.Document()
    ghost = file.styles.add_style("Ghost", 1)
    ghost.font.hidden = True
    child = file.styles.add_style("Child", 1)
    child.base_style = ghost
    whisper = file.styles.add_style("Whisper", 2)
    whisper.font.hidden = True
    paragraph = file.add_paragraph("seen ")
    paragraph.add_run("direct ").font.hidden = True
    paragraph.add_run("styled ", style=whisper)
    paragraph.add_run("shown ", style=whisper).font.hidden = False
    file.add_paragraph("paragraph", style=ghost)
    file.add_paragraph("inherited", style=child)
    row = file.add_table(2, 1).rows[1]
    row.cells[0].text = "row"
    row._tr.get_or_add_trPr().append(parse_xml(f"<w:hidden {nsdecls('w')}/>"))
    stream = io.BytesIO()
    file.save(stream)
    assert parse("a.docx", stream.getvalue()).text == "seen shown"


def test_merged_cells_repeat_their_value() -> None:
    restart, goes_on = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    data = make(
        table(
            tr(tc("Kind"), tc("Size", '<w:gridSpan w:val="2"/>')),
            tr(tc("Duck", restart), tc("1"), tc("2")),
            tr(tc("", goes_on), tc("3"), tc("4")),
            tr(tc("5"), tc("6"), properties='<w:gridBefore w:val="1"/>'),
        )
    )
    document = parse("a.docx", data)
    assert document.text == "Kind | Size | Size\nDuck | 1 | 2\nDuck | 3 | 4\n | 5 | 6"
    assert document.tables[0].header == "Kind | Size | Size"


@pytest.mark.parametrize(
    ("first", "properties", "header"),
    [
        (("Alpha", "Beta"), "<w:tblHeader/>", "Alpha | Beta"),
        (("Alpha", "Beta"), "<w:b/>", "Alpha | Beta"),
        (("Name", "Price"), "", "Name | Price"),
        (("Alpha", "Beta"), "", ""),
    ],
)
def test_the_row_that_names_the_columns(
    first: tuple[str, str], properties: str, header: str
) -> None:
    bold = properties if "<w:b" in properties else ""
    top = tr(*(tc(text, run=bold) for text in first), properties=properties if not bold else "")
    data = make(table(top, tr(tc("one"), tc("two")), tr(tc("three"), tc("four"))))
    assert [found.header for found in parse("a.docx", data).tables] == [header]


def test_a_long_text_is_not_repeated_for_ever() -> None:
    rows = [tr(tc("x" * 100_000, '<w:vMerge w:val="restart"/>'), tc("y"))]
    rows += [tr(tc("", "<w:vMerge/>"), tc("y"))] * 1_000
    assert len(parse("a.docx", make(table(*rows))).text) < 200_000


def test_deleted_rows_are_left_out() -> None:
    deleted = tr(tc("old"), properties='<w:del w:id="1" w:author="a"/>')
    assert parse("a.docx", make(table(tr(tc("new")), deleted))).text == "new"


def test_a_drop_cap_joins_its_paragraph() -> None:
    data = make(p("O", '<w:framePr w:dropCap="drop" w:lines="3"/>'), p("nce upon a time"))
    assert parse("a.docx", data).text == "Once upon a time"
    assert parse("a.docx", make(p("O", '<w:framePr w:dropCap="drop"/>'))).text == "O"


def test_charts_and_pictures_follow_their_paragraph() -> None:
    chart = f"<c:chartSpace {SPACES}><c:title><a:t>Ducks by year</a:t></c:title></c:chartSpace>"
    drawing = (
        "<w:p><w:r><w:t>Figure</w:t></w:r><w:r><w:drawing><wp:inline>"
        '<wp:docPr id="1" name="Picture 1" descr="{}"/>{}</wp:inline></w:drawing></w:r></w:p>'
    )
    data = make(
        drawing.format("A duck on a lake. Description automatically generated", ""),
        drawing.format("duck.png", '<c:chart r:id="x0"/>'),
        drawing.format("", '<c:chart r:id="x1"/>'),
        '<w:p><w:r><w:pict><v:shape alt="A swan"/></w:pict></w:r></w:p>',
        more={"chart1": chart, "chart2": "<broken"},
    )
    document = parse("a.docx", data)
    assert (
        document.text
        == "Figure\n\nA duck on a lake.\n\nFigure\n\nDucks by year\n\nFigure\n\nA swan"
    )
    assert document.metadata["unread"] == ["graphic chart2.xml"]


NUMBERING = f"""<w:numbering {SPACES}><w:abstractNum w:abstractNumId="7">
<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:numFmt w:val="upperRoman"/><w:lvlText w:val="%1.%2)"/></w:lvl>
<w:lvl w:ilvl="2"><w:numFmt w:val="bullet"/><w:lvlText w:val="o"/></w:lvl></w:abstractNum>
<w:num w:numId="8"><w:abstractNumId w:val="7"/></w:num>
<w:num w:numId="9"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0">
<w:startOverride w:val="1"/></w:lvlOverride></w:num></w:numbering>"""


def test_items_have_the_numbers_that_word_shows() -> None:
    def item(text: str, level: int, identity: int) -> str:
        return p(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{identity}"/></w:numPr>')

    items = [("a", 0, 8), ("b", 1, 8), ("c", 1, 8), ("d", 2, 8), ("e", 0, 8), ("f", 1, 8)]
    items += [("g", 0, 9), ("h", 0, 9), ("i", 0, 99), ("k", 0, 0)]
    data = make(*(item(*one) for one in items), more={"numbering9": NUMBERING})
    assert parse("a.docx", data).text == (
        "3. a\n  3.I) b\n  3.II) c\n    - d\n4. e\n  4.I) f\n1. g\n2. h\n- i\n\nk"
    )


def test_symbols_are_read() -> None:
    data = make(
        '<w:p><w:r><w:sym w:font="Symbol" w:char="F061"/><w:sym w:font="Wingdings" w:char="F0E0"/>'
        '<w:sym w:font="Arial" w:char="03B2"/><w:sym w:font="x" w:char="zz"/></w:r></w:p>'
    )
    assert parse("a.docx", data).text == "α→β"


def test_a_damaged_part_costs_only_itself() -> None:
    document = parse("a.docx", make(p("kept"), more={"footnotes": "<broken"}))
    assert document.text == "kept"
    assert document.metadata["unread"] == ["footnotes"]
    assert refused("a.docx", make("<w:altChunk/>")) == "damaged: unreadable: embedded document"


EMBEDDED_HTML = (
    b"<html><body><h1>Swans</h1><p>They hiss.</p><table><tr><th>Kind</th><th>Weight</th></tr>"
    b"<tr><td>Mute</td><td>11 kg</td></tr></table></body></html>"
)
EMBEDDED_MHTML = (
    b"Subject: Swans\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html\r\n\r\n<h1>Swans</h1><p>They hiss.\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", EMBEDDED_HTML),
        (
            "a.xhtml",
            b'<?xml version="1.0"?><html><body><h1>Swans</h1><p>They hiss.</p></body></html>',
        ),
        ("a.mht", EMBEDDED_MHTML),
        ("a.rtf", rb"{\rtf1{\outlinelevel0 Swans\par}\pard They hiss.\par}"),
        ("a.docx", make(p("Swans", '<w:outlineLvl w:val="0"/>'), p("They hiss."))),
        ("a.txt", b"Swans\n\nThey hiss."),
    ],
)
def test_embedded_documents_are_read_in_their_place(name: str, content: bytes) -> None:
    data = make(p("before"), '<w:altChunk r:id="e0"/>', p("after"), '<w:altChunk r:id="e0"/>')
    document = parse("x.docx", with_embedded(data, name, content))
    assert document.text.startswith("before\n\nSwans\n\nThey hiss.")
    assert document.text.endswith("\n\nafter")
    assert document.text.count("Swans") == 1
    assert "unread" not in document.metadata
    if name != "a.txt":
        assert document.sections[1].heading_path == ("Swans",)
    assert all(document.text[one.rows_start :].startswith("Mute") for one in document.tables)
    assert len(document.tables) == (content == EMBEDDED_HTML)


def test_a_document_embedded_in_a_table_follows_it() -> None:
    cell = '<w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p><w:altChunk r:id="e0"/></w:tc>'
    data = make(f"<w:tbl><w:tr>{cell}</w:tr></w:tbl>", p("after"))
    document = parse("x.docx", with_embedded(data, "a.txt", b"They hiss."))
    assert document.text == "cell\n\nThey hiss.\n\nafter"


def test_embedded_documents_that_can_not_be_read_are_named() -> None:
    chunk = '<w:altChunk r:id="e0"/>'
    document = parse("x.docx", with_embedded(make(p("kept"), chunk), "b.docx", b"PK broken"))
    assert (document.text, document.metadata["unread"]) == ("kept", ["embedded document b.docx"])
    inner = with_embedded(make(p("inner"), chunk), "c.html", EMBEDDED_HTML)
    document = parse("x.docx", with_embedded(make(p("outer"), chunk), "b.docx", inner))
    assert document.text == "outer\n\ninner"
    assert document.metadata["unread"] == ["embedded document c.html"]


def with_embedded(data: bytes, name: str, content: bytes) -> bytes:
    """A DOCX file with a part that its body refers to as ``e0``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/aFChunk"
    relation = f'<Relationship Id="e0" Type="{kind}" Target="{name}"/></Relationships>'
    names = "word/_rels/document.xml.rels"
    files[names] = files[names].replace(b"</Relationships>", relation.encode())
    return make_files.make_zip({**files, f"word/{name}": content})


def test_the_title_is_no_junk() -> None:
    for title in ("Document1", "Microsoft Word - thesis.doc", ""):
        assert parse("b/a.docx", make(p("text"), title=title)).title == "a"
    assert parse("b/a.docx", make(p("text"), title="Of Ducks")).title == "Of Ducks"
    shown = make(p("Shown", '<w:pStyle w:val="Title"/>'), title="Of Ducks")
    assert parse("b/a.docx", shown).title == "Shown"


@pytest.mark.parametrize("name", ["a.docm", "a.dotx", "a.dotm", "a.odt"])
def test_other_names_of_the_same_format(name: str) -> None:
    assert parse(name, make(p("text"))).format == "docx"
