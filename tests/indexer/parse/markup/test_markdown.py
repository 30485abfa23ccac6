"""Markdown and its relatives: titles, front matter, MDX, comments, tables."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from retrieval.domain.records import Document


def headings_of(document: Document) -> list[tuple[str, ...]]:
    return [section.heading_path for section in document.sections if section.level]


def omitted_of(document: Document) -> list[str]:
    return [document.text[start:end] for start, end in sorted(document.omitted)]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Use callouts.\n\n## Change the title\n\nWrite it.\n", "Callouts"),
        ("## Part one\n\ntext\n\n## Part two\n", "Callouts"),
        ("## How to use callouts\n\n## Part two\n", "How to use callouts"),
        ("## All about notes\n\n### Callouts\n\n### Others\n", "All about notes"),
        ('<a id="top"></a>\n\n## All about notes\n', "All about notes"),
        ("<!-- draft -->\n## All about notes\n", "All about notes"),
        ("![A picture](a.png)\n\n## Part\n", "Callouts"),
        ("### Part\n\n## Part\n\n# Real title\n", "Real title"),
        ('<h1 align="center">Care of pumps</h1>\n\n## Install\n', "Care of pumps"),
        (
            "<div>\n<H1>\n  Care of\n  <b>pumps</b> &amp; valves\n</H1>\n</div>\n",
            "Care of pumps & valves",
        ),
        ("<h1>\n\nCare of *pumps*\n\n</h1>\n\n## Install\n", "Care of pumps"),
        ('<h1 align="center"><img src="a.png" alt="Pumps"></h1>\n\n## Install\n', "Pumps"),
        ('# <img src="a.png" alt="Pumps">\n', "Pumps"),
        ("<!-- <h1>Old</h1> -->\n\nText.\n", "Callouts"),
        ("```html\n<h1>Code</h1>\n```\n", "Callouts"),
        ("# Preface {-}\n", "Preface"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert parse("docs/Callouts.md", text.encode()).title == title


def test_the_first_heading_names_a_file_whose_name_says_nothing() -> None:
    assert parse("a/README.md", b"Pumps\n-----\n\ntext\n\nParts\n-----\n").title == "Pumps"
    assert parse("a/README.md", b"Pumps are here.\n\n## Parts\n").title == "README"


def test_headings_of_html_are_sections() -> None:
    text = "é\n\n<h1>One</h1>\n\nText.\n\n<div>\n  <h2>Two</h2>\n</div>\n\n### Three\n"
    document = parse("a.md", text.encode())
    assert headings_of(document) == [("One",), ("One", "Two"), ("One", "Two", "Three")]
    starts = [text[one.char_start :].split("\n", maxsplit=1)[0] for one in document.sections]
    assert starts == ["é", "<h1>One</h1>", "  <h2>Two</h2>", "### Three"]


def test_toml_front_matter() -> None:
    text = (
        '+++\ntitle = "Care of pumps"\ndate = 2024-05-01\ntags = ["water", "works"]\nweight = 3\n'
        'draft = false\n[extra]\nowner = "Ada"\n[taxonomies]\ncategories = ["care"]\n+++\n\n'
        "## Daily\n"
    )
    document = parse("a.md", text.encode())
    assert document.title == "Care of pumps"
    assert document.metadata == {
        "title": "Care of pumps",
        "date": "2024-05-01",
        "tags": ["water", "works"],
        "weight": 3,
        "draft": False,
        "extra": {"owner": "Ada"},
        "categories": ["care"],
    }
    assert headings_of(document) == [("Daily",)]
    assert parse("a.md", b"+++\nnot toml\n+++\n# A\n").title == "A"


def test_json_front_matter() -> None:
    text = (
        '{\n  "title": "Care of pumps",\n  "tags": ["water"],\n  "version": 3.10\n}\n\n## Daily\n'
    )
    document = parse("a.md", text.encode())
    assert document.title == "Care of pumps"
    assert document.metadata["tags"] == ["water"]
    assert headings_of(document) == [("Daily",)]
    for other in ("{% include x %}\n# A\n", '{"a": 1} and text\n# A\n', "{\n# A\n", "{}\n# A\n"):
        found = parse("a.md", other.encode())
        assert (found.title, found.metadata) == ("A", {})


def test_nested_yaml_front_matter() -> None:
    text = (
        "---\ntitle: 'It''s: here'\nauthor:\n  name: Ada\n  year: 1843\n"
        "links:\n  - url: a\n  - url: b\n"
        "summary: >\n  Two\n  lines.\nversion: 3.10\ncode: 007\nnone: ~\nwhen: 2024-05-01\n"
        "tags: one, two\nquoted: 'a, b'\nsame: &x value\nagain: *x\n---\ntext\n"
    )
    assert parse("a.md", text.encode()).metadata == {
        "title": "It's: here",
        "author": {"name": "Ada", "year": 1843},
        "links": [{"url": "a"}, {"url": "b"}],
        "summary": "Two lines.",
        "version": "3.10",
        "code": "007",
        "when": "2024-05-01",
        "tags": ["one", "two"],
        "quoted": "a, b",
        "same": "value",
        "again": "value",
    }


def test_front_matter_that_is_not_yaml_is_read_by_its_lines() -> None:
    text = "---\ntitle: Care: of pumps\ntags:\n- a\n- b\nbad: [\n---\n"
    document = parse("a.md", f"{text}x".encode())
    assert document.metadata == {"title": "Care: of pumps", "tags": ["a", "b"]}


@pytest.mark.parametrize(
    "matter",
    [
        "[" * 30_000,
        "a: " + "{b: " * 10_000,
        "- " * 20_000,
        "a: &a [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
        "a: &a x\nb: *nothing\n",
        "? [a, b]\n: c\n",
    ],
)
def test_hostile_front_matter(matter: str) -> None:
    started = time.process_time()
    assert parse("a.md", f"---\n{matter}\n---\n# A\n".encode()).title == "A"
    assert parse("a.md", f"+++\n{matter}\n+++\n# A\n".encode()).title == "A"
    assert time.process_time() - started < 2


MDX = """\
import Tabs from 'x'
import {
  One,
} from "y"

