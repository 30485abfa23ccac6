"""Small real files of every format, to damage: made here, and taken from a folder."""

import gzip
import io
import json
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from indexer.parse.formats import FORMATS, format_of
from tests.indexer import make_compound, make_files
from tests.indexer.files.test_unpack import make_7z

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGEST_SAMPLE: Final = 300_000


_PAGE: Final = b"# A\n\ntext\n"
NOT_MADE: Final = frozenset({"7z", "image"})
"""Formats that need libraries which may not be installed."""


def make_samples(folder: Path | None) -> dict[str, list[bytes]]:
    """Return sample files by extension."""
    table = "kind,weight\n" + "duck,1.5\n" * 20
    notebook = {"cells": [{"cell_type": "code", "source": "x = 1"}], "metadata": {}}
    samples: dict[str, list[bytes]] = {
        ".docx": [make_files.make_docx()],
        ".pptx": [make_files.make_pptx()],
        ".xlsx": [make_files.make_xlsx()],
        ".odt": [make_files.make_odt()],
        ".ods": [make_files.make_ods()],
        ".odp": [make_files.make_odp()],
        ".rtf": [make_files.make_rtf()],
        ".doc": [make_compound.make_small_doc()],
        ".ppt": [make_compound.make_small_ppt()],
        ".xls": [make_compound.make_xls([(0, 0, 1.5), (3, 2, 7)])],
        ".pdf": [make_files.make_pdf(), make_files.make_plain_pdf(), make_files.make_columns_pdf()],
        ".epub": [make_files.make_epub()],
        ".eml": [make_files.make_mail()],
        ".msg": [
            make_compound.make_compound(
                make_compound.make_msg(
                    {"0037": "Of ducks", "1000": "They are wet.", "1013": "<p>They are wet."},
                    {0x3FFD: 1252},
                    [{"__substg1.0_3707001F": b"a\0", "__substg1.0_37010102": b"words " * 700}],
                )
            )
        ],
        ".mbox": [b"From x\n" + make_files.make_mail()],
        ".csv": [table.encode()],
        ".tsv": [table.replace(",", "\t").encode()],
        ".ipynb": [json.dumps(notebook).encode()],
        ".json": [json.dumps([{"title": "T", "text": "words", "n": [1, {"a": None}]}]).encode()],
        ".jsonl": [b'{"text": "one"}\n{"text": "two"}\n'],
        ".zip": [make_files.make_zip({"a.md": "# A\n\ntext", "b/c.html": "<p>x"})],
        ".md": [
            b"---\na: b\n---\n# A\n\n- x\n\n```\ncode\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        ],
        ".rst": [b":a: b\n\nTitle\n=====\n\n.. note:: x\n\nPart\n----\n\ntext\n"],
        ".adoc": [b"= Title\n:a: b\n\n== Part\n\n----\ncode\n----\n"],
        ".html": [
            b"<html><head><title>T</title></head><body><h1>A</h1><p>x<pre>y</pre><table><tr><td>1"
        ],
        ".txt": ["Plain text, zoë.\n\nMore.".encode()],
        ".py": [b"class A:\n    def f(self):\n        return 1\n\nprint(1)\n"],
        ".ts": [b"export class A { m() {} }\nconst f = () => 1;\n"],
        ".c": [b"int f(int a) { return 0; }\n"],
        **_texts(),
        **_archives(),
    }
    for path in sorted(folder.rglob("*")) if folder else ():
        end = path.suffix.lower()
        if end in samples and path.is_file() and path.stat().st_size <= LARGEST_SAMPLE:
            samples[end].append(path.read_bytes())
    made = {format_of(f"a{end}") for end in samples}
    if missing := [one.key for one in FORMATS if one not in made and one.key not in NOT_MADE]:
        raise SystemExit(f"make a sample of {', '.join(missing)} in {__file__}")
    return {end: files[:12] for end, files in samples.items()}


def _texts() -> dict[str, list[bytes]]:
    """Return samples of formats whose source is text."""
    return {
        ".tex": [
            b"\\title{T}\n\\author{A \\and B}\n\\begin{document}\n\\section[s]{A \\emph{b} $x$}\n"
            b"% c\n\\begin{verbatim}\n\\section{x}\n\\end{verbatim}\n\\verb|a|\\footnote{n} text\n"
        ],
        ".org": [b"#+TITLE: T\n#+TODO: A | B\n* TODO [#A] H [1/2] :a:b:\n** [[x][y]] *b*\ntext\n"],
        ".typ": [b'#set document(title: "T", author: ("A",))\n= H <l>\n/* c */ `r`\n== S *b*\n'],
        ".wiki": [b"{{DISPLAYTITLE:T}}\n== H [[a|b]] ==\n<nowiki>==x==</nowiki>\n[[Category:C]]\n"],
        ".1": [
            b".TH A 1\n.SH NAME\na \\- \\fBb\\fR\n.TP\n.B x\ny\n.TS\nl l.\na\tb\n.TE\n.nf\nz\n",
            b".Dd x\n.Dt A 1\n.Sh NAME\n.Nm a\n.Nd b\n.Bl -tag\n.It Fl x Op Ar y\n.Xr b 1\n.El\n",
        ],
        ".xml": [
            b'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE a [<!ENTITY e "x">]><book><title>T'
            b"</title><para>a <b>c</b>&e;&nbsp;</para><table><tr><td>1</td></tr></table></book>",
            b"<rs><r id='1'><name>N</name><v u='kg'>3</v></r><r><v>4</v></r></rs>",
        ],
        ".yaml": [b"a: 1\nb:\n  c:\n    - d: e\n  f: |\n    g\n---\nh: [i]\n"],
        ".toml": [b'a = 1\n[b.c]\nd = "e"\n[[f]]\ng = [1,\n2]\n'],
        ".srt": [
            b"1\n00:00:01,000 --> 00:00:02,000\n<i>a</i>\nb\n\n2\n00:09:00,000 --> 00:09:01,000\nc"
        ],
        ".vtt": [b"WEBVTT\n\nNOTE x\n\n00:01.000 --> 00:02.000 align:start\n<v A>b &amp; c\n"],
        ".fb2": [
            b'<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><description><title-info>'
            b"<book-title>T</book-title></title-info></description><body><section><title><p>A</p>"
            b"</title><p>b <emphasis>c</emphasis></p></section></body></FictionBook>"
        ],
        ".mhtml": [
            b'From: x\nSubject: T\nContent-Type: multipart/related; boundary="b"\n\n'
            b"--b\nContent-Type: text/html; charset=utf-8\nContent-Location: http://a/\n\n"
            b"<html><body><h1>A</h1><p>x</p></body></html>\n--b--\n"
        ],
        ".sql": [b"SELECT a FROM b; -- c\n"],
        ".unknown": [b"Text of a file whose name tells nothing.\n"],
    }


def _archives() -> dict[str, list[bytes]]:
    """Return samples of archives and compressed files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a.md")
        info.size = len(_PAGE)
        archive.addfile(info, io.BytesIO(_PAGE))
    samples = {
        ".tar": [packed.getvalue()],
        ".tar.zst": [zstd.compress(packed.getvalue())],
        ".md.zst": [zstd.compress(_PAGE)],
        ".md.gz": [gzip.compress(_PAGE)],
    }
    if find_spec("py7zr"):
        samples[".7z"] = [make_7z({"a.md": _PAGE, "b/c.html": b"<p>x"})]
    return samples
