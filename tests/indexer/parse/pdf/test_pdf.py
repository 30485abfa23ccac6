"""PDF files: titles, headings, page headers, tables, right-to-left text, forms, bad pages."""

from collections import Counter
from collections.abc import Sequence

import fpdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.parse.pdf import bidi, furniture, rows
from indexer.parse.pdf.bidi import Glyph, in_reading_order
from indexer.parse.pdf.lines import Line
from indexer.parse.pdf.pages import Pages
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.records import Document
from tests.indexer.parse.pdf.make_pdf import Piece, pdf_of, pdf_of_glyphs

PROSE = (
    "The pump lifts water from the lower basin into the upper one. A valve keeps it",
    "from running back. Both are looked after once a month by the keeper, who writes",
    "down what was found. The book of the keeper lies in the small room by the door.",
)


def prose(top: float, lines: int = 12, x: float = 72) -> list[Piece]:
    """Lines of text from a height on."""
    return [(x, top - 13 * number, 10, PROSE[number % 3]) for number in range(lines)]


def read(data: bytes) -> Document:
    document = parse("folder/file.pdf", data)
    for section in document.sections:
        assert 0 <= section.char_start < len(document.text)
    for table in document.tables:
        assert 0 <= table.char_start <= table.rows_start <= table.char_end <= len(document.text)
    return document


def paths(document: Document) -> list[str]:
    return [" > ".join(section.heading_path) for section in document.sections]


# Titles and headings.


def test_the_title_is_the_largest_type_not_the_first_bookmark() -> None:
    page = [
        (72, 770, 20, "Keeping Small Water Works in Order"),
        (72, 740, 12, "Anna Keeper and Ben Valve"),
        (72, 700, 13, "Introduction"),
        *prose(680),
    ]
    document = read(pdf_of([page], bookmarks=["1. Introduction"]))
    assert document.title == "Keeping Small Water Works in Order"


def test_a_title_on_two_lines_is_one_heading_and_its_authors_are_none() -> None:
    page = [
        (72, 770, 20, "Keeping Small Water Works in Order"),
        (72, 746, 20, "Through Dry and Wet Summers"),
        (72, 715, 12, "Anna Keeper and Ben Valve"),
        (72, 680, 14, "Introduction"),
        *prose(660),
        (72, 480, 14, "Method"),
        *prose(460),
    ]
    document = read(pdf_of([page]))
    title = "Keeping Small Water Works in Order Through Dry and Wet Summers"
    assert document.title == title
    assert paths(document) == [title, f"{title} > Introduction", f"{title} > Method"]
    assert document.text.startswith(f"{title}\n\nAnna Keeper and Ben Valve\n\nIntroduction")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["Anna Keeper", "Ben Valve", "Water Works of Steinach"], True),
        (["Anna Keeper1, Ben Valve2", "1 University of Steinach"], True),
        (["by Anna Keeper"], True),
        (["keeper@example.org"], True),
        (["For works without a keeper"], True),
    ],
)
def test_lines_between_title_and_first_heading_are_no_headings(
    lines: list[str], names: bool
) -> None:
    page = [
        (72, 770, 22, "Keeping Small Water Works"),
        *((72, 740 - 24 * n, 12, line) for n, line in enumerate(lines)),
        (72, 640, 14, "Introduction"),
        *prose(620, 24),
        (72, 280, 14, "Method"),
        *prose(260, 6),
    ]
    found = paths(read(pdf_of([page])))
    title = "Keeping Small Water Works"
    assert (found == [title, f"{title} > Introduction", f"{title} > Method"]) is names


def test_a_section_below_the_title_stays_a_heading() -> None:
    page = [
        (72, 770, 20, "Keeping Small Water Works"),
        (72, 740, 14, "Summary"),
        *prose(720),
        (72, 540, 14, "Materials and Methods"),
        *prose(520),
    ]
    title = "Keeping Small Water Works"
    assert paths(read(pdf_of([page]))) == [
        title,
        f"{title} > Summary",
        f"{title} > Materials and Methods",
    ]


