"""Markup whose source is the text (LaTeX, Org, Typst, MediaWiki), and rendered manual pages."""

import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from retrieval.domain.records import Document
from tests.indexer.parse.test_parse import check_tiling, outline_of


def headings(document: Document) -> list[tuple[str, ...]]:
    return [section.heading_path for section in document.sections]


def read(uri: str, text: str) -> Document:
    document = parse(uri, text.encode())
    check_tiling(document)
    return document


LATEX = r"""% \section{Not one}
\documentclass{article}
\title[short]{A {Great} \emph{Paper} on G\"odel and Erd\H{o}s\thanks{us}}
\author{Kim \and Jo}
\begin{document}
\begin{abstract}
We do.
\end{abstract}
\section{Intro\label{sec:a}}
Text \verb|\section{not}| and
\begin{verbatim}
\section{not}
\end{verbatim}
\subsection*{Sums $x+y$ \& more -- 50\% here}
\section[foo]
  {On \texorpdfstring{$\alpha$}{alpha}
   rays}
\begin{frame}[fragile]{One frame}
\end{frame}
"""


def test_latex() -> None:
    document = read("a.tex", LATEX)
    assert document.text == LATEX
    assert document.title == "A Great Paper on Gödel and Erdős"
    assert document.metadata == {"author": "Kim, Jo"}
    assert headings(document) == [
        (),
        ("Abstract",),
        ("Intro",),
        ("Intro", "Sums x+y & more – 50% here"),
        ("On alpha rays",),
        ("On alpha rays", "One frame"),
    ]
    assert outline_of(document)[4][1] == "\\section[foo]"


def test_latex_levels_and_chapters() -> None:
    source = "\\part{P}\\chapter{C}\n\\section{S}\n\\subsubsection{T}\n\\paragraph{U}\\chapter{D}"
    assert headings(read("a.tex", source))[-2:] == [("P", "C", "S", "T", "U"), ("P", "D")]


ORG = """#+TITLE: My /notes/
#+AUTHOR: Kim
#+FILETAGS: :a:b:
#+TODO: OPEN | FIXED
Intro.
* TODO [#A] First [1/2] :tag:other:
** FIXED Sub [[http://x][link]] *bold*
#+begin_src c
,* not one
#+end_src
* Last
"""


def test_org() -> None:
    document = read("a.org", ORG)
    assert (document.text, document.title) == (ORG, "My notes")
    assert document.metadata == {"author": "Kim", "tags": ["a", "b"]}
    assert headings(document) == [(), ("First",), ("First", "Sub link bold"), ("Last",)]
    assert read("b.org", "text\n* One\n").title == "One"


TYPST = """#set document(title: "Of Typst", author: ("A", "B"))
#show: conf.with(title: [Other])
= Intro <intro>
// = not
/* = not
= not */
```
= not
```
== Sub *bold* #emph[x] // note
See https://a.b
= After
"""


def test_typst() -> None:
    document = read("a.typ", TYPST)
    assert (document.text, document.title) == (TYPST, "Of Typst")
    assert document.metadata == {"author": "A, B"}
    assert headings(document) == [(), ("Intro",), ("Intro", "Sub bold x"), ("After",)]


WIKI = """Lead.
== First [[page|link]] ==
<nowiki>
== not ==
</nowiki>
<!--
== not ==
-->
=== ''Sub'' <ref>source</ref> === <!-- note -->
[[Category:Birds|key]]
==Last==
"""


def test_mediawiki() -> None:
    document = read("docs/Ducks.wiki", WIKI)
    assert (document.text, document.title) == (WIKI, "Ducks")
    assert document.metadata == {"category": ["Birds"]}
    assert headings(document) == [(), ("First link",), ("First link", "Sub"), ("Last",)]
    shown = read("a.mediawiki", "{{DISPLAYTITLE:''Anas'' ducks}}\n= A =\n")
    assert shown.title == "Anas ducks"


