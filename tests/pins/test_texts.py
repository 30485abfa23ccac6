"""Keys and terms made of texts: an index finds its vectors and its words again by them."""

from functools import partial

import pytest

from indexer.staging import content_key
from retrieval.domain.embedded_text import context_line, embedded_text
from retrieval.store.disk.lexical.analysis import (
    VERSION,
    identifiers_analyzer,
    plain_analyzer,
    words_analyzer,
)
from retrieval.store.disk.tables.rows import chunk_digest, document_digest
from retrieval.store.disk.tables.schema import header_key
from retrieval.store.lexical.folding import identifiers_of, plain_of, words_of


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "The ferry leaves at eight.",
            "b061d7aad69288fca3ece522d6f26cb02fb7942de50dd439101f89f87bd22005",
        ),
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            "Grüße, 東京 \U0001f986\n",
            "b76873c0695bf602fe78ce5d1fb293e24e23e1f840e3378fcee2549cbb14dd77",
        ),
    ],
)
def test_content_key(text: str, key: str) -> None:
    assert content_key(text).hex() == key


def test_embedded_text() -> None:
    path = ["Ferry", "Times", "Sundays"]
    bare = embedded_text("At ten.", title="Ferry", heading_path=path, context=False)
    under = embedded_text("At ten.", title="Ferry", heading_path=path, context=True)
    long = embedded_text("At ten.", title="x" * 300, heading_path=["Times"], context=True)
    untitled = embedded_text("At ten.", title="", heading_path=[], context=True)
    assert bare == "At ten."
    assert under == "Ferry › Times › Sundays\n\nAt ten."
    assert long == f"{'x' * 152} › Times\n\nAt ten."
    assert untitled == "\n\nAt ten."
    assert context_line("Boats", path) == "Boats › Ferry › Times › Sundays"


def test_embedded_text_that_is_not_the_text_itself() -> None:
    made = partial(embedded_text, title="Ferry", heading_path=["Times"])
    columns = made("8 | 40", context=False, table_header="Time | Fare")
    assert columns == "Time | Fare\n8 | 40"
    under = made("8 | 40", context=True, table_header="Time | Fare")
    assert under == "Ferry › Times\n\nTime | Fare\n8 | 40"
    comments = [(3, 13), (16, 24)]
    assert made("At <!-- x -->ten<!--y-->.", context=False, omitted=comments) == "At ten."
    assert made("\ufeffthermo\u200bstat a\u00adb\u2060c", context=False) == "thermostat abc"
    assert made("thermo\u200bstat", context=False, invisible=True) == "thermo\u200bstat"


def test_header_key() -> None:
    assert header_key("Ferry", ["Ferry", "Times"]).hex() == "d129ba0a427c1d82c3e84db1af105276"
    assert header_key("", []).hex() == "cae66941d9efbd404e4d88758ea67670"


def test_document_digest() -> None:
    digest = document_digest(
        *("docs/fähre.md", "docs", "The ferry", "markdown", "utf-8"),
        *('{"tag": ["a", "b"]}', 26, "0" * 64, 24, 2),
    )
    assert digest.hex() == "eb1eced005f5e1f6"


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ((0, 0), "d5da97f1cc65d2d6"),
        ((3, 4), "3f5a355d99ba94c1"),
    ],
)
def test_chunk_digest(pages: tuple[int, int], expected: str) -> None:
    columns = (1, 7, 0, 26, 1, 2, '["Ferry", "Times"]', 9)
    assert chunk_digest("docs/fähre.md", *columns, *pages).hex() == expected
    assert chunk_digest("docs/fähre.md", *columns, *pages, "", "").hex() == expected


@pytest.mark.parametrize(
    ("embedded_with", "expected"),
    [(("Time | Fare", ""), "6ac390d88ebe0d3b"), (("", "[[3,9]]"), "bfa8cd8432319b3c")],
)
def test_chunk_digest_of_a_chunk_that_is_not_embedded_as_it_stands(
    embedded_with: tuple[str, str], expected: str
) -> None:
    columns = (1, 7, 0, 26, 1, 2, '["Ferry", "Times"]', 9, 0, 0)
    assert chunk_digest("docs/fähre.md", *columns, *embedded_with).hex() == expected


def test_version_of_the_analysis() -> None:
    assert VERSION == 3


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        (
            "en",
            "Running ferries don't stop; get_user() and camelCaseWord, C++.",
            "run ferri don t stop get user camelcaseword c camel case word",
        ),
        (
            "de",
            "Die Häuser der Straßen wurden größer, übrigens auch fließend.",
            "haus strass wurd gross ubrig fliessend",
        ),
        ("fr", "L’été, les élèves étudiaient naïvement.", "ete elev etudi naiv"),
        ("ru", "Ёлки растут в лесах быстрее.", "елк растут лес быстр"),
        ("el", "Οι δρόμοι της Αθήνας", "οι δρομ τ αθην"),
        ("ar", "الكِتَابُ الجديد في المكتبات", "كتاب جديد في مكتب"),
        ("tr", "İstanbul'da ışıklar", "istanbul da isiklar"),
        ("none", "हिन्दी में पुस्तकें", "हिन्दी में पुस्तकें"),
        (
            "none",
            "東京都に住むﾃｽﾄ 한국어 ภาษาไทย １２３ Java™ 1½",
            "東京 京都 都に に住 住む むテ テス スト 한국 국어 ภา าษ ษา าไ ไท ทย 123 java tm 1 1 2",
        ),
    ],
)
def test_words(language: str, text: str, words: str) -> None:
    assert words_analyzer(language).analyze(words_of(text)) == words.split()


def test_plain_words_and_their_positions() -> None:
    plain = plain_of("Die Fähren", "getUser in 東京都, 1½ L’été")
    tokens = plain_analyzer().pre_tokenize(plain).tokens
    expected = (
        "0:die 1:fahren 3:getuser 4:in 5:東 6:京 7:都 8:1 9:1 10:2 11:l 12:ete 14:get 15:user"
    )
    assert " ".join(f"{token.position}:{token.text}" for token in tokens) == expected


def test_identifiers() -> None:
    text = "get_user(), os.path.join, v1.2.3, CVE-2021-44228, std::vector and C++; not a word"
    expected = "get_user os.path.join v1.2.3 cve-2021-44228 std::vector c++"
    assert identifiers_analyzer().analyze(identifiers_of(text)) == expected.split()
