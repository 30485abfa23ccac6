"""Source code: the text is the source itself, and functions and classes are the sections.

Python's are found by indentation, those of other languages by tree-sitter grammars, which the extra
``code`` installs. Without its grammar a file is one section.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from operator import itemgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from indexer.decoding.decode import decode, decode_labelled, has_mark
from indexer.decoding.decompress import without_compression
from indexer.parse.base.outline import MAX_SECTIONS, one_line, title_of, words
from indexer.parse.plain.python import find_definitions
from retrieval.domain.records import Document, Section

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Query

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
_ASSIGNMENT: Final = "lexical_declaration"
"""Node type of a statement that gives functions their names: ``const f = () => 1``."""
_ASSIGNED: Final = words("arrow_function function_expression")
"""Node types of those functions."""
_MAX_WRAPPED: Final = 16
"""A wrapper has a handful of children; this bounds the search in broken code."""
_MAX_GAP: Final = 200
"""Maximum number of bytes of white space between a definition and what leads to it."""
_LEADING: Final = words(
    "annotation attribute_item attribute_list block_comment comment decorator line_comment "
    "multiline_comment"
)
"""Node types before a definition that belong to it."""
_CLOSING: Final = re.compile(r"(?:end\b|[\s;,(){}\[\]])*+")
"""Text after a definition that belongs to it: no words, as in the end of ``(() => {...})();``."""
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
    """Yield the definitions of a Python file."""
    for start, line, depth, name in find_definitions(text, _MAX_DEPTH):
        end = line - text.endswith("\n", start, line)  # the next line is another section's
        yield _Definition(_above_comments(text, start), end, depth, name)


def _above_comments(text: str, start: int) -> int:
    """Return the start of the comment lines right above the line that starts at a place."""
    while start:
        above = text.rfind("\n", 0, start - 1) + 1
        if not text[above:start].lstrip().startswith("#") or text.startswith("#!", above):
            break
        start = above
    return start


_MOST_IN_ERROR: Final = 10_000
"""Number of nodes in an error above which no definitions are looked for. A grammar keeps them as
one list, and at each a query passes all before it: 10,000 take 75 ms, 500,000 three minutes."""


class _Grammar(NamedTuple):
    """A language, and a query for the nodes that make sections in it."""

    language: "Language"
    query: "Query"


@lru_cache
def _load(grammar: str) -> _Grammar:
    """Return a grammar by its name in ``_GRAMMARS``."""
    from tree_sitter import Language, Query

    module, _, function = grammar.partition(":")
    language = Language(getattr(import_module(module), function or "language")())
    patterns = [
        f"[{kinds}] @{name}"
        for name, types in (
            ("definition", _FUNCTIONS | _HOLDERS),
            ("wrapper", _WRAPPERS | {_ASSIGNMENT}),
            ("leading", _LEADING),
        )
        if (kinds := _kinds(language, types))
    ]
    values = _kinds(language, _ASSIGNED)
    if values and _kinds(language, ["variable_declarator"]):
        patterns.append(f"(variable_declarator value: [{values}]) @definition")
    return _Grammar(language, Query(language, "\n".join(patterns)))


def _kinds(language: "Language", types: Iterable[str]) -> str:
    """Return those of some types of nodes that a language has, as a query writes them."""
    return " ".join(
        f"({kind})" for kind in sorted(types) if language.id_for_node_kind(kind, True) is not None
    )


def _by_grammar(text: str, grammar: str) -> Iterator[_Definition]:
    """Yield the definitions that a grammar finds; it skips what it can't parse.

    A query finds the nodes, because neither visiting all of them in Python nor asking a node for
    its parent or its sibling before is fast: each of these looks through all siblings.
    """
    from tree_sitter import Parser, QueryCursor

    language, query = _load(grammar)
    data = text.encode("utf-8", "surrogatepass")
    root = Parser(language).parse(data).root_node
    if _is_too_broken(root):
        return
    found = QueryCursor(query).captures(root)
    nodes = [
        (node.start_byte, -node.end_byte, kind, node)
        for kind, some in found.items()
        for node in some
    ]
    nodes.sort(key=itemgetter(0, 1))
    place = _CharCounter(text, data)
    leading = _Leading(data)
    open_: list[int] = []
    wrappers: list[Node] = []
    function_end = last = 0
    for start, negative_end, kind, node in nodes:
        if kind == "leading":
            leading.add(start, -negative_end)
        elif start >= function_end and kind == "wrapper":
            wrappers = [one for one in wrappers if one.end_byte > start] + [node]
        elif start >= function_end and (name := _name(node, data)):
            while open_ and open_[-1] <= start:
                open_.pop()
            first = _start_of(node, wrappers)
            last = max(last, _line_start(data, leading.start_before(first)))
            yield _Definition(place(last), place(node.end_byte, peek=True), len(open_), name)
            if node.type in _HOLDERS and len(open_) < _MAX_DEPTH:
                open_.append(node.end_byte)
            else:
                function_end = node.end_byte


def _is_too_broken(root: "Node") -> bool:
    """Whether a grammar gave up on a part that is so long that a query takes quadratic time."""
    pending = [root] if root.has_error else []
    while pending:
        node = pending.pop()
        if node.type == "ERROR" and node.child_count > _MOST_IN_ERROR:
            return True
        pending += [child for child in node.children if child.has_error]
    return False


def _name(node: "Node", data: bytes) -> str:
    """Return the name of a node's definition; empty if it makes no section."""
    named = _named(node)
    if named is None:
        return ""
    return one_line(data[named.start_byte : named.end_byte].decode("utf-8", "replace"))


def _named(node: "Node") -> "Node | None":
    """Return the node with the name of a node's definition."""
    if node.type == "variable_declarator":  # JavaScript: const f = () => ...
        return node.child_by_field_name("name")
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


def _start_of(node: "Node", wrappers: Sequence["Node"]) -> int:
    """Return where a definition begins, with the nodes around it that belong to it."""
    for wrapper in reversed(wrappers):
        count = wrapper.named_child_count
        inner = range(count) if count <= _MAX_WRAPPED else ()
        if wrapper.type == _ASSIGNMENT:
            inner = range(1)  # a second function of a statement begins at its own name
        if not any(wrapper.named_child(number) == node for number in inner):
            break
        node = wrapper
    return node.start_byte


class _Leading:
    """Comments, attributes and annotations that stand right after each other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = self._end = -1

    def add(self, start: int, end: int) -> None:
        """Add one; places must not decrease."""
        if start < self._end:
            return  # within another
        if self._data.startswith(b"#!") and start == 0:
            return
        if not self._touches(start):
            self._start = start
        self._end = end

    def start_before(self, start: int) -> int:
        """Return the start of those that end right before a place, or the place."""
        return self._start if self._touches(start) else start

    def _touches(self, start: int) -> bool:
        between = self._data[self._end : start] if 0 <= start - self._end <= _MAX_GAP else b"-"
        return self._end >= 0 and not between.strip() and between.count(b"\n") <= 1


def _line_start(data: bytes, place: int) -> int:
    """Return the start of the line if only white space precedes the place, else the place."""
    start = place
    while start and data[start - 1] in b" \t\r":
        start -= 1
    return start if start == 0 or data[start - 1] == ord("\n") else place


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
