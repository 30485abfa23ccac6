"""Tables and comments of reStructuredText and AsciiDoc, and their titles."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from retrieval.domain.records import Document

RST = """\
Title
=====

.. a comment
   that goes on

   and on

Text.

..
   Another.

.. note:: Seen.

.. _target:

.. |x| replace:: y

.. [1] Footnote

.. code-block:: python

   # seen

+--------+-------+
| Part   | Price |
| name   |       |
+========+=======+
| pump   | 3     |
+--------+-------+
| valve  | 5     |
+--------+-------+

=====  =====
Part   Price
=====  =====
pump   3

valve  5
=====  =====

After.

.. list-table:: T
   :header-rows: 1
   :widths: 1 2

   * - Part
     - Price
       each
   * - pump
     - 3

.. csv-table:: T
   :header: "Part", "Price"

   "pump", 3
   "valve", 5

====  ====
a     b
====  ====

+---+
| x |
+---+

End.
"""

ASCIIDOC = """\
// A comment.
= Title
:k: v

////
Not seen
////

----
// code
----

|===
|Part |Price

|pump
|3
|===

[%header,cols="1,2"]
|===
|A |B
|1 |2
|===

|===
|1 |2
|3 |4
|===
"""


def tables_of(document: Document) -> list[tuple[str, str]]:
    return [
        (table.header, document.text[table.rows_start : table.char_end].split("\n", 1)[0])
        for table in document.tables
    ]


def omitted_of(document: Document) -> list[str]:
    return [document.text[start:end].strip() for start, end in document.omitted]


def test_tables_of_restructuredtext() -> None:
    assert tables_of(parse("a.rst", RST.encode())) == [
        ("Part name | Price", "| pump   | 3     |"),
        ("Part | Price", "pump   3"),
        ("Part | Price each", "   * - pump"),
        ("Part | Price", '   "pump", 3'),
        ("", "a     b"),
        ("", "| x |"),
    ]


@pytest.mark.parametrize("above", ["", ".. first\n\n"])
def test_comments_of_restructuredtext(above: str) -> None:
    found = omitted_of(parse("a.rst", (above + RST).encode()))
    assert found[bool(above) :] == [
        ".. a comment\n   that goes on\n\n   and on",
        "..\n   Another.",
    ]
    assert found[: bool(above)] == [above.strip()] * bool(above)


def test_tables_and_comments_of_asciidoc() -> None:
    document = parse("a.adoc", ASCIIDOC.encode())
    assert tables_of(document) == [("Part | Price", "|pump"), ("A | B", "|1 |2"), ("", "|1 |2")]
    assert omitted_of(document) == ["// A comment.", "////\nNot seen\n////"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("= Pumps\n\n== Parts\n", "Pumps"),
        ("Text.\n\n== Parts\n", "notes"),
        ("== Parts\n\n== Others\n", "notes"),
        ("// draft\n\n== Parts\n\n=== Others\n", "Parts"),
    ],
)
def test_titles_of_asciidoc(text: str, title: str) -> None:
    assert parse("notes.adoc", text.encode()).title == title


def test_a_title_in_a_header_has_no_markup() -> None:
    text = "PEP: 692\nTitle: Typing \\*\\*kwargs in ``f``\nStatus: Final\n\nAbstract\n========\n"
    assert parse("a.rst", text.encode()).title == "Typing **kwargs in f"


@pytest.mark.parametrize(
    "text",
    [
        "+---+\n" * 50_000,
        "+---+\n| a |\n" * 50_000,
        "=== ===\na b\n" * 50_000,
        "=== ===\n\n" * 50_000,
        ".. list-table::\n" * 50_000,
        ".. list-table::\n\n" + "   * - a\n" * 50_000,
        ".. x\n" * 50_000,
        "..\n" * 50_000,
        ".. " + "a:" * 50_000,
        "|===\n" * 50_001,
        "////\n" * 50_001,
    ],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize("name", ["a.rst", "a.adoc"])
def test_linear_time(name: str, text: str) -> None:
    started = time.process_time()
    parse(name, f"Text.\n\n{text}".encode())
    assert time.process_time() - started < 5


PIECES = "+---+---+¶| a | b |¶+===+===+¶=== ===¶a   b¶.. x¶..¶   y¶.. list-table::"
PIECES += "¶   :header-rows: 1¶   * - a"
PIECES += "¶     - b¶.. csv-table::¶   :header: a, b¶|===¶|a |b¶//c¶////¶é¶¶----¶[%header]"


@given(
    st.lists(st.sampled_from(PIECES.split("¶")), max_size=30), st.sampled_from(["a.rst", "a.adoc"])
)
def test_any_mixture(lines: list[str], name: str) -> None:
    text = "x\n" + "\n".join(lines)
    document = parse(name, text.encode())
    end = 0
    for table in document.tables:
        assert end <= table.char_start <= table.rows_start <= table.char_end <= len(text)
        end = table.char_end
    for start, stop in document.omitted:
        assert 0 <= start < stop <= len(text)
