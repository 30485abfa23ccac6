"""Update the lexical index within the commit that adds or removes passages."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import tantivy

from retrieval.domain.embedded_text import context_line, without
from retrieval.errors import StorageError
from retrieval.store.disk.files.open_files import library_path
from retrieval.store.disk.files.vector_file import LEXICAL, WrittenFile, describe_file, sync
from retrieval.store.disk.lexical.analysis import (
    VERSION,
    identifiers_analyzer,
    plain_analyzer,
    words_analyzer,
)
from retrieval.store.disk.lexical.lexical_index import (
    IDENTIFIERS,
    PLAIN,
    PLAIN_TITLE,
    TEXT,
    TITLE,
    VECTOR,
    WORDS,
    make_schema,
)
from retrieval.store.disk.lexical.segment_files import (
    META,
    LexicalRecord,
    assembled,
    engine_name,
    load_state,
    segment_files,
)
from retrieval.store.disk.tables.rows import from_json, spans_from_json
from retrieval.store.lexical.folding import identifiers_of, plain_of, words_of

_HEAP_BYTES = 64_000_000
"""Memory that the engine fills before it writes a segment; its minimum is 15 MB."""


class _Text(NamedTuple):
    """A text to index."""

    text_id: int
    vector_id: int
    header: str
    """Title and headings."""
    table_header: str
    text: str
    """The passage's own text, without what is omitted."""


def update_lexical(folder: Path, connection: sqlite3.Connection, language: str) -> None:
    """Update the lexical index to match the passages, within the open transaction.

    Args:
        folder: the index.
        connection: connection in a write transaction.
        language: a key of ``LANGUAGES``, or ``NO_LANGUAGE``. A lexical index made for another
            language is rebuilt.

    Raises:
        StorageError: the lexical index can't be written.
    """
    state = load_state(connection)
    if state is not None and (state.language, state.analysis) != (language, VERSION):
        forget_lexical(connection)
        state = None
    gone = _gone(connection) if state else []
    connection.execute("DELETE FROM texts WHERE id IN (SELECT text_id FROM unused_texts)")
    texts = _pending(connection)
    first = next(texts, None)
    if first is None and not gone:
        return
    state = state or LexicalRecord(language, VERSION, "", ())
    _record(connection, _extend(folder, state, gone, chain([first] if first else [], texts)))
    connection.execute("DELETE FROM pending_texts")


def forget_lexical(connection: sqlite3.Connection) -> None:
    """Mark the lexical index to be rebuilt from all passages at the end of this transaction."""
    connection.execute("DELETE FROM lexical_index")
    connection.execute("DELETE FROM lexical_files")
    connection.execute("INSERT OR IGNORE INTO pending_texts SELECT id FROM texts")


def lexical_is_due(connection: sqlite3.Connection, language: str) -> bool:
    """Whether the lexical index must be updated, or rebuilt for another language or version."""
    row = connection.execute("SELECT language, analysis FROM lexical_index").fetchone()
    if row is not None and tuple(row) != (language, VERSION):
        return True
    due = "SELECT EXISTS (SELECT 1 FROM pending_texts) OR EXISTS (SELECT 1 FROM unused_texts)"
    return bool(connection.execute(due).fetchone()[0])


