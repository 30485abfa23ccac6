"""Mail as people get it: forms of a text, encodings, attached messages, malformed headers."""

import time
from email.message import EmailMessage

import pytest

from indexer.parse.formats import parse
from indexer.parse.mail.mail import attached_files
from retrieval.domain.records import Document

HEAD = b"From: A <a@example.org>\nSubject: Test\nMIME-Version: 1.0\n"


def read(data: bytes) -> Document:
    return parse("mail/a.eml", data)


def body(document: Document) -> str:
    return document.text.partition("\n\n")[2]


def forms(plain: str, html: str) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Test"
    message.set_content(plain)
    message.add_alternative(html, subtype="html")
    return bytes(message)


HTML = "<p>The kettle needs descaling every month, or more often where the water is hard.</p>"
TEXT = "The kettle needs descaling every month, or more often where the water is hard."


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ("\n \n", TEXT),
        ("Please view this mail in your browser: https://example.org/?id=kettle", TEXT),
        ("Your program does not show HTML, sorry.", TEXT),
        ("The kettle needs *descaling* every month.", "The kettle needs *descaling* every month."),
        (f"{TEXT} And more in plain text.", f"{TEXT} And more in plain text."),
    ],
)
def test_the_form_that_has_the_text_is_shown(plain: str, shown: str) -> None:
    assert body(read(forms(plain, HTML))).split() == shown.split()


def test_boundaries_without_quotation_marks() -> None:
    data = HEAD + (
        b"Content-Type: multipart/alternative;\n\tboundary=----=_NextPart_000_0001\n\n"
        b"------=_NextPart_000_0001\nContent-Type: text/plain; charset=utf-8\n\nDescale it.\n"
        b"------=_NextPart_000_0001--\n"
    )
    assert body(read(data)) == "Descale it."


@pytest.mark.parametrize(
    ("head", "payload", "text", "encoding"),
    [
        (b"Content-Type: text/plain", "Café naïve résumé", None, "cp1252+guessed"),
        (b"Content-Type: text/plain; charset=", "Café naïve résumé", None, "cp1252+guessed"),
        (b"Content-Type: text/plain; charset=unknown-8bit", "Café naïve", None, "cp1252+guessed"),
        (b"Content-Type: text/plain; charset=gb2312", "水壶除垢——镕", "gbk", "gbk"),
        (b"Content-Type: text/plain; charset=iso-8859-1", "“kettle” – 5 €", "cp1252", "cp1252"),
        (b"Content-Type: text/plain; charset=us-ascii", "Café naïve", "utf-8", "utf-8"),
        (
            b"Content-Type: text/html",
            '<meta charset="windows-1251"><p>Чайник пора чистить',
            "cp1251",
            "cp1251",
        ),
    ],
)
def test_encodings(head: bytes, payload: str, text: str | None, encoding: str) -> None:
    data = HEAD + head + b"\n\n" + payload.encode(text or "cp1252")
    document = read(data)
    assert body(document) == payload.rpartition("<p>")[2]
    assert document.encoding == encoding


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("Wasserkocher für Küche".encode("cp1252"), "Wasserkocher für Küche"),
        ("Größe".encode(), "Größe"),
        (b"=?utf-8?q?caf=C3=A9?=\n =?utf-8?q?_noir?=", "café noir"),
        (b"=?utf-8?b?w7w=?= and =?iso-8859-1*de?q?=FC?=", "ü and ü"),
        (b"=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),
        (b"=?no-such?q?a?=", "a"),
        (b"=?utf-8?b?!?= x", "x"),
        (b"a =?= b", "a =?= b"),
    ],
)
def test_subjects(raw: bytes, title: str) -> None:
    assert read(b"Subject: " + raw + b"\nFrom: a@example.org\n\nHallo").title.endswith(title)


