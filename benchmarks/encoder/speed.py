"""Tokens a second and milliseconds per query of the encoder beside its peers, in the same run.

    python -m benchmarks.encoder [FOLDER] [--shapes minilm,gte-base] [--tokens N] [--rounds N]

Texts are the chunks of a folder of documents (this project's ``docs/`` by default), so the mix of
lengths is realistic. ``minilm`` is the real all-MiniLM-L6-v2. ``gte-base`` and ``gte-large`` have
the real shapes with random weights made at the start, which take the same time.

Every contestant takes one turn in each round. The tables show medians, and the share of the
machine's own float32 matrix multiply limit, which is also measured in each round. GFLOP/s count the
products of the whole model for every contestant, even if one needs fewer. ``cosine`` is the mean
similarity of a contestant's vectors with our float32 ones. Ours is loaded twice: as a build does
(``workload="throughput"``) for the texts, and as a service does (``"latency"``) for the query.

Peers (``benchmarks.encoder.peers``) take token ids, sorted by length, in padded batches of the size
that is fastest for each on a part of the texts. One more, ``padded, 32``, takes them unsorted.
Contestants marked ``from text`` also tokenise, as their users call them: ours,
sentence-transformers and fastembed. Our time from ids as a share of our time from text is the
model's own share.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from benchmarks.encoder.peers import (
    PROCESS_THREADS,
    HiddenStates,
    Run,
    libraries,
    padded_peers,
)
from benchmarks.encoder.shapes import MAX_TOKENS, flops, gemm_limit, make_shape
from indexer.chunking.chunk import chunk_document
from indexer.files.discover import discover
from indexer.parse.formats import parse
from indexer.skip import SkipDocument
from retrieval.domain.own_process import claim_process
from retrieval.domain.records import ChunkSettings
from retrieval.encoding.backend import DTYPES, CoreBackend
from retrieval.encoding.batching import embed_batches
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.tokenizer import Tokenizer
from retrieval.gte import Pooling, Workload, normalize

ROOT = Path(__file__).resolve().parents[2]
PADDED_BATCH = 32
SORTED_BATCHES = (1, 4, 16)
"""Sizes that each peer tries before the first round; the fastest is kept."""
QUERY = "how are pods scheduled onto nodes in clusters?"  # 12 tokens
QUERY_RUNS = 50

Rows = list[list[int]]


@dataclass(frozen=True)
class Sample:
    """Texts, and their token ids as every model here reads them."""

    texts: list[str]
    rows: Rows

    @classmethod
    def of(cls, texts: list[str], tokenizer: Tokenizer) -> "Sample":
        """Tokenise texts."""
        return cls(texts, [tokens.ids for tokens in tokenizer.encode(texts)])

    def at(self, positions: Sequence[int]) -> "Sample":
        """Return the texts at some positions."""
        return Sample([self.texts[at] for at in positions], [self.rows[at] for at in positions])


Embed = Callable[[Sample], Tensor]
"""Embeds n texts: float32 [n, dim], L2-normalised, in the order given."""


@dataclass
class Contestant:
    """One way to embed texts, and its measured times."""

    name: str
    embed: Embed
    embed_query: Embed | None = None
    """Function for queries, if it is another one."""
    seconds: list[float] = field(default_factory=list)
    query_seconds: list[float] = field(default_factory=list)
    cosine: float = 1.0


def read_texts(folder: Path, tokenizer: Tokenizer, wanted: int) -> Sample:
    """Return every n-th chunk of a folder, about ``wanted`` tokens in all."""
    settings = ChunkSettings(tokenizer.room, 0)
    texts: list[str] = []
    for source in discover([folder]).files:
        try:
            document = parse(source.uri, source.path.read_bytes())
        except SkipDocument:
            continue
        texts += [chunk.text for chunk in chunk_document(document, tokenizer, settings)]
    every = Sample.of(texts, tokenizer)
    step = max(1, sum(map(len, every.rows)) // wanted)
    return every.at(range(0, len(texts), step))


def ours(folder: Path, pooling: Pooling, dtype: str) -> tuple[Contestant, Contestant]:
    """Make contestants of our core, as build and service run it, from token ids and from text."""
    builder, searcher = (
        CoreBackend(folder, pooling, dtype=DTYPES[dtype], device="cpu", workload=workload)
        for workload in get_args(Workload)
    )

    def from_ids(backend: CoreBackend, sample: Sample) -> Tensor:
        vectors = torch.empty(len(sample.rows), backend.dim)
        for batch, embedded in embed_batches(backend, sample.rows):
            vectors[batch] = torch.from_numpy(embedded)
        return vectors

    def from_text(backend: CoreBackend, sample: Sample) -> Tensor:
        # The same weights in memory: two copies would take turns in the cache.
        encoder._backend = backend
        return torch.from_numpy(encoder.encode(sample.texts))

    encoder = Encoder.load(str(folder), device="cpu", dtype=dtype)
    return (
        Contestant(f"ours, {dtype}", partial(from_ids, builder), partial(from_ids, searcher)),
        Contestant(
            f"ours, {dtype}, from text", partial(from_text, builder), partial(from_text, searcher)
        ),
    )


def padded(run: Run, pooling: Pooling, size: int, *, by_length: bool) -> Embed:
    """Make a contestant that runs a peer on padded batches with a mask."""

    def embed(sample: Sample) -> Tensor:
        rows = sample.rows
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]) if by_length else 0)
        parts = []
        for start in range(0, len(order), size):
            batch = [rows[row] for row in order[start : start + size]]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            hidden = run(ids, mask)
            weights = mask[:, :, None].float()
            mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
            parts.append(normalize(mean if pooling == "mean" else hidden[:, 0]))
        return torch.cat(parts)[torch.tensor(order).argsort()]

    return embed


def best_size(run: Run, pooling: Pooling, sample: Sample) -> int:
    """Return the fastest batch size of a peer on a part of the texts."""
    # Neighbours in length: every n-th text would be padded more than it is in the whole.
    ordered = sorted(range(len(sample.rows)), key=lambda row: len(sample.rows[row]))
    middle = len(ordered) // 2
    part = sample.at(ordered[max(0, middle - 8) : middle + 8])

    def best_of_three(size: int) -> float:
        embed = padded(run, pooling, size, by_length=True)
        clock(embed, part)  # warm: the first pass allocates and, with some peers, compiles
        return min(clock(embed, part) for _ in range(3))

    return min(SORTED_BATCHES, key=best_of_three)


def clock(embed: Embed, sample: Sample) -> float:
    """Return the seconds of one pass."""
    started = time.perf_counter()
    embed(sample)
    return time.perf_counter() - started


def enter(shape: str, folder: Path, sample: Sample) -> Iterator[Contestant]:
    """Return every contestant, ready to run: ours in float32 first, then ours in int8."""
    path, peer, pooling = make_shape(shape, folder)
    exact, exact_from_text = ours(path, pooling, "float32")
    int8, int8_from_text = ours(path, pooling, "int8")
    yield exact
    yield int8
    for name, run in padded_peers(peer, folder):
        size = best_size(run, pooling, sample)
        embed = padded(run, pooling, size, by_length=True)
        yield Contestant(f"{name}, sorted, {size}", embed)
    unsorted = padded(HiddenStates(peer), pooling, PADDED_BATCH, by_length=False)
    yield Contestant(f"transformers, padded, {PADDED_BATCH}", unsorted)
    yield exact_from_text
    yield int8_from_text
    for name, embed_texts in libraries(path, folder, pooling):
        yield Contestant(name, lambda sample, embed=embed_texts: embed(sample.texts))


def compare(shape: str, sample: Sample, query: Sample, rounds: int) -> None:
    """Run every contestant in turn, and print the table of one shape."""
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        contestants = list(enter(shape, folder, sample))
        # This also warms up every contestant.
        some = sample.at(range(0, len(sample.rows), max(1, len(sample.rows) // 16)))
        exact = contestants[0].embed(some)
        for contestant in contestants:
            contestant.cosine = float((contestant.embed(some) * exact).sum(dim=1).mean())
        limits = []
        for _ in range(rounds):
            limits.append(gemm_limit())
            for contestant in contestants:
                contestant.seconds.append(clock(contestant.embed, sample))
        for _ in range(rounds):
            for contestant in contestants:
                embed = contestant.embed_query or contestant.embed
                contestant.query_seconds += [clock(embed, query) for _ in range(QUERY_RUNS)]
        work = flops(folder, sample.rows)
    report(shape, sample.rows, contestants, work, statistics.median(limits))


def report(
    shape: str, rows: Rows, contestants: Sequence[Contestant], work: float, limit: float
) -> None:
    """Print medians: tokens a second, GFLOP/s, share of the limit, ratio to ours, one query."""
    tokens = sum(map(len, rows))
    print(
        f"\n{shape}: {len(rows)} texts, {tokens} tokens, {PROCESS_THREADS} threads; "
        f"float32 matrix multiply limit {limit:.0f} GFLOP/s\n"
        f"{'':<42}{'tokens/s':>9}{'GFLOP/s':>9}{'of limit':>9}{'ours f32 is':>12}"
        f"{'ours int8 is':>13}{'cosine':>8}{'query ms':>10}"
    )
    exact, int8 = (statistics.median(one.seconds) for one in contestants[:2])
    for contestant in contestants:
        seconds = statistics.median(contestant.seconds)
        rate = work / seconds / 1e9
        print(
            f"{contestant.name:<42}{tokens / seconds:>9.0f}{rate:>9.0f}{rate / limit:>9.0%}"
            f"{seconds / exact:>11.2f}×{seconds / int8:>12.2f}×{contestant.cosine:>8.4f}"
            f"{statistics.median(contestant.query_seconds) * 1e3:>10.2f}"
        )


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs")
    parser.add_argument("--shapes", default="minilm,gte-base")
    parser.add_argument("--tokens", type=int, default=20_000, help="about how many to embed")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    claim_process()  # as the programs do
    offline = find_model(OFFLINE_MODEL).path
    for shape in arguments.shapes.split(","):
        max_tokens = 256 if shape == "minilm" else MAX_TOKENS
        tokenizer = Tokenizer.from_folder(offline, max_tokens=max_tokens)
        sample = read_texts(arguments.folder, tokenizer, arguments.tokens)
        compare(shape, sample, Sample.of([QUERY], tokenizer), arguments.rounds)


if __name__ == "__main__":
    main()
