"""Retrieval quality on a test set in BEIR form, through a real index and the real gRPC service.

    python -m benchmarks.common.beir DATA_DIR [--model NAME] [--max-tokens N] [--dtype NAME]
                              [--query-dtype NAME] [--chunks] [--compare] [--json]

``DATA_DIR`` holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``
(https://github.com/beir-cellar/beir). Every document becomes one text file, ``title text``. The
index is made by ``indexer build``, served by ``retrieval serve``, and queried over gRPC.
ir-measures computes the measures.

``--max-tokens`` limits the tokens that the model reads of a text, for comparisons with models that
read fewer. ``--query-dtype`` takes several types, separated by commas. ``--compare`` sends the same
texts and queries through sentence-transformers and an exact search in numpy, in the same run.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote, unquote

import ir_measures
import numpy as np
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from retrieval.client import RetrievalClient
from retrieval.domain.search_options import SearchOptions
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model

MEASURES = (nDCG @ 10, R @ 100, RR @ 10)
DEPTH = 100
"""Documents kept for each query."""

BATCH = 64
"""Queries sent in one request."""

ANSWER_CHARS = 20_000_000
"""Characters of text that one answer may have; the limit on its bytes is near."""

BIN = Path(sys.executable).parent

Run = dict[str, dict[str, float]]
"""Scores by document id, by query id."""


@dataclass(frozen=True)
class TestSet:
    """A test set in BEIR form, with only the queries that have judgements."""

    corpus: Mapping[str, str]
    """Title and text by document id."""
    queries: Mapping[str, str]
    qrels: Sequence[Qrel]


def load_set(folder: Path) -> TestSet:
    """Read a test set; count and leave out empty documents, as an index does."""
    corpus = {
        record["_id"]: f"{record.get('title', '')} {record['text']}".strip()
        for record in read_jsonl(folder / "corpus.jsonl")
    }
    empty = [identifier for identifier, text in corpus.items() if not text]
    if empty:
        print(f"{len(empty)} documents have no text and are left out", file=sys.stderr)
    qrels = [
        Qrel(query, document, int(grade))
        for query, document, grade in (
            line.split("\t")
            for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
        )
    ]
    judged = {qrel.query_id for qrel in qrels}
    queries = {
        record["_id"]: record["text"]
        for record in read_jsonl(folder / "queries.jsonl")
        if record["_id"] in judged
    }
    return TestSet({key: text for key, text in corpus.items() if text}, queries, qrels)


def read_jsonl(path: Path) -> Iterator[dict[str, str]]:
    """Yield the records of a JSON-lines file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def limited(model: str, max_tokens: int, folder: Path) -> str:
    """Make a model that reads fewer tokens: a folder of links to its files."""
    original = find_model(model).path
    for path in original.rglob("*"):
        link = folder / path.relative_to(original)
        if path.is_file() and path.name != "sentence_bert_config.json":
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    settings = json.dumps({"max_seq_length": max_tokens, "do_lower_case": False})
    (folder / "sentence_bert_config.json").write_text(settings)
    return str(folder)


