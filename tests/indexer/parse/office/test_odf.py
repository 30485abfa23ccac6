"""OpenDocument texts and presentations: what is read, what is hidden, what is damaged."""

from indexer.parse.formats import parse
from tests.indexer import make_files
from tests.indexer.make_files import make_odf
from tests.indexer.parse.test_formats import paths, refused


def test_text() -> None:
    document = parse("docs/a.odt", make_files.make_odt())
    assert (document.title, document.format) == ("Of Ducks", "odt")
    assert document.metadata == {"author": "A. Author"}
    assert document.text == (
        "Of Ducks\n\nThey are  waterproof.[1]\n\n- white\n- brown\n\nSizes\n\n"
        "Kind | Weight\nMallard | 1.1 kg\nSwan | 11 kg\n\nThe end.\n\n[1] Seldom wet."
    )
    assert paths(document) == ["Of Ducks", "Of Ducks > Sizes"]
    assert [table.header for table in document.tables] == ["Kind | Weight"]


def test_presentation() -> None:
    document = parse("docs/a.odp", make_files.make_odp())
    assert (document.title, document.format) == ("Why ducks", "odp")
    assert document.text == (
        "Why ducks\n\nThey swim\n\nThey dive\n\nNotes: Speak slowly.\n\n"
        "No title is here, but there are some more words than on the first."
    )
    assert paths(document) == ["Why ducks", "Slide 2"]
    assert len(document.page_starts) == 2


def test_a_flat_file_is_read_like_a_zipped_one() -> None:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(make_files.make_odt())) as archive:
        content = archive.read("content.xml").decode()
    flat = content.replace("document-content", "document")
    assert parse("a.fodt", flat.encode()).text == parse("a.odt", make_files.make_odt()).text


def test_hidden_and_deleted_text_is_left_out() -> None:
    styles = (
        '<style:style style:name="H" style:family="text"><style:text-properties '
        'text:display="none"/></style:style>'
        '<style:style style:name="B" style:family="text" style:parent-style-name="H"/>'
        '<style:style style:name="S" style:family="text" style:parent-style-name="H">'
        '<style:text-properties text:display="true"/></style:style>'
    )
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p>"
        "</text:deletion></text:changed-region></text:tracked-changes>"
        '<text:p>a<text:span text:style-name="H">hid</text:span>'
        '<text:span text:style-name="B">hid</text:span><text:span text:style-name="S">b</text:span>'
        "<office:annotation><text:p>comment</text:p></office:annotation>c</text:p>"
        '<text:p text:style-name="H">hid</text:p>'
        '<text:section text:display="none"><text:p>hid</text:p></text:section>'
    )
    assert parse("a.odt", make_odf("text", body, styles)).text == "abc"


def test_spans_repeat_their_value_and_marked_rows_name_the_columns() -> None:
    def cell(text: str, more: str = "") -> str:
        return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"

    covered = "<table:covered-table-cell/>"
    wide = 'table:number-columns-spanned="2"'
    high = 'table:number-rows-spanned="2"'
    rows = (
        f"<table:table-header-rows><table:table-row>{cell('Of fowl', wide)}{covered}"
        f"</table:table-row><table:table-row>{cell('Kind')}{cell('Habit')}</table:table-row>"
        "</table:table-header-rows>"
        f"<table:table-row>{cell('Duck', high)}{cell('wet')}</table:table-row>"
        f"<table:table-row>{covered}{cell('dry')}{cell('both', wide)}{covered}</table:table-row>"
    )
    document = parse("a.odt", make_odf("text", f"<table:table>{rows}</table:table>"))
    assert document.text == "Of fowl\nKind | Habit\nDuck | wet\nDuck | dry | both | both"
    assert document.tables[0].header == "Of fowl Kind | Habit"


def test_frames_pictures_and_charts() -> None:
    body = (
        "<text:p>Before<draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box>"
        "</draw:frame></text:p>"
        "<text:p><draw:frame><draw:image/><svg:desc>A duck on a lake</svg:desc></draw:frame>"
        "<draw:frame><draw:image/><svg:desc>DSC_1.jpg.html</svg:desc></draw:frame></text:p>"
        '<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame>'
        '<draw:frame><draw:object xlink:href="./Object 2"/></draw:frame>'
    )
    chart = make_odf("chart", "<text:p>Ducks by year</text:p><text:p>31</text:p>")
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(chart)) as archive:
        content = archive.read("content.xml").decode()
    more = {"Object 1/content.xml": content, "Object 2/content.xml": "<broken"}
    document = parse("a.odt", make_odf("text", body, more=more))
    assert document.text == "Before\n\nboxed\n\nA duck on a lake\n\nDucks by year"
    assert document.metadata["unread"] == ["object Object 2"]


def test_an_encrypted_file_is_called_so() -> None:
    locked = "<m xmlns='urn:x'><file-entry><encryption-data/></file-entry></m>"
    data = make_odf("text", "", more={"META-INF/manifest.xml": locked, "content.xml": "?"})
    assert refused("a.odt", data) == "encrypted"
    assert refused("a.ods", data) == "encrypted"


def test_a_damaged_file_is_called_so() -> None:
    data = make_odf("text", "", more={"content.xml": "<text"})
    assert refused("a.odt", data).startswith("damaged: XMLSyntaxError")
    assert (
        parse("a.odt", make_odf("text", "<text:p>x</text:p>", more={"meta.xml": "<"})).text == "x"
    )
