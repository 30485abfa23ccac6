"""Parsers: texts, titles, metadata and sections with exact offsets, and hostile input."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.base import fields, outline
from indexer.parse.formats import DOCUMENT_EXTENSIONS, parse
from indexer.parse.web.html_depth import MAX_OPEN, limit_depth
from indexer.skip import SkipDocument
from retrieval.domain.records import Document


def outline_of(document: Document) -> list[tuple[tuple[str, ...], str]]:
    """Heading path and first line of each section."""
    return [
        (section.heading_path, document.text[section.char_start :].split("\n", 1)[0])
        for section in document.sections
    ]


def check_tiling(document: Document) -> None:
    starts = [section.char_start for section in document.sections]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] < max(1, len(document.text))
    for section in document.sections:
        assert section.level == len(section.heading_path)
        assert all(0 < len(step) <= outline.MAX_HEADING_CHARS for step in section.heading_path)
    assert document.title.strip() == document.title != ""


def test_the_extension_chooses_the_parser() -> None:
    ends = [".md", ".markdown", ".mdx", ".rst", ".txt", ".html", ".htm", ".xhtml", ".adoc", ".csv"]
    assert set(ends) <= set(DOCUMENT_EXTENSIONS)
    formats = {parse(f"docs/a{end.upper()}", b"<p>x").format for end in ends}
    assert formats == {"markdown", "rst", "text", "html", "asciidoc", "table"}


@pytest.mark.parametrize(
    ("uri", "data", "reason"),
    [
        ("a.exe", b"MZ", "unsupported format"),
        ("a.md", b"", "empty"),
        ("a.md", b" \n\t\xe2\x80\x83\n", "no text"),
        ("a.html", b"<script>x()</script><p> &nbsp; </p>", "no text"),
        ("a.rst", b"\0\1\2", "binary"),
        ("a.html", b"<meta charset=latin1><p>\0\x01\0\x02\0\x03", "binary"),
    ],
)
def test_what_is_skipped(uri: str, data: bytes, reason: str) -> None:
    with pytest.raises(SkipDocument) as caught:
        parse(uri, data)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(reason)


def test_plain_text() -> None:
    document = parse("docs/sub/my notes.txt", "Zoë\r\n\r\n# no heading\r\n".encode())
    assert document.text == "Zoë\r\n\r\n# no heading\r\n"
    assert (document.title, document.format, document.encoding) == ("my notes", "text", "utf-8")
    assert outline_of(document) == [((), "Zoë\r")]


@pytest.mark.parametrize(
    ("uri", "title"),
    [
        ("docs/ .txt", ".txt"),
        ("docs/a.b.txt", "a.b"),
        ("\n.txt", ".txt"),
        ("a\n b.txt", "a b"),
        ("docs/a.rst", "a"),
        ("docs/a.adoc", "a"),
    ],
)
def test_the_file_name_is_the_last_resort_for_a_title(uri: str, title: str) -> None:
    assert parse(uri, b"text").title == title


MARKDOWN = """\
Before.

# One `code` and *emphasis* \\# [link](http://example.org/) {#anchor}

```sh
# a comment
```

    # indented code

- item

  # in a list

> # quoted

Two
lines
-----

#### Four ####

#

