"""The table of formats: whole, without contradictions, and lazy; what an optional format does."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.files.discover import discover
from indexer.parse import formats
from indexer.parse.formats import FORMATS, Extra, Format, format_of, open_container, parse
from indexer.skip import SkipDocument
from tests.indexer.parse.test_formats import MAKERS

TEXTS = {
    "a.md": "# A\n\ntext",
    "a.rst": "A\n=\n\ntext",
    "a.adoc": "= A\n\ntext",
    "a.txt": "text",
    "a.html": "<p>text</p>",
    "a.fb2": "<FictionBook><body><p>text</p></body></FictionBook>",
    "a.mhtml": "MIME-Version: 1.0\nContent-Type: text/html\n\n<p>text</p>",
    "a.csv": "a,b\nc,d\n",
    "a.ipynb": '{"cells": [{"cell_type": "markdown", "source": "text"}]}',
    "a.py": "pass\n",
    "a.json": '{"text": "text"}',
    "a.tex": "\\section{A}\ntext",
    "a.org": "* A\ntext",
    "a.typ": "= A\ntext",
    "a.wiki": "== A ==\ntext",
    "a.1": ".TH A 1\n.SH NAME\ntext",
    "a.xml": "<p>text</p>",
    "a.yaml": "key: text",
    "a.srt": "1\n00:00:01,000 --> 00:00:02,000\ntext",
}


def test_no_name_is_in_two_formats() -> None:
    extensions = [end for one in FORMATS for end in one.extensions]
    names = [name for one in FORMATS for name in one.names]
    keys = [one.key for one in FORMATS]
    for given in (extensions, names, keys):
        assert len(given) == len(set(given))
    assert all(end == end.lower() and end.startswith(".") for end in extensions)
    assert all(name == name.lower() for name in names)
    assert all((one.parser is None) == one.is_container for one in FORMATS)


def test_parsers_give_documents_the_key_of_their_format() -> None:
    made = {**{uri: make() for uri, make in MAKERS.items()}}
    made |= {uri: text.encode() for uri, text in TEXTS.items()}
    found = {parse(uri, data).format for uri, data in made.items()}
    # Pictures are tested with their extra, in test_ocr.py.
    optional = {one.key for one in FORMATS if one.extra and one.extra.is_required}
    assert found == {one.key for one in FORMATS if not one.is_container} - optional
    for uri, data in made.items():
        format_ = format_of(uri)
        assert format_ is not None
        assert parse(uri, data).format == format_.key


def test_libraries_are_loaded_when_the_first_such_file_is_met() -> None:
    program = """
import sys
from indexer.parse.formats import parse
libraries = {"lxml", "pypdfium2", "pyromark", "python_calamine", "selectolax", "tree_sitter"}
assert not libraries & set(sys.modules), libraries & set(sys.modules)
assert not {"tarfile", "email.policy"} & set(sys.modules)
parse("a.md", b"# A")
assert libraries & set(sys.modules) == {"pyromark"}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    "name", [".md", "md", "a.", "a/.txt", "a.md/b", "a.zip.gz", "a.tar.zip.xz"]
)
def test_what_is_no_extension(name: str) -> None:
    assert format_of(name) is None


def test_files_that_need_an_extra_are_skipped_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = format_of("a.txt")
    assert text is not None
    installed: list[str] = []
    extra = Extra("scans", lambda extension: extension in installed, is_required=True)
    scan = Format("scan", "scan", (".scan",), text.parser, extra=extra)
    monkeypatch.setitem(formats._BY_EXTENSION, ".scan", scan)
    (tmp_path / "a.scan.gz").write_text("text")
    (skipped,) = discover([tmp_path]).skipped
    why = ".scan needs pip install 'gte-retrieval[scans]'"
    assert (skipped.reason, skipped.detail) == ("unsupported format", why)
    with pytest.raises(SkipDocument, match=r"unsupported format: .scan needs pip install"):
        parse("a.scan", b"text")
    installed.append(".scan")
    assert [file.uri for file in discover([tmp_path]).files] == [f"{tmp_path.name}/a.scan.gz"]
    assert parse("a.scan", b"text").text == "text"


def test_a_container_is_no_document_and_a_document_no_container() -> None:
    with pytest.raises(SkipDocument, match="a container"):
        parse("a.zip", b"text")
    with pytest.raises(ValueError, match="no container"):
        open_container("a.md", io.BytesIO())
