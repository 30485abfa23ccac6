"""AdamW over the weights that are to change, and its learning rate over the steps."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config import Stage


def trained_parameters(model: nn.Module, stage: Stage) -> dict[str, nn.Parameter]:
    """The weights that a stage changes, by name; the others get no gradients."""
    trained = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(stage.frozen))
        if parameter.requires_grad:
            trained[name] = parameter
    return trained


def make_optimizer(parameters: dict[str, nn.Parameter], stage: Stage) -> torch.optim.AdamW:
    """AdamW (https://arxiv.org/abs/1711.05101); biases and norms do not decay."""
    decayed = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": stage.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=stage.learning_rate,
        betas=(0.9, stage.beta2),
        fused=True,
    )


def learning_rate(stage: Stage, step: int) -> float:
    """Of update ``step``, from 0: up on a line, then down on one.

    Args:
        stage: its height and lengths.
        step: below ``stage.steps``.
    """
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    left = (stage.steps - step) / max(1, stage.steps - stage.warmup_steps)
    return stage.learning_rate * (stage.final_share + (1 - stage.final_share) * left)


def optimizer_tensors(optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """What AdamW remembers of each weight, under names that say whose it is and what."""
    return {
        f"{number}.{name}": value
        for number, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
    }


def restore_optimizer(optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Give it back what ``optimizer_tensors`` said."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
