"""Retrieval quality: dense, lexical and hybrid search through the real service, beside peers.

    python -m benchmarks.quality DATA_DIR... [--peers sentence-transformers,bm25s,txtai]
                                 [--model NAME] [--max-tokens N] [--queries N] [--json]

Each ``DATA_DIR`` is a test set in BEIR form (see ``benchmarks.common.beir``). Every document
becomes one text file. The index is made by ``indexer build`` with ``--model`` (all-MiniLM-L6-v2),
served by ``retrieval serve``, and queried over gRPC. Each document has one vector of its first
``--max-tokens`` tokens (256). If documents are long on average, a second index cuts them into
chunks, and a document ranks as its best chunk.

Peers get the same texts and the same model in the same run: sentence-transformers with an exact
search, bm25s (k1 0.9, b 0.4, Snowball, English stop words), and txtai's hybrid index with its
defaults. ``--queries`` keeps every nth query, so that at most N remain.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ir_measures import R, nDCG

from benchmarks.common.beir import (
    DEPTH,
    Run,
    TestSet,
    build_index,
    limited,
    load_set,
    measure,
    queries_at_once,
    search_reference,
    search_service,
    served,
)
from retrieval.domain.search_options import SearchOptions
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model

MEASURES = (nDCG @ 10, R @ 100)

LONG_CHARS = 3_000
"""If documents are longer than this on average, they are also searched in chunks."""

MODES: Mapping[str, SearchOptions] = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "hybrid": {"mode": "hybrid"},
    "hybrid, by rank": {"mode": "hybrid", "fusion": "rrf"},
}

Results = dict[str, dict[str, float]]
"""Mean over the queries, by measure, by contestant."""


def ours(test: TestSet, model: str, whole: str) -> Results:
    """Measure every mode through the service, on whole documents and, if they are long, chunks.

    ``whole`` is the model for whole documents.
    """
    results: Results = {}
    average = sum(map(len, test.corpus.values())) / len(test.corpus)
    cuts = {"": ["--model", whole, "--chunk-tokens", "document"]}
    if average > LONG_CHARS:
        cuts[", chunks"] = ["--model", model]
    for cut, options in cuts.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            build_index(test.corpus, folder, options)
            with served(folder / "index", ["--query-dtype", "index"]) as (address, _):
                depth = DEPTH * 5 if cut else DEPTH
                batch = queries_at_once(test, depth, LONG_CHARS if cut else None)
                for name, asked in MODES.items():
                    started = time.perf_counter()
                    run = search_service(address, test.queries, depth, batch_size=batch, **asked)
                    seconds = (time.perf_counter() - started) / len(test.queries)
                    results[name + cut] = measure(test.qrels, run, MEASURES) | {
                        "ms": round(seconds * 1e3, 2)
                    }
                    show(name + cut, results[name + cut])
    return results


def bm25s(test: TestSet, _: str) -> Run:
    """Measure the bm25s library on whole documents; it needs no model."""
    import bm25s as library
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def cut(texts: list[str]) -> list[list[str]]:
        return library.tokenize(  # type: ignore[no-any-return]
            texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
        )

    retriever = library.BM25(k1=0.9, b=0.4)
    retriever.index(cut(list(test.corpus.values())), show_progress=False)
    documents = list(test.corpus)
    rows, scores = retriever.retrieve(
        cut(list(test.queries.values())), k=min(DEPTH, len(documents)), show_progress=False
    )
    return {
        query: {documents[row]: float(score) for row, score in zip(found, some, strict=True)}
        for query, found, some in zip(test.queries, rows, scores, strict=True)
    }


def txtai(test: TestSet, model: str) -> Run:
    """Measure txtai's hybrid index (vectors and BM25) with its defaults."""
    from txtai.embeddings import Embeddings

    embeddings = Embeddings(path=str(find_model(model).path), hybrid=True)
    documents = list(test.corpus)
    embeddings.index((row, text, None) for row, text in enumerate(test.corpus.values()))
    answers = embeddings.batchsearch(list(test.queries.values()), DEPTH)
    return {
        query: {documents[int(row)]: float(score) for row, score in answer}
        for query, answer in zip(test.queries, answers, strict=True)
    }


PEERS: Mapping[str, Callable[[TestSet, str], Run]] = {
    "sentence-transformers": search_reference,
    "bm25s": bm25s,
    "txtai": txtai,
}


def some_queries(test: TestSet, most: int) -> TestSet:
    """Return every nth query and its judgements."""
    step = -(-len(test.queries) // most) if most else 1
    kept = dict(list(test.queries.items())[::step])
    qrels = [qrel for qrel in test.qrels if qrel.query_id in kept]
    return replace(test, queries=kept, qrels=qrels)


def show(name: str, values: Mapping[str, float]) -> None:
    """Print a line of the table."""
    print(f"  {name:<26}" + "".join(f"{value:>10}" for value in values.values()), flush=True)


def gain(every: Mapping[str, Results]) -> float:
    """Return the mean gain of hybrid search over the better of dense and lexical."""
    measured = str(MEASURES[0])
    gains = [
        results["hybrid"][measured] - max(results["dense"][measured], results["lexical"][measured])
        for results in every.values()
    ]
    return float(np.mean(gains))


def compare(folder: Path, queries: int, model: str, whole: str, peers: Sequence[str]) -> Results:
    """Measure ours and the peers on one test set."""
    test = some_queries(load_set(folder), queries)
    print(f"{folder.name}: {len(test.corpus)} documents, {len(test.queries)} queries")
    print(f"  {'':<26}" + "".join(f"{name!s:>10}" for name in (*MEASURES, "ms/query")))
    results = ours(test, model, whole)
    for name in peers:
        results[name] = measure(test.qrels, PEERS[name](test, whole), MEASURES)
        show(name, results[name])
    return results


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, nargs="+", help="folders of BEIR-form sets")
    parser.add_argument("--peers", default="", help="of " + ", ".join(PEERS))
    parser.add_argument("--model", default=OFFLINE_MODEL)
    parser.add_argument("--max-tokens", type=int, default=256, help="most of a whole document")
    parser.add_argument("--queries", type=int, default=0, help="most queries of a set; 0: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    peers = [name for name in arguments.peers.split(",") if name]
    if strangers := set(peers) - set(PEERS):
        sys.exit(f"no such peer: {', '.join(strangers)}")
    with tempfile.TemporaryDirectory() as temporary:
        whole = limited(arguments.model, arguments.max_tokens, Path(temporary))
        every = {
            folder.name: compare(folder, arguments.queries, arguments.model, whole, peers)
            for folder in arguments.data
        }
    print(f"hybrid above the better of dense and lexical, on average: {gain(every):+.4f}")
    if arguments.json:
        print(json.dumps(every))


if __name__ == "__main__":
    main()
