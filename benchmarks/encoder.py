"""Tokens a second of the encoder beside its peers, on the same texts in the same run.

    python benchmarks/encoder.py [FOLDER] [--shapes minilm,gte-base] [--tokens N] [--rounds N]

Texts are the chunks of a folder of documents (this project's ``docs/`` by default), so the mix of
lengths is a real one. ``minilm`` is the real all-MiniLM-L6-v2; ``gte-base`` and ``gte-large``
have the real shapes with random weights made on the spot, which cost the same time. Every
contestant takes one turn a round; the table shows medians, and the share of the machine's own
matrix multiply limit, which is measured in every round too. GFLOP/s count the products of the whole
model for every contestant, also where one gets by with fewer.

Peers run as transformers users run them: ``padded`` takes the texts as they come in batches of 32,
``sorted`` takes them by length in small batches, which is the best that a padded batch can do.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModel, BertModel, GteConfig, GteModel

from indexer.chunk import chunk_document
from indexer.discover import discover
from indexer.parse import parse
from indexer.skip import SkipDocument
from retrieval.encoder import DEFAULT_BATCH_TOKENS, batches_by_length
from retrieval.gte import GteModel as CoreModel
from retrieval.gte import Pooling, load_model, pack
from retrieval.gte.prepack import PackedLinear
from retrieval.hub import find_model
from retrieval.records import ChunkSettings
from retrieval.registry import OFFLINE_MODEL
from retrieval.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "gte-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "gte-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
PADDED_BATCH = 32
SORTED_BATCHES = (4, 8, 16)
"""Sizes that ``sorted`` tries in its first round; the fastest is kept."""

Rows = list[list[int]]


@dataclass
class Contestant:
    """A way to embed token ids, and what it took."""

    name: str
    embed: Callable[[Rows], object]
    seconds: list[float]


def read_rows(folder: Path, max_tokens: int, wanted: int) -> Rows:
    """Token ids of a folder's chunks, every n-th, until there are about ``wanted`` tokens."""
    tokenizer = Tokenizer.from_folder(find_model(OFFLINE_MODEL).path, max_tokens=max_tokens)
    settings = ChunkSettings(tokenizer.room, 0)
    rows: Rows = []
    for source in discover([folder]).files:
        try:
            document = parse(source.uri, source.path.read_bytes())
        except SkipDocument:
            continue
        chunks = chunk_document(document, tokenizer, settings)
        rows += [tokens.ids for tokens in tokenizer.encode([chunk.text for chunk in chunks])]
    total = sum(map(len, rows))
    return rows[:: max(1, total // wanted)]


def load_shape(name: str, folder: Path) -> tuple[CoreModel, torch.nn.Module, Pooling]:
    """Our model and transformers' over the same weights."""
    if name == "minilm":
        path = find_model(OFFLINE_MODEL).path
        peer = AutoModel.from_pretrained(path, dtype=torch.float32)
        assert isinstance(peer, BertModel)
        return load_model(path), peer.eval(), "mean"
    hidden = SHAPES[name]["hidden_size"]
    config = GteConfig(
        **SHAPES[name],
        vocab_size=30528,
        intermediate_size=4 * hidden,
        type_vocab_size=0,
        rope_parameters={"rope_type": "default", "rope_theta": 160_000.0},
    )
    torch.manual_seed(0)
    peer = GteModel(config).eval()
    peer.save_pretrained(folder)
    return load_model(folder), peer, "cls"


def ours(model: CoreModel, pooling: Pooling, batch_tokens: int) -> Callable[[Rows], None]:
    """The core as the encoder runs it: packed batches by a token budget."""

    def embed(rows: Rows) -> None:
        for batch in batches_by_length([len(row) for row in rows], batch_tokens):
            model.embed(pack([rows[row] for row in batch]), pooling)

    return embed


def padded(model: torch.nn.Module, size: int, *, by_length: bool) -> Callable[[Rows], None]:
    """A transformers model on padded batches with a mask."""

    def embed(rows: Rows) -> None:
        ordered = sorted(rows, key=len) if by_length else rows
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            model(input_ids=ids, attention_mask=mask)

    return embed


def best_sorted(model: torch.nn.Module, rows: Rows) -> tuple[int, Callable[[Rows], None]]:
    """The fastest batch size of the sorted peer on a part of the texts."""
    sample = rows[:: max(1, len(rows) // 40)]
    times = {size: clock(padded(model, size, by_length=True), sample) for size in SORTED_BATCHES}
    size = min(times, key=lambda size: times[size])
    return size, padded(model, size, by_length=True)


def clock(embed: Callable[[Rows], object], rows: Rows) -> float:
    """Seconds of one pass."""
    started = time.perf_counter()
    embed(rows)
    return time.perf_counter() - started


def flops(model: CoreModel, rows: Rows) -> float:
    """Multiply-adds (as 2) of matrix products over all tokens, attention included."""
    config = model.config
    hidden, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * hidden * (4 * hidden + (3 if config.gated_mlp else 2) * inner)
    attention = 4 * hidden
    return config.num_layers * sum(len(row) * (per_token + attention * len(row)) for row in rows)


def gemm_limit(size: int = 1024, repeat: int = 8) -> float:
    """GFLOP/s of a large float32 matrix product: the better of torch's own and a prepacked one."""
    rows = torch.randn(size, size)
    best = 0.0
    for layer in (torch.nn.Linear(size, size), PackedLinear(torch.randn(size, size), None)):
        layer(rows)
        started = time.perf_counter()
        for _ in range(repeat):
            layer(rows)
        best = max(best, repeat * 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def compare(shape: str, rows: Rows, rounds: int) -> None:
    """Run every contestant in turn, and print the table of one shape."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model, peer, pooling = load_shape(shape, Path(folder))
        size, by_length = best_sorted(peer, rows)
        contestants = [
            Contestant("ours, packed", ours(model, pooling, DEFAULT_BATCH_TOKENS), []),
            Contestant(f"transformers, sorted, {size}", by_length, []),
            Contestant(
                f"transformers, padded, {PADDED_BATCH}",
                padded(peer, PADDED_BATCH, by_length=False),
                [],
            ),
        ]
        limits = []
        for _ in range(rounds):
            limits.append(gemm_limit())
            for contestant in contestants:
                contestant.seconds.append(clock(contestant.embed, rows))
    report(shape, rows, contestants, flops(model, rows), statistics.median(limits))


def report(
    shape: str, rows: Rows, contestants: Sequence[Contestant], work: float, limit: float
) -> None:
    """Print medians: tokens a second, GFLOP/s, share of the limit, ratio to ours."""
    tokens = sum(map(len, rows))
    print(
        f"\n{shape}: {len(rows)} texts, {tokens} tokens; matrix multiply limit {limit:.0f} GFLOP/s"
    )
    print(f"{'':<28}{'tokens/s':>10}{'GFLOP/s':>10}{'of limit':>10}{'ours is':>10}")
    best = statistics.median(contestants[0].seconds)
    for contestant in contestants:
        seconds = statistics.median(contestant.seconds)
        rate = work / seconds / 1e9
        print(
            f"{contestant.name:<28}{tokens / seconds:>10.0f}{rate:>10.0f}{rate / limit:>10.0%}"
            f"{seconds / best:>9.2f}×"
        )


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs")
    parser.add_argument("--shapes", default="minilm,gte-base")
    parser.add_argument("--tokens", type=int, default=20_000, help="about how many to embed")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for shape in arguments.shapes.split(","):
        max_tokens = 256 if shape == "minilm" else 512
        compare(shape, read_rows(arguments.folder, max_tokens, arguments.tokens), arguments.rounds)


if __name__ == "__main__":
    main()
