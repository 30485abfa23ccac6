"""Mining of hard negatives: for each pair, chunks that a model wrongly finds near the heading.

    python -m training.mine DATA --model RUN/model

It writes ``negatives.npy`` into the data folder. The nearest chunks may really belong to the
heading, so chunks that are nearly as near as the heading's own, or nearer, are left out.
"""

import sys
from pathlib import Path
from typing import Final

import click
import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.commands import program
from retrieval.gte import load_model
from training.data.batches import Batches, SpecialTokens
from training.data.text_data import TextData
from training.models.student import embed
from training.stages import Stage

_CANDIDATES: Final = 200
"""Nearest chunks that are searched, so that enough remain without those that may be right."""
_MARGIN: Final = 0.95
"""Fraction of the own chunk's cosine above which another chunk may belong to the heading too."""


def mine(data: TextData, model: Path, count: int, device: str) -> NDArray[np.int64]:
    """Find hard negatives.

    Args:
        data: texts and pairs.
        model: an encoder's folder.
        count: number of negatives for each pair.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        int64 [P, count], numbers of chunks, nearest first; chunks that may be right come last, and
        only if there are too few others.
    """
    stage = Stage("contrastive", steps=1, learning_rate=1.0)
    batches = Batches(data, stage, SpecialTokens.read(model))
    encoder = load_model(model, trainable=True, device=device)
    chunks = data.chunks(held=False)
    texts = [batches.text(int(number)) for number in (*chunks, *data.pairs[:, 0])]
    vectors = embed(encoder, texts, stage.micro_tokens, device).cpu().numpy()
    passages, queries = vectors[: len(chunks)], vectors[len(chunks) :]
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(passages)
    scores, rows = index.search(queries, min(_CANDIDATES, len(chunks)))
    place = np.searchsorted(chunks, data.pairs[:, 1]).clip(max=len(chunks) - 1)
    own = (queries * passages[place]).sum(axis=1, keepdims=True)
    found = chunks[rows]
    # 0 for a wrong chunk, 1 for one that may be right, 2 for the own chunk
    doubt = np.where(found == data.pairs[:, 1:], 2, scores >= _MARGIN * own)
    order = np.argsort(doubt, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(found, order, axis=1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--count", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def main(folder: Path, model: Path, count: int, device: str) -> None:
    """Add hard negatives to the data in FOLDER."""
    data = TextData.open(folder)
    negatives = mine(data, model, count, device)
    np.save(folder / "negatives.npy", negatives)
    click.echo(f"{len(negatives)} pairs, {negatives.shape[1]} negatives each")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.mine"))
