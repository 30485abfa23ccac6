"""Parsers of formats that are no text: real files, what is lost in none of them, damaged ones."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.chunking.chunk import chunk_document
from indexer.parse.formats import ParseOptions, format_of, parse
from indexer.parse.office.sheets.table_lines import table_lines
from indexer.parse.pdf import pdf_text
from indexer.parse.plain import code
from indexer.skip import SkipDocument
from retrieval.domain.records import ChunkSettings, Document
from tests.indexer import make_compound, make_files
from tests.indexer.chunking.test_chunk import Words, check
from tests.indexer.files.test_unpack import compress_zstd
from tests.indexer.parse.test_parse import check_tiling, outline_of

MAKERS: dict[str, Callable[[], bytes]] = {
    "a.docx": make_files.make_docx,
    "a.pptx": make_files.make_pptx,
    "a.xlsx": make_files.make_xlsx,
    "a.odt": make_files.make_odt,
    "a.odp": make_files.make_odp,
    "a.rtf": make_files.make_rtf,
    "a.doc": make_compound.make_small_doc,
    "a.ppt": make_compound.make_small_ppt,
    "a.pdf": make_files.make_pdf,
    "plain.pdf": make_files.make_plain_pdf,
    "a.epub": make_files.make_epub,
    "a.eml": make_files.make_mail,
}


def paths(document: Document) -> list[str]:
    return [" > ".join(section.heading_path) for section in document.sections]


def refused(uri: str, data: bytes) -> str:
    with pytest.raises(SkipDocument) as caught:
        parse(uri, data)
    return str(caught.value)


@pytest.mark.parametrize("uri", MAKERS)
def test_chunks_are_the_text_between_their_offsets(uri: str) -> None:
    document = parse(uri, MAKERS[uri]())
    check_tiling(document)
    chunks = chunk_document(document, Words(), ChunkSettings(12, 3))
    assert len(chunks) > 1
    check(document, chunks, Words(), 12)


def test_docx() -> None:
    document = parse("docs/a.docx", make_files.make_docx())
    assert (document.title, document.format) == ("Of Ducks", "docx")
    assert document.metadata["author"] == "A. Author"
    assert paths(document) == [
        "Of Ducks",
        "Of Ducks > Feathers",
        "Of Ducks > Feathers > Sizes",
        "Of Ducks > Notes",
    ]
    assert "They are waterproof.\tTabbed\nline\n\n- white\n- brown\n\n" in document.text
    assert "def quack():\n    return 1\n\n" in document.text
    assert "Kind | Weight\nMallard | 1.1 kg" in document.text
    for kept in ("inserted", "controlled", "linked", "boxed"):
        assert f"{kept} words" in document.text
    for left_out in ("deleted", "HYPERLINK", "page header", "page footer", "comment"):
        assert left_out not in document.text
    assert "A remark." in document.text
    assert "Before a box.\n\nboxed words" in document.text


def test_docx_of_a_template() -> None:
    document = parse("docs/a.docx", make_files.make_templated_docx())
    assert paths(document) == [
        "On Swans",
        "On Swans > Feeding",
        "On Swans > Feeding > In winter",
        "Outlined",
    ]
    assert document.text.endswith("They hiss[2]\n\n[2] Seldom bite.")


def test_pptx() -> None:
    document = parse("a.pptx", make_files.make_pptx())
    assert document.title == "Why ducks"
    assert document.text == (
        "Why ducks\n\nThey swim\n  - and dive\n\nNotes: Speak slowly.\n\n"
        "Numbers\n\nKind | Weight\nMallard | 1.1 kg"
    )
    numbers = document.text.index("Numbers")
    assert document.page_starts == (0, numbers, numbers)  # the second slide is empty
    assert paths(document) == ["Why ducks", "Numbers"]


def test_words_of_charts_follow_their_slide() -> None:
    document = parse("a.pptx", make_files.make_charted_pptx())
    assert paths(document) == ["Ducks by year", "Slide 2"]
    slide = document.text[: document.page_starts[1]]
    assert all(words in slide for words in ("Counted on the lake", "Mallards", "Teals"))
    assert "31" not in slide


def test_workbook() -> None:
    document = parse("docs/birds.xlsx", make_files.make_xlsx())
    assert document.text == (
        "Birds\n\nKind | Weight | Seen\nKind: Mallard | Weight: 1.25 | Seen: 2024-05-01\n"
        "Kind: Swan | Weight: 11\n\nEmpty\n\nLoose\n\njust | words"
    )
    assert paths(document) == ["Birds", "Empty", "Loose"]
    assert len(document.page_starts) == 3


def test_open_document_workbook() -> None:
    document = parse("docs/birds.ods", make_files.make_ods())
    assert document.format == "spreadsheet"
    assert document.text == (
        "Birds\n\nKind | Weight\nKind: Mallard | Weight: 1.1 kg\nKind: Swan | Weight: 11 kg"
    )


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.csv", 'a,b\n1,"x, ""y""\nz"\n', 'a | b\na: 1 | b: x, "y" z'),
        ("a.csv", "a;b\n1;2,5\n", "a | b\na: 1 | b: 2,5"),
        ("a.csv", "a|b\n1|2,5\n", "a | b\na: 1 | b: 2,5"),
        ("a.csv", "a\tb\n1\t2,5\n", "a | b\na: 1 | b: 2,5"),
        ("a.tsv", "a,c\tb\n1\t2\n", "a,c | b\na,c: 1 | b: 2"),
        ("a.csv", "1,2\n3,4\n", "1 | 2\n3 | 4"),
        ("a.csv", "word\n\nother\n", "word\nother"),
        ("a.csv", "a,b\n1,2,3\n", "a | b\na: 1 | b: 2 | 3"),
        ("a.csv", "a,b\n,2\n,\n", "a | b\nb: 2"),
    ],
)
def test_delimited_tables(name: str, data: str, text: str) -> None:
    assert parse(name, data.encode()).text == text


@given(st.lists(st.lists(st.text(max_size=5), max_size=4), max_size=30))
def test_no_value_of_a_table_is_lost(rows: list[list[str]]) -> None:
    lines = list(table_lines(rows))
    filled = [row for row in rows if any(value.split() for value in row)]
    assert len(lines) == len(filled)
    for row, line in zip(filled, lines, strict=True):
        assert all(" ".join(value.split()) in line for value in row)


def test_pdf_with_bookmarks() -> None:
    document = parse("a.pdf", make_files.make_pdf())
    assert (document.title, document.metadata["author"]) == ("Duck Manual", "A. Author")
    food = document.text.index("1.1 Food")
    assert document.page_starts == (0, food, food)
    assert document.metadata["pages without text"] == 1
    assert document.metadata["subject"] == "Keeping ducks"
    assert document.metadata["keywords"] == ["ducks", "care"]
    assert document.metadata["date"] == "2024-05-01"
    assert outline_of(document) == [(("Care",), "1 Care"), (("Care", "Food"), "1.1 Food")]
    assert " ".join(make_files.PARAGRAPH.split()) in " ".join(document.text.split())
    assert "\n\nA second paragraph." in document.text


def test_pdf_whose_headings_are_only_larger() -> None:
    document = parse("plain.pdf", make_files.make_plain_pdf())
    assert outline_of(document) == [(("Of Ducks",), "Of Ducks"), (("Of Swans",), "Of Swans")]
    assert document.title == "Of Ducks"


def test_columns_of_a_pdf_are_read_one_after_the_other() -> None:
    text = parse("a.pdf", make_files.make_columns_pdf()).text
    assert text.split() == [
        word for number in range(1, 41) for word in f"Line {number} of the story.".split()
    ]


def test_words_broken_at_line_ends() -> None:
    known = pdf_text.vocabulary(["the example is well-known, a state of the art", "mother in law"])
    broken = "exam\ufffeple well\ufffeknown state\ufffeart un\ufffeseen x\ufffe1 mother\ufffelaw"
    assert (
        pdf_text.join_words(broken, known) == "example well-known state-art unseen x-1 mother-law"
    )


def test_epub() -> None:
    document = parse("a.epub", make_files.make_epub())
    assert (document.title, document.metadata["author"]) == ("A Duck's Life", "A. Author")
    assert document.text == "One\n\nFirst chapter.\n\nTwo\n\nSecond & last.\n\nMore\n\nEnd."
    assert paths(document) == ["One", "Two", "Two > More"]


def test_mail() -> None:
    document = parse("a.eml", make_files.make_mail())
    assert document.title == "Größe der Enten"
    assert document.text.startswith("Größe der Enten\nFrom: Zoë <zoe@example.org>\n")
    assert "ducks are größer." in document.text
    assert "HTML" not in document.text  # the same again
    assert "duck,1" not in document.text  # of a document of its own
    assert document.metadata == {
        "date": "2024-05-01T10:00:00+00:00",
        "from": "Zoë <zoe@example.org>",
        "to": "list@example.org",
        "message-id": "<1@example.org>",
        "list-id": "Ducks <ducks.example.org>",
        "attachments": ["sizes.csv", "duck.png"],
    }
    assert paths(document) == ["Größe der Enten"]


def test_mail_in_html_only_and_with_bad_headers() -> None:
    data = (
        b"Subject: =?utf-8?q?caf=C3=A9?=\r\nFrom: \xff<>;;\r\nDate: yesterday\r\n"
        b"Content-Type: text/html; charset=no-such\r\n\r\n<p>One<p>Two<script>x</script>"
    )
    document = parse("a.eml", data)
    assert document.title == "café"
    assert document.text.endswith("One\n\nTwo")
    assert document.metadata["date"] == "yesterday"


def test_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Words.\n"]},
        {"cell_type": "code", "source": "# no heading\nprint('```')", "outputs": [{"text": "out"}]},
        {"cell_type": "raw", "source": "raw"},
        {"cell_type": "markdown", "source": "## Part"},
    ]
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "python"}}}
    document = parse("a.ipynb", json.dumps(notebook).encode())
    assert document.format == "notebook"
    assert paths(document) == ["Title", "Title > Part"]
    assert "```python\n# no heading\nprint('```')\n```\n\nraw\n\n## Part" in document.text
    assert "out" not in document.text


ASCIIDOC = """\
= The _Guide_
A. Author <a@example.org>
:keywords: ducks, swans