@pytest.mark.parametrize(
    "title",
    ["Microsoft Word - x", "(anonymous)", "untitled", "PowerPoint Presentation", "final_v2.docx"],
)
def test_junk_titles_of_properties_are_not_used(title: str) -> None:
    plain = prose(770)
    assert read(pdf_of([plain], title=title)).title == "file"
    page = [(72, 790, 20, "Care of pumps"), *plain]
    assert read(pdf_of([page], title=title)).title == "Care of pumps"


def test_a_title_left_over_from_a_template_gives_way_to_the_drawn_one() -> None:
    page = [(72, 790, 20, "Care of pumps"), *prose(760)]
    assert read(pdf_of([page], title="Budget forecast 1998")).title == "Care of pumps"
    assert (
        read(pdf_of([page], title="Care of Pumps and Valves")).title == "Care of Pumps and Valves"
    )
    part = [(72, 790, 20, "1 Introduction"), *prose(760)]
    assert read(pdf_of([part], title="Budget forecast 1998")).title == "Budget forecast 1998"


@pytest.mark.parametrize("first", ["1. Introduction", "Introduction", "Contents", "Chapter 2", "T"])
def test_the_heading_of_a_part_is_no_title(first: str) -> None:
    page = [(72, 790, 20, first), *prose(760)]
    assert read(pdf_of([page], bookmarks=["1. Introduction"])).title == "file"


def test_type_scaled_by_the_text_matrix_has_its_size() -> None:
    content = pdf_of([[(72, 790, 1, "Care of pumps"), *prose(760)]])
    scaled = content.replace(b"/F 1 Tf 72 790 Td", b"/F 1 Tf 20 0 0 20 72 790 Tm")
    assert read(scaled).title == "Care of pumps"


def test_a_stamp_in_the_margin_is_no_title() -> None:
    page = [(30, 300, 24, "Draft of November"), (72, 790, 16, "Care of pumps"), *prose(760)]
    data = pdf_of([page]).replace(b"/F 24 Tf 30 300 Td", b"/F 24 Tf 0 1 -1 0 30 300 Tm")
    document = read(data)
    assert document.title == "Care of pumps"
    assert "Draft of November" in document.text


def test_a_turned_page_is_read_like_others() -> None:
    page = [(72, 560, 20, "Care of pumps"), *prose(520)]
    data = pdf_of([page])
    for x, y, size, _ in page:
        data = data.replace(
            f"/F {size} Tf {x} {y} Td".encode(), f"/F {size} Tf 0 1 -1 0 {595 - y} {x} Tm".encode()
        )
    upright, turned = read(pdf_of([page])), read(data)
    assert (turned.title, turned.text) == (upright.title, upright.text)
    assert paths(turned) == paths(upright)


# Page headers and footers.


def book(pages: int) -> list[list[Piece]]:
    return [
        [
            (72, 800, 13, "Water Works Yearbook"),
            (500, 30, 9, f"Page {number} of {pages}"),
            *([(72, 760, 18, "Care of pumps")] if number == 1 else []),
            *prose(720, 30),
        ]
        for number in range(1, pages + 1)
    ]


@pytest.mark.parametrize("pages", [3, 4, 20])
def test_page_headers_and_numbers_are_left_out(pages: int) -> None:
    document = read(pdf_of(book(pages)))
    assert document.title == "Care of pumps"
    assert set(paths(document)) == {"Care of pumps"}
    assert "Yearbook" not in document.text
    assert "Page " not in document.text
    assert document.text.count("The pump lifts") == 10 * pages
    assert document.metadata["page headers"] == ["Water Works Yearbook"]


def test_headers_of_left_and_right_pages_and_of_chapters_are_left_out() -> None:
    chapters = ["Wells", "Wells", "Wells", "Wells", "Pumps", "Pumps", "Pumps", "Pumps"]
    pages = [
        [
            (72, 800, 9, "The Waterer's Book" if number % 2 else chapter),
            (500 if number % 2 else 72, 30, 9, str(number + 100)),
            *prose(740, 30),
        ]
        for number, chapter in enumerate(chapters)
    ]
    text = read(pdf_of(pages)).text
    assert set(text.split()) == set(" ".join(PROSE).split())


