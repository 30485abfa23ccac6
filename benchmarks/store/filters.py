"""What filters cost at a million documents, and how a heavy filter slows other searches down.

    python -m benchmarks.store.filters [--documents 1000000] [--index DIR] [--seconds 10]

The index is synthetic: one document with one passage for each vector (64 dimensions), with seven
values of metadata, written in bulk in a few minutes, and searched by vectors alone. ``--index``
keeps it for the next run. Each filter is measured from its text to the sets of eligible vectors and
texts: first in a reader that has just been opened, then in one that has all passages in memory (the
best of three). CPU is the time of the thread, which other programs hardly influence.

Then a server answers unfiltered searches, alone and beside clients that keep sending new filters.
"""

import argparse
import hashlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.beir import BIN
from benchmarks.common.synthetic import Source
from benchmarks.service.peers import free_port
from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError
from retrieval.store import Reader, open_reader, open_writer, parse_filter
from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.filters.values import value_rows
from tests.tiny_model import make_tiny_model

DIM = 64
ROWS = 50_000
"""Documents written in one statement."""
DAY_NS = 86_400 * 10**9
VALUES = 10_000
"""Number of values in an ``IN`` list."""
_SPACES = count(1)


def metadata(number: int) -> dict[str, Any]:
    """Return the metadata of a document."""
    return {
        "owner": f"u{number % 1000}",
        "team": f"t{number % 10}",
        "n": number,
        "day": f"20{number % 25:02}-{number % 12 + 1:02}-{number % 28 + 1:02}",
        "kind": "note",
        "ratio": number % 997 / 997,
        "label": label(number),
    }


def label(number: int) -> str:
    """Return a pseudo-random text."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:12]


def uri(number: int) -> str:
    """Return the URI of a document."""
    return f"docs/{number % 100}/{number}.{'md' if number % 4 else 'txt'}"


def build(folder: Path, documents: int) -> None:
    """Make the index: one document as usual, to set the model, and the others in bulk."""
    model = make_tiny_model(folder.with_suffix(".model"))
    first = folder.with_suffix(".docs")
    first.mkdir()
    (first / "first.md").write_text("The first document.")
    command = [str(BIN / "indexer"), "build", str(first), "--index", str(folder)]
    subprocess.run([*command, "--model", str(model), "--context", "none"], check=True)
    source = Source(DIM, 0)
    with open_writer(folder) as writer:
        for start in range(2, documents + 2, ROWS):
            numbers = range(start, min(start + ROWS, documents + 2))
            with writer.commit() as commit:
                keys = [hashlib.sha256(f"{number}".encode()).digest() for number in numbers]
                vectors = source.vectors(len(numbers))
                ids = commit.add_vectors(keys, vectors, [False] * len(numbers))
                for statement, rows in tables(numbers, ids):
                    commit._connection.executemany(statement, rows)
                commit._connection.execute("DELETE FROM pending_texts")


def tables(numbers: range, vector_ids: list[int]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield the statements that write documents, with their rows."""
    yield (
        "INSERT INTO documents (id, uri, path, root, extension, title, format, encoding, metadata, "
        "size, mtime_ns, sha256, char_count, chunk_count) "
        "VALUES (?, ?, ?, 'docs', ?, ?, ?, 'utf-8', '{}', ?, ?, '', ?, 1)",
        (
            (
                number,
                uri(number),
                filter_path(uri(number)),
                filter_extension(uri(number)),
                f"Title {number}",
                "markdown" if number % 4 else "text",
                number % 5000,
                number * DAY_NS // 100,
                len(str(number)),
            )
            for number in numbers
        ),
    )
    yield (
        "INSERT INTO metadata_values VALUES (?, ?, ?, ?, ?, ?)",
        ((number, *row) for number in numbers for row in value_rows(metadata(number))),
    )
    yield "INSERT INTO document_texts VALUES (?1, 0, ?1)", ((number,) for number in numbers)
    pairs = list(zip(numbers, vector_ids, strict=True))
    yield "INSERT INTO texts (id, vector_id, header) VALUES (?, ?, x'')", iter(pairs)
    yield (
        "INSERT INTO chunks (document_id, ordinal, vector_id, text_id, char_start, char_end, "
        "line_start, line_end, heading_path, token_count) "
        "VALUES (?1, 0, ?2, ?1, 0, length(?1), 1, 1, '[]', 3)",
        iter(pairs),
    )


