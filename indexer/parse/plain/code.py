"""Source code: the text is the source itself, and functions and classes are the sections.

Python is parsed by its own parser, other languages by tree-sitter grammars, which the extra
``code`` installs. Without its grammar a file is one section.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from indexer.decoding.decode import decode, decode_labelled, has_mark
from indexer.decoding.decompress import without_compression
from indexer.parse.base.outline import MAX_SECTIONS, line_starts, one_line, title_of, words
from retrieval.domain.records import Document, Section

if TYPE_CHECKING:
    from tree_sitter import Node

_PYTHON: Final = frozenset({".py", ".pyi"})

_GRAMMARS: Final = {
    "tree_sitter_bash": (".bash", ".sh"),
    "tree_sitter_c": (".c", ".h"),
    "tree_sitter_c_sharp": (".cs",),
    "tree_sitter_cpp": (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"),
    "tree_sitter_go": (".go",),
    "tree_sitter_java": (".java",),
    "tree_sitter_javascript": (".cjs", ".js", ".jsx", ".mjs"),
    "tree_sitter_kotlin": (".kt", ".kts"),
    "tree_sitter_php:language_php": (".php",),
    "tree_sitter_ruby": (".rb",),
    "tree_sitter_rust": (".rs",),
    "tree_sitter_scala": (".scala",),
    "tree_sitter_typescript:language_typescript": (".mts", ".ts"),
    "tree_sitter_typescript:language_tsx": (".tsx",),
}
"""Module of each grammar, with ``:`` and its function if that is not ``language``; extensions."""
_BY_EXTENSION: Final = {end: name for name, ends in _GRAMMARS.items() for end in ends}

EXTENSIONS: Final = (*sorted(_PYTHON), *sorted(_BY_EXTENSION))

_FUNCTIONS: Final = words(
    """
    constructor_declaration function_declaration function_definition function_item
    generator_function_declaration method method_declaration method_definition singleton_method
    """
)
_HOLDERS: Final = words(
    """
    abstract_class_declaration class class_declaration class_definition class_specifier
    enum_declaration enum_definition enum_item enum_specifier impl_item interface_declaration
    internal_module mod_item module namespace_declaration namespace_definition object_declaration
    object_definition record_declaration struct_declaration struct_item struct_specifier
    trait_declaration trait_definition trait_item type_declaration union_specifier
    """
)
"""Node types of definitions that functions may stand in."""
_WRAPPERS: Final = words("decorated_definition export_statement template_declaration")
"""Node types that wrap a definition and belong to it."""
_LEADING: Final = words(
    "annotation attribute_item attribute_list block_comment comment decorator line_comment "
    "multiline_comment"
)
"""Node types before a definition that belong to it."""
_CLOSING: Final = re.compile(r"(?:end\b|[\s;})])*")
"""Text after a definition that belongs to it."""
_CODING: Final = re.compile(
    rb"(?:[^\n]{0,200}\n)?[ \t]*(?:#|//|--|;|/\*|\*)[^\n]{0,200}?coding[:=][ \t]*([\w.-]{1,40})"
)
"""A comment in one of the first two lines that names the file's encoding."""
_MAX_DEPTH: Final = 100
"""Definitions nested deeper make no sections: only generated or hostile code has them."""


class _Definition(NamedTuple):
    """A function, class or similar definition."""

    start: int
    """First character of its first line, or of the comments above it."""
    end: int
    depth: int
    """Number of definitions around it."""
    name: str


