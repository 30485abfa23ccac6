"""The lexical index alone: how fast it is built and searched, and how much its fields contribute.

    python -m benchmarks.store.lexical speed FOLDER [--chunks 300000] [--queries 500] [--words 8]
    python -m benchmarks.store.lexical weights DATA_DIR...

``speed`` cuts the text files under FOLDER into overlapping pieces of 700 characters until there are
enough, commits them in batches as a build does, and searches for parts of the texts. Vectors are
random and short; no model is used.

``weights`` indexes test sets in BEIR form (see ``benchmarks.common.beir``), each document whole
under its title, and measures nDCG@10 with other weights of the titles and the identifiers.
"""

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import ir_measures
import numpy as np
from ir_measures import ScoredDoc, nDCG

from benchmarks.common.beir import load_set, read_jsonl
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ModelIdentity,
    Section,
    SourceFile,
)
from retrieval.store import (
    Reader,
    StagedChunk,
    StagedDocument,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
)
from retrieval.store.lexical.query import WEIGHTS

DIM = 8
PIECE_CHARS = 700
COMMIT = 1024
MODEL = ModelIdentity("none", "folder", "/", "", "0" * 64, DIM, 512, "float32")


def commit(writer: Writer, documents: Sequence[tuple[str, str]]) -> None:
    """Commit documents of one passage each, given as title and text."""
    keys = [hashlib.sha256(text.encode()).digest() for _, text in documents]
    known = writer.find_vectors(keys)
    new = [key for key in dict.fromkeys(keys) if key not in known]
    vectors = np.random.default_rng(len(known)).normal(size=(len(new), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with writer.commit() as staged:
        if new:
            known |= dict(
                zip(new, staged.add_vectors(new, vectors, [False] * len(new)), strict=True)
            )
        for (title, text), key in zip(documents, keys, strict=True):
            uri = f"docs/{known[key]}"
            chunk = Chunk(0, 0, len(text), text, 1, 1 + text.count("\n"), (), 100)
            document = Document(uri, title, "text", text, (Section(0, ()),))
            source = SourceFile(Path("/x"), uri, "docs", len(text), known[key])
            staged.put_document(
                StagedDocument(document, source, "0" * 64, [StagedChunk(chunk, known[key])])
            )


def pieces(folder: Path, count: int) -> Iterator[str]:
    """Yield overlapping pieces of the texts under a folder, at equal distances."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".md", ".rst", ".txt")]
    texts = [path.read_text(errors="replace") for path in paths]
    stride = max(1, sum(map(len, texts)) // count)
    for text in texts:
        for start in range(0, max(1, len(text) - PIECE_CHARS // 2), stride):
            if piece := text[start : start + PIECE_CHARS].strip():
                yield piece


def speed(folder: Path, chunks: int, queries: int, words: int) -> None:
    """Build an index of the passages, and search it on one core."""
    generator = random.Random(0)
    asked: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary)
        spent, count, some = 0.0, 0, pieces(folder, chunks)
        with open_writer(index) as writer:
            writer.set_model(MODEL, ChunkSettings(512, 0))
            while texts := list(islice(some, COMMIT)):
                split = generator.choice(texts).split()
                start = generator.randrange(max(1, len(split) - words))
                asked.append(" ".join(split[start : start + words]))
                started = time.perf_counter()
                commit(writer, [("", text) for text in texts])
                spent += time.perf_counter() - started
                count += len(texts)
        size = sum(path.stat().st_size for path in index.glob("lexical-*") if path.is_file())
        print(
            f"{count} passages in commits of {COMMIT}: {spent:.1f} s all in all, "
            f"{size / 1e6:.0f} MB of lexical files"
        )
        started = time.perf_counter()
        with open_reader(index) as reader:
            print(f"opened in {time.perf_counter() - started:.3f} s")
            asked = [generator.choice(asked) for _ in range(queries)]
            for name, where in (("no filter", ""), ("half of them", "path:*[02468]")):
                condition = parse_filter(where) if where else None
                reader.search_lexical(asked[0], 10, filter=condition)
                seconds = []
                for query in asked:
                    started = time.perf_counter()
                    reader.search_lexical(query, 10, filter=condition)
                    seconds.append(time.perf_counter() - started)
                p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
                print(f"{words} words, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def weights(folder: Path) -> None:
    """Measure nDCG@10 of one test set with several weights of the fields."""
    test = load_set(folder)
    titles = {
        record["_id"]: record.get("title", "") for record in read_jsonl(folder / "corpus.jsonl")
    }
    with tempfile.TemporaryDirectory() as temporary:
        with open_writer(Path(temporary)) as writer:
            writer.set_model(MODEL, ChunkSettings(512, 0))
            commit(
                writer, [(titles[one].replace("_", " "), text) for one, text in test.corpus.items()]
            )
        identifiers = list(test.corpus)
        with open_reader(Path(temporary)) as reader:
            for title, identifier in (
                (0, 0),
                (0.1, 0),
                (0.25, 0),
                (0.5, 0),
                (1, 0),
                (0, 0.25),
                (0, 0.5),
                (0, 1),
                (0.25, 0.5),
            ):
                changed = {"words": 1.0, "title": title, "identifiers": identifier}
                with patch.dict(WEIGHTS, changed):
                    found = list(_found(reader, identifiers, test.queries))
                score = ir_measures.calc_aggregate([nDCG @ 10], test.qrels, found)[nDCG @ 10]
                print(f"{folder.name:<16} title {title:<5} identifiers {identifier:<5} {score:.4f}")


def _found(
    reader: Reader, documents: Sequence[str], queries: Mapping[str, str]
) -> Iterator[ScoredDoc]:
    for query, text in queries.items():
        hits = reader.search_lexical(text, 20)
        for vector_id, score in zip(hits.vector_ids.tolist(), hits.scores.tolist(), strict=True):
            yield ScoredDoc(query, documents[vector_id - 1], score)


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("folder", type=Path)
    fast.add_argument("--chunks", type=int, default=300_000)
    fast.add_argument("--queries", type=int, default=500)
    fast.add_argument("--words", type=int, default=8)
    commands.add_parser("weights").add_argument("data", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.folder, arguments.chunks, arguments.queries, arguments.words)
    else:
        for folder in arguments.data:
            weights(folder)


if __name__ == "__main__":
    main()