def test_text_that_is_alike_on_all_pages_stays() -> None:
    text = read(pdf_of([prose(760, 40) for _ in range(6)])).text
    assert text.count("The pump lifts") == 14 * 6
    names = [
        [
            (72, 790, 10, "Kind"),
            (200, 790, 10, "Weight"),
            *(
                piece
                for n in range(40)
                for piece in (
                    (72, 776 - 14 * n, 10, f"bird {page}-{n}"),
                    (200, 776 - 14 * n, 10, str(n)),
                )
            ),
        ]
        for page in range(4)
    ]
    assert read(pdf_of(names)).text.count("Kind") == 4


def test_two_pages_lose_only_their_numbers() -> None:
    text = read(pdf_of(book(2))).text
    assert text.count("Water Works Yearbook") == 2
    assert "Page 1" not in text


def test_the_same_line_at_different_places_is_no_header() -> None:
    pages = [[(72, y, 10, "Page 7"), (72, 400, 10, "Some text.")] for y in (800, 700)]
    assert read(pdf_of(pages)).text.count("Page 7") == 2


def test_a_header_may_be_missing_on_the_first_page() -> None:
    first, *rest = book(3)
    text = read(pdf_of([first[2:], *rest])).text
    assert "Yearbook" not in text


def test_titles_of_slides_stay() -> None:
    titles = ["Why pumps", "Where from", "What they cost", "Who keeps them", "Questions"]
    pages = [
        [(72, 500, 30, title), (72, 400, 18, f"Point {n} of some"), (72, 370, 18, "and another")]
        for n, title in enumerate(titles)
    ]
    text = read(pdf_of(pages)).text
    assert all(title in text for title in titles)


LINES = st.builds(
    Line,
    st.text("ab 1٣ا|", min_size=1, max_size=12).filter(str.strip),
    st.sampled_from([0.0, 72.0, 100.0, 300.0]),
    st.sampled_from([0.0, 30.0, 700.0, 701.0, 712.0, 790.0]),
    st.sampled_from([72.0, 90.0, 320.0, 500.0]),
    st.sampled_from([0.0, 8.0, 10.0, 22.0]),
    st.sampled_from([0.0, 700.0]),
    st.booleans(),
)


@given(st.lists(st.lists(LINES, max_size=8), max_size=8))
def test_no_text_is_lost_in_rows_and_tables(pages: list[list[Line]]) -> None:
    for lines in pages:
        before = Counter(char for line in lines for char in line.text if not char.isspace())
        after: Counter[str] = Counter()
        for block in rows.arrange(lines):
            texts = [block.text] if isinstance(block, Line) else [c for r in block.rows for c in r]
            after.update(char for text in texts for char in text if not char.isspace())
        assert after == before


@given(st.lists(st.lists(LINES, max_size=8), max_size=6))
def test_any_pages_make_a_document(pages: list[list[Line]]) -> None:
    document = Pages(lines=pages).document("a.pdf", "pdf")
    assert len(document.page_starts) == len(pages)
    assert all(0 <= section.char_start <= len(document.text) for section in document.sections)
    before = Counter(char for lines in pages for line in lines for char in line.text)
    after = Counter(document.text)
    gone = sum((before - after).values()) - before[" "]
    assert gone <= sum(before.values()) / 4  # page headers


@given(st.lists(st.lists(LINES, max_size=8), max_size=8))
def test_furniture_is_a_small_part_of_the_lines_of_most_pages(pages: list[list[Line]]) -> None:
    found = furniture.page_furniture(pages)
    chars = sum(len(pages[page][number].text) for page in found for number in found[page])
    assert chars <= sum(len(line.text) for lines in pages for line in lines) / 4


# Tables.

BIRDS = [
    ("Part", "Count", "Place"),
    ("Kettle", "3", "North"),
    ("Pump", "5", "South"),
    ("Valve", "7", "West"),
]


def cells(rows_: Sequence[Sequence[str]], top: float = 700) -> list[Piece]:
    return [
        (72 + 120 * column, top - 16 * row, 10, cell)
        for row, texts in enumerate(rows_)
        for column, cell in enumerate(texts)
        if cell
    ]


