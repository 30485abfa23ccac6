"""XML: documents such as DocBook, JATS, TEI and DITA, and data with names and values.

A document has text between its tags; elements whose text is mixed with others are paragraphs, and
titles make the sections. Data has a value in each innermost element; each becomes a line with its
name, and attributes follow it. No entity is loaded from elsewhere, and none is expanded in another.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from lxml import etree

from indexer.decoding.decode import decode, decode_labelled, has_mark
from indexer.decoding.labels import codec_of_markup
from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line, title_of, words
from indexer.parse.office.ooxml import local
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

Element = etree._Element

_DECLARED: Final = re.compile(rb"<\?xml\b[^>]{0,100}?\bencoding\s{0,9}=\s{0,9}[\"']([\w.:-]{1,40})")
_DECLARATION_BYTES: Final = 200

_SECTIONS: Final = words(
    """
    abstract acknowledgements ack app appendix article back bibliography body book chapter colophon
    concept conclusion dedication div div1 div2 div3 div4 div5 div6 div7 front glossary index
    legalnotice libretto listBibl part partintro preface qandaset ref-list reference refentry
    refsect1 refsect2 refsect3 refsection sec sect1 sect2 sect3 sect4 sect5 section set simplesect
    sub-article task topic topichead troubleshooting
    """
)
_TITLES: Final = words("article-title head heading refentrytitle title")
_TITLE_HOLDERS: Final = _SECTIONS | words(
    "articleinfo bookinfo chapterinfo info refmeta sectioninfo title-group titleStmt topicmeta"
)
"""Elements whose title is that of a section; others, such as figures, have theirs in the text."""
_PARAGRAPHS: Final = words(
    """
    article-title bibl caption cell citation cmd entry head heading mixed-citation p para phrase
    refentrytitle simpara stentry synopsis td term th title v
    """
)
"""Elements that hold text, even if all of it is in inner elements."""
_BLOCKS: Final = words(
    """
    blockquote bridgehead calloutlist caution code-block codeblock def-list disp-formula disp-quote
    dl epigraph equation example fig figure formalpara glosslist group important informalequation
    informalexample informalfigure informaltable itemizedlist label lg linegroup list list-item
    listitem literallayout mediaobject note ol orderedlist p para procedure programlisting
    programlistingco screen screenshot sidebar simpara simplelist simpletable step substeps table
    table-wrap tip ul variablelist varlistentry verse-group warning
    """
)
"""Elements that are blocks of their own inside a paragraph, too."""
_ITEMS: Final = words("item li list-item listitem member step")
_PREFORMATTED: Final = words(
    "code-block codeblock literallayout pre programlisting preformat screen verse-line"
)
_TABLES: Final = words("informaltable simpletable table tgroup")
_ROWS: Final = words("row sthead strow tr")
_CELLS: Final = words("cell entry stentry td th")
_DROPPED: Final = words("colspec graphic script spanspec style")
_DOCUMENTS: Final = _SECTIONS | words("TEI dita html map svg teiCorpus")
"""Elements that begin a document."""

_TITLE_FIELDS: Final = ("title", "name", "headline", "subject", "label", "id", "key")
_MAX_SPAN: Final = 100
"""A cell over more columns is repeated so often."""


class _Event(NamedTuple):
    kind: Literal["start", "text", "end"]
    node: Element
    text: str = ""


def parse_xml_document(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of an XML file.

    Malformed XML is read as far as it can be; the metadata ``unread`` names the line of the first
    error.

    Raises:
        SkipDocument: the file is not XML.
    """
    text, encoding = _decode(data, encoding)
    composer = Composer()
    with parser_errors_as_damage():
        root = _tree(text, composer)
        entities = _entities(root)
        if _is_document(root):
            _Writer(composer).write(root, entities)
            title = ""
        else:
            title = _title(root)
            _add_data(composer, root, entities)
            title = title or title_of(uri)
    return composer.document(uri, "xml", [title], encoding=encoding)


def _decode(data: bytes, encoding: str) -> tuple[str, str]:
    """Return the text and its encoding, by the declaration if there is one."""
    declared = None if has_mark(data) else _DECLARED.match(data[:_DECLARATION_BYTES].lstrip())
    if declared:
        codec = codec_of_markup(declared[1].decode("ascii", "replace"))
        if decoded := decode_labelled(data, codec):
            return decoded
    return decode(data, encoding)


