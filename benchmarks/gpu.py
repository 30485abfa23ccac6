"""Tokens a second on a GPU: the encoder beside transformers and sentence-transformers, in bfloat16.

    python -m benchmarks.gpu [FOLDER] [--shapes gte-base,gte-large] [--lengths 128,512,2048,8192]

The models have random weights in the real shapes, which take the same time. Texts are random token
ids, first all of one length, and then with a real mix of lengths: that of the chunks of a folder of
documents (``docs/`` by default). All contestants get the same ids; the peers sort them by length
and pad. "of peak" relates the model's products to a large bfloat16 product measured in the same
run. ``cosine`` is the similarity with our own float32 on the CPU, over a few texts.
``--device cpu`` only tries the program out.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import GteModel

from benchmarks.encoder.shapes import MAX_TOKENS, flops, make_shape
from benchmarks.encoder.speed import ROOT, Rows, read_texts
from retrieval.encoding.backend import CoreBackend
from retrieval.encoding.batching import batches_by_length, embed_batches
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.tokenizer import Tokenizer
from retrieval.gte import normalize

ROUNDS = 3
PEER_BATCHES = {"transformers, sorted": 16_384, "transformers, as they come, 32": None}
"""Padded tokens of a batch; None means unsorted batches of 32 texts, as in plain use."""
CHECKED = 4
"""Texts whose vectors are compared."""

Embed = Callable[[Rows], Tensor]


def ours(folder: Path, device: str) -> Embed:
    """Make a contestant of the core, as the encoder runs it."""
    backend = CoreBackend(folder, "cls", dtype=torch.bfloat16, device=device)

    def embed(rows: Rows) -> Tensor:
        vectors = torch.empty(len(rows), backend.dim)
        for batch, embedded in embed_batches(backend, rows):
            vectors[batch] = torch.from_numpy(embedded)
        return vectors

    return embed


def padded(model: GteModel, device: str, budget: int | None) -> Embed:
    """Make a contestant of transformers' own model (SDPA) on padded batches with a mask."""

    def batches(rows: Rows) -> list[list[int]]:
        if budget is None:
            return [list(range(at, min(at + 32, len(rows)))) for at in range(0, len(rows), 32)]
        return list(batches_by_length([len(row) for row in rows], budget))

    def embed(rows: Rows) -> Tensor:
        vectors = torch.empty(len(rows), model.config.hidden_size)
        for batch in batches(rows):
            longest = max(len(rows[at]) for at in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.int64)
            mask = torch.zeros(len(batch), longest, dtype=torch.int64)
            for line, at in enumerate(batch):
                ids[line, : len(rows[at])] = torch.tensor(rows[at])
                mask[line, : len(rows[at])] = 1
            hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device))
            vectors[batch] = normalize(hidden.last_hidden_state[:, 0].float()).cpu()
        return vectors

    return embed


def peak(device: str) -> float:
    """Measure TFLOP/s of a large bfloat16 product."""
    size = 8192 if device == "cuda" else 512
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = 0.0
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        _wait(device)
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started) / 1e12)
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def compare(name: str, folder: Path, rows: Rows, contestants: dict[str, Embed], top: float) -> None:
    """Run all contestants in turn, and print one line of medians for each."""
    work, tokens = flops(folder, rows), sum(map(len, rows))
    taken: dict[str, list[float]] = {one: [] for one in contestants}
    for embed in contestants.values():
        embed(rows[: max(CHECKED, len(rows) // 4)])
    for _ in range(ROUNDS):
        for one, embed in contestants.items():
            started = time.perf_counter()
            embed(rows)  # ends on the CPU, so no work is pending
            taken[one].append(time.perf_counter() - started)
    exact = CoreBackend(folder, "cls", dtype=torch.float32, device="cpu")
    shortest = sorted(rows, key=len)[:CHECKED]
    wanted = exact.embed(shortest)
    base = statistics.median(taken["ours"])
    print(f"\n{name}: {len(rows)} texts, {tokens} tokens, peak {top:.1f} TFLOP/s")
    for one, embed in contestants.items():
        seconds = statistics.median(taken[one])
        rate = work / seconds / 1e12
        cosine = float((embed(shortest) * wanted).sum(dim=1).min())
        print(
            f"{one:<34}{tokens / seconds:>11.0f} tokens/s{rate:>8.1f} TFLOP/s"
            f"{rate / top:>6.0%} of peak{seconds / base:>7.2f}× our time  cosine {cosine:.4f}",
            flush=True,
        )


def samples(arguments: argparse.Namespace) -> dict[str, Rows]:
    """Yield texts of each length, about ``--tokens`` in all, and the real mix."""
    generator = random.Random(0)

    def made(length: int) -> Sequence[int]:
        return [generator.randrange(1000, 30_000) for _ in range(length)]

    found: dict[str, Rows] = {}
    for length in map(int, arguments.lengths.split(",")):
        count = max(CHECKED, arguments.tokens // length)
        found[f"{length} tokens each"] = [list(made(length)) for _ in range(count)]
    tokenizer = Tokenizer.from_folder(find_model(OFFLINE_MODEL).path, max_tokens=MAX_TOKENS)
    mix = read_texts(arguments.folder, tokenizer, arguments.tokens).rows
    return found | {f"chunks of {arguments.folder.name}": mix}


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs")
    parser.add_argument("--shapes", default="gte-base,gte-large")
    parser.add_argument("--lengths", default="128,512,2048,8192")
    parser.add_argument("--tokens", type=int, default=500_000, help="of each sample, about")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine (or this build of torch) has no CUDA")
    top = peak(arguments.device)
    for shape in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            folder, peer, _ = make_shape(shape, Path(name))
            peer = peer.to(arguments.device, torch.bfloat16)
            contestants = {"ours": ours(folder, arguments.device)} | {
                one: padded(peer, arguments.device, budget) for one, budget in PEER_BATCHES.items()
            }
            for sample, rows in samples(arguments).items():
                compare(f"{shape}, {sample}", folder, rows, contestants, top)


if __name__ == "__main__":
    main()
