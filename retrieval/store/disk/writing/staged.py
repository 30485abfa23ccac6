"""Documents and chunks ready to be committed, and the rows that they become."""

import json
from dataclasses import asdict
from functools import lru_cache

from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.disk.tables.rows import DOCUMENT_COLUMNS, document_digest
from retrieval.store.records import StagedChunk, StagedDocument


def document_row(staged: StagedDocument) -> dict[str, str | int | bytes]:
    """A document's columns but for its id, its digest among them."""
    document, source = staged.document, staged.source
    row: dict[str, str | int] = {
        "uri": document.uri,
        "root": source.root,
        "path": filter_path(document.uri),
        "extension": filter_extension(document.uri),
        "title": document.title,
        "format": document.format,
        "encoding": document.encoding,
        "metadata": json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False),
        **asdict(source.stamp),
        "sha256": staged.sha256,
        "char_count": len(document.text),
        "chunk_count": len(staged.chunks),
    }
    digest = document_digest(*(row[column] for column in DOCUMENT_COLUMNS))
    return {**row, "digest": digest}


def chunk_row(staged: StagedChunk) -> tuple[int | str, ...]:
    """A chunk's columns, from its ordinal on."""
    chunk = staged.chunk
    return (
        chunk.ordinal,
        staged.vector_id,
        chunk.char_start,
        chunk.char_end,
        chunk.line_start,
        chunk.line_end,
        _heading_json(chunk.heading_path),
        chunk.token_count,
        chunk.page_start,
        chunk.page_end,
    )


@lru_cache(maxsize=256)  # the chunks of a section share it
def _heading_json(heading_path: tuple[str, ...]) -> str:
    return json.dumps(heading_path, ensure_ascii=False)
