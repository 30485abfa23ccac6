"""HTML as browsers show it: buttons, hidden text, pictures, tables, and encodings."""

import time

import pytest

from indexer.parse.formats import parse
from indexer.parse.web.html_hidden import hidden_in
from retrieval.domain.records import Document, Table


def read(html: str) -> Document:
    return parse("docs/page.html", html.encode())


def headings(document: Document) -> list[str]:
    return [" > ".join(section.heading_path) for section in document.sections]


@pytest.mark.parametrize(
    "question",
    [
        '<h2><button type="button" aria-expanded="false">How often?</button></h2>',
        "<h2><button>How often?</button></h2>",
        '<h2 class="accordion-header"><a role="button" href="#a">How <b>often</b>?</a></h2>',
        '<div role="heading" aria-level="2"><button>How often?</button></div>',
        '<div role="heading"><span>How often?</span></div>',
        "<details><summary><h2>How often?</h2></summary></details>",
    ],
)
def test_buttons_in_headings_are_headings(question: str) -> None:
    document = read(f"<main><h1>Help</h1>{question}<div><p>Once a month.</p></div></main>")
    assert headings(document) == ["Help", "Help > How often?"]
    assert document.text == "Help\n\nHow often?\n\nOnce a month."


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<button aria-expanded=false>How?</button><p>So.", "How?\n\nSo."),
        ("<button role=tab>Linux</button><button role=tab>Mac</button><p>x", "Linux\n\nMac\n\nx"),
        ("<button>Send</button><p>x", "x"),
        (f"<button><p>{'never closed ' * 20}", ("never closed " * 20).strip()),
        ("<details><summary>How?</summary><p>So.</p></details>", "How?\n\nSo."),
    ],
)
def test_buttons(html: str, text: str) -> None:
    assert read(html).text == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>no</p>",
        '<div style="color:red; display: none">no<p>no</p></div>',
        "<span style=visibility:hidden>no</span>",
        "<style>.x, #y { display:none }</style><p class='a x'>no<p id=y>no",
        "<style>/* */ div.x{visibility:hidden}</style><div class=x>no</div>",
        "<dialog>no</dialog>",
        "<div popover>no</div>",
        '<span class="sr-only">no</span>',
        "<template><p>no</template>",
    ],
)
def test_hidden_text_is_left_out(hidden: str) -> None:
    assert read(f"<h1>T</h1><p>Visible.</p>{hidden}").text == "T\n\nVisible."


@pytest.mark.parametrize(
    "shown",
    [
        '<p hidden="until-found">Open.</p>',
        '<div class="accordion-collapse collapse" style="display:none">Open.</div>',
        "<div role=tabpanel hidden>Open.</div>",
        "<button aria-expanded=false aria-controls=p></button><div id=p hidden>Open.</div>",
        "<h2><button aria-expanded=false></button></h2><div hidden>Open.</div>",
        '<a data-bs-toggle=x data-bs-target="#p"></a><div id=p style="display:none">Open.</div>',
        "<style>@media print{.x{display:none}}</style><p class=x>Open.",
        "<style>.x{display:none} .x.on{display:block}</style><p class=x>Open.",
        '<p style="display:nonexistent">Open.',
        '<div class="d-none d-md-block">Open.</div>',
        '<div class="visually-hidden-focusable">Open.</div>',
    ],
)
def test_what_a_reader_can_open_is_text(shown: str) -> None:
    assert read(f"<h1>T</h1><p>Visible.</p>{shown}").text == "T\n\nVisible.\n\nOpen."


def test_a_page_that_scripts_show_is_not_hidden() -> None:
    article = "<p>A paragraph of a page that is shown when it is loaded.</p>" * 60
    for hidden in (
        f"<body style='visibility:hidden'>{article}",
        f"<div hidden><main>{article}</main></div>",
        f"<p>Loading.</p><div class=app hidden>{article}</div>",
    ):
        assert read(hidden).text.count("A paragraph") == 60


def test_an_open_noscript_does_not_swallow_the_page() -> None:
    assert read("<h1>T</h1><noscript><img src=x><p>One.<p>Two.").text == "T\n\nOne.\n\nTwo."
    assert read("<p>x<NOSCRIPT><b>no</NOSCRIPT><p>One.").text == "x\n\nOne."
    assert read("<noscript><p>The whole page is in it.</noscript>").text.startswith("The whole")


def test_descriptions_of_pictures_are_text() -> None:
    html = (
        '<p>See <img src=a.png alt="A kettle\n cut open">, then <img alt=""> boil.</p>'
        '<img alt="IMG_2041.JPG"><img alt="https://example.org/x">'
        '<a href=x><img alt="Home">Home</a>'
    )
    assert read(html).text == "See A kettle cut open , then boil.\n\nHome"


def test_readings_and_formulas_stand_once() -> None:
    assert read("<p>子<ruby>虐待<rp>(</rp><rt>ぎゃくたい</rt></ruby>").text == "子虐待"
    math = "<math><mi>x</mi><mo>=</mo><mn>1</mn><annotation>x = 1</annotation></math>"
    assert read(f"<p>So {math}.").text == "So x=1."