Preamble.

== First [[anchor]]

----
== no title
----

[discrete]
== Not a section

Second
------

=== Third ===
"""


def test_asciidoc() -> None:
    document = parse("a.adoc", ASCIIDOC.encode())
    assert document.text == ASCIIDOC
    assert document.title == "The Guide"
    assert document.metadata == {"author": "A. Author", "keywords": ["ducks", "swans"]}
    assert outline_of(document) == [
        (("The Guide",), "= The _Guide_"),
        (("The Guide", "First"), "== First [[anchor]]"),
        (("The Guide", "Second"), "Second"),
        (("The Guide", "Second", "Third"), "=== Third ==="),
    ]


def test_json_record_with_a_text() -> None:
    record = {"_id": 7, "title": "T", "text": "Long text.", "tags": ["a", "b"], "by": {"name": "Z"}}
    document = parse("a.json", json.dumps(record).encode())
    assert (document.title, document.text) == ("T", "T\n\nLong text.")
    assert document.metadata == {"_id": 7, "tags": ["a", "b"], "by": {"name": "Z"}}


@pytest.mark.parametrize("title", ["title", "headline", "subject", "name"])
@pytest.mark.parametrize("text", ["text", "content", "contents", "body", "passage", "abstract"])
def test_fields_that_are_the_title_and_the_text_of_a_record(title: str, text: str) -> None:
    record = {"other": "kept", text: "Long text.", title: "T"}
    document = parse("a.json", json.dumps(record).encode())
    assert (document.title, document.text) == ("T", "T\n\nLong text.")
    assert document.metadata == {"other": "kept"}


def test_the_first_field_that_can_be_the_title_is() -> None:
    record = {"name": "N", "subject": "S", "headline": "H", "title": "T", "text": "Long text."}
    for title in ("title", "headline", "subject", "name"):
        document = parse("a.json", json.dumps(record).encode())
        assert document.title == record.pop(title)


def test_json_values_too_long_for_metadata_follow_the_text() -> None:
    long = "word " * 200
    document = parse("a.json", json.dumps({"text": "Text.", "more": long, "n": 1}).encode())
    assert document.text == f"Text.\n\nmore: {long.strip()}"


def test_json_without_a_text_is_all_its_values() -> None:
    record = {"name": "duck", "size": {"weight": 1.10, "wild": True, "none": None}, "x": [{"y": 1}]}
    document = parse("a.json", json.dumps(record).encode())
    assert document.text == "duck\n\nsize.weight: 1.1\nsize.wild: true\nx.y: 1"


def test_json_text_fields_that_were_asked_for() -> None:
    record = {"title": "T", "text": "no", "a": {"b": "yes", "c": ["and", {"d": "this"}]}}
    document = parse("a.json", json.dumps(record).encode(), ParseOptions(["a.b", "a.c"]))
    assert document.text == "T\n\nyes\n\nand\n\nthis"
    assert document.metadata == {"text": "no"}


def test_json_list_of_records() -> None:
    records = [{"title": "One", "text": "First.", "n": 1}, {"text": "Second."}, "loose"]
    document = parse("docs/all.json", json.dumps(records).encode())
    assert document.text == "One\n\nFirst.\n\nn: 1\n\nSecond.\n\nloose"
    assert paths(document) == ["One", "Record 2", "Record 3"]
    assert document.title == "One"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(json_values)
def test_any_json_has_exact_offsets(value: object) -> None:
    try:
        document = parse("a.json", json.dumps(value).encode())
    except SkipDocument as skip:
        assert str(skip) == "no text"
    else:
        check_tiling(document)


@pytest.mark.parametrize("name", ["README", "docs/LICENSE", "CHANGES.gz", "a/NEWS"])
def test_texts_without_an_extension(name: str) -> None:
    format_ = format_of(name)
    assert format_ is not None
    assert format_.name == "plain text"
    makefile = format_of("docs/Makefile")
    assert makefile is not None
    assert makefile.key == "code"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, compress_zstd])
def test_compressed_files(pack: Callable[[bytes], bytes]) -> None:
    ending = {gzip.compress: ".gz", bz2.compress: ".bz2", lzma.compress: ".xz"}.get(pack, ".zst")
    document = parse(f"docs/notes.md{ending}", pack(b"# Title\n\nText.\n"))
    assert (document.format, document.title) == ("markdown", "Title")
    assert document.text == "# Title\n\nText.\n"
    assert parse(f"docs/book.xlsx{ending}", pack(make_files.make_xlsx())).format == "spreadsheet"


TYPES = {
    "a.odt": "application/vnd.oasis.opendocument.text",
    "a.odp": "application/vnd.oasis.opendocument.presentation",
    "a.epub": "application/epub+zip",
}


def with_type(data: bytes, media_type: str) -> bytes:
    """A ZIP file whose first member is its type, as its standard has it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        new.writestr("mimetype", media_type)
        for name in old.namelist():
            if name != "mimetype":
                new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"a.eml"}))