def test_a_row_of_a_table_is_one_line() -> None:
    document = read(pdf_of([[*cells(BIRDS), *prose(600)]]))
    table = "Part | Count | Place\nKettle | 3 | North\nPump | 5 | South\nValve | 7 | West"
    assert document.text.startswith(f"{table}\n\nThe pump lifts")
    (found,) = document.tables
    assert document.text[found.char_start : found.char_end] == table
    assert found.header == "Part | Count | Place"
    assert document.text[found.rows_start :].startswith("Kettle")


def test_empty_cells_keep_their_columns() -> None:
    grid = [
        ("Part", "Count", "Place"),
        ("Kettle", "3", "North"),
        ("Pump", "", "South"),
        ("Valve", "7", ""),
    ]
    assert "Pump |  | South\nValve | 7 |" in read(pdf_of([cells(grid)])).text


def test_a_cell_of_several_lines_stays_in_its_row() -> None:
    page = [
        (72, 700, 10, "Part"), (192, 700, 10, "What it is for"), (400, 700, 10, "Count"),
        (72, 680, 10, "Pump"), (192, 680, 10, "lifts water from the"),
        (192, 668, 10, "lower basin"), (400, 680, 10, "3"),
        (72, 650, 10, "Valve"), (192, 650, 10, "keeps it up"), (400, 650, 10, "4"),
    ]  # fmt: skip
    assert read(pdf_of([page])).text == (
        "Part | What it is for | Count\nPump | lifts water from the lower basin | 3\n"
        "Valve | keeps it up | 4"
    )


def test_columns_of_prose_drawn_line_by_line_are_no_table() -> None:
    left, right = "the pump lifts all the water up", "a valve keeps it from running"
    page: list[Piece] = []
    for number in range(12):
        page += [
            (72, 700 - 12 * number, 10, f"{left} {number}"),
            (320, 700 - 12 * number, 10, f"{right} {number}"),
        ]
    document = read(pdf_of([page]))
    assert "|" not in document.text
    assert not document.tables
    words = [word for text in (left, right) for n in range(12) for word in f"{text} {n}".split()]
    assert document.text.split() == words


def test_columns_of_prose_drawn_one_after_the_other_stay_so() -> None:
    page = [*prose(700, 12), *prose(700, 12, x=330)]
    text = read(pdf_of([page])).text
    assert "|" not in text
    assert text.split() == " ".join(PROSE * 8).split()


@pytest.mark.parametrize("marker", ["1.", "a)", "-", "2.3", "(iv)", "*"])
def test_numbers_of_lists_are_no_cells(marker: str) -> None:
    page = [
        piece
        for n in range(5)
        for piece in ((72, 700 - 14 * n, 10, marker), (100, 700 - 14 * n, 10, f"Point {n} of it"))
    ]
    text = read(pdf_of([page])).text
    assert text == "\n".join(f"{marker} Point {n} of it" for n in range(5))


def test_leaders_of_a_table_of_contents_are_no_gaps() -> None:
    page = [
        piece
        for n in range(5)
        for piece in (
            (72, 700 - 14 * n, 10, f"Part {n}"),
            (120, 700 - 14 * n, 10, ". . . . . . . . . . . . . ."),
            (400, 700 - 14 * n, 10, str(n)),
        )
    ]
    assert "|" not in read(pdf_of([page])).text


def test_names_of_columns_are_not_guessed() -> None:
    grid = [("Kettle", "North", "old"), ("Pump", "South", "new"), ("Valve", "West", "new")]
    (table,) = read(pdf_of([cells(grid)])).tables
    assert table.header == ""


# Right-to-left text.


def turned(text: str) -> list[str]:
    return list(reversed(text))


