"""XML: documents and data, entities that are not loaded or expanded, and malformed files."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.skip import SkipDocument
from retrieval.domain.records import Document
from tests.indexer.parse.test_parse import check_tiling


def read(source: str | bytes, uri: str = "docs/a.xml") -> Document:
    document = parse(uri, source if isinstance(source, bytes) else source.encode())
    check_tiling(document)
    return document


def headings(document: Document) -> list[tuple[str, ...]]:
    return [section.heading_path for section in document.sections]


DOCBOOK = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE book PUBLIC "-//OASIS//DTD DocBook XML V4.5//EN" "http://example.org/docbookx.dtd"
  [<!ENTITY product "The <emphasis>Product</emphasis>">]>
<book><bookinfo><title>Guide to &product;</title></bookinfo>
<chapter><title>Start <emphasis>here</emphasis></title>
<para>Text <emphasis>one</emphasis>&nbsp;&mdash; <ulink url="http://a">link</ulink>.
<itemizedlist><listitem><para>first</para></listitem><listitem><para>second</para></listitem>
</itemizedlist>After.</para>
<programlisting>def f():
    return 1</programlisting>
<table><title>Sizes</title><tgroup cols="2"><thead><row><entry>Kind</entry><entry>Size</entry></row>
</thead><tbody><row><entry><para>Mallard</para></entry><entry>1 <b>kg</b></entry></row></tbody>
</tgroup></table>
<sect1><title>Deep</title><para><emphasis>whole</emphasis> <emphasis>words</emphasis></para>
<figure><title>A figure</title></figure></sect1></chapter></book>
"""


def test_docbook() -> None:
    document = read(DOCBOOK)
    assert (document.title, document.format) == ("Guide to The Product", "xml")
    assert document.text == (
        "Guide to The Product\n\nStart here\n\nText one — link.\n- first\n- second\n\nAfter.\n\n"
        "def f():\n    return 1\n\nSizes\n\nKind | Size\nMallard | 1 kg\n\n"
        "Deep\n\nwhole words\n\nA figure"
    )
    assert headings(document) == [
        ("Guide to The Product",),
        ("Guide to The Product", "Start here"),
        ("Guide to The Product", "Start here", "Deep"),
    ]
    (table,) = document.tables
    assert document.text[table.char_start : table.char_end].startswith("Kind | Size\nMallard")


@pytest.mark.parametrize(
    ("source", "title", "expected"),
    [
        (
            '<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><titleStmt><title>Poems</title>'
            "</titleStmt></teiHeader><text><body><div><head>One</head><lg><l>a line</l>"
            "<l>another</l></lg></div></body></text></TEI>",
            "Poems",
            [("Poems",), ("Poems", "One")],
        ),
        (
            "<article><front><title-group><article-title>On <italic>X</italic></article-title>"
            "</title-group></front><body><sec><title>Intro</title><p>Text <xref>1</xref>.</p></sec>"
            "</body><back><ref-list><title>References</title><ref><mixed-citation><name>Foo</name>"
            " <article-title>Cited</article-title></mixed-citation></ref></ref-list></back>"
            "</article>",
            "On X",
            [("On X",), ("On X", "Intro"), ("On X", "References")],
        ),
        (
            "<task><title>Do it</title><taskbody><steps><step><cmd>Press <b>OK</b>.</cmd></step>"
            "</steps></taskbody></task>",
            "Do it",
            [("Do it",)],
        ),
    ],
    ids=["TEI", "JATS", "DITA"],
)
def test_other_vocabularies(source: str, title: str, expected: list[tuple[str, ...]]) -> None:
    document = read(source)
    assert (document.title, headings(document)) == (title, expected)


def test_data_has_a_line_for_each_value() -> None:
    document = read(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><name>My App</name>'
        "<dependencies><dependency scope='test'><groupId>a</groupId></dependency><dependency>"
        "<groupId>b</groupId><optional/></dependency></dependencies></project>"
    )
    assert document.title == "My App"
    assert document.text == (
        "name: My App\n\ndependencies\n\ndependency | scope: test\ngroupId: a\n\n"
        "dependency\ngroupId: b\noptional"
    )
    assert headings(document) == [(), ("dependencies",)]