def _gone(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of texts in the lexical index that no passage has any more."""
    rows = connection.execute(
        "SELECT text_id FROM unused_texts EXCEPT SELECT text_id FROM pending_texts"
    )
    return [row[0] for row in rows]


def _pending(connection: sqlite3.Connection) -> Iterator[_Text]:
    """Yield the texts to add to the lexical index, document by document."""
    rows = connection.execute(
        """SELECT p.text_id, c.vector_id, c.document_id, d.title, c.heading_path,
                  c.char_start, c.char_end, c.table_header, c.omitted
           FROM pending_texts p
           JOIN chunks c ON c.id = (SELECT min(id) FROM chunks WHERE text_id = p.text_id)
           JOIN documents d ON d.id = c.document_id ORDER BY c.document_id, c.ordinal"""
    )
    last, text = 0, ""
    for text_id, vector_id, document_id, title, heading_path, start, end, columns, omitted in rows:
        if document_id != last:
            parts = connection.execute(
                "SELECT text FROM document_texts WHERE document_id = ? ORDER BY part",
                [document_id],
            )
            last, text = document_id, "".join(row[0] for row in parts)
        header = context_line(title, from_json(heading_path))
        own = without(text[start:end], spans_from_json(omitted))
        yield _Text(text_id, vector_id, header, columns, own)


def _extend(
    folder: Path, state: LexicalRecord, gone: Sequence[int], texts: Iterator[_Text]
) -> LexicalRecord:
    """Remove texts, add others as new segments, and flush the files to the disk.

    The engine also merges small segments. It rewrites each text only a few times, no matter how
    many commits there are.

    Returns:
        the new record of the lexical index.
    """
    known = {engine_name(file): file for file in state.files}
    try:
        with assembled(folder, state, folder) as place:
            _write(place, state.language, gone, texts)
            meta = (place / META).read_text()
            names = segment_files(place, meta)
            files = [known.get(name) or _move(place / name, folder) for name in names]
            sync(folder)
    except (OSError, ValueError) as error:  # the engine raises ValueError for the disk's errors
        raise StorageError(
            f"can't write the lexical index of {folder}: {error}; "
            "what was committed before is untouched"
        ) from error
    return LexicalRecord(state.language, state.analysis, meta, files)


def _write(place: Path, language: str, gone: Sequence[int], texts: Iterator[_Text]) -> None:
    """Remove texts from the lexical index in the engine's folder, and add others."""
    schema = make_schema()
    with library_path(place) as name:
        index = tantivy.Index(schema, name)
    index.register_tokenizer(WORDS, words_analyzer(language))
    index.register_tokenizer(PLAIN, plain_analyzer())
    index.register_tokenizer(IDENTIFIERS, identifiers_analyzer())
    # One thread is enough, because the encoder needs the cores.
    writer = index.writer(_HEAP_BYTES, 1)
    if gone:
        these = tantivy.Query.term_set_query(schema, TEXT, list(gone))
        writer.delete_documents_by_query(these)
    for text in texts:
        writer.add_document(_document(text))
    writer.commit()
    writer.wait_merging_threads()


def _document(text: _Text) -> tantivy.Document:
    parts = (text.header, text.table_header, text.text)
    whole = "\n".join(filter(None, parts))
    fields = {
        WORDS: words_of(whole),
        TITLE: words_of(text.header),
        PLAIN: plain_of(*filter(None, parts)),
        PLAIN_TITLE: plain_of(text.header),
        IDENTIFIERS: identifiers_of(whole),
    }
    document = tantivy.Document()
    for field, content in fields.items():
        document.add_text(field, content)
    document.add_unsigned(TEXT, text.text_id)
    document.add_unsigned(VECTOR, text.vector_id)
    return document


def _move(path: Path, folder: Path) -> WrittenFile:
    """Move a file from the engine's folder into the index and flush it to the disk."""
    sync(path)
    return describe_file(path.rename(folder / f"{LEXICAL}{path.name}"))


def _record(connection: sqlite3.Connection, state: LexicalRecord) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO lexical_index VALUES (1, ?, ?, ?, ?)",
        [
            *(state.language, state.analysis, state.meta),
            hashlib.sha256(state.meta.encode()).hexdigest(),
        ],
    )
    kept = {file.name for file in state.files}
    for (name,) in connection.execute("SELECT file FROM lexical_files").fetchall():
        if name not in kept:
            connection.execute("DELETE FROM lexical_files WHERE file = ?", [name])
    connection.executemany(
        "INSERT OR IGNORE INTO lexical_files VALUES (?, ?, ?, ?)",
        ((file.name, file.size, file.sha256, file.sample) for file in state.files),
    )