def test_addresses() -> None:
    data = (
        b'From: "Doe, =?utf-8?q?Zo=C3=AB?=" <zoe@example.org>\nTo: a@example.org, B <b@x.org>\n'
        b"Cc: undisclosed recipients:;\nSubject: x\n\ny"
    )
    metadata = read(data).metadata
    assert metadata["from"] == '"Doe, Zoë" <zoe@example.org>'
    assert metadata["to"] == ["a@example.org", "B <b@x.org>"]


def with_attachments() -> EmailMessage:
    inner = EmailMessage()
    inner["Subject"], inner["From"] = "Forwarded", "C <c@example.org>"
    inner.set_content("Inner text.")
    inner.add_attachment("inner file", filename="inner.txt")
    message = EmailMessage()
    message["Subject"], message["From"] = "Test", "a@example.org"
    message.set_content("Outer text.")
    message.add_attachment(inner)
    for name in ("a/../résumé.csv", "note.md", "note.md"):
        message.add_attachment("kind,weight\nduck,1\n", filename=name)
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf")
    message.add_attachment(b"x", maintype="application", subtype="pgp-signature", filename="s.asc")
    return message


def test_attached_messages_are_shown_with_their_headers() -> None:
    document = read(bytes(with_attachments()))
    assert "Outer text.\n\nForwarded\nFrom: C <c@example.org>\n\nInner text." in document.text
    assert [section.heading_path for section in document.sections] == [
        ("Test",),
        ("Test", "Forwarded"),
    ]


def test_other_attachments_are_files_of_their_own() -> None:
    data = bytes(with_attachments())
    files = dict(attached_files(data))
    assert [*files] == ["inner.txt", "résumé.csv", "note.md", "note-2.md", "7.pdf"]
    assert files["résumé.csv"].split() == [b"kind,weight", b"duck,1"]
    document = read(data)
    assert "duck" not in document.text
    assert document.metadata["attachments"] == [
        "inner.txt",
        "résumé.csv",
        "note.md",
        "note.md",
        "7.pdf",
        "s.asc",
    ]


def test_pictures_in_the_text_are_no_files() -> None:
    message = EmailMessage()
    message["Subject"] = "Test"
    message.set_content("<p>See <img src='cid:1' alt='a duck'>", subtype="html")
    message.add_related(b"x", maintype="image", subtype="png", cid="<1>", filename="duck.png")
    assert [*attached_files(bytes(message))] == []
    assert body(read(bytes(message))) == "See a duck"


def test_a_part_that_is_binary_is_named() -> None:
    data = (
        HEAD + b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nText.\n--x\n\n\0\1\2\0\n--x--"
    )
    document = read(data)
    assert (body(document), document.metadata["unread"]) == ("Text.", ["part 2"])


@pytest.mark.parametrize(
    "piece",
    [b"=?utf-8?q?a?= ", b"=?utf-8?b?", b"a, ", b"<", b"(", b'"', b"\n ", b":;", b"=?x?q?\xff?="],
)
@pytest.mark.parametrize("name", [b"Subject", b"From", b"Date", b"Content-Type"])
def test_hostile_headers_take_linear_time(name: bytes, piece: bytes) -> None:
    data = name + b": " + piece * (200_000 // len(piece)) + b"\nX: y\n\nText."
    started = time.process_time()
    assert "Text." in read(data).text
    assert time.process_time() - started < 10


def test_hostile_parts_take_linear_time() -> None:
    deep = b"".join(
        b"Content-Type: multipart/alternative; boundary=%d\n\n--%d\n" % (n, n) for n in range(90)
    )
    wide = HEAD + b"Content-Type: multipart/alternative; boundary=x\n\n" + b"--x\n\na\n" * 900
    for data in (HEAD + deep + b"\nText.", wide):
        started = time.process_time()
        read(data)
        assert time.process_time() - started < 10


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251"])
def test_names_of_files_in_bytes_as_they_came(encoding: str) -> None:
    head = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    name = "Чайник пора чистить.txt".encode(encoding)
    part = b'Content-Disposition: attachment; filename="%s"\n\nA\n' % name
    ((found, _),) = attached_files(head + part + b"--b--\n")
    assert found == "Чайник пора чистить.txt"
