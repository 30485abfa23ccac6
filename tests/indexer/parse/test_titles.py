"""Titles that programs wrote, and titles that people did."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.base.titles import is_junk_title


@pytest.mark.parametrize(
    "title",
    [
        "",
        "   ",
        "-",
        "PowerPoint Presentation",
        "PowerPoint-Präsentation",
        "Présentation PowerPoint",
        "Presentación de PowerPoint",
        "Apresentação do PowerPoint",
        "Prezentacja programu PowerPoint",
        "Презентация PowerPoint",
        "PowerPoint 演示文稿",
        "Presentation",
        "Presentation1",
        "Slide 1",
        "Folie 1",
        "No Slide Title",
        "Aucun titre de diapositive",
        "没有幻灯片标题",
        "Snímek 1",
        "Microsoft Word - thesis final",
        "Microsoft Word - thesis.doc",
        "Microsoft PowerPoint - Lecture 3 [Compatibility Mode]",
        "Microsoft Word Document",
        "Microsoft Word",
        "Document1",
        "Dokument 2",
        "Book1",
        "Mappe1",
        "Untitled",
        "Untitled-1",
        "untitled document",
        "Sans titre",
        "(anonymous)",
        "[untitled]",
        "<title>",
        "None",
        "paper.dvi",
        "C:\\Documents\\letter",
        "file:///home/me/a",
        "https://example.org/a/b",
        "{0F1E2D3C-0000-1111-2222-0123456789AB}",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_what_programs_write_is_junk(title: str) -> None:
    assert is_junk_title(title)


@pytest.mark.parametrize(
    "title",
    [
        "Care of pumps",
        "1984",
        "Presentation skills",
        "Presentations of groups",
        "Book of Mormon",
        "PowerPoint for beginners",
        "Word of God",
        "Excel formulas",
        "Microsoft Windows internals",
        "Microsoft Word tips",
        "Printing money",
        "Slide rules",
        "Document retrieval",
        "Untitled paintings of the 1950s",
        "The .doc file format explained",
        "Testing",
        "Unknown unknowns",
        "R",
        "Über uns",
        "用户手册",
        "a" * 2000,
    ],
)
def test_what_people_write_is_not(title: str) -> None:
    assert not is_junk_title(title)


@given(st.text())
def test_every_text_has_an_answer(title: str) -> None:
    assert is_junk_title(title) in (True, False)


def test_a_long_title_costs_no_time() -> None:
    start = time.perf_counter()
    for piece in ("word-", "microsoft ", "a.doc ", "/a/", "0", "presentation "):
        is_junk_title((piece * 1000)[:1000])
    assert time.perf_counter() - start < 1