def test_documents_without_an_extension_are_told_by_their_content(name: str) -> None:
    data = with_type(_made(name), TYPES[name]) if name in TYPES else _made(name)
    named, unnamed = parse(f"docs/{name}", data), parse("docs/4711", data)
    assert (unnamed.format, unnamed.text) == (named.format, named.text)
    assert parse("docs/4711.gz", gzip.compress(data)).text == named.text


def test_what_begins_like_a_document_and_is_none() -> None:
    page = parse("docs/page", b"\xef\xbb\xbf\n<!DOCTYPE html>\n<title>A</title><p>One &amp; two.")
    assert (page.format, page.title, page.text.strip()) == ("html", "A", "One & two.")
    assert parse("docs/note", b"The <html> tag, and %PDF-1.7\n").format == "text"
    compound = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
    office_like = make_files.make_zip({"[Content_Types].xml": "<Types/>", "x": "y"})
    for data in (make_files.make_zip({"x": "y"}), office_like, compound, b"PK\x03\x04"):
        assert refused("docs/file", data) == "unsupported format: no extension"
    assert refused("docs/file", b"%PDF-1.7\nrubbish").startswith("damaged: ")
    assert refused("docs/file", make_files.make_locked_pdf()) == "encrypted: needs a password"


def test_what_can_not_be_read_is_named() -> None:
    assert refused("a.pdf", make_files.make_locked_pdf()) == "encrypted: needs a password"
    assert refused("a.pdf", b"%PDF-1.7\nrubbish").startswith("damaged: ")
    old = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
    assert refused("a.docx", old).startswith("damaged: ")
    locked = old + "EncryptedPackage".encode("utf-16-le")
    for name in ("a.xlsx", "a.docx", "a.pptx"):
        assert refused(name, locked) == "encrypted"
    for name in ("a.doc", "a.ppt", "a.xls"):
        assert refused(name, old).startswith("damaged: ")
    drm = {
        "META-INF/encryption.xml": '<encryption><CipherReference URI="OPS/text/c%200.xhtml"/>'
        "</encryption>"
    }
    assert refused("a.epub", make_files.make_epub(drm)).startswith("encrypted: ")
    assert refused("a.eml", b"\n\nno header").startswith("damaged: not a message")
    assert refused("a.ipynb", b"[]").startswith("damaged: ")
    assert refused("a.json", b"{").startswith("damaged: ")
    assert refused("a.docx", make_files.make_zip({"x": "y"})).startswith("damaged: ")


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    for doctype in (
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>',
        f'<!DOCTYPE x [<!ENTITY l9 SYSTEM "{secret.as_uri()}">]>',
    ):
        data = _with_part(make_files.make_docx(), "word/document.xml", doctype, "&l9;")
        try:
            text = parse("a.docx", data).text
        except SkipDocument as skip:
            text = str(skip)
        assert "SECRET" not in text
        assert "hahaha" not in text