@pytest.mark.parametrize(
    ("glyphs", "text"),
    [
        # A glyph of two characters, and one that has a code point of its own.
        (["ت", "لا", "ك", "ش", "م", "ل", "ا"], "المشكلات"),
        (["ت", "\ufefb", "ك", "ش", "م", "ل", "ا"], "المشكلات"),
        (["ة", "ي", "ج", "ا", "ت", "ن", "لإ", "ا"], "الإنتاجية"),
        (["لله"], "لله"),
        (["\ufdf2"], "الله"),
        # Words in Latin letters, and numbers.
        ([*turned(" من"), *"Python 3.5", *turned("في ")], "في Python 3.5 من"),
        ([*turned(" من"), *"Python", *turned("في ")], "في Python من"),
        ([*turned(" يوما"), *"25", *turned("العمل ")], "العمل 25 يوما"),
        ([*turned(" من"), *"10/12/2024", *turned("في ")], "في 10/12/2024 من"),
        ([*turned(" من"), *"30", *turned(" إلى "), *"25", *turned("من ")], "من 25 إلى 30 من"),
        # Latin letters that touch Arabic ones.
        ([*turned("من"), *"Python", *turned("و")], "و Python من"),
        # Brackets are drawn mirrored.
        ([*turned(" من"), "(", "ف", ")"], "(ف) من"),
        # Hebrew, alone and in an English line.
        (turned("שלום עולם"), "שלום עולם"),
        ([*"the words ", *turned("שלום עולם"), *" mean it"], "the words שלום עולם mean it"),
    ],
)
def test_right_to_left_text_is_in_reading_order(glyphs: list[str], text: str) -> None:
    assert " ".join(read(pdf_of_glyphs([glyphs])).text.split()) == text


def test_a_vowel_mark_follows_its_letter() -> None:
    chars = [Glyph("ب", 100, 106), Glyph("\u064e", 102, 102), Glyph("ن", 94, 100)]
    for order in (chars, [chars[1], chars[0], chars[2]], [chars[0], chars[2], chars[1]]):
        assert (
            "".join(glyph.text for glyph in in_reading_order(order, 12, from_right=True))
            == "ب\u064eن"
        )


@given(
    st.lists(
        st.builds(
            lambda char, left, width: Glyph(char, left, left + width),
            st.sampled_from("ab1 .()[بلاאש\u064e-/"),
            st.floats(0, 100, width=16),
            st.sampled_from([0.0, 5.0, 12.0, 80.0]),
        ),
        max_size=30,
    )
)
def test_no_character_of_a_line_is_lost(chars: list[Glyph]) -> None:
    found = "".join(glyph.text for glyph in in_reading_order(chars, 10, from_right=True))
    brackets = str.maketrans("()[]", "((((")
    before = Counter("".join(char.text for char in chars).translate(brackets))
    after = Counter(found.translate(brackets))
    del before[" "], after[" "]
    assert after == before


def test_a_long_line_takes_linear_time() -> None:
    chars = [Glyph("بa1 ("[n % 5], float(n), n + 1.0) for n in range(100_000)]
    assert len(in_reading_order(chars, 10, from_right=True)) >= 80_000
    assert bidi.has_right_to_left("b" * 100_000 + "ب")


# Typed-on text.


def test_free_text_is_read_where_it_stands() -> None:
    note = (
        "<</Type/Annot/Subtype/FreeText/Rect[72 650 400 670]/DA(/Helv 12 Tf)"
        "/Contents(Replace the seal of pump seven.)>>"
    )
    page = [(72, 700, 10, "Above it."), (72, 600, 10, "Below it.")]
    text = read(pdf_of([page], annotations=[note])).text
    assert text.split("\n") == ["Above it.", "Replace the seal of pump seven.", "Below it."]
    assert read(pdf_of([[]], annotations=[note])).text == "Replace the seal of pump seven."


def test_hidden_text_and_comments_are_not_read() -> None:
    rect = "/Rect[72 650 400 670]"
    notes = [
        f"<</Type/Annot/Subtype/FreeText{rect}/F 2/Contents(hidden)>>",
        f"<</Type/Annot/Subtype/Text{rect}/Contents(a remark)>>",
        f"<</Type/Annot/Subtype/Link{rect}/Contents(a link)>>",
    ]
    assert read(pdf_of([prose(760)], annotations=notes)).text == read(pdf_of([prose(760)])).text


def field(kind: str, name: str, rect: str, value: str, more: str = "") -> str:
    return f"<</Type/Annot/Subtype/Widget/FT/{kind}/T({name})/Rect[{rect}]{value}{more}>>"


def filled(page: Sequence[Piece], *fields: str) -> str:
    data = pdf_of([page], annotations=fields, has_form=True)
    return read(data).text


