"""The student: the encoder that a stage trains, and its embeddings during training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from retrieval.encoding.batching import batches_by_length
from retrieval.gte import GteModel, load_model, pack
from retrieval.gte.encoder_config import RopeConfig
from training.models.precision import mixed_precision
from training.stages import Stage

_INITIAL_RANGE = 0.02
"""Standard deviation of new weights, as in BERT."""


def load_student(folder: Path, stage: Stage, device: str) -> GteModel:
    """Load the encoder to train, with the stage's rotary base, and for ``mlm`` with a head.

    Args:
        folder: a GTE checkpoint.
        stage: the settings.
        device: where to put it.

    Raises:
        CheckpointError: the checkpoint can't be used, or has no rotary positions.
    """
    start = load_model(folder, trainable=True)
    config = replace(start.config, rope=RopeConfig(stage.rope_theta))
    student = GteModel(config, "mlm" if stage.objective == "mlm" else "none")
    torch.manual_seed(stage.seed)
    if student.lm_head is not None:
        nn.init.normal_(student.lm_head.dense.weight, std=_INITIAL_RANGE)
        nn.init.zeros_(student.lm_head.dense.bias)
    known = start.state_dict()
    wanted = student.state_dict()
    student.load_state_dict({name: known.get(name, value) for name, value in wanted.items()})
    student.to(device).prepare_training(device=device)
    return student


@torch.no_grad()
def embed(
    model: GteModel, texts: Sequence[Sequence[int]], micro_tokens: int, device: str
) -> Tensor:
    """Embed n sequences of token ids; returns float32 [n, dim] in their order."""
    vectors = torch.empty(len(texts), model.config.hidden_size, device=device)
    for rows in batches_by_length([len(text) for text in texts], micro_tokens):
        with mixed_precision(device):
            batch = pack([texts[row] for row in rows], device=device)
            vectors[rows] = model.embed(batch, "cls")
    return vectors