MAN = r""".\" Copyright
.TH DUCK 1 "2024-01-01"
.SH NAME
duck \- quack at \fIthings\fR
.SH SYNOPSIS
.B duck
.RB [ \-q ]
.I file ...
.SH OPTIONS
.TP
.BR \-q ", " \-\-quiet
Say
nothing \(bu at all.
.IP \(bu 2
An item.
.nf
duck one
  two
.fi
.SS "Exit status"
.PP
.if n \{\
.de XX
..
.\}
0 if it quacked\&.\\n
.TS
tab(;);
l l.
Kind;Weight
Mallard;T{
1.1 kg
T}
.TE
"""


def test_man_pages() -> None:
    document = read("man/duck.1", MAN)
    assert (document.title, document.format) == ("duck(1)", "man")
    assert document.text == (
        "NAME\n\nduck - quack at things\n\nSYNOPSIS\n\nduck [-q] file ...\n\n"
        "OPTIONS\n\n-q, --quiet\nSay nothing • at all.\n\n• An item.\nduck one\n  two\n\n"
        "Exit status\n\n0 if it quacked.\\n\n\nKind | Weight\nMallard | 1.1 kg"
    )
    assert headings(document)[-1] == ("OPTIONS", "Exit status")
    assert headings(document)[:2] == [("NAME",), ("SYNOPSIS",)]


MDOC = """.Dd January 1, 2024
.Dt DUCK 8
.Os
.Sh NAME
.Nm duck
.Nd quack at things
.Sh SYNOPSIS
.Nm
.Op Fl q Ar level
.Op Fl Fl all
.Nm
.Fl h
.Sh DESCRIPTION
The
.Nm
utility quacks, see
.Xr goose 1 ,
.Dq loudly .
.Bl -tag -width x
.It Fl q Ar level
Quiet.
.El
.Bd -literal
$ duck
  -q
.Ed
"""


def test_mdoc_pages() -> None:
    document = read("duck.8", MDOC)
    assert document.title == "duck(8)"
    assert document.text == (
        "NAME\n\nduck – quack at things\n\n"
        "SYNOPSIS\n\nduck [-q level] [--all]\nduck -h\n\n"
        "DESCRIPTION\n\nThe duck utility quacks, see goose(1), “loudly.”\n\n"
        "-q level\nQuiet.\n$ duck\n  -q"
    )


@pytest.mark.parametrize("name", ["access.log.1", "notes-0.3", "report.2"])
def test_what_only_looks_like_a_man_page_is_plain_text(name: str) -> None:
    document = read(name, "10:00 started\n.hidden line\n")
    assert (document.format, document.text) == ("text", "10:00 started\n.hidden line\n")


PARTS = (
    *("* ", "= ", "== ", " ==", "\\section{", "\\begin{verbatim}", "\\verb|", "{", "}", "[", "]"),
    *("```", "/*", "*/", "//", "<nowiki>", "</nowiki>", "<!--", "-->", "{{", "}}", "[[", "]]"),
    *(
        ".SH ",
        ".TP\n",
        ".TS\n",
        ".TE\n",
        ".de x\n",
        "..\n",
        ".It Fl a Ar b\n",
        ".Nm\n",
        "\\f",
        "\\(",
    ),
    *(".TH A 1\n", '"', "'", "\\*[", ":a:", "%", "\\", "~", "TODO ", "a", " ", "\n", "\r\n", "é"),
)
URIS = ("a.tex", "a.org", "a.typ", "a.wiki", "a.1")


@given(st.sampled_from(URIS), st.lists(st.sampled_from(PARTS), max_size=60))
def test_any_markup_gives_sections_that_tile(uri: str, parts: list[str]) -> None:
    read(uri, "x" + "".join(parts))


@pytest.mark.parametrize(("uri", "part"), [*product(URIS, PARTS)])
def test_reading_takes_time_in_proportion_to_the_length(uri: str, part: str) -> None:
    start = ".TH A 1\ntext\n" if uri == "a.1" else ""
    started = time.process_time()
    read(uri, start + part * (200_000 // len(part)) + "x")
    assert time.process_time() - started < 2, "quadratic time would take minutes"