def _with_part(data: bytes, part: str, doctype: str, insert: str) -> bytes:
    """A package with a document type, and something in the first text, of one of its parts."""
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    head, _, rest = files[part].partition("?>")
    files[part] = f"{head}?>{doctype}{rest}".replace("First words", f"First {insert} words", 1)
    return make_files.make_zip(files)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    uri = data.draw(st.sampled_from(sorted(MAKERS)))
    damaged = bytearray(_made(uri))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    try:
        check_tiling(parse(uri, bytes(damaged[:cut])))
    except SkipDocument as skip:
        assert skip.reason


_FILES: dict[str, bytes] = {}


def _made(uri: str) -> bytes:
    if uri not in _FILES:
        _FILES[uri] = MAKERS[uri]()
    return _FILES[uri]


SOURCES = {
    "a.py": (
        "#!/usr/bin/env python\n'''Doc é.'''\nX = 1\n\n@deco\nclass A(B):\n    y = 2\n\n"
        "    # about f\n    def f(self):\n        def g(): pass\n\n    z = 3\n\n"
        "async def top(): ...\n\nprint(1)\n",
        ["", "A", "A > f", "A", "top", ""],
    ),
    "a.java": (
        "package x;\n/** Doc é. */\n@Ann\npublic class A {\n  int x;\n  /** m */\n"
        "  public int m() { return 1; }\n  enum E { P }\n  int y;\n}\ninterface I {}\n",
        ["", "A", "A > m", "A > E", "A", "I"],
    ),
    "a.go": ("package x\n// T\ntype T struct {}\n\nfunc (t *T) M() {}\n", ["", "T", "M"]),
    "a.rs": (
        "use x;\n/// S\n#[derive(Debug)]\npub struct S;\nimpl S {\n    fn new() {}\n}\n",
        ["", "S", "S", "S > new"],
    ),
    "a.c": ("int x;\nstatic int *f(int a)\n{\n  struct s v;\n}\nint y;\n", ["", "f", ""]),
    "a.cpp": (
        "namespace n {\ntemplate <typename T>\nclass C { void m() {} };\n}\n",
        ["n", "n > C", "n > C > m"],
    ),
    "a.cs": (
        "namespace N {\nclass A {\nint M() { return 1; }\n}\n}\n",
        ["N", "N > A", "N > A > M"],
    ),
    "a.ts": (
        "export class A {\n  m() {}\n}\n// f\nexport const f = () => 1;\n",
        ["A", "A > m", "f"],
    ),
    "a.tsx": ("export function C() { return <div/>; }\n", ["C"]),
    "a.js": ("let a = 1;\nfunction g() {}\n", ["", "g"]),
    "a.rb": ("module M\n  class A\n    def f; end\n  end\nend\n", ["M", "M > A", "M > A > f"]),
    "a.php": ("<?php\nclass A {\n function f() {}\n}\n", ["", "A", "A > f"]),
    "a.sh": ("#!/bin/sh\nf() { echo; }\nf\n", ["", "f", ""]),
    "a.kt": ("class A {\n  fun f() = 1\n}\nfun top() {}\n", ["A", "A > f", "top"]),
    "a.scala": ("object O {\n  def f = 1\n}\n", ["O", "O > f"]),
}


