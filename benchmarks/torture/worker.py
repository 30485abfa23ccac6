"""The process that ``torture`` kills: runs one task after another, each a line of JSON on stdin.

Exits with code 3 on one of the project's own errors, where a command would exit with 1 or 2.
"""

import errno
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.build.build import build as run_build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.domain.passages import Hit
from retrieval.encoding.encoder import Encoder
from retrieval.errors import RetrievalError
from retrieval.store import (
    Reader,
    TextKey,
    open_reader,
    open_writer,
    read_info,
    remove_documents,
    verify,
)
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.writing import maintenance

DIM = 64


class Tasks:
    """The tasks; each may name another index than the default one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ready(self, _index: Path) -> None:
        """Do nothing; the answer says that the imports are done."""

    def build(self, index: Path, fail_flush: int = 0, choice: float = 0.0) -> None:  # noqa: ARG002
        """Build an index; one flush may be refused."""
        if fail_flush:
            refuse_flush(fail_flush)
        model = str(self._folder / "model")
        docs = [self._folder / "docs"]
        run_build(BuildOptions(docs, index, model, chunk_tokens=24), SilentProgress())

    def remove(self, index: Path, choice: float) -> None:
        """Remove one document."""
        with open_reader(index) as reader:
            rows = reader.documents(1000)
        remove_documents(index, [rows[int(choice * len(rows))].uri])

    def compact(self, index: Path, choice: float = 0.0) -> None:  # noqa: ARG002
        """Compact the index."""
        with open_writer(index) as writer:
            writer.compact()

    def check(self, index: Path) -> dict[str, Any]:
        """Verify the index; return what is wrong, and the texts that have vectors."""
        try:
            generation = read_info(index).generation
        except RetrievalError:
            generation = 0  # no commit yet
        if not generation:
            return {"generation": 0, "problems": [], "keys": []}
        with closing(sqlite3.connect(index / "index.db")) as connection:
            rows = connection.execute("SELECT content_key FROM vectors").fetchall()
        problems = [f"{problem.file}: {problem.what}" for problem in verify(index)]
        keys = [row[0].hex() for row in rows]
        return {"generation": generation, "problems": problems, "keys": keys}

    def compare(self, index: Path) -> None:
        """Compare documents, chunks, vectors and words of an index with the default one."""
        mine, other = contents(self._folder / "index"), contents(index)
        if mine.keys() != other.keys():
            raise AssertionError("other documents or chunks than in an undisturbed build")
        for key, (text, start, vector) in mine.items():
            same = (text, start) == other[key][:2]
            if not same or not np.allclose(vector, other[key][2], atol=1e-4):
                raise AssertionError(f"chunk {key} differs from that of an undisturbed build")
        queries = [" ".join(text.split()[:4]) for text, _, _ in list(mine.values())[::7]]
        for query, one, two in zip(
            queries,
            found_by(self._folder / "index", queries),
            found_by(index, queries),
            strict=True,
        ):
            if one != two or not one:
                raise AssertionError(f"{query!r} finds others than in an undisturbed build")

    def answer(self, index: Path) -> dict[str, Any]:
        """Return the results of some searches, or the error."""
        queries = np.random.default_rng(0).normal(size=(20, DIM)).astype(np.float32)
        try:
            with open_reader(index) as reader:
                words = reader.search_lexical("build index search text file", 20)
                return {
                    "answers": [shown(reader, query) for query in queries],
                    "words": [words.vector_ids.tolist(), words.scores.tolist()],
                }
        except RetrievalError as error:
            return {"error": error.message}


def shown(reader: Reader, query: NDArray[np.float32]) -> list[tuple[float, str]]:
    """Return the scores of one search, and all fields of each passage."""
    hits = reader.search_vectors(query[None], 10)
    ids = hits.vector_ids[0].tolist()
    places = reader.first_places([[TextKey(one, 0)] for one in ids], reader.info.chunks)
    found = [
        Hit(round(float(score), 4), *place, vector_id)
        for vector_id, (standing,), score in zip(ids, places, hits.scores[0], strict=True)
        for place in standing
    ]
    return [(passage.score, repr(passage)) for passage in reader.passages(found)]


def found_by(index: Path, queries: Sequence[str]) -> list[set[str]]:
    """Return the texts that contain any of the words of each query."""
    with open_reader(index) as reader:
        texts = []
        for query in queries:
            hits = reader.search_lexical(query, 100_000)
            keys = map(TextKey, hits.vector_ids.tolist(), hits.text_ids.tolist())
            places = reader.first_places([[key] for key in keys], 1)
            texts.append({reader.passage(*standing[0]).text for (standing,) in places})
        return texts


def contents(index: Path) -> dict[tuple[str, int], tuple[str, int, NDArray[np.float32]]]:
    """Return every chunk of an index: its text, its start, its vector."""
    found = {}
    with open_reader(index) as reader:
        for document in reader.documents(100_000):
            for ordinal in range(document.chunk_count):
                passage = reader.passage(document.id, ordinal)
                vector = reader.passage_vector(document.id, ordinal)
                found[document.uri, ordinal] = (passage.text, passage.char_start, vector)
    return found


def refuse_flush(call: int) -> None:
    """Make the n-th flush of a vector file or its folder fail."""
    fsync, count = os.fsync, 0

    def refuse(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    vector_file.os.fsync = refuse  # type: ignore[attr-defined]


def log_embedding(path: Path) -> None:
    """Log every text before it is embedded."""
    embed = Encoder.embed

    def noted(self: Encoder, texts: list[str], *arguments: Any, **more: Any) -> Any:
        with path.open("a") as file:
            file.writelines(f"{hashlib.sha256(text.encode()).hexdigest()}\n" for text in texts)
        return embed(self, texts, *arguments, **more)

    Encoder.embed = noted  # type: ignore[assignment,method-assign]


def main() -> None:
    """Run the tasks on standard input until it ends."""
    folder = Path(sys.argv[1])
    # Small enough that merging, indexing and compaction happen all the time.
    maintenance.MAX_SMALL_SEGMENTS = 3
    maintenance.MIN_ANN_ROWS = maintenance.EXACT_ROWS = 100
    log_embedding(folder / "embedded")
    tasks = Tasks(folder)
    for line in sys.stdin:
        arguments = json.loads(line)
        task: Callable[..., Any] = getattr(tasks, arguments.pop("task"))
        index = Path(arguments.pop("index", folder / "index"))
        try:
            result = task(index, **arguments)
        except RetrievalError as error:
            sys.exit(_refused(error))
        print(json.dumps({} if result is None else result), flush=True)


def _refused(error: RetrievalError) -> int:
    print(error.message, file=sys.stderr)
    return 3


if __name__ == "__main__":
    main()
