"""Retrieval quality by chunk size, overlap and context, on test sets with long documents.

    python -m benchmarks.corpora.chunking DATA_DIR... [--model NAME] [--max-tokens N]
        [--sizes 128,254,510] [--overlaps 0,8,4] [--documents N] [--json]

Each ``DATA_DIR`` is a test set in BEIR form (see ``benchmarks.common.beir``). Documents are cut,
embedded and searched exactly; a document ranks as its best chunk. If a set's ids have the form
``ARTICLE#N``, the paragraphs of an article are joined first, and the paragraphs are ranked: those
that a chunk contains half of, or that are half of a chunk. So a large chunk takes several ranks.

``--overlaps`` are fractions of a chunk: 8 is an eighth, 0 is none. ``--documents`` keeps N
documents, those that answer queries first. ``--max-tokens`` raises the model's own limit, if its
positions reach further. The encoder runs in int8, which costs all sizes equally little.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from shutil import copytree

import ir_measures
import numpy as np
from ir_measures import R, nDCG

from benchmarks.common.beir import Run, load_set, read_jsonl
from indexer.chunking.chunk import chunk_document
from indexer.parse.formats import parse
from retrieval.domain.embedded_text import CONTEXT_TOKENS, embedded_text_of
from retrieval.domain.records import Chunk, ChunkSettings, Document
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model

MEASURES = (nDCG @ 10, R @ 10)
DEPTH = 200
"""Chunks ranked for each query."""


@dataclass(frozen=True)
class Source:
    """A document, and the parts of it that are ranked."""

    document: Document
    parts: Sequence[tuple[int, str]]
    """Start and id of each part; the first starts at 0."""

    def parts_of(self, chunk: Chunk) -> list[str]:
        """Return the ids of the parts that a chunk has half of, or that are half of the chunk."""
        starts = [start for start, _ in self.parts] + [len(self.document.text)]
        found = []
        for (start, end), (_, identifier) in zip(pairwise(starts), self.parts, strict=True):
            common = min(chunk.char_end, end) - max(chunk.char_start, start)
            if 2 * common >= min(end - start, chunk.char_end - chunk.char_start):
                found.append(identifier)
        return found


def load_sources(folder: Path) -> Iterator[Source]:
    """Return the documents of a test set."""
    records = [record for record in read_jsonl(folder / "corpus.jsonl") if record["text"].strip()]
    for name, group in groupby(records, key=lambda record: record["_id"].partition("#")[0]):
        paragraphs = list(group)
        texts, parts, start = [], [], 0
        for paragraph in paragraphs:
            texts.append(paragraph["text"].strip() + "\n\n")
            parts.append((start, paragraph["_id"]))
            start += len(texts[-1])
        document = parse("a.txt", "".join(texts).encode())
        title = paragraphs[0].get("title") or name
        yield Source(Document(name, title, "text", document.text, document.sections), parts)


class Embeddings:
    """Cache that embeds each text once, whichever settings produce it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._known: dict[str, np.ndarray] = {}

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, float32 [n, dim]."""
        new = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(new), 2048):
            batch = new[start : start + 2048]
            vectors = self.encoder.encode(batch, "passage").astype(np.float16)
            self._known.update(zip(batch, vectors, strict=True))
        return np.stack([self._known[text] for text in texts]).astype(np.float32)


def measure(
    sources: Sequence[Source],
    queries: Mapping[str, str],
    query_vectors: np.ndarray,
    embeddings: Embeddings,
    settings: ChunkSettings,
) -> tuple[Run, int]:
    """Cut, embed and search; return the scores and the number of chunks."""
    texts: list[str] = []
    owners: list[list[str]] = []
    for source in sources:
        for chunk in chunk_document(source.document, embeddings.encoder.tokenizer, settings):
            owners.append(source.parts_of(chunk))
            texts.append(
                embedded_text_of(chunk, title=source.document.title, context=settings.context)
            )
    vectors = embeddings.of(texts)
    run: Run = {}
    names = list(queries)
    for start in range(0, len(names), 256):
        scores = query_vectors[start : start + 256] @ vectors.T
        best = np.argsort(-scores, axis=1)[:, :DEPTH]
        for name, row, order in zip(names[start : start + 256], scores, best, strict=True):
            found: dict[str, float] = {}
            for index in order:
                for owner in owners[index]:
                    found.setdefault(owner, float(row[index]))
            run[name] = found
    return run, len(texts)


def load_encoder(model: str, max_tokens: int | None) -> Encoder:
    """Load the model, with another token limit if one is given."""
    if max_tokens is None:
        return Encoder.load(model, dtype="int8")
    folder = Path(tempfile.mkdtemp()) / model
    copytree(find_model(model).path, folder)
    path = folder / "sentence_bert_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, "max_seq_length": max_tokens}))
    return Encoder.load(str(folder), dtype="int8")


def all_settings(
    sizes: Sequence[int], shares: Sequence[int], room: int, *, titled: bool
) -> Iterator[ChunkSettings]:
    """Yield sizes with each overlap; with a context, only those of the second fraction."""
    for size in sizes:
        for share in shares:
            yield ChunkSettings(size, size // share if share else 0)
        if titled and shares:
            least = min(size, room - CONTEXT_TOKENS)
            yield ChunkSettings(least, least // 8, context=True)


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default=OFFLINE_MODEL)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--sizes", default="128,254,510")
    parser.add_argument("--overlaps", default="0,8,4")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    embeddings = Embeddings(load_encoder(options.model, options.max_tokens))
    room = embeddings.encoder.passage_room
    for folder in options.data:
        test = load_set(folder)
        judged = {qrel.doc_id for qrel in test.qrels}
        # The judged ones first, so that fewer documents still have questions.
        sources = sorted(
            load_sources(folder),
            key=lambda source: not any(identifier in judged for _, identifier in source.parts),
        )[: options.documents]
        kept = {identifier for source in sources for _, identifier in source.parts}
        qrels = [qrel for qrel in test.qrels if qrel.doc_id in kept]
        asked = {qrel.query_id for qrel in qrels}
        queries = {name: text for name, text in test.queries.items() if name in asked}
        query_vectors = embeddings.encoder.encode(list(queries.values()), "query")
        titled = any(source.document.title != source.document.uri for source in sources)
        sizes = [min(int(size), room) for size in options.sizes.split(",")]
        shares = [int(share) for share in options.overlaps.split(",")]
        for settings in all_settings(sizes, shares, room, titled=titled):
            started = time.perf_counter()
            run, chunks = measure(sources, queries, query_vectors, embeddings, settings)
            result = ir_measures.calc_aggregate(MEASURES, qrels, run)
            row = {
                "set": folder.name,
                "documents": len(sources),
                "queries": len(queries),
                "chunk_tokens": settings.chunk_tokens,
                "chunk_overlap": settings.chunk_overlap,
                "context": settings.context,
                "chunks": chunks,
                **{str(name): round(value, 4) for name, value in result.items()},
                "seconds": round(time.perf_counter() - started, 1),
            }
            print(
                json.dumps(row) if options.json else "  ".join(map(str, row.values())), flush=True
            )


if __name__ == "__main__":
    main()