@pytest.mark.parametrize("uri", SOURCES)
def test_functions_and_classes_are_sections(uri: str) -> None:
    source, expected = SOURCES[uri]
    document = parse(uri, source.encode())
    assert (document.text, document.title, document.format) == (source, uri, "code")
    check_tiling(document)
    assert paths(document) == expected


def test_every_grammar_is_tried() -> None:
    assert all(code.has_grammar(end) for end in code.EXTENSIONS)
    tried = {code.grammar_of(PurePosixPath(name).suffix) for name in SOURCES}
    assert tried == {code.grammar_of(end) for end in code.EXTENSIONS}


def test_without_grammars_a_file_is_one_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "find_spec", lambda name: None)
    assert paths(parse("a.go", SOURCES["a.go"][0].encode())) == [""]


def test_what_follows_a_definition_on_its_line_is_its_own() -> None:
    assert paths(parse("a.ts", b"class A {} x\n")) == ["A"]
    assert paths(parse("a.ts", b"class A {} x\ny\n")) == ["A", ""]
    assert paths(parse("a.ts", b"class A {} x")) == ["A", ""]


@pytest.mark.parametrize("uri", ["a.py", "a.c", "a.ts"])
def test_source_that_is_no_source_is_one_section(uri: str) -> None:
    text = "print 'é' {{{ ((( this is } no language\n" + "(" * 3000
    document = parse(uri, text.encode())
    assert document.text == text
    check_tiling(document)


@given(st.text(alphabet="class f(){};\n=é🦀#/*:", max_size=80), st.sampled_from(sorted(SOURCES)))
def test_any_source_has_exact_offsets(text: str, uri: str) -> None:
    if text.strip():
        document = parse(uri, text.encode())
        assert document.text == text
        check_tiling(document)
