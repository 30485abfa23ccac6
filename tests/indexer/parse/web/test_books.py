"""Books and web archives: EPUB with a damaged chapter, FictionBook, MHTML."""

import pytest

from indexer.parse.formats import parse
from indexer.skip import SkipDocument
from retrieval.domain.records import Section
from tests.indexer import make_files


def test_a_chapter_that_can_not_be_read_costs_only_itself() -> None:
    data = make_files.make_epub()
    assert parse("a.epub", data).metadata.get("unread") is None
    position = data.index(b"OPS/text/c 0.xhtml") + len("OPS/text/c 0.xhtml")
    broken = data[:position] + bytes(8) + data[position + 8 :]
    document = parse("a.epub", broken)
    assert document.metadata["unread"] == ["OPS/text/c 0.xhtml"]
    assert document.text == "Two\n\nSecond & last.\n\nMore\n\nEnd."
    assert document.title == "A Duck's Life"


FB2 = """\
<?xml version="1.0" encoding="windows-1251"?>
<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><description><title-info>
<genre>prose</genre><author><first-name>Антон</first-name><last-name>Чехов</last-name></author>
<book-title>Каштанка</book-title><lang>ru</lang></title-info></description>
<body><title><p>Каштанка</p></title><section><title><p>1</p><p>Дурное поведение</p></title>
<p>Молодая <emphasis>рыжая</emphasis> собака.</p>
<poem><stanza><v>Раз,</v><v>два.</v></stanza></poem></section></body>
<binary id="x">AAAA</binary></FictionBook>"""


def test_fiction_book() -> None:
    document = parse("a.fb2", FB2.encode("cp1251"))
    assert document.title == "Каштанка"
    assert document.text == ("Каштанка\n\n1 Дурное поведение\n\nМолодая рыжая собака.\nРаз,\nдва.")
    assert document.sections[-1].heading_path == ("Каштанка", "1 Дурное поведение")
    assert document.metadata == {"author": "Антон Чехов", "genre": "prose", "lang": "ru"}
    assert isinstance(document.sections[0], Section)


MHTML = """\
From: <Saved by Blink>
Subject: =?utf-8?Q?The_kettle?=
MIME-Version: 1.0
Content-Type: multipart/related; type="text/html"; boundary="x"

--x
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<html><head>{title}</head><body><nav>no</nav><h1>Descaling</h1><p>A caf=C3=A9.</body></html>
--x
Content-Type: image/png
Content-Transfer-Encoding: base64

AAAA
--x--
"""


@pytest.mark.parametrize(
    ("title", "expected"), [("", "Descaling"), ("<title>Kettles</title>", "Kettles")]
)
def test_web_archives(title: str, expected: str) -> None:
    document = parse("a.mhtml", MHTML.format(title=title).encode())
    assert (document.text, document.title) == ("Descaling\n\nA café.", expected)
    assert document.format == "mhtml"
    with pytest.raises(SkipDocument, match="no page"):
        parse("a.mht", b"Subject: x\n\ny")
