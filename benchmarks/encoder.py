"""Tokens a second, and milliseconds a query, of the encoder beside its peers, in the same run.

    python benchmarks/encoder.py [FOLDER] [--shapes minilm,gte-base] [--tokens N] [--rounds N]

Texts are the chunks of a folder of documents (this project's ``docs/`` by default), so the mix of
lengths is a real one. ``minilm`` is the real all-MiniLM-L6-v2; ``gte-base`` and ``gte-large``
have the real shapes with random weights made on the spot, which cost the same time. Every
contestant takes one turn a round; the tables show medians, and the share of the machine's own
float32 matrix multiply limit, which is measured in every round too. GFLOP/s count the products of
the whole model for every contestant, also where one gets by with fewer. ``cosine`` is the mean
similarity of a contestant's vectors with our float32 ones.

Peers (``encoder_peers``) take the texts sorted by length in padded batches, of the size that is
fastest for each on a part of the texts. One more, ``padded, 32``, takes them as they come.
sentence-transformers is transformers sorted in batches of 32, and fastembed is ONNX Runtime on
batches as they come, so neither can be faster than what is shown.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, GteConfig, GteModel

from benchmarks.encoder_peers import PROCESS_THREADS, HiddenStates, Run, padded_peers
from indexer.chunk import chunk_document
from indexer.discover import discover
from indexer.parse import parse
from indexer.skip import SkipDocument
from retrieval.backend import CPU_BATCH_TOKENS
from retrieval.encoder import batches_by_length
from retrieval.gte import GteModel as CoreModel
from retrieval.gte import Pooling, load_model, normalize, pack
from retrieval.gte.prepack import PackedLinear
from retrieval.hub import find_model
from retrieval.parallel import on_single_cores
from retrieval.records import ChunkSettings
from retrieval.registry import OFFLINE_MODEL
from retrieval.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "gte-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "gte-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
PADDED_BATCH = 32
SORTED_BATCHES = (1, 4, 16)
"""Sizes that each peer tries before the first round; the fastest is kept."""
QUERY_TOKENS = 12
QUERY_RUNS = 50

Rows = list[list[int]]
Embed = Callable[[Rows], Tensor]
"""Token ids → float32 [n, dim], L2-normalised, in the order given."""


@dataclass
class Contestant:
    """A way to embed token ids, and what it took."""

    name: str
    embed: Embed
    seconds: list[float] = field(default_factory=list)
    query_seconds: list[float] = field(default_factory=list)
    cosine: float = 1.0


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


def make_shape(name: str, folder: Path) -> tuple[Path, torch.nn.Module, Pooling]:
    """A folder with weights, transformers' model over them, and the pooling."""
    if name == "minilm":
        path = find_model(OFFLINE_MODEL).path
        return path, AutoModel.from_pretrained(path, dtype=torch.float32).eval(), "mean"
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
    return folder, peer, "cls"


def ours(model: CoreModel, pooling: Pooling) -> Embed:
    """The core as the encoder runs it: packed batches by a token budget, a core each."""

    def embed_batch(batch: Rows) -> Tensor:
        with torch.inference_mode():
            return model.embed(pack(batch), pooling)

    def embed(rows: Rows) -> Tensor:
        vectors = torch.empty(len(rows), model.config.hidden_size)
        batches = list(batches_by_length([len(row) for row in rows], CPU_BATCH_TOKENS))
        inputs = [[rows[row] for row in batch] for batch in batches]
        for batch, embedded in zip(batches, on_single_cores(embed_batch, inputs), strict=True):
            vectors[batch] = embedded
        return vectors

    return embed


def padded(run: Run, pooling: Pooling, size: int, *, by_length: bool) -> Embed:
    """A peer on padded batches with a mask."""

    def embed(rows: Rows) -> Tensor:
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


def best_size(run: Run, pooling: Pooling, rows: Rows) -> int:
    """The fastest batch size of a peer on a part of the texts."""
    # Neighbours in length: every n-th text would be padded more than it is in the whole.
    ordered = sorted(rows, key=len)
    middle = len(ordered) // 2
    sample = ordered[max(0, middle - 8) : middle + 8]

    def best_of_three(size: int) -> float:
        embed = padded(run, pooling, size, by_length=True)
        clock(embed, sample)  # warm: the first pass allocates and, with some peers, compiles
        return min(clock(embed, sample) for _ in range(3))

    return min(SORTED_BATCHES, key=best_of_three)


def clock(embed: Embed, rows: Rows) -> float:
    """Seconds of one pass."""
    started = time.perf_counter()
    embed(rows)
    return time.perf_counter() - started


def enter(shape: str, folder: Path, rows: Rows) -> tuple[CoreModel, list[Contestant]]:
    """Our model, and every contestant ready to run."""
    path, peer, pooling = make_shape(shape, folder)
    core = load_model(path)
    contestants = [
        Contestant("ours, float32", ours(core, pooling)),
        Contestant("ours, int8", ours(load_model(path, dtype=torch.int8), pooling)),
    ]
    for name, run in padded_peers(peer, folder):
        size = best_size(run, pooling, rows)
        embed = padded(run, pooling, size, by_length=True)
        contestants.append(Contestant(f"{name}, sorted, {size}", embed))
    unsorted = padded(HiddenStates(peer), pooling, PADDED_BATCH, by_length=False)
    contestants.append(Contestant(f"transformers, padded, {PADDED_BATCH}", unsorted))
    return core, contestants


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
        core, contestants = enter(shape, Path(folder), rows)
        limits = []
        for _ in range(rounds):
            limits.append(gemm_limit())
            for contestant in contestants:
                contestant.seconds.append(clock(contestant.embed, rows))
        query = [rows[0][: QUERY_TOKENS - 1] + rows[0][-1:]]
        for _ in range(rounds):
            for contestant in contestants:
                contestant.query_seconds += [
                    clock(contestant.embed, query) for _ in range(QUERY_RUNS)
                ]
        sample = rows[:: max(1, len(rows) // 16)]
        exact = contestants[0].embed(sample)
        for contestant in contestants:
            contestant.cosine = float((contestant.embed(sample) * exact).sum(dim=1).mean())
    report(shape, rows, contestants, flops(core, rows), statistics.median(limits))


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