def filters(documents: int) -> dict[str, str]:
    """Yield the filters to measure: a name, and a new filter."""
    listed = range(0, documents, max(1, documents // VALUES))[:VALUES]
    return {
        "equality, 0.1 %": "owner=u5",
        "equality, 10 %": "team=t3",
        "equality, all": "kind=note",
        "range, 0.1 %": f"n<{documents // 1000}",
        "range, half": f"n<{documents // 2}",
        "built-in range, 0.1 %": "size<5",
        "built-in range, half": "size<2500",
        "NOT, 99.9 %": "NOT owner=u5",
        "AND, 0.1 % of 90 %": f"owner=u5 AND n<{documents * 9 // 10}",
        "IN, 10,000 numbers": f"n IN ({','.join(map(str, listed))})",
        "IN, 10,000 texts": "label IN (" + ",".join(label(number) for number in listed) + ")",
        "glob, fixed beginning": "label:ab*1*",
        "glob, free": "label:*abc*",
        "glob, title, free": "title:*777*",
        "path, fixed beginning": "path:12/**",
        "path, free": "path:**/12*.md",
        "path, free, 75 %": "path:**/*.md",
    }


def report_filters(folder: Path, documents: int) -> None:
    """Print the cost of each filter."""
    heads = ("documents", "first, ms", "CPU, ms", "then, ms", "CPU, ms")
    print(f"{'filter':<24}{''.join(f'{head:>11}' for head in heads)}")
    with open_reader(folder) as warm:
        warm.prepare(parse_filter("n>=0"))
        for name, text in filters(documents).items():
            with open_reader(folder) as cold:
                first = measure(cold, text)
            then = min(measure(warm, text) for _ in range(3))
            texts = warm._vectors.allowed_texts(parse_filter(text))
            found = texts.count if texts else 0
            figures = "".join(f"{seconds * 1e3:>11.1f}" for seconds in (*first, *then))
            print(f"{name:<24}{found:>11}{figures}", flush=True)


def measure(reader: Reader, text: str) -> tuple[float, float]:
    """Return wall and CPU seconds from a filter's text to its result."""
    unseen = f"{text}{' ' * next(_SPACES)}"
    started, used = time.perf_counter(), time.thread_time()
    reader.prepare(parse_filter(unseen))
    return time.perf_counter() - started, time.thread_time() - used


def report_beside(folder: Path, seconds: float) -> None:
    """Print the latency of unfiltered searches, alone and beside new filters."""
    with serving(folder) as target:
        for name, text in {
            "alone": "",
            "beside broad ranges": "n>={number} OR ratio>0.{number}",
            "beside free patterns": "label:*{number}* OR path:**/*{number}*",
        }.items():
            over = threading.Event()
            threads = [
                threading.Thread(target=send_filters, args=[target, text, over, start])
                for start in range(1, 4)
                if text
            ]
            for thread in threads:
                thread.start()
            p50, p99, asked = ask(target, seconds)
            over.set()
            for thread in threads:
                thread.join()
            print(f"{name:<24}{asked:>6} searches, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def ask(target: str, seconds: float) -> tuple[float, float, int]:
    """Search repeatedly without a filter; return p50 and p99 in milliseconds, and the count."""
    vectors = Source(DIM, 1).vectors(1000)
    taken: list[float] = []
    with RetrievalClient(target) as client:
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            client.search(vectors[len(taken) % 1000], mode="dense")
            taken.append(time.perf_counter() - started)
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    return float(p50), float(p99), len(taken)


def send_filters(target: str, text: str, over: threading.Event, start: int) -> None:
    """Search with new filters until stopped."""
    vector = Source(DIM, start).vectors(1)[0]
    with RetrievalClient(target) as client:
        for number in count(1000 * start):
            if over.is_set():
                return
            client.search(vector, mode="dense", filter=text.format(number=number))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server over the index; yield its address."""
    target = f"127.0.0.1:{free_port()}"
    command = [str(BIN / "retrieval"), "serve", "--index", str(folder), "--listen", target]
    with subprocess.Popen([*command, "--log-level", "warning"]) as process:
        try:
            with RetrievalClient(target) as client:
                while True:
                    try:
                        client.server_info()
                        break
                    except ServiceError:
                        if process.poll() is not None:
                            raise
                        time.sleep(0.2)
            yield target
        finally:
            process.terminate()


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--index", type=Path, help="keep the index here")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.index or Path(name) / "index"
        if not folder.exists():
            build(folder, arguments.documents)
        report_filters(folder, arguments.documents)
        report_beside(folder, arguments.seconds)


if __name__ == "__main__":
    main()
