"""Jupyter notebooks (nbformat 3 and 4): text and code cells as one Markdown text."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from indexer.decoding.decode import decode
from indexer.parse.base.compose import Composer
from indexer.parse.markup.markdown import parse_markdown_text
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_FENCE: Final = re.compile(r"^\s*(`{3,})", re.MULTILINE)


def parse_notebook(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a notebook; code is fenced, and its output is left out.

    Raises:
        SkipDocument: the file is not a notebook.
    """
    source, encoding = decode(data, encoding)
    with parser_errors_as_damage():
        notebook = json.loads(source)
        if not isinstance(notebook, dict):
            raise SkipDocument(SkipReason.DAMAGED, "not a notebook")
        language = _language(notebook)
        composer = Composer()
        for kind, text in _cells(notebook):
            if kind == "code":
                longest = max((len(fence) for fence in _FENCE.findall(text)), default=2)
                fence = "`" * (longest + 1)
                composer.add(f"{fence}{language}\n{text}\n{fence}" if text.strip() else "")
            else:
                composer.add(text)
    text = composer.document(uri, "notebook").text
    return parse_markdown_text(uri, text, encoding, "notebook")


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    name = info.get("name") if isinstance(info, dict) else None
    return name if isinstance(name, str) and name.isidentifier() else ""


def _cells(notebook: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each cell."""
    sheets = notebook.get("worksheets")
    for part in sheets if isinstance(sheets, list) else [notebook]:
        for cell in part["cells"]:
            kind = cell["cell_type"]
            source = cell.get("source", cell.get("input", ""))
            text = "".join(source) if isinstance(source, list) else str(source)
            if kind == "heading":  # of nbformat 3
                text = "#" * int(cell.get("level", 1)) + " " + text
            yield kind, text
