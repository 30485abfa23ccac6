"""A folder as people have it: all that a person would search is read, and clutter is counted."""

import gzip
import os
from pathlib import Path

import pytest

from indexer.build.settings import BuildOptions
from indexer.commands.build import build as build_command
from indexer.files.discover import discover
from retrieval.domain.records import DEFAULT_READING, ReadSettings
from retrieval.store import open_reader
from tests.indexer import make_files
from tests.indexer.build.test_build import Workplace, counts
from tests.indexer.commands.test_cli import assert_user_error, indexer

TEXT = b"words to find\n"
WANTED = {
    "README.md": b"# Readme\n\nwords\n",
    "LICENSE": TEXT,
    "Makefile": b"all:\n\techo words\n",
    "Dockerfile": b"FROM scratch\n",
    "todo": TEXT,
    "notes.txt": TEXT,
    "Besprechung.txt": "Grüße, schöne Wörter".encode("cp1252"),
    "server.log": TEXT,
    "server.log.1": TEXT,
    "app.trace": TEXT,
    "draft.mdown": TEXT,
    "paper.tex": b"\\section{A}\nwords\n",
    "refs.bib": b"@book{a, title={Words}}\n",
    "journal.org": b"* Monday\nwords\n",
    "thesis.typ": b"= Words\n",
    "page.wiki": b"== Words ==\n",
    "tool.1": b".TH TOOL 1\n.SH NAME\ntool \\- words\n",
    "guide.rst": b"Guide\n=====\n\nwords\n",
    "guide.adoc": b"= Guide\n\nwords\n",
    "index.html": b"<p>words</p>",
    "feed.xml": b"<rss><channel><title>Words</title></channel></rss>",
    "book.docbook": b"<article><title>T</title><para>words</para></article>",
    "settings.yaml": b"words: yes\n",
    "ci.yml": b"on: push\n",
    "pyproject.toml": b"[project]\nname = 'words'\n",
    "setup.cfg": b"[words]\na = b\n",
    "app.ini": b"[words]\na = b\n",
    "my.cnf": b"[mysqld]\nwords = 1\n",
    "talk.srt": b"1\n00:00:01,000 --> 00:00:02,000\nwords\n",
    "talk.vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nwords\n",
    "data.json": b'{"text": "words"}',
    "data.jsonc": b'// words\n{"a": 1}',
    "map.geojson": b'{"words": 1}',
    "rows.csv": b"a,b\nwords,2\n",
    "rows.tsv": b"a\tb\nwords\t2\n",
    "rows.psv": b"a|b\nwords|2\n",
    "records.jsonl": b'{"text": "words"}\n',
    "old.mbox": b"From x\n" + make_files.make_mail(),
    "letter.eml": make_files.make_mail(),
    "letter.docx": make_files.make_docx(),
    "slides.pptx": make_files.make_pptx(),
    "sheet.xlsx": make_files.make_xlsx(),
    "sheet.ods": make_files.make_ods(),
    "paper.pdf": make_files.make_pdf(),
    "novel.epub": make_files.make_epub(),
    "book.ipynb": b'{"cells": [{"cell_type": "markdown", "source": "words"}]}',
    "main.py": b"words = 1\n",
    "app.vue": b"<template>words</template>\n",
    "style.scss": b".words { color: red }\n",
    "query.sql": b"SELECT words FROM a;\n",
    "main.tf": b'resource "words" "a" {}\n',
    "service.proto": b"message Words {}\n",
    "View.swift": b"let words = 1\n",
    "stats.R": b"words <- 1\n",
    "run.ps1": b"Write-Host words\n",
    "api.graphql": b"type Words { a: Int }\n",
    "config.nix": b"{ words = 1; }\n",
    "fix.patch": b"--- a\n+++ b\n+words\n",
    "archive.zip": make_files.make_zip({"inside.md": "words", "node_modules/a.js": "x"}),
    "backup.txt.gz": gzip.compress(TEXT),
}
CLUTTER = {
    "node_modules/left-pad/index.js": TEXT,
    "venv/pyvenv.cfg": TEXT,
    "venv/lib/a.py": TEXT,
    "src/__pycache__/a.cpython-311.pyc": os.urandom(500),
    "build/lib/main.py": TEXT,
    "poetry.lock": TEXT,
    "jquery.min.js": TEXT,
    "app.js.map": b"{}",
    "film.mp4": os.urandom(500),
    "font.woff2": os.urandom(500),
    "program": b"\x7fELF" + os.urandom(500),
    "memory.dump": bytes(500),
}