def parse_code(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a source file; its title is the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = _decode(data, encoding)
    name = PurePosixPath(without_compression(uri)).name
    extension = PurePosixPath(name).suffix.lower()
    if extension in _PYTHON:
        found = _python(text)
    elif (grammar := grammar_of(extension)) and has_grammar(extension):
        found = _by_grammar(text, grammar)
    else:
        found = iter(())
    sections = _sections(text, found)
    return Document(uri, title_of(uri, name), "code", text, sections, encoding)


def _decode(data: bytes, encoding: str) -> tuple[str, str]:
    """Decode a source file; its first lines may name the encoding (PEP 263, editors)."""
    label = None if has_mark(data) else _CODING.match(data)
    named = decode_labelled(data, label[1].decode("ascii")) if label else None
    return named or decode(data, encoding)


def has_grammar(extension: str) -> bool:
    """Whether the grammar for an extension is installed; Python needs none, others have none."""
    module, _, _ = grammar_of(extension).partition(":")
    return not module or all(find_spec(name) for name in (module, "tree_sitter"))


def grammar_of(extension: str) -> str:
    """Return the grammar for an extension, as in ``_GRAMMARS``; empty if it has none."""
    return _BY_EXTENSION.get(extension, "")


def _sections(text: str, definitions: Iterable[_Definition]) -> tuple[Section, ...]:
    """Return sections that tile a text; text after a definition belongs to the one around it."""
    sections = [Section(0, ())]
    open_: list[_Definition] = []

    def begin(start: int) -> None:
        path = tuple(one.name for one in open_)
        start = max(start, sections[-1].char_start)  # in broken code an inner end may be outside
        if sections[-1].char_start == start:
            sections.pop()
        if len(sections) < MAX_SECTIONS:
            sections.append(Section(start, path, len(path)))

    def close(until: int) -> None:
        """Close the definitions that end before a place, and begin sections for text after them."""
        while open_ and open_[-1].end <= until:
            end = open_.pop().end
            # The rest of its last line belongs to it.
            start = text.find("\n", end, until) + 1 or end
            if not _CLOSING.fullmatch(text, start, until):
                begin(start)

    for definition in definitions:
        close(definition.start)
        del open_[definition.depth :]
        open_.append(definition)
        begin(definition.start)
    close(len(text))
    return tuple(sections)


def _python(text: str) -> Iterator[_Definition]:
    """Yield the definitions of a Python file; none if this Python can't parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about the file
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    starts = [*line_starts(text), len(text)]
    pending: list[tuple[ast.AST, int]] = [(node, 0) for node in reversed(tree.body)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            end = starts[min(node.end_lineno or first, len(starts) - 1)]
            start = _above_comments(text, starts[first - 1])
            yield _Definition(start, end, depth, node.name)
            if isinstance(node, ast.ClassDef) and depth < _MAX_DEPTH:
                pending += [(part, depth + 1) for part in reversed(node.body)]


def _above_comments(text: str, start: int) -> int:
    """Return the start of the comment lines right above the line that starts at a place."""
    while start:
        above = text.rfind("\n", 0, start - 1) + 1
        if not text[above:start].lstrip().startswith("#") or text.startswith("#!", above):
            break
        start = above
    return start


def _by_grammar(text: str, grammar: str) -> Iterator[_Definition]:
    """Yield the definitions that a grammar finds; it skips what it can't parse."""
    from tree_sitter import Language, Parser

    module, _, function = grammar.partition(":")
    language = Language(getattr(import_module(module), function or "language")())
    data = text.encode("utf-8", "surrogatepass")
    place = _CharCounter(text, data)
    pending: list[tuple[Node, int, bool]] = [(Parser(language).parse(data).root_node, 0, False)]
    last = 0
    while pending:
        node, depth, in_function = pending.pop()
        name = _name(node, data)
        if name and not in_function:
            start = max(last, _line_start(data, _first(node).start_byte))
            last = start
            yield _Definition(place(start), place(node.end_byte, peek=True), depth, name)
        in_function = in_function or (bool(name) and not _holds(node))
        if not in_function and depth < _MAX_DEPTH:
            pending += [
                (child, depth + bool(name), in_function) for child in reversed(node.named_children)
            ]


def _holds(node: "Node") -> bool:
    return node.type in _HOLDERS


def _name(node: "Node", data: bytes) -> str:
    """Return the name of a node's definition; empty if it makes no section."""
    named = _named(node)
    if named is None:
        return ""
    return one_line(data[named.start_byte : named.end_byte].decode("utf-8", "replace"))


def _named(node: "Node") -> "Node | None":
    """Return the node with the name of a node's definition."""
    if node.type == "variable_declarator":  # JavaScript: const f = () => ...
        value = node.child_by_field_name("value")
        is_function = value is not None and value.type in {"arrow_function", "function_expression"}
        return node.child_by_field_name("name") if is_function else None
    if node.type not in _FUNCTIONS and node.type not in _HOLDERS:
        return None
    if node.type.endswith("_specifier") and node.child_by_field_name("body") is None:
        return None  # C: a type that is only mentioned
    for field in ("name", "declarator", "type"):
        if named := node.child_by_field_name(field):
            while inner := named.child_by_field_name("declarator"):
                named = inner
            return named
    specs = [child for child in node.named_children if child.type == "type_spec"]  # Go
    names = [child for child in node.named_children if child.type.endswith("identifier")]
    return specs[0].child_by_field_name("name") if specs else next(iter(names), None)


def _first(node: "Node") -> "Node":
    """Return the node that a definition begins with, such as a comment right above it."""
    while node.parent is not None and node.parent.type in _WRAPPERS | {"lexical_declaration"}:
        node = node.parent
    before = node.prev_named_sibling
    while (
        before is not None
        and before.type in _LEADING
        and before.end_point.row + 1 >= node.start_point.row
        and not (before.start_byte == 0 and (before.text or b"").startswith(b"#!"))
    ):
        node, before = before, before.prev_named_sibling
    return node


def _line_start(data: bytes, place: int) -> int:
    """Return the start of the line if only white space precedes the place, else the place."""
    start = data.rfind(b"\n", 0, place) + 1
    return start if not data[start:place].strip() else place


class _CharCounter:
    """Converts byte offsets to character offsets; offsets must not decrease."""

    def __init__(self, text: str, data: bytes) -> None:
        self._data = data
        self._is_ascii = len(text) == len(data)
        self._byte = self._char = 0

    def __call__(self, byte: int, *, peek: bool = False) -> int:
        if self._is_ascii:
            return byte
        between = self._data[self._byte : byte]
        char = self._char + len(between.decode("utf-8", "surrogatepass"))
        if not peek:
            self._byte, self._char = byte, char
        return char