def test_text_of_drawings() -> None:
    svg = "<svg><title>no</title><desc>no</desc><g><text>Boil</text><text>Pour</text></g></svg>"
    assert read(f"<p>a</p>{svg}<p>b").text == "a\n\nBoil\nPour\n\nb"


TABLE = """\
<table><caption>Stock</caption>
<thead><tr><th rowspan=2>Part</th><th colspan=2>Quantity</th></tr>
<tr><th>here</th><th>there<br>or nowhere</th></tr></thead>
<tr><td rowspan=2>Valve</td><td>10</td><td>3</td></tr>
<tr><td colspan=2>none</td></tr>
<tr><td></td><td>1</td><td></td></tr>
</table><p>After."""


def test_spans_repeat_their_value() -> None:
    document = read(TABLE)
    assert document.text == (
        "Stock\n\nPart | Quantity | Quantity\nPart | here | there or nowhere\n"
        "Valve | 10 | 3\nValve | none | none\n| 1\n\nAfter."
    )
    rows = document.text.index("Valve")
    start = document.text.index("Part")
    end = document.text.index("\n\nAfter.")
    header = "Part | Quantity here | Quantity there or nowhere"
    assert document.tables == (Table(start, end, header, rows),)


@pytest.mark.parametrize(
    ("table", "header"),
    [
        ("<tr><th>a<th>b<tr><td>1<td>2", "a | b"),
        ("<tr><td><th>b<tr><th>x<td>2", "| b"),
        ("<tr><th>a<td>1<tr><th>b<td>2", ""),
        ("<tr><td>a<td>b<tr><td>1<td>2", ""),
        ("<tr><th colspan=2>Title<tr><th>a<th>b<tr><td>1<td>2", "a | b"),
        ("<tr><th>a<th>b", ""),
    ],
)
def test_columns_have_the_names_of_header_cells(table: str, header: str) -> None:
    tables = read(f"<p>x<table>{table}</table>").tables
    assert [found.header for found in tables] == [header] * bool(header)


def test_the_table_outside_counts() -> None:
    inner = "<table><tr><th>c<th>d<tr><td>3<td>4</table>"
    outer = f"<table><tr><th>a<th>b<tr><td>1<td>{inner}</table>"
    assert [table.header for table in read(outer).tables] == ["a | b"]
    layout = f"<table><tr><td>x<td>{inner}</table>"
    assert [table.header for table in read(layout).tables] == ["c | d"]


def test_late_labels_are_read() -> None:
    text = "Чайник пора чистить".encode("cp1251")
    for before in (
        b"<!--" + b"x" * 70_000 + b"-->",
        b"<script>var a = '<meta charset=koi8-r>';" + b" " * 9000 + b"</script>",
        b"<!-- <meta charset=koi8-r> -->",
        b"<title>charset=koi8-r <meta charset=koi8-r></title>",
    ):
        head = b"<html><head>" + before + b'<meta charset="windows-1251"></head>'
        document = parse("a.html", head + b"<body><p>" + text)
        assert (document.text, document.encoding) == ("Чайник пора чистить", "cp1251")


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("gb2312", "gbk", "朱镕基"),
        ("iso-8859-1", "cp1252", "“5 €”"),
        ("us-ascii", "utf-8", "naïve"),
        ("x-sjis", "cp932", "①日本"),
    ],
)
def test_labels_mean_what_browsers_take_them_for(label: str, codec: str, text: str) -> None:
    data = f"<meta charset={label}><p>{text}".encode(codec)
    document = parse("a.html", data)
    assert (document.text, document.encoding) == (text, codec)


def test_the_heading_is_the_title_without_the_name_of_the_site() -> None:
    assert read("<title>Descaling — Kettles 2</title><h1>Descaling</h1>x").title == "Descaling"
    assert read("<title>Kettles</title><h1>Descaling</h1>x").title == "Kettles"


@pytest.mark.parametrize(
    "piece",
    [
        "<style>.a{display:none}</style>",
        "<p hidden>",
        "<div class=sidebar>x",
        "<div class=x hidden><b>",
        "<button aria-expanded=false></button><div hidden>x",
        "<table><tr><th colspan=1000 rowspan=1000>x<th>y",
        "<tr><td rowspan=90 colspan=90>xy",
        "<noscript>",
        "<svg><text>x",
        "<h4>Related posts</h4>",
        "<article><h1>x</h1>",
        "<!--",
        "<script>",
        "<meta ",
    ],
)
def test_hostile_pages_take_linear_time(piece: str) -> None:
    size = 200_000
    data = ("<p>text<table>" + piece * (size // len(piece))).encode()
    started = time.process_time()
    document = parse("a.html", data)
    assert time.process_time() - started < 10
    assert len(document.text) < 10 * size


def test_hostile_style_sheets_take_linear_time() -> None:
    from selectolax.lexbor import LexborHTMLParser

    pieces = (
        "{",
        "}",
        "{display:none",
        ".a,",
        ".a{",
        "/*",
        ".a{display:none}",
        "@media{.a{",
        ".a.a",
    )
    for piece in pieces:
        css = ".a{display:none}" + piece * (500_000 // len(piece))
        root = LexborHTMLParser(f"<style>{css}</style><p class=a>x").root
        assert root is not None
        started = time.process_time()
        hidden_in(root)
        assert time.process_time() - started < 5