def test_records_are_sections_under_their_title() -> None:
    document = read('<rs><r><name>Ann</name><v unit="kg">3</v></r><r><v>4</v></r></rs>')
    assert headings(document) == [("Ann",), ("r 2",)]
    assert document.text == "r\nname: Ann\nv: 3 | unit: kg\n\nr\nv: 4"
    assert document.title == "a"


def test_drawings_have_their_words() -> None:
    drawing = (
        "<svg><title>Pic</title><style>.a{}</style><path d='M0 0'/><text>a <t>b</t></text></svg>"
    )
    assert read(drawing, "a.svg").text == "Pic\n\na b"


@pytest.mark.parametrize(
    ("source", "text", "encoding"),
    [
        ('<?xml version="1.0" encoding="ISO-8859-1"?><p>caf\xe9 \x93q\x94</p>'.encode("latin-1"),
         "café “q”", "cp1252"),
        ('<?xml version="1.0" encoding="UTF-16"?><p>café</p>'.encode("utf-16"), "café", "utf-16"),
        ("<?xml version='1.0' encoding='Shift_JIS'?><p>日本</p>".encode("shift_jis"), "日本",
         "cp932"),
        ('<?xml version="1.0" encoding="UTF-8"?><p>caf\xe9</p>'.encode("latin-1"), "café", ""),
        (b"<?xml version='1.0' encoding='nonsense'?><p>x</p>", "x", "utf-8"),
    ],
)  # fmt: skip
def test_the_declaration_names_the_encoding(source: bytes, text: str, encoding: str) -> None:
    document = read(source)
    assert document.text == text
    assert not encoding or document.encoding == encoding


def test_entities_are_neither_loaded_nor_expanded_in_each_other() -> None:
    outside = '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r>x &e; y</r>'
    assert read(outside).text == "r: x &e; y"
    laughs = "".join(f'<!ENTITY {chr(98 + n)} "{10 * f"&{chr(97 + n)};"}">' for n in range(12))
    bomb = f'<!DOCTYPE r [<!ENTITY a "{100 * "ha"}">{laughs}]><r><p>kept</p> &m;</r>'
    started = time.process_time()
    document = read(bomb)
    assert len(document.text) < 1_000
    assert "kept" in document.text
    assert time.process_time() - started < 1


def test_what_is_malformed_is_named_and_the_rest_is_read() -> None:
    document = read("<a>\n<p>one</p>\n<p>two</b> rest\n<p>three")
    assert document.text == "one\n\ntwo\n\nrest\n\nthree"
    assert document.metadata["unread"] == ["what is malformed in line 3"]
    assert read("<r>before ]]> after</r>").text == "r: before ]]> after"
    with pytest.raises(SkipDocument, match="damaged"):
        read("no XML at all")


def test_deep_and_wide_files_take_time_in_proportion() -> None:
    started = time.process_time()
    read("<a>" * 100_000 + "x" + "</a>" * 100_000)
    read("<a>" + "<b>x</b>y" * 30_000 + "</a>")
    read("<a>" + "<b>x</b>" * 30_000 + "</a>")
    read("<a>" + "<b c='" + "d" * 300_000 + "'/></a>")
    read("<table>" + "<tr><td colspan='999999999'>x" * 2_000 + "</table>")
    assert time.process_time() - started < 10


PARTS = st.sampled_from(
    (
        *(
            "<p>",
            "</p>",
            "<a>",
            "</a>",
            "<title>",
            "</title>",
            "<sec>",
            "</sec>",
            "<table>",
            "<tr>",
        ),
        *("<td>", "</td>", "</tr>", "</table>", "<pre>", "</pre>", "<li>", "</li>", "<x y='z'/>"),
        *(
            "&amp;",
            "&foo;",
            "&#0;",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "<?pi ?>",
            "text",
            " ",
            "\n",
        ),
    )
)


@given(st.lists(PARTS, max_size=40))
def test_any_tags_give_sections_that_tile(parts: list[str]) -> None:
    read("<r>start" + "".join(parts))