# Uno
"""


def test_markdown_headings() -> None:
    document = parse("a.md", MARKDOWN.encode())
    one = "One code and emphasis # link"
    assert document.text == MARKDOWN
    assert outline_of(document) == [
        ((), "Before."),
        ((one,), "# One `code` and *emphasis* \\# [link](http://example.org/) {#anchor}"),
        ((one, "Two lines"), "Two"),
        ((one, "Two lines", "Four"), "#### Four ####"),
        (("Uno",), "# Uno"),
    ]
    assert document.title == one
    check_tiling(document)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_markdown_line_ends(line_end: str) -> None:
    text = line_end.join(["# A", "", "text", "", "B", "=", "text"])
    document = parse("a.md", text.encode())
    starts = [section.char_start for section in document.sections]
    assert starts == [0, text.index("B" + line_end)]
    assert [section.heading_path for section in document.sections] == [("A",), ("B",)]


def test_markdown_front_matter() -> None:
    text = (
        "---\n"
        'title: "The: title"  \n'
        "Author: A. Person # not this\n"
        "tags: [one, 'two']\n"
        "more:\n  - three\n  - four\n"
        "nested:\n  key: value\n"
        "text: |\n  block\n"
        "empty:\n"
        "---\n"
        "# Heading\n"
    )
    document = parse("a.mdx", text.encode())
    assert document.metadata == {
        "title": "The: title",
        "author": "A. Person",
        "tags": ["one", "two"],
        "more": ["three", "four"],
        "nested": {"key": "value"},
        "text": "block",
    }
    assert document.title == "The: title"
    assert outline_of(document) == [((), "---"), (("Heading",), "# Heading")]


@pytest.mark.parametrize("text", ["---\na: b\n", "--- \n# A\n", "----\na: b\n---\n", "---"])
def test_markdown_without_an_end_of_front_matter(text: str) -> None:
    assert parse("a.md", f"{text}x".encode()).metadata == {}


@pytest.mark.parametrize(
    ("text", "title"),
    [("## B\n# A\n", "A"), ("## B\n### C\n", "B"), ("text", "file"), ("#\n", "file")],
)
def test_markdown_titles(text: str, title: str) -> None:
    assert parse("docs/file.md", text.encode()).title == title


def test_markdown_headings_and_what_only_looks_like_them() -> None:
    text = "---\ntitle: Ü\n---\n# Ä #\n```\n# code\n~~~\n```\n## B {#b}\n#no\n#\n ### C\n"
    text += "- # no\n\n> no\n> ===\n\nÖ\n=\n"
    document = parse("a.md", text.encode())
    assert outline_of(document) == [
        ((), "---"),
        (("Ä",), "# Ä #"),
        (("Ä", "B"), "## B {#b}"),
        (("Ä", "B", "C"), " ### C"),
        (("Ö",), "Ö"),
    ]


RST = """\
.. _label:

========
 Manual
========

Introduction
============
Some text::

    Not a title
    ===========

* Not either
------------

:class:`!Thing` and ``*args`` by `Name <http://example.org/>`_
--------------------------------------------------------------

=====  =====
a      b
=====  =====
1      2
=====  =====

A transition:

----------

Short
--
Shorter than its title
-----

Next
====
"""


def test_rst_sections() -> None:
    document = parse("a.rst", RST.encode())
    assert document.text == RST
    assert [section.heading_path for section in document.sections] == [
        (),
        ("Manual",),
        ("Manual", "Introduction"),
        ("Manual", "Introduction", "Thing and *args by Name"),
        ("Manual", "Next"),
    ]
    assert outline_of(document)[1][1] == "========"
    assert document.title == "Manual"
    check_tiling(document)


def test_rst_levels_come_in_order_of_appearance() -> None:
    text = "A\n~~~~\nB\n****\nC\n++++\nD\n****\nE\n~~~~\n"
    paths = [section.heading_path for section in parse("a.rst", text.encode()).sections]
    assert paths == [("A",), ("A", "B"), ("A", "B", "C"), ("A", "D"), ("E",)]


def test_rst_with_crlf() -> None:
    document = parse("a.rst", b"Title\r\n=====\r\n\r\ntext\r\n\r\nNext\r\n=====\r\n")
    assert [section.heading_path for section in document.sections] == [("Title",), ("Next",)]


def test_rst_headers_give_the_title() -> None:
    text = "PEP: 9999\nTitle: A proposal\n  on two lines\nAuthor: A. Person\n\nAbstract\n========\n"
    document = parse("pep-9999.rst", text.encode())
    assert document.title == "A proposal on two lines"
    assert document.metadata == {
        "pep": "9999",
        "title": "A proposal on two lines",
        "author": "A. Person",
    }


def test_rst_field_list_and_prose() -> None:
    assert parse("a.rst", b":orphan:\n:author: Me\n\ntext").metadata == {"author": "Me"}
    assert parse("a.rst", b"Note: this is prose.\n\ntext").metadata == {}


HTML = """\
<!DOCTYPE html><html lang="en"><head><title> The
 title </title><meta name="Description" content="What it is"><meta name="viewport" content="no">
<style>p {}</style></head><body>
<header><a href="/">Home</a></header><nav><h2>Menu</h2></nav>
<main><article><header><h1>First <em>heading</em><a class="headerlink" href="#x">¶</a></h1></header>
<p>One  para&shy;graph
 with <b>bold</b>, <i>it</i><code>code</code>.<br>A line.</p>
<ul><li><p>one</p></li><li>two<ul><li>inner</li></ul></li><li></li></ul>
<pre>
def f():
    return 1