def test_values_of_form_fields_stand_beside_their_labels() -> None:
    page = [
        (72, 760, 10, "Name of the keeper:"),
        (72, 730, 10, "Place:"),
        (72, 700, 10, "What was found"),
        (90, 600, 10, "all in order"),
        (90, 580, 10, "to be mended"),
    ]
    text = filled(
        page,
        field("Tx", "name", "170 755 400 775", "/V(Zacharias Brunnenmeister)"),
        field("Ch", "place", "170 725 400 745", "/V(Steinach)/Opt[(Steinach)(Wolfach)]"),
        field("Tx", "found", "72 640 400 690", "/V(The seal\\nis worn.)", "/Ff 4096"),
        field("Tx", "empty", "72 620 400 635", ""),
        field("Tx", "secret", "72 610 400 618", "/V(password)", "/Ff 8192"),
        field("Btn", "ok", "72 598 84 610", "/V/Yes/AS/Yes"),
        field("Btn", "mend", "72 578 84 590", "/V/Off/AS/Off"),
    )
    assert [line for line in text.split("\n") if line] == [
        "Name of the keeper: Zacharias Brunnenmeister",
        "Place: Steinach",
        "What was found",
        "The seal",
        "is worn.",
        "[x] all in order",
        "to be mended",
    ]


def test_a_value_without_a_label_has_the_name_of_its_field() -> None:
    text = filled([], field("Tx", "n1", "170 755 400 775", "/V(Anna)", "/TU(Your name)"))
    assert text == "Your name: Anna"


# Files that can't be read, or not all of them.


def test_pages_around_a_bad_one_are_read() -> None:
    pages = [[(72, 700, 10, f"Page {word} here.")] for word in ("one", "two", "three")]
    document = read(pdf_of(pages, broken=[1]))
    assert document.text == "Page one here.\n\nPage three here."
    assert document.metadata["unread"] == ["page 2"]
    assert len(document.page_starts) == 3


def test_a_file_without_a_good_page_is_damaged() -> None:
    with pytest.raises(SkipDocument) as caught:
        read(pdf_of([[], []], broken=[0, 1]))
    assert caught.value.reason is SkipReason.DAMAGED


def test_attached_files_are_named() -> None:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=11)
    pdf.cell(text="See the attached files.")
    for name in ("prices.csv", "plan.txt"):
        pdf.embed_file(bytes=b"x", basename=name)
    assert sorted(read(bytes(pdf.output())).metadata["attachments"]) == ["plan.txt", "prices.csv"]


def test_what_programs_write_for_nothing_is_no_author() -> None:
    data = pdf_of([prose(760)], title="x").replace(b"<</Title ", b"<</Author(anonymous)/Title ")
    assert "author" not in read(data).metadata


@pytest.mark.parametrize(
    "title",
    [
        "A Comparison of Pumps",
        "5-Level Paging",
        "2010 Form of Pumps",
        "I, the Pump",
        "Introduction to Pumps",
    ],
)
def test_titles_that_begin_like_numbers_are_titles(title: str) -> None:
    page = [(72, 790, 20, title), *prose(760)]
    assert read(pdf_of([page], bookmarks=["1. Introduction"])).title == title


def test_a_centred_line_is_the_title_where_all_type_is_alike() -> None:
    head = [(72, 790, 10, "Waterers' Task Force"), (330, 790, 10, "December 2017")]
    page = [*head, (199, 750, 10, "How to Care for Pumps"), (205, 738, 10, "and Valves, and Why")]
    assert read(pdf_of([[*page, *prose(700)]])).title == "How to Care for Pumps and Valves, and Why"
    assert read(pdf_of([[*head, (72, 750, 10, "No centred line"), *prose(700)]])).title == "file"
    assert read(pdf_of([prose(760)])).title == "file"


def test_a_large_line_below_text_or_in_the_midst_of_it_is_no_title() -> None:
    assert (
        read(pdf_of([[*prose(760), (72, 560, 20, "Care of pumps"), *prose(540)]])).title == "file"
    )
    sentence = "pumps in the lower basin are looked after once a month."
    assert read(pdf_of([[(72, 790, 16, sentence), *prose(760)]])).title == "file"


def test_lists_in_larger_type_have_no_headings() -> None:
    page = [
        *((72, 790 - 20 * n, 12, f"- point {n} of the list") for n in range(5)),
        *prose(660, 40),
    ]
    assert paths(read(pdf_of([page]))) == [""]
