"""Optimizers of the trained weights (AdamW and Muon), and the schedule of their learning rate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.stages import Stage

_HIDDEN_MATRICES = "encoder."
"""Prefix of the names of the matrices that Muon is for."""


def trained_parameters(model: nn.Module, stage: Stage) -> dict[str, nn.Parameter]:
    """Return the weights that a stage trains, by name; switch off the gradients of the others."""
    trained = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(stage.frozen))
        if parameter.requires_grad:
            trained[name] = parameter
    return trained


class Optimizer:
    """AdamW for all weights, or Muon for the hidden layers' matrices and AdamW for the rest."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], stage: Stage) -> None:
        """Assign each weight to an optimizer; biases and norms don't decay.

        AdamW is https://arxiv.org/abs/1711.05101, Muon https://kellerjordan.github.io/posts/muon.
        Muon's updates are scaled to the size of AdamW's (https://arxiv.org/abs/2502.16982), so that
        the learning rate means the same for both.
        """
        muon = [
            parameter
            for name, parameter in parameters.items()
            if stage.optimizer == "muon"
            and name.startswith(_HIDDEN_MATRICES)
            and parameter.ndim > 1
        ]
        taken = set(map(id, muon))
        rest = [parameter for parameter in parameters.values() if id(parameter) not in taken]
        self._parts: dict[str, torch.optim.Optimizer] = {"adamw": _adamw(rest, stage)}
        if muon:
            self._parts["muon"] = torch.optim.Muon(
                muon,
                lr=stage.learning_rate,
                weight_decay=stage.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )

    def clear(self) -> None:
        """Clear the gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Update the weights with this learning rate."""
        for part in self._parts.values():
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of the optimizers, under names of optimizer, weight and quantity."""
        return {
            f"{part}.{number}.{name}": value
            for part, optimizer in self._parts.items()
            for number, memory in optimizer.state_dict()["state"].items()
            for name, value in memory.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that ``tensors`` returned."""
        state: dict[str, dict[int, dict[str, Tensor]]] = {part: {} for part in self._parts}
        for key, value in tensors.items():
            part, number, name = key.split(".", 2)
            state[part].setdefault(int(number), {})[name] = value
        for part, optimizer in self._parts.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state[part], "param_groups": groups})


def _adamw(parameters: list[nn.Parameter], stage: Stage) -> torch.optim.AdamW:
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
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
    """Return the learning rate of an update: it rises linearly, then falls linearly.

    Args:
        stage: the settings.
        step: number of the update, from 0 to below ``stage.steps``.
    """
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    left = (stage.steps - step) / max(1, stage.steps - stage.warmup_steps)
    return stage.learning_rate * (stage.final_share + (1 - stage.final_share) * left)