def _tree(text: str, composer: Composer) -> Element:
    """Return the root element; note in the composer where it is malformed.

    Raises:
        SkipDocument: nothing of it is XML.
        etree.XMLSyntaxError: the same.
    """
    source = text.lstrip().encode("utf-8", "replace")
    for recover in (False, True):
        parser = etree.XMLParser(
            encoding="utf-8",
            recover=recover,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            root = etree.fromstring(source, parser)
        except etree.XMLSyntaxError as error:
            if recover:
                raise
            composer.unread(f"what is malformed in line {error.lineno}")
            # The parser recovers from it, but drops the text before.
            if b"<![CDATA[" not in source:
                source = source.replace(b"]]>", b"]]&gt;")
            continue
        if root is None:
            break
        return root
    raise SkipDocument(SkipReason.DAMAGED, "not XML")


def _entities(root: Element) -> Mapping[str, str]:
    """Return the texts of the entities that the file declares, without those in them."""
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is None:
        return {}
    return {
        str(entity.name): html.unescape(re.sub(r"<[^<>]*+>", "", entity.content))
        for entity in dtd.iterentities()  # type: ignore[attr-defined]  # lxml-stubs lack it
        if entity.name and entity.content
    }


def _meaning(entity: Element, entities: Mapping[str, str]) -> str:
    """Return the text of a reference; unknown ones stay as they are."""
    reference = entity.text or ""
    return entities.get(reference[1:-1]) or html.unescape(reference)


def _events(root: Element, entities: Mapping[str, str]) -> Iterator[_Event]:
    """Yield the starts and ends of elements, and the texts between them, in order."""
    pending: list[tuple[Element, bool]] = [(root, False)]
    while pending:
        node, ends = pending.pop()
        if ends:
            yield _Event("end", node)
        elif isinstance(node.tag, str):
            yield _Event("start", node)
            if node.text:
                yield _Event("text", node, node.text)
            pending.append((node, True))
            pending += [(child, False) for child in reversed(node)]
            continue
        elif node.tag is etree.Entity:
            parent = node.getparent()
            yield _Event("text", node if parent is None else parent, _meaning(node, entities))
        parent = node.getparent()
        if node.tail and node is not root and parent is not None:
            yield _Event("text", parent, node.tail)


def _is_document(root: Element) -> bool:
    """Whether the text is mixed with elements, or the names are those of documents."""
    if local(root) in _DOCUMENTS:
        return True
    for node in root.iter():
        if not isinstance(node.tag, str):
            continue
        if local(node) in ("p", "para"):
            return True
        if len(node) and _has_text(node) and any(isinstance(one.tag, str) for one in node):
            return True
    return False


def _has_text(node: Element) -> bool:
    """Whether an element has text of its own, beside that of its children."""
    texts = (node.text, *(child.tail for child in node))
    return any(text and not text.isspace() for text in texts)


class _Writer:
    """Writes a document's text: blocks, headings and tables."""

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.words: list[str] = []
        """Parts of the present block."""
        self.flows: list[bool] = []
        """For each open element, whether inner elements belong to its paragraph."""
        self.level = self.preformatted = self.dropped = self.tables = 0
        self.mark = ""
        self.rows: list[list[str]] = []
        self.header_rows = 0
        self.in_header = False

    def write(self, root: Element, entities: Mapping[str, str]) -> None:
        """Write everything in an element."""
        for event in _events(root, entities):
            if event.kind == "text":
                if not self.dropped:
                    self.words.append(event.text)
            elif event.kind == "start":
                self._start(event.node, local(event.node))
            else:
                self._end(event.node, local(event.node))
        self._flush()

    def _is_block(self, name: str) -> bool:
        """Whether an element inside the present one is a block."""
        return not (self.flows and self.flows[-1]) or name in _BLOCKS or name in _SECTIONS

    def _start(self, node: Element, name: str) -> None:
        block = self._is_block(name)
        if block and not self.preformatted:
            self._flush()
        parent_flows = bool(self.flows and self.flows[-1])
        self.flows.append(name in _PARAGRAPHS or (not block and parent_flows) or _has_text(node))
        self.level += name in _SECTIONS
        self.preformatted += name in _PREFORMATTED
        self.dropped += name in _DROPPED
        if name in _ITEMS:
            self.mark = "- "
        if name in _TABLES:
            self.tables += 1
        elif self.tables:
            self.in_header |= name in ("thead", "sthead")
            if name in _ROWS and block:
                self.rows.append([])

    def _end(self, node: Element, name: str) -> None:
        self.flows.pop()
        block = self._is_block(name)
        if name in _TITLES and _is_heading(node) and not self.dropped:
            self._heading(self._take())
        elif name in _CELLS and self.tables and self.rows:
            text = self._take()
            span = _span(node)
            self.rows[-1] += [text] * span
        elif block and (not self.preformatted or name in _PREFORMATTED):
            self._flush()
        self.level -= name in _SECTIONS
        self.preformatted -= name in _PREFORMATTED
        self.dropped -= name in _DROPPED
        if name in _TABLES:
            self.tables -= 1
            if not self.tables:
                self._table()
        elif self.tables:
            if name in _ROWS and self.in_header:
                self.header_rows = len(self.rows)
            if name in ("thead", "sthead"):
                self.in_header = False

    def _heading(self, title: str) -> None:
        if self.tables:
            self.composer.add(title)
        else:
            self.composer.add_heading(max(1, self.level), title)

    def _table(self) -> None:
        self.composer.add_table(self.rows, self.header_rows)
        self.rows, self.header_rows, self.in_header = [], 0, False

    def _take(self) -> str:
        """Return the present block, and begin another."""
        text = "".join(self.words)
        self.words = []
        return text if self.preformatted else " ".join(text.split())

    def _flush(self) -> None:
        """Add the present block; the blocks of a cell stay together."""
        if self.tables and self.rows:
            if self.words and not self.words[-1].isspace():
                self.words.append(" ")
            return
        text = self._take()
        if text and not text.isspace():
            self.composer.add(self.mark + text, 1 if self.mark else 2)
            self.mark = ""


def _is_heading(node: Element) -> bool:
    parent = node.getparent()
    return parent is not None and local(parent) in _TITLE_HOLDERS


def _span(node: Element) -> int:
    """Return the number of columns of a cell."""
    columns = node.get("colspan") or node.get("cols") or ""
    return min(int(columns), _MAX_SPAN) if columns.isdecimal() and int(columns[:6]) > 0 else 1


def _add_data(composer: Composer, root: Element, entities: Mapping[str, str]) -> None:
    """Add the values of an element, a line each; the elements in the root are sections."""
    names = Counter(local(child) for child in root if isinstance(child.tag, str))
    numbers: Counter[str] = Counter()
    for node in root.iter():
        if not isinstance(node.tag, str):
            continue
        name = local(node)
        line_ends = 1
        is_holder = any(isinstance(child.tag, str) for child in node)
        if node.getparent() is root and is_holder:
            numbers[name] += 1
            number = f" {numbers[name]}" if names[name] > 1 else ""
            composer.begin_section(1, _title(node) or name + number)
            line_ends = 2
        elif is_holder:
            line_ends = 2
        text = "" if is_holder else " ".join(_own_text(node, entities).split())
        parts = [f"{name}: {text}" if text else name]
        parts += [f"{_unqualified(key)}: {value!s}" for key, value in node.attrib.items() if value]
        if len(parts) > 1 or text or not is_holder:
            composer.add(" | ".join(" ".join(part.split()) for part in parts), line_ends)
        elif is_holder and node is not root:
            composer.add(name, line_ends)


def _unqualified(name: str | bytes) -> str:
    return str(name).rpartition("}")[2]


def _own_text(node: Element, entities: Mapping[str, str]) -> str:
    parts = [node.text or ""]
    for child in node:
        if child.tag is etree.Entity:
            parts.append(_meaning(child, entities))
        parts.append(child.tail or "")
    return "".join(parts)


def _title(node: Element) -> str:
    """Return the title of a record: an inner element or an attribute of a customary name."""
    fields = {_unqualified(key): str(value) for key, value in node.attrib.items()}
    for child in node:
        if isinstance(child.tag, str) and not len(child):
            fields.setdefault(local(child), child.text or "")
    return next((one_line(fields[name]) for name in _TITLE_FIELDS if fields.get(name)), "")