def build_index(corpus: Mapping[str, str], folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Write one file per document and run ``indexer build``; return its report."""
    docs = folder / "docs"
    docs.mkdir()
    for identifier, text in corpus.items():
        (docs / f"{quote(identifier, safe='')}.txt").write_text(text, encoding="utf-8")
    command = [BIN / "indexer", "build", docs, "--index", folder / "index", "--json", *options]
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@contextmanager
def served(index: Path, options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Run ``retrieval serve`` on a free port; yield its address and process id."""
    command = [BIN / "retrieval", "serve", "--index", index, "--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        if match is None:
            sys.exit("the server did not start")
        yield match.group(), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def queries_at_once(test: TestSet, depth: int, most_chars: int | None = None) -> int:
    """Return how many queries a request may have, since its answer holds all passages' texts.

    ``most_chars`` is the maximum length of a passage, if documents are cut.
    """
    average = sum(map(len, test.corpus.values())) / len(test.corpus)
    chars = max(1, int(average if most_chars is None else min(most_chars, average)))
    return max(1, min(BATCH, ANSWER_CHARS // (depth * chars)))


def search_service(
    address: str,
    queries: Mapping[str, str],
    depth: int,
    *,
    batch_size: int = BATCH,
    **options: Unpack[SearchOptions],
) -> Run:
    """Search through the service; a document ranks as its best passage."""
    run: Run = {}
    identifiers = list(queries)
    with RetrievalClient(address, timeout=300) as client:
        for start in range(0, len(identifiers), batch_size):
            batch = identifiers[start : start + batch_size]
            answers = client.search_batch([queries[one] for one in batch], k=depth, **options)
            for identifier, passages in zip(batch, answers, strict=True):
                scores: dict[str, float] = {}
                for passage in passages:
                    document = unquote(Path(passage.uri).stem)
                    scores.setdefault(document, passage.score)
                run[identifier] = dict(list(scores.items())[:DEPTH])
    return run


def search_reference(test: TestSet, model: str) -> Run:
    """Search the same texts with sentence-transformers and an exact search in numpy."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(find_model(model).path))
    documents = list(test.corpus)
    passages = encoder.encode(list(test.corpus.values()), normalize_embeddings=True)
    queries = encoder.encode(list(test.queries.values()), normalize_embeddings=True)
    run: Run = {}
    for identifier, scores in zip(test.queries, queries @ passages.T, strict=True):
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        run[identifier] = {documents[row]: float(scores[row]) for row in best}
    return run


def measure(
    qrels: Sequence[Qrel], run: Run, measures: Sequence[Any] = MEASURES
) -> dict[str, float]:
    """Return the mean of each measure over the judged queries."""
    scored = [
        ScoredDoc(query, document, score)
        for query, documents in run.items()
        for document, score in documents.items()
    ]
    means = ir_measures.calc_aggregate(measures, qrels, scored)
    return {str(name): round(means[name], 4) for name in measures}


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder of a BEIR-form set")
    parser.add_argument("--model", default=OFFLINE_MODEL)
    parser.add_argument("--max-tokens", type=int, help="most tokens of a text")
    parser.add_argument("--dtype", default="auto", help="of the weights, for the passages")
    parser.add_argument("--query-dtype", default="index", help="of the weights, for the queries")
    parser.add_argument(
        "--chunks", action="store_true", help="cut documents into chunks (default: one each)"
    )
    parser.add_argument("--compare", action="store_true", help="run sentence-transformers too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    test = load_set(arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model
        if arguments.max_tokens:
            model = limited(model, arguments.max_tokens, Path(temporary) / "model")
        options = ["--model", model, "--dtype", arguments.dtype]
        options += [] if arguments.chunks else ["--chunk-tokens", "document"]
        report = build_index(test.corpus, Path(temporary), options)
        depth = DEPTH * 5 if arguments.chunks else DEPTH
        batch = queries_at_once(test, depth)
        results, seconds = {}, {}
        for dtype in arguments.query_dtype.split(","):
            with served(Path(temporary) / "index", ["--query-dtype", dtype]) as (address, _):
                started = time.perf_counter()
                run = search_service(address, test.queries, depth, batch_size=batch, mode="dense")
                seconds[dtype] = time.perf_counter() - started
            results[f"retrieval, queries {dtype}"] = measure(test.qrels, run)
        if arguments.compare:
            results["sentence-transformers"] = measure(test.qrels, search_reference(test, model))
    if arguments.json:
        print(json.dumps({"results": results, "build": report, "query_seconds": seconds}))
        return
    print(f"{arguments.data.name}: {len(test.corpus)} documents, {len(test.queries)} queries")
    print(f"{'':<28}" + "".join(f"{measure!s:>10}" for measure in MEASURES))
    for name, values in results.items():
        print(f"{name:<28}" + "".join(f"{value:>10.4f}" for value in values.values()))
    print(
        f"build {report['seconds']:.1f} s ({report['tokens']['per_second']:.0f} tokens/s, "
        f"{report['chunks']['truncated']} truncated), "
        + ", ".join(
            f"queries {dtype} {len(test.queries) / taken:.0f} a second"
            for dtype, taken in seconds.items()
        )
    )


if __name__ == "__main__":
    main()