</pre>
<table><tr><th>a</th><th><p>b</p></th></tr><tr><td></td><td>c</td><td></td><td>d</td></tr></table>
<dl><dt>term</dt><dd><p>meaning</p></dd></dl>
<h3>Third</h3>text<script>alert("<h2>no</h2>")</script>
<template>no</template></article></main><aside>aside</aside><footer><h2>Foot</h2></footer></body>
"""

HTML_TEXT = """\
First heading

One para\xadgraph with bold, itcode.
A line.

- one
- two
  - inner

def f():
    return 1

a | b
| c | | d

term
meaning

Third

text"""


def test_html_text_and_sections() -> None:
    document = parse("a.html", HTML.encode())
    assert document.text == HTML_TEXT
    assert outline_of(document) == [
        (("First heading",), "First heading"),
        (("First heading", "Third"), "Third"),
    ]
    assert document.title == "The title"
    assert document.metadata == {"description": "What it is", "lang": "en"}
    check_tiling(document)


@pytest.mark.parametrize(
    "element",
    [
        "<button>{}</button>",
        "<select><option>{}</select>",
        "<textarea>{}</textarea>",
        "<svg><title>{}</title></svg>",
        "<video>{}</video>",
        "<audio>{}</audio>",
        "<object>{}</object>",
        "<canvas>{}</canvas>",
        "<nav>{}</nav>",
        "<script>{}</script>",
        "<style>{}</style>",
    ],
)
def test_html_that_is_no_text(element: str) -> None:
    text = parse("a.html", f"<main><p>a{element.format('hidden')} b</main>".encode()).text
    assert text.split() == ["a", "b"]


def test_html_that_says_what_it_is() -> None:
    named = {"author": "A", "date": "2024-05-01", "description": "D", "keywords": "k, l"}
    head = "".join(f'<meta name="{name}" content="{value}">' for name, value in named.items())
    document = parse("docs/a page.html", f'<html lang="de"><head>{head}</head><p>x'.encode())
    assert document.metadata == {**named, "keywords": ["k", "l"], "lang": "de"}
    assert document.title == "a page"


def test_html_headings_in_headers_of_the_page_are_kept() -> None:
    document = parse("a.html", b"<header><h1>Title</h1>by me</header><p>x<footer>y</footer>")
    assert document.text == "Title\n\nby me\n\nx"
    assert document.title == "Title"


def test_html_that_is_nothing_but_a_footer_is_kept() -> None:
    assert parse("a.html", b"<footer>only this</footer>").text == "only this"


def test_html_permalinks_leave_no_trace() -> None:
    text = parse("a.html", b"<p>a<p><a href='#x'>#</a> b<ul><li><a>\xc2\xb6</a>c</ul>").text
    assert text == "a\n\nb\n\n- c"


def test_html_layout_tables_keep_their_blocks() -> None:
    data = b"<table><tr><td><ul><li>m<li>n</ul><td><h1>T</h1><p>x<p>y</table>"
    assert parse("a.html", data).text == "- m\n- n\n\nT\n\nx\n\ny"


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("<p>é".encode(), "é", "utf-8"),
        ('<meta charset="ISO-8859-1"><p>é“'.encode("cp1252"), "é“", "cp1252"),
        (
            b'<meta http-equiv=a content="text/html; charset=koi8-r">' + "да".encode("koi8-r"),
            "да",
            "koi8-r",
        ),
        (
            '<?xml version="1.0" encoding="Shift_JIS"?><p>日本'.encode("shift_jis"),
            "日本",
            "cp932",
        ),
        ("<meta charset=latin1><p>é".encode("utf-8-sig"), "é", "utf-8-sig"),
        ("<meta charset=utf-8><p>é".encode("cp1252"), "é", "cp1252+guessed"),
        ("<meta charset=rot13><p>é".encode(), "é", "utf-8"),
        ("<meta charset=no-such><p>é".encode(), "é", "utf-8"),
        ("<p>é".encode("utf-16"), "é", "utf-16"),
    ],
)
def test_html_encodings(data: bytes, text: str, encoding: str) -> None:
    document = parse("a.html", data)
    assert (document.text, document.encoding) == (text, encoding)


def test_xhtml_elements_that_close_themselves() -> None:
    data = b"<?xml version='1.0'?><html><head><script src='x'/><title/></head><p>a<br/>b</p>"
    assert parse("a.html", data).text == "a\nb"
    assert parse("a.xhtml", data.partition(b"?>")[2]).text == "a\nb"


def test_html_control_characters_and_surrogates() -> None:
    text = parse("a.html", b"<p>a&#0;b&#xD800;c&#1;d\x07" + b" and more words" * 20).text
    assert "\0" not in text
    assert text.encode()


def test_long_titles_and_headings_are_cut() -> None:
    long = "word " * 50_000
    for uri, source in (
        ("a.md", f"# {long}\n\nx"),
        ("a.md", "# " + "[" * 100_000),
        ("a.rst", f"{long}\n{'=' * 300_000}\n"),
        ("a.html", f"<title>{long}</title><h1>{long}</h1>"),
    ):
        document = parse(uri, source.encode())
        check_tiling(document)
        assert 400 < len(document.title) <= 500
        assert document.sections[-1].heading_path == (document.title,)


def test_headings_beyond_the_limit_start_no_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "MAX_SECTIONS", 3)
    assert len(parse("a.md", b"# a\n" * 5).sections) == 3


def test_metadata_is_bounded() -> None:
    lines = "".join(f"key{number}: {'v' * 600}\n" for number in range(100))
    metadata = parse("a.md", f"---\n{lines}---\ntext".encode()).metadata
    long_list = "---\na: [" + "1, " * 1500 + "]\nb: 1\n---\ntext"
    assert len(parse("a.md", long_list.encode()).metadata["a"]) <= fields.MAX_METADATA_VALUES  # type: ignore[arg-type]
    assert len(metadata) == fields.MAX_METADATA
    assert {len(str(value)) for value in metadata.values()} == {outline.MAX_HEADING_CHARS}


def test_shallow_html_is_left_alone() -> None:
    source = "<ul>" + "<li>item <b>bold</b><p>par" * 5000 + "</ul><!-- <div> --" + "<div>" * 100
    assert limit_depth(source) == source


def test_deep_html_keeps_its_text() -> None:
    depth = 100_000
    document = parse("a.html", b"<div>a" * depth + b"<h1>end</h1>")
    assert document.text.split() == ["a"] * depth + ["end"]
    assert document.title == "end"
    assert limit_depth("<div>" * depth).count("<div>") == MAX_OPEN


HOSTILE = {
    "a.txt": ["x", "\n"],
    "a.md": ["#", "# a\n", "> ", "- ", "[", "`", "*a", "<", "|a", "---\n", "```\n", "[a]: b\n"],
    "a.rst": ["=", "==\n", "a\n=\n", "`", "..\n", "= =\n"],
    "a.html": [
        "<div>",
        "<p>",
        "<b>",
        "<a><p>",
        "<table><td>",
        "<ul><li>x",
        "<",
        "<a ",
        "<!--",
        "<h1>a",
        "<pre>\n",
        "<header>x",
        "&amp;",
        "<a x='",
        "</p>",
    ],
}


@pytest.mark.parametrize(
    ("uri", "piece"), [(uri, piece) for uri, pieces in HOSTILE.items() for piece in pieces]
)
def test_hostile_input_takes_linear_time(uri: str, piece: str) -> None:
    size = 60_000 if uri == "a.md" else 200_000
    start = time.process_time()
    document = parse(uri, ("text\n\n" + piece * (size // len(piece))).encode())
    # Quadratic time would be minutes; this leaves room for slow machines.
    assert time.process_time() - start < 10
    check_tiling(document)
    assert len(document.text) < 10 * size


@given(
    st.sampled_from(["a.md", "a.rst", "a.html", "a.txt"]),
    st.lists(
        st.sampled_from(
            (
                *(
                    "# ",
                    "=====\n",
                    "-----\n",
                    "---\n",
                    "\n",
                    "\r\n",
                    "word",
                    "é🦀 ",
                    "    ",
                    "```\n",
                ),
                *("> ", "- ", "key: value\n", ":field: x\n", "¶", "<p>", "<br>", "<dt>", "<dd>"),
                *("<h1>", "</h1>", "<h2>", "<pre>", "<ul>", "<li>", "</ul>", "<a>", "</a>"),
                *("<table>", "<tr>", "<td>", "</td>", "</table>", "<header>", "</header>"),
                *("<aside>", "</aside>"),
            )
        ),
        max_size=40,
    ).map("".join)
    | st.text(),
)
def test_any_input_gives_sections_that_tile_the_text(uri: str, source: str) -> None:
    try:
        document = parse(uri, source.encode("utf-8", "replace"))
    except SkipDocument:
        return
    check_tiling(document)
    assert "\0" not in document.text
    assert document.text.encode()
    if document.format == "html":
        for section in document.sections:
            if section.level:
                heading = " ".join(document.text[section.char_start :].split())
                assert heading.startswith(section.heading_path[-1][:100])
