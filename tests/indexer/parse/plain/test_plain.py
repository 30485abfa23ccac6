"""Configuration, subtitles, and source code that is cut by lines."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import format_of, parse
from indexer.parse.plain import config, languages
from indexer.skip import SkipDocument
from retrieval.domain.records import Document
from tests.indexer.parse.test_parse import check_tiling, outline_of


def read(uri: str, text: str) -> Document:
    document = parse(uri, text.encode())
    check_tiling(document)
    return document


YAML = """# How it is run
version: "3"
services:
  web:
    image: x
    ports:
      - 80
  db: # the store
    image: y
volumes:
- a
name: z
text: |
  foo:
    bar
list:
  - name: a
    env:
      k: v
  - name: b
---
kind: X
"""


def test_yaml_keys_are_sections() -> None:
    document = read("docs/app.yaml", YAML)
    assert (document.text, document.title) == (YAML, "app.yaml")
    assert outline_of(document) == [
        ((), "# How it is run"),
        (("services",), "services:"),
        (("services", "web"), "  web:"),
        (("services", "web", "ports"), "    ports:"),
        (("services", "db"), "  db: # the store"),
        (("volumes",), "volumes:"),
        ((), "name: z"),
        (("list",), "list:"),
        (("list", "env"), "    env:"),
        (("list",), "  - name: b"),
        ((), "---"),
    ]


def test_headers_are_sections() -> None:
    toml = 'top = 1\n# about x\n[x.y]\na = "[no]"\n[[bin]]\nb = [\n  1,\n]\n'
    assert outline_of(read("a.toml", toml)) == [
        ((), "top = 1"),
        (("x.y",), "# about x"),
        (("bin",), "[[bin]]"),
    ]
    ini = "a=0\n\n; c\n\n[main]\na=1\n[other] ; x\nb=2"
    assert [path for path, _ in outline_of(read("a.ini", ini))] == [(), ("main",), ("other",)]


@given(
    st.sampled_from(["a.yaml", "a.toml", "a.srt", "a.vtt"]),
    st.lists(
        st.sampled_from(
            (
                *(
                    "a:",
                    "b: c",
                    "  ",
                    "- ",
                    "|",
                    "\n",
                    "\r\n",
                    "[x]",
                    "[[y]]",
                    "# c",
                    '"q":',
                    "---",
                ),
                *(
                    "00:01.000 --> 00:02.000",
                    "99:99:99,999 --> 0:0:0,0",
                    "<v Kim>",
                    "words",
                    "&lt;",
                ),
            )
        ),
        max_size=60,
    ),
)
def test_anything_gives_sections_that_tile(uri: str, parts: list[str]) -> None:
    start = "1\n00:00:01,000 --> 00:00:02,000\nx\n\n" if uri[-3:] in ("srt", "vtt") else "x\n"
    read(uri, start + "".join(parts))


@pytest.mark.parametrize("part", ["a:\n", " ", "  a:\n", "- a:\n", "&", "!x ", '"', "a: |\n", "[x"])
def test_reading_takes_time_in_proportion_to_the_length(part: str) -> None:
    started = time.process_time()
    for end in (*config.YAML[:1], ".toml"):
        read(f"a{end}", "x\n" + part * (200_000 // len(part)))
        read(f"a{end}", "x\n" + "\n".join(" " * n + part for n in range(500)))
    assert time.process_time() - started < 4, "quadratic time would take minutes"


VTT = """WEBVTT - A talk

NOTE not shown

STYLE
::cue { color: red }

intro
00:00.500 --> 00:02.000 align:start
<v Kim>Hello <i>there</i> &amp; you

00:00:02.000 --> 00:00:04.000
<v Kim>again
friends

00:00:04.000 --> 00:00:05.000
<v Jo>Yes

00:01:05.000 --> 01:01:06.500
Bye
"""


def test_web_subtitles() -> None:
    document = read("talks/Opening.vtt", VTT)
    assert document.text == "Kim: Hello there & you\nagain\nfriends\n\nJo: Yes\n\nBye"
    assert [section.heading_path for section in document.sections] == [
        ("00:00 – 00:05",),
        ("01:05 – 1:01:06",),
    ]
    assert (document.title, document.metadata) == ("Opening", {"duration": "1:01:06"})


def test_subrip() -> None:
    cues = "1\r\n00:00:01,000 --> 00:00:02,000\r\n{\\an8}<b>One</b>\r\n\r\n2\r\n"
    cues += (
        "00:00:02,000 --> 00:00:03,000\r\nOne\r\nTwo\r\n\r\n3\r\n00:00:09,000 --> 00:00:10,000\r\n3"
    )
    document = read("a.srt", cues)
    assert document.text == "One\nTwo\n\n3", "lines still on the screen once, pauses as paragraphs"
    with pytest.raises(SkipDocument, match="no cues"):
        parse("a.srt", b"just text")


def test_sections_of_subtitles_have_about_a_minute() -> None:
    cues = "\n\n".join(
        f"{n // 60:02}:{n % 60:02}.000 --> {n // 60:02}:{n % 60:02}.900\nword {n}"
        for n in range(0, 300, 3)
    )
    paths = [section.heading_path for section in read("a.vtt", "WEBVTT\n\n" + cues).sections]
    assert paths == [(f"0{n}:00 – 0{n}:57",) for n in range(5)]


@pytest.mark.parametrize(
    "name", ["a.sql", "a.tf", "A.SWIFT", "Dockerfile", "b/Makefile", "CMakeLists.txt"]
)
def test_code_without_a_grammar_is_one_section(name: str) -> None:
    document = read(name, "SELECT 1;\n")
    assert (document.format, len(document.sections)) == ("code", 1)
    assert document.title == name.rpartition("/")[2]


def test_languages_are_lower_case_and_code() -> None:
    for end in (*languages.EXTENSIONS, *languages.NAMES):
        format_ = format_of(f"a{end}" if end.startswith(".") else end)
        assert format_ is not None
        assert format_.key == "code"
        assert end == end.lower()