export const meta = { title: 'no' }

# Install

<Tabs
  values={[{ label: '>', value: "a" }]}
>
  <TabItem value="a">
  ```sh
  # Step one

  # Step two
  ```
  </TabItem>
  <TabItem value="b">
      ```sh
      # Step three
      ```

      ## In the tab

      | part | price |
      |------|-------|
      | pump | 3     |
  </TabItem>
</Tabs>

{/* ## not seen */}

## After install

Import duties rise, <b>and</b> a<b.

<Note>One line</Note>

<br />
<img src="a.png" />
## Later on

1. Step
   <Tabs>
     ```sh
     # Step four
     ```
   </Tabs>

2. Step

## The end
"""


def test_mdx() -> None:
    document = parse("a.mdx", MDX.encode())
    paths = [path[1:] for path in headings_of(document)]
    assert paths == [(), ("In the tab",), ("After install",), ("Later on",), ("The end",)]
    for section in document.sections[1:]:
        assert MDX[section.char_start :].lstrip().startswith("#")
    assert document.title == "Install"
    (table,) = document.tables
    assert MDX[table.char_start : table.char_end].startswith("| part")
    assert MDX[table.rows_start : table.char_end].strip() == "| pump | 3     |"
    assert table.header == "part | price"
    omitted = omitted_of(document)
    assert "{/* ## not seen */}" in omitted
    assert any("from 'x'" in one for one in omitted)
    assert any("meta" in one for one in omitted)


def test_markdown_with_imports_is_mdx() -> None:
    text = "---\ntitle: A\n---\nimport Tabs from '@theme/Tabs';\n\n<Tabs>\n## Seen\n</Tabs>\n"
    assert headings_of(parse("a.md", text.encode())) == [("Seen",)]
    text = "Import duties rise.\n\n<div>\n## Not seen\n</div>\n"
    assert headings_of(parse("a.md", text.encode())) == []


@pytest.mark.parametrize(
    "text",
    [
        "<a " * 100_000,
        "<a\n" * 100_000,
        "<a {\n" * 50_000,
        '<a "\n' * 50_000,
        "<A>\n" * 50_000,
        "export const a = {\n" * 50_000,
        "```\n" * 50_001,
        "</A>\n" * 50_000,
        "{/*" * 50_000,
        "<!--" * 50_000,
        "%%\n" * 50_001,
        "%% a\n" * 50_000,
        "<h1>\n" * 50_000,
        "<h1>\n\n" * 50_000,
        "[//]: # (\n" * 50_000,
        "| a " * 50_000 + "\n" + "|-" * 50_000 + "\n",
    ],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize("name", ["a.md", "a.mdx"])
def test_hostile_markdown_takes_linear_time(name: str, text: str) -> None:
    started = time.process_time()
    parse(name, text.encode())
    assert time.process_time() - started < 5


def test_comments_are_not_read() -> None:
    text = (
        "# A <!-- omit in toc -->\n\nSeen. <!-- not\n\nseen --> Seen.\n\n`<!-- code -->`\n\n"
        "```html\n<!-- code -->\n```\n\nText %%not seen%% and 100%% sure.\n\n%%\nnot\nseen\n%%\n\n"
        "[//]: # (Not seen.)\n\n<style>\np {}\n</style>\n\n<!-- without an end\n"
    )
    document = parse("a.md", text.encode())
    assert omitted_of(document) == [
        "<!-- omit in toc -->",
        "<!-- not\n\nseen -->",
        "%%not seen%%",
        "%%\nnot\nseen\n%%",
        "[//]: # (Not seen.)",
        "<style>\np {}\n</style>\n",
    ]
    assert document.text == text


def test_tables_have_their_columns() -> None:
    text = (
        "é\n\n| Part | `Price` |\n|:---|---:|\n| pump | 3 |\n| valve | 5 |\n\n"
        "- a list\n\n  | A | B |\n  |---|---|\n  | 1 | 2 |\n\nOne | Two\n--- | ---\n"
    )
    document = parse("a.md", text.encode())
    shown = [
        (
            table.header,
            text[table.char_start : table.rows_start],
            text[table.rows_start : table.char_end],
        )
        for table in document.tables
    ]
    assert shown == [
        ("Part | Price", "| Part | `Price` |\n|:---|---:|\n", "| pump | 3 |\n| valve | 5 |"),
        ("A | B", "| A | B |\n  |---|---|\n", "  | 1 | 2 |"),
        ("One | Two", "One | Two\n--- | ---", ""),
    ]


@pytest.mark.parametrize("name", ["a.qmd", "a.Rmd"])
def test_quarto_and_r_markdown(name: str) -> None:
    text = (
        "---\ntitle: Pumps\n---\n\n```{r setup, include=FALSE}\n# a comment\nx <- 1\n```\n\n"
        "# Method {#sec-method}\n\n::: {.callout-note}\n## Careful\n:::\n"
    )
    document = parse(name, text.encode())
    assert (document.format, document.title) == ("markdown", "Pumps")
    assert headings_of(document) == [("Method",), ("Method", "Careful")]


PIECES = """\
# é¶<A>¶</A>¶<b/>¶  ¶    ¶\t¶```¶{/*¶*/}¶<!--¶-->¶%%¶import a from 'b'¶| a | b |¶|---|---|¶text¶
¶\r\n¶\n\n¶---¶+++¶<h1>¶</h1>¶[//]: # (x)¶<!¶{¶}¶'¶- ¶> ¶``¶title: x"""


@given(
    st.lists(st.sampled_from(PIECES.split("¶")), max_size=40), st.sampled_from(["a.md", "a.mdx"])
)
def test_any_mixture_keeps_the_text_and_tiles_it(parts: list[str], name: str) -> None:
    text = "x" + "".join(parts)
    document = parse(name, text.encode())
    assert document.text == text
    starts = [section.char_start for section in document.sections]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert all(start < len(text) for start in starts)
    for table in document.tables:
        assert 0 <= table.char_start <= table.rows_start <= table.char_end <= len(text)
    for start, end in document.omitted:
        assert 0 <= start < end <= len(text)
