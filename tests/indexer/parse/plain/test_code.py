"""Source code: definitions of Python by indentation, of others by grammar, in linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.parse.plain.code import grammar_of, has_grammar
from retrieval.domain.records import Document

PYTHON = '''\
#!/usr/bin/env python
"""Module.

def not_this(): pass
"""
import os

# About one.
def one(a, b=")",
        c="""
def nor_this():
"""):
    def inner():
        pass
    return 1  # :

    # a comment at the end


@decorated(
    "x",
)
@again
class Two(Base):
    x = 1

    @property
    def three(self) -> dict[str, int]:
        return {
}

    async def four(self): pass

if os.name == "nt":
    def five():
        pass
else:
    text = 'it\\'s \\
def no():'
print "Python 2"
def six
'''


def outline_of(document: Document) -> list[tuple[tuple[str, ...], str]]:
    return [
        (one.heading_path, document.text[one.char_start :].lstrip("\r\n").split("\n", 1)[0])
        for one in document.sections
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_python(line_end: str) -> None:
    document = parse("a.py", PYTHON.replace("\n", line_end).encode())
    shown = [(path, line.strip("\r")) for path, line in outline_of(document)]
    assert shown == [
        ((), "#!/usr/bin/env python"),
        (("one",), "# About one."),
        ((), "    # a comment at the end"),
        (("Two",), "@decorated("),
        (("Two", "three"), "    @property"),
        (("Two", "four"), "    async def four(self): pass"),
        ((), 'if os.name == "nt":'),
        (("five",), "    def five():"),
        ((), "else:"),
        (("six",), "def six"),
    ]


def test_the_encoding_that_a_source_file_names() -> None:
    text = "# -*- coding: koi8-r -*-\n# Привет\ndef f(): pass\n"
    document = parse("a.py", text.encode("koi8-r"))
    assert (document.text, document.encoding) == (text, "koi8-r")


@pytest.mark.parametrize(
    "text",
    [
        "def f(\n" * 50_000,
        "def f(a(\n x\n" * 30_000,
        "@a\n" * 50_000,
        "class A:\n" * 50_000,
        "".join(" " * (n % 200) + "class A:\n" for n in range(10_000)),
        '"""' * 100_001,
        "'" * 100_001,
        "# c\n" * 100_000 + "def f(): pass\n",
        "class A:\n" + "  # c\n" * 50_000 + "  def f(): pass\n" * 10_000,
        "def f():\n" + "\n" * 200_000,
        "x = (\n" * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_python_takes_linear_time(text: str) -> None:
    started = time.process_time()
    parse("a.py", text.encode())
    assert time.process_time() - started < 5


@pytest.mark.skipif(not has_grammar(".js"), reason="needs the extra code")
@pytest.mark.parametrize(
    "statement",
    [
        "var a=function(b){return b+1};",
        "function f(){return 1}",
        "/* c */function f(){return 1}",
        "class A{m(){return 1}}",
        "const f=()=>1,g=()=>2;",
        "export const f=()=>1;",
        " " * 50,
        "é;",
    ],
)
def test_one_line_of_javascript_takes_linear_time(statement: str) -> None:
    parse("a.js", b"f()")  # loads the grammar

    def seconds(size: int) -> float:
        data = (statement * (size // len(statement))).encode()
        started = time.process_time()
        parse("a.js", b"x;" + data)
        return time.process_time() - started

    assert seconds(400_000) < max(0.5, 10 * seconds(100_000))


@pytest.mark.skipif(not has_grammar(".ts"), reason="needs the extra code")
@pytest.mark.parametrize("extension", [".ts", ".c", ".java", ".go"])
@pytest.mark.parametrize("opening", ["{", "((((", "if(a)", "f(a=>", "[-!"])
def test_broken_code_takes_linear_time(extension: str, opening: str) -> None:
    parse("a" + extension, b"f()")  # loads the grammar

    def seconds(size: int) -> float:
        data = (opening * (size // len(opening))).encode()
        started = time.process_time()
        parse("a" + extension, data)
        return time.process_time() - started

    assert seconds(80_000) < max(0.5, 8 * seconds(20_000))


@pytest.mark.skipif(not has_grammar(".js"), reason="needs the extra code")
def test_definitions_beside_an_error_are_found() -> None:
    document = parse("x/a.js", b"function f() {}\n)(;\nfunction g() {}\n" + b"{{" * 100)
    assert {("f",), ("g",)} <= {part.heading_path for part in document.sections}


@pytest.mark.skipif(not has_grammar(".js"), reason="needs the extra code")
def test_javascript() -> None:
    text = (
        "// About f.\nexport const f = () => { function inner() {} };\n\n"
        "/* note */\n\n\nclass A {\n  // About m.\n  m() { return 1 }\n  n() {}\n}\n"
        "(function () {\n  function g() {}\n})();\nconst a = () => 1, b = () => 2;\n"
    )
    assert outline_of(parse("a.js", text.encode())) == [
        (("f",), "// About f."),
        ((), "/* note */"),
        (("A",), "class A {"),
        (("A", "m"), "  // About m."),
        (("A", "n"), "  n() {}"),
        (("A",), "}"),
        ((), "(function () {"),
        (("g",), "  function g() {}"),
        (("a",), "const a = () => 1, b = () => 2;"),
        (("b",), "b = () => 2;"),
    ]


PIECES = (
    r"""def f():¶class A:¶@d¶ ¶  ¶    ¶    ¶\n¶\n\n¶\r\n¶x = 1¶(¶)¶'''¶'¶\¶#¶é¶async def g(a):¶:"""
)


@given(
    st.lists(
        st.sampled_from(PIECES.replace(r"\n", "\n").replace(r"\r", "\r").split("¶")), max_size=40
    ),
    st.sampled_from(["a.py", "a.js", "a.c", "a.rs"]),
)
def test_any_code_is_tiled(parts: list[str], name: str) -> None:
    text = "x" + "".join(parts)
    document = parse(name, text.encode())
    starts = [section.char_start for section in document.sections]
    assert document.text == text
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] < len(text)


def test_python_needs_no_grammar() -> None:
    assert has_grammar(".py")
    assert not grammar_of(".py")
