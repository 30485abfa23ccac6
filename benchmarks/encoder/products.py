"""Speed of the matrix products that an encoder consists of, in each layout of the weights.

    python -m benchmarks.encoder.products [--shapes minilm,gte-base,gte-large]
        [--rows 1,12,64,256,1024]

``retrieval/gte/cpu/layout.py`` chooses between these layouts, and the fastest is the limit for the
encoder's own speed. The output has GFLOP/s (an int8 multiply-add counts as two, too) and
microseconds for one layer.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from retrieval.gte.cpu import int8_linear
from retrieval.gte.cpu.prepacked_linear import PackedLinear, can_prepack

SHAPES = {
    "minilm": ((384, 1152), (384, 384), (384, 1536), (1536, 384)),
    "gte-base": ((768, 2304), (768, 768), (768, 6144), (3072, 768)),
    "gte-large": ((1024, 3072), (1024, 1024), (1024, 8192), (4096, 1024)),
}
"""Input and output width of the products of one layer."""

SECONDS = 0.05
"""Seconds of one try; the best of ``TRIES`` counts."""
TRIES = 5

Multiply = Callable[[Tensor], Tensor]


def layouts(width: int, out: int) -> dict[str, Multiply]:
    """Yield every layout that this build of torch and this processor support, by name."""
    weight, bias = torch.randn(out, width), torch.randn(out)
    plain = torch.nn.Linear(width, out)
    plain.weight.data, plain.bias.data = weight, bias
    found: dict[str, Multiply] = {"plain": plain}
    if can_prepack():
        found["prepacked"] = PackedLinear(weight, bias)
    for name, make in (
        ("int8 oneDNN", int8_linear.OneDnnProduct),
        ("int8 FBGEMM", int8_linear.FbgemmProduct),
    ):
        if int8_linear._is_exact(make, int8_linear._SAFE_PAIR):
            layer = int8_linear.Int8Linear(weight, bias)
            integers = (weight / weight.abs().amax() * 63).to(torch.int8)
            layer._product = make(integers, torch.ones(out))
            found[name] = layer
    return found


def best_seconds(multiply: Multiply, rows: Tensor) -> float:
    """Return the seconds of one product."""
    multiply(rows)
    best = float("inf")
    for _ in range(TRIES):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            multiply(rows)
            count += 1
        best = min(best, (time.perf_counter() - started) / count)
    return best


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", default="minilm,gte-base")
    parser.add_argument("--rows", default="1,12,64,256,1024")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{capability}, pairs up to {int8_linear.pair_limit()}, {arguments.threads} threads")
    with torch.inference_mode():
        for shape in arguments.shapes.split(","):
            for count in map(int, arguments.rows.split(",")):
                report(shape, count)


def report(shape: str, count: int) -> None:
    """Print one line: all products of a layer in turn, in each layout."""
    total: dict[str, float] = {}
    for width, out in SHAPES[shape]:
        rows = torch.randn(count, width)
        for name, multiply in layouts(width, out).items():
            total[name] = total.get(name, 0.0) + best_seconds(multiply, rows)
    work = sum(2 * count * width * out for width, out in SHAPES[shape])
    print(
        f"{shape:<10}{count:>5} rows "
        + "".join(
            f"  {name} {seconds * 1e6:>7.0f} µs {work / seconds / 1e9:>4.0f} GFLOP/s"
            for name, seconds in total.items()
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
