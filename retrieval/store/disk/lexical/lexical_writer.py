"""Update the lexical index within the commit that adds or removes passages."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import tantivy

from retrieval.domain.embedded_text import context_line, without
from retrieval.store.disk.files.open_files import library_path
from retrieval.store.disk.files.vector_file import LEXICAL, WrittenFile, describe_file
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
    joined,
    load_state,
    parts_of,
    segment_files,
    segments_of,
)
from retrieval.store.disk.tables.rows import from_json, spans_from_json
from retrieval.store.durable_files import storage_error, sync
from retrieval.store.lexical.folding import identifiers_of, plain_of, words_of

_HEAP_BYTES = 64_000_000
"""Memory that the engine fills before it writes a segment; its minimum is 15 MB."""
_FEW_CHARS = 4 << 20
"""Up to this many characters of new texts, the engine works in memory: its own flushes take longer
than the rest of a small commit."""
_UNMERGED = 7
"""Number of segments that the engine never merges; it does with eight or more of a size."""


class Text(NamedTuple):
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
    texts = texts_of(connection, "pending_texts", "text_id")
    first = next(texts, None)
    if first is None and not gone:
        return
    state = state or LexicalRecord(language, VERSION, "", ())
    texts = chain([first] if first else [], texts)
    record_lexical(connection, extend(folder, state, gone, texts))
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


def texts_of(connection: sqlite3.Connection, table: str, column: str) -> Iterator[Text]:
    """Yield the texts whose ids are in a column of a table, document by document."""
    rows = connection.execute(
        f"""SELECT p.{column}, c.vector_id, c.document_id, d.title, c.heading_path,
                  c.char_start, c.char_end, c.table_header, c.omitted
           FROM {table} p
           JOIN chunks c ON c.id = (SELECT min(id) FROM chunks WHERE text_id = p.{column})
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
        yield Text(text_id, vector_id, header, columns, own)


def extend(
    folder: Path, state: LexicalRecord, gone: Sequence[int], texts: Iterator[Text]
) -> LexicalRecord:
    """Remove texts, add others as new segments, and flush the files to the disk.

    The engine merges segments as it sees fit whenever it commits, which can take long. So it only
    ever sees the new segment here, or few of the others; ``lexical_merge`` merges outside commits.

    Returns:
        the new record of the lexical index.
    """
    first, few = [], 0
    for text in texts:
        first.append(text)
        few += len(text.text)
        if few > _FEW_CHARS:
            break
    try:
        place = _fast_place(folder) if few <= _FEW_CHARS else folder
        state = remove_texts(folder, state, gone, place)
        if first:
            added = replace(parts_of(state), files=()) if state.meta else state
            state = _joined(state, _changed(folder, added, [], chain(first, texts), place))
        sync(folder)
    except (OSError, ValueError) as error:  # the engine raises ValueError for the disk's errors
        raise storage_error(
            f"can't write the lexical index of {folder}: {error}; "
            "what was committed before is untouched",
            error,
        ) from error
    return state


def _fast_place(folder: Path) -> Path:
    """Return a folder in memory where the engine's own flushes cost nothing, if there is one."""
    memory = Path("/dev/shm")  # noqa: S108 -- each use makes a folder of its own
    try:
        free = os.statvfs(memory)
    except OSError:
        return folder
    has_room = free.f_bavail * free.f_frsize > _HEAP_BYTES
    return memory if has_room and os.access(memory, os.W_OK | os.X_OK) else folder


def _joined(first: LexicalRecord, second: LexicalRecord) -> LexicalRecord:
    return joined(first, second) if first.meta else second


def remove_texts(
    folder: Path, state: LexicalRecord, gone: Sequence[int], place: Path
) -> LexicalRecord:
    """Mark texts as removed, and flush the files to the disk; return the new record.

    Raises:
        OSError, ValueError: a file can't be written.
    """
    if not gone:
        return state
    changed = parts_of(state)
    segments = list(segments_of(state.meta))
    for start in range(0, len(segments), _UNMERGED):
        some = segments[start : start + _UNMERGED]
        changed = joined(changed, _changed(folder, parts_of(state, some), gone, iter(()), place))
    return changed


def _changed(
    folder: Path,
    state: LexicalRecord,
    gone: Sequence[int],
    texts: Iterator[Text],
    place: Path,
) -> LexicalRecord:
    """Let the engine change some segments in a folder made in ``place``; return the new record."""
    known = {engine_name(file): file for file in state.files}
    with assembled(folder, state, place) as made:
        change_segments(made, state.language, gone, texts)
        meta = (made / META).read_text()
        names = segment_files(made, meta)
        files = [known.get(name) or _move(made / name, folder) for name in names]
    return LexicalRecord(state.language, state.analysis, meta, files)


def open_engine(place: Path, language: str) -> tantivy.Index:
    """Open or create the engine's index in a folder, with the analyzers of a language.

    Raises:
        ValueError: the engine can't open it.
    """
    with library_path(place) as name:
        index = tantivy.Index(make_schema(), name)
    index.register_tokenizer(WORDS, words_analyzer(language))
    index.register_tokenizer(PLAIN, plain_analyzer())
    index.register_tokenizer(IDENTIFIERS, identifiers_analyzer())
    return index


def change_segments(place: Path, language: str, gone: Sequence[int], texts: Iterator[Text]) -> None:
    """Remove texts from the lexical index in the engine's folder, and add others."""
    index = open_engine(place, language)
    # One thread is enough, because the encoder needs the cores.
    writer = index.writer(_HEAP_BYTES, 1)
    if gone:
        these = tantivy.Query.term_set_query(index.schema, TEXT, list(gone))
        writer.delete_documents_by_query(these)
    for text in texts:
        writer.add_document(_document(text))
    writer.commit()
    writer.wait_merging_threads()


def _document(text: Text) -> tantivy.Document:
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
    final = folder / f"{LEXICAL}{path.name}"
    if path.parent.parent == folder:
        path.rename(final)
    else:
        shutil.copyfile(path, final)
    sync(final)
    return describe_file(final)


def record_lexical(connection: sqlite3.Connection, state: LexicalRecord) -> None:
    """Record the lexical index in the open transaction."""
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
