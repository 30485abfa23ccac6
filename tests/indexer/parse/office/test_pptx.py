"""PPTX: titles, the order of boxes, tables, pictures, and damaged parts."""

import io
import zipfile

import pptx
import pytest
from pptx.util import Inches

from indexer.parse.formats import parse
from tests.indexer import make_files


def saved(file: "pptx.presentation.Presentation") -> bytes:
    stream = io.BytesIO()
    file.save(stream)
    return stream.getvalue()


def titled(title: str, first: str) -> bytes:
    file = pptx.Presentation()
    file.core_properties.title = title
    slide = file.slides.add_slide(file.slide_layouts[5 if first else 6])
    if first:
        slide.shapes.title.text = first
    slide.shapes.add_textbox(0, Inches(3), Inches(2), Inches(1)).text_frame.text = "words"
    return saved(file)


@pytest.mark.parametrize(
    ("title", "first", "expected"),
    [
        ("PowerPoint Presentation", "Care of pumps", "Care of pumps"),
        ("All about ducks", "Care of pumps", "Care of pumps"),
        ("All about ducks", "", "All about ducks"),
        ("PowerPoint-Präsentation", "", "deck"),
        ("Slide 1", "", "deck"),
    ],
)
def test_the_title_is_what_a_reader_takes_for_it(title: str, first: str, expected: str) -> None:
    assert parse("x/deck.pptx", titled(title, first)).title == expected


def test_boxes_are_read_from_top_to_bottom() -> None:
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[6])

    def box(
        shapes: "pptx.shapes.shapetree.SlideShapes", text: str, left: float, top: float
    ) -> None:
        shape = shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(0.5))
        shape.text_frame.text = text

    box(slide.shapes, "six", 1, 5)
    box(slide.shapes, "two", 6, 1.05)
    box(slide.shapes, "one", 1, 1.1)
    group = slide.shapes.add_group_shape()
    box(group.shapes, "four", 6, 3)
    box(group.shapes, "three", 6, 2)
    box(slide.shapes, "five", 1, 2.5)
    words = ["one", "two", "three", "four", "five", "six"]
    assert parse("a.pptx", saved(file)).text.split() == words


def test_placeholders_stand_where_their_layout_says() -> None:
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text = "Title"
    slide.shapes.add_textbox(0, Inches(7), Inches(2), Inches(1)).text_frame.text = "below"
    slide.placeholders[1].text_frame.text = "body"
    tree = slide.shapes._spTree
    tree.append(tree[3])  # the body is last in the file
    assert parse("a.pptx", saved(file)).text.split() == ["Title", "body", "below"]


def test_tables_name_their_columns_and_repeat_spans() -> None:
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[6])
    table = slide.shapes.add_table(3, 2, 0, 0, Inches(5), Inches(2)).table
    for cell, text in zip(
        table.iter_cells(), ("Kind", "Habit", "Duck", "wet", "", "dry"), strict=True
    ):
        cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    document = parse("a.pptx", saved(file))
    assert document.text == "Kind | Habit\nDuck | wet\nDuck | dry"
    assert document.tables[0].header == "Kind | Habit"


def test_pictures_have_their_description_and_hidden_shapes_nothing() -> None:
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[6])
    for text in ("seen", "hid"):
        box = slide.shapes.add_textbox(0, Inches(1), Inches(2), Inches(1))
        box.text_frame.text = text
        box._element.nvSpPr.cNvPr.set("descr", f"A {text} box")
    box._element.nvSpPr.cNvPr.set("hidden", "1")
    assert parse("a.pptx", saved(file)).text == "seen\n\nA seen box"


@pytest.mark.parametrize(
    ("part", "unread"),
    [
        ("ppt/slides/slide1.xml", "slide 1"),
        ("ppt/notesSlides/notesSlide1.xml", "notes of slide 1"),
        ("docProps/core.xml", ""),
        ("ppt/slideLayouts/slideLayout2.xml", ""),
    ],
)
def test_a_damaged_part_costs_only_itself(part: str, unread: str) -> None:
    with zipfile.ZipFile(io.BytesIO(make_files.make_pptx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files[part] = b"<broken"
    document = parse("a.pptx", make_files.make_zip(files))
    assert document.metadata.get("unread", [""]) == [unread]
    assert "Numbers" in document.text
    assert ("They swim" in document.text) == (unread != "slide 1")


def test_a_damaged_chart_is_named() -> None:
    with zipfile.ZipFile(io.BytesIO(make_files.make_charted_pptx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files[next(name for name in files if name.startswith("ppt/charts/chart"))] = b"?"
    document = parse("a.pptx", make_files.make_zip(files))
    assert document.metadata["unread"] == ["graphic on slide 1"]


@pytest.mark.parametrize("name", ["a.pptm", "a.ppsx", "a.ppsm", "a.potx", "a.docx"])
def test_other_names_of_the_same_format(name: str) -> None:
    assert parse(name, make_files.make_pptx()).format == "pptx"
