"""Texts for the lexical index, and which of them a commit adds or removes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from retrieval.domain.embedded_text import context_line, without
from retrieval.store.disk.lexical.lexical_writer import Text
from retrieval.store.disk.tables.rows import from_json, spans_from_json
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.keyed import Ids, Keyed
from retrieval.store.lake.tables.records import RECORD
from retrieval.store.lake.tables.schema import CHUNKS, DOCUMENTS, SCHEMAS, TEXTS


def changed_uses(users: Keyed, gone: Ids, new: Ids) -> tuple[Ids, Ids]:
    """Return which ids lose their last passage, and which get their first one.

    Args:
        users: the passages by id, before the change.
        gone: the ids of the passages that go; one that occurs twice goes twice.
        new: the ids of new passages.
    """
    left, counts = np.unique(gone, return_counts=True)
    used = np.unique(new)
    lost = left[users.counts(left) == counts]
    gained = used[users.counts(used) == 0]
    return np.setdiff1d(lost, used), gained


def stored_texts(base: Generation, wanted: set[int], dropped: Collection[int]) -> Iterator[Text]:
    """Yield stored texts, each once, document by document.

    Args:
        base: the generation to read.
        wanted: ids of the texts.
        dropped: ids of documents that go.
    """
    left = set(wanted)
    columns = [name for name in SCHEMAS[CHUNKS].names if name not in ("header", "digest", RECORD)]
    ids = base.numbers(DOCUMENTS, "id")
    titles = base.column(DOCUMENTS, "title")
    for row, document_id in enumerate(ids.tolist()):
        if document_id in dropped:
            continue
        passages = base.passages_of(document_id)
        if not left.intersection(base.places.texts[passages].tolist()):
            continue
        text = _whole_text(base, document_id)
        for chunk in base.take(CHUNKS, passages, columns).to_pylist():
            if chunk["text_id"] in left:
                left.remove(chunk["text_id"])
                yield text_of(chunk, titles[row].as_py(), text)


def text_of(row: Mapping[str, Any], title: str, text: str) -> Text:
    """Return the text of a passage.

    Args:
        row: its row in the table of chunks.
        title: title of its document.
        text: whole text of its document.
    """
    own = text[row["char_start"] : row["char_end"]]
    return Text(
        row["text_id"],
        row["vector_id"],
        context_line(title, from_json(row["heading_path"])),
        row["table_header"],
        without(own, spans_from_json(row["omitted"])),
    )


def _whole_text(base: Generation, document_id: int) -> str:
    rows = base.text_rows.rows(document_id)
    parts = base.take(TEXTS, rows, ["part", "text"]).sort_by("part")
    return "".join(parts.column("text").to_pylist())
