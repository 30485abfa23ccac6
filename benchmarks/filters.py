"""What filters cost at a million documents, and what searches beside a heavy one feel of it.

    python -m benchmarks.filters [--documents 1000000] [--index DIR] [--seconds 10]

The index is synthetic and made in a few minutes: a document for each vector (64 dimensions), with
seven values of metadata. Rows are written in bulk, and the vectors stand for no text, so that the
index answers dense searches only. ``--index`` keeps it for the next run. Each filter is measured in
a reader that has not seen it: from its text to the set of vectors that may be found.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.synthetic import Source
from retrieval.records import ChunkSettings, ModelIdentity
from retrieval.store import IndexWriter
from retrieval.store.filter_functions import filter_extension, filter_path
from retrieval.store.filter_values import value_rows

DIM = 64
ROWS = 50_000
"""Documents written at a time."""
DAY_NS = 86_400 * 10**9


def metadata(number: int) -> dict[str, Any]:
    """The fields of a document."""
    return {
        "owner": f"u{number % 1000}",
        "team": f"t{number % 10}",
        "n": number,
        "day": f"20{number % 25:02}-{number % 12 + 1:02}-{number % 28 + 1:02}",
        "kind": "note",
        "ratio": number % 997 / 997,
        "label": f"{hashlib.md5(b'%d' % number).hexdigest()[:12]}",
    }


def uri(number: int) -> str:
    """A document's place."""
    return f"docs/{number % 100}/{number}.{'md' if number % 4 else 'txt'}"


def build(folder: Path, documents: int) -> None:
    """Make the index."""
    source = Source(DIM, 0)
    identity = ModelIdentity("none", "folder", "/", "", "0" * 64, DIM, 512, "float32")
    with IndexWriter.open(folder) as writer:
        writer.set_model(identity, ChunkSettings(512, 0), "none")
        with writer.commit() as commit:
            commit.set_index_type("auto", 0.98)
        for first in range(0, documents, ROWS):
            numbers = range(first, min(first + ROWS, documents))
            with writer.commit() as commit:
                keys = [hashlib.sha256(f"{number}".encode()).digest() for number in numbers]
                vectors = source.vectors(len(numbers))
                ids = commit.add_vectors(keys, vectors, [False] * len(numbers))
                write = commit._connection.executemany
                for statement, rows in tables(numbers, ids):
                    write(statement, rows)
                commit._connection.execute("DELETE FROM pending_texts")


def tables(numbers: range, vector_ids: list[int]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Statements that write documents, and their rows."""
    yield (
        "INSERT INTO documents (id, uri, path, root, extension, title, format, encoding, metadata, "
        "size, mtime_ns, sha256, char_count, chunk_count) "
        "VALUES (?, ?, ?, 'docs', ?, ?, ?, 'utf-8', ?, ?, ?, '', 9, 1)",
        (
            (
                n + 1,
                uri(n),
                filter_path(uri(n)),
                filter_extension(uri(n)),
                f"Title {n}",
                "markdown" if n % 4 else "text",
                "{" + " " * 150 + "}",
                n % 5000,
                n * DAY_NS // 100,
            )
            for n in numbers
        ),
    )
    yield (
        "INSERT INTO metadata_values VALUES (?, ?, ?, ?, ?, ?)",
        ((n + 1, *row) for n in numbers for row in value_rows(metadata(n))),
    )
    yield (
        "INSERT INTO texts (id, vector_id, header) VALUES (?, ?, x'')",
        zip((n + 1 for n in numbers), vector_ids, strict=True),
    )
    yield (
        "INSERT INTO chunks (document_id, ordinal, vector_id, text_id, char_start, char_end, "
        "line_start, line_end, heading_path, token_count) VALUES (?, 0, ?, ?, 0, 9, 1, 1, '[]', 3)",
        ((n + 1, vector, n + 1) for n, vector in zip(numbers, vector_ids, strict=True)),
    )


if __name__ == "__main__":
    import sys

    t = time.time()
    build(Path(sys.argv[1]), int(sys.argv[2]))
    print(time.time() - t)