def fill(folder: Path) -> None:
    for name, data in {**WANTED, **CLUTTER}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_folder_of_many_kinds(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    fill(place.docs)
    place.index = place.docs / "index"
    report = place.build()
    with open_reader(place.index) as reader:
        skipped = {skip.uri: skip.reason for skip in reader.skipped()}
    assert len(WANTED) == 60
    lost = [uri for uri in skipped if uri.partition("/")[2] in WANTED]
    assert len(lost) <= 3, lost
    assert lost == []
    assert report.skipped["generated"] == 8
    unsupported = {uri for uri, reason in skipped.items() if reason == "unsupported format"}
    attached = {uri for uri in unsupported if ".eml/" in uri}  # a picture
    assert unsupported - attached == {
        f"docs/{name}" for name in ("film.mp4", "font.woff2", "memory.dump", "program")
    }
    assert len(attached) <= 2
    assert skipped["docs/archive.zip/node_modules/a.js"] == "generated"
    # A later build opens neither the files nor the model, whatever was skipped.
    again = place.build()
    assert (again.unchanged, again.load_seconds) == (report.added, 0)
    assert again.skipped == report.skipped
    everything = place.build(generated=True)
    assert everything.added == 8
    assert "--all-files" in everything.warnings[0]
    assert place.build().removed == 8


def test_files_are_read_as_the_user_says(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.write("a.foo", "# Alpha\n\nFirst words.\n")
    place.write("b.md", "# Beta\n\nMore words.\n")
    place.write("c.mp4", "spoken words")
    (place.docs / "d.zip").write_bytes(make_files.make_zip({"e.foo": "# Inside\n", "f.mp4": "x"}))
    assert counts(place.build()) == (3, 0, 0, 0)
    assert formats_of(place) == {
        "docs/a.foo": ("text", "a"), "docs/b.md": ("markdown", "Beta"),
        "docs/d.zip/e.foo": ("text", "e"),
    }  # fmt: skip
    reading = ReadSettings(read_as=((".foo", "markdown"), (".mp4", "text")))
    report = place.build(reading=reading)
    assert counts(report) == (2, 3, 0, 0)
    assert report.chunks_embedded == 2, "what is the same has its vectors"
    assert formats_of(place) == {
        "docs/a.foo": ("markdown", "Alpha"), "docs/b.md": ("markdown", "Beta"),
        "docs/c.mp4": ("text", "c"), "docs/d.zip/e.foo": ("markdown", "Inside"),
        "docs/d.zip/f.mp4": ("text", "f"),
    }  # fmt: skip
    assert counts(place.build(reading=reading)) == (0, 0, 0, 5)
    archive_as_text = ReadSettings(read_as=((".zip", "text"),))
    report = place.build(reading=archive_as_text)
    assert report.removed == 2 + 1
    assert report.skipped == {"unsupported format": 1, "binary": 1}
    assert place.build(reading=DEFAULT_READING).added == 1


def formats_of(place: Workplace) -> dict[str, tuple[str, str]]:
    with open_reader(place.index) as reader:
        return {row.uri: (row.format, row.title) for row in reader.documents(100)}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("txt:.foo", "there is no format 'txt'; did you mean 'text'?"),
        ("nonsense:.foo", "the formats are markdown, rst"),
        ("text", "must be a format and extensions"),
        ("text:foo", "must be a format and extensions"),
        ("text:.a,,", "must be a format and extensions"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, given: str, complaint: str) -> None:
    result = indexer("build", ".", "--as", given, cwd=tmp_path)
    assert_user_error(result, complaint)


def test_the_option_takes_several_extensions() -> None:
    context = build_command.make_context(
        "build", ["docs", "--as", "text:.LOG,.foo", "--as", "markdown:.d.txt"]
    )
    assert context.params["read_as"] == ((".d.txt", "markdown"), (".foo", "text"), (".log", "text"))
    options = BuildOptions([Path()], "index")
    assert options.generated is discover([Path(__file__)]).choice.generated is False
