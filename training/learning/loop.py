"""The training loop: runs a stage from its first update to its last, and resumes it if stopped."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieval.errors import InvalidArgument
from retrieval.gte import GteModel
from training.data.batches import Batches
from training.export import export
from training.learning import checkpoint
from training.learning.checkpoint import Progress
from training.learning.held_back import HeldBack, hold_back, measure
from training.learning.objectives import Distillation, Learning, MaskedTokens, Pairs
from training.learning.optimizer import Optimizer, learning_rate, trained_parameters
from training.models.student import load_student
from training.models.teacher import Teacher
from training.stages import Stage

_WEIGHTS, _OPTIMIZER = "weights.", "optimizer."


@dataclass(slots=True)
class Run:
    """A stage in progress; made by ``start``."""

    folder: Path
    stage: Stage
    model: GteModel
    batches: Batches
    learning: Learning
    held: HeldBack
    optimizer: Optimizer
    trained: Mapping[str, torch.nn.Parameter]
    device: str
    progress: Progress

    def go_on(self, *, until: int | None = None, seconds: float | None = None) -> Progress:
        """Train, measure, and save checkpoints.

        Args:
            until: number of the update to stop before; None for the stage's end.
            seconds: time after which to stop, with a checkpoint.

        Returns:
            the progress.
        """
        end = self.stage.steps if until is None else min(until, self.stage.steps)
        began = time.perf_counter()
        if self.progress.step == 0:
            self._log({"held": self._measure(), "teacher": {"ndcg": self.held.ndcg}})
        while self.progress.step < end:
            figures = self._update()
            out_of_time = seconds is not None and time.perf_counter() - began > seconds
            last = self.progress.step == end or out_of_time
            if last or self.progress.step % self.stage.evaluate_every == 0:
                figures["held"] = self._measure()
                self._keep()
            self._log(figures)
            if out_of_time:
                break
        return self.progress

    def _update(self) -> dict[str, Any]:
        started = time.perf_counter()
        step = self.progress.step
        rate = learning_rate(self.stage, step)
        self.optimizer.clear()
        figures = self.learning.learn(step)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.stage.clip_norm)
        self.optimizer.step(rate)
        self.progress = replace(
            self.progress,
            step=step + 1,
            tokens=self.progress.tokens + int(figures.pop("tokens")),
            seconds=self.progress.seconds + time.perf_counter() - started,
            epoch=self.batches.order.epoch,
            cursor=self.batches.order.cursor,
        )
        return {**figures, "rate": rate, "norm": norm.item()}

    def _measure(self) -> dict[str, float]:
        return measure(self.model, self.held, self.stage.micro_tokens, self.device)

    def _keep(self) -> None:
        tensors: dict[str, Tensor] = {
            f"{_WEIGHTS}{name}": weight for name, weight in self.trained.items()
        }
        for name, value in self.optimizer.tensors().items():
            tensors[f"{_OPTIMIZER}{name}"] = value
        checkpoint.save(self.folder, self.progress, tensors)

    def _log(self, figures: Mapping[str, Any]) -> None:
        progress = self.progress
        rate = progress.tokens / progress.seconds if progress.seconds else 0.0
        line = {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 1),
            "tokens_per_second": round(rate),
            **figures,
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_model(self, tokenizer: Path) -> Path:
        """Write the current encoder in float32, for the next stage or for export."""
        out = self.folder / "model"
        longest = max(self.stage.max_length, self.model.config.max_positions)
        export(self.model, tokenizer, out, max_tokens=longest, dtype="float32")
        return out


def start(
    folder: Path,
    stage: Stage,
    *,
    batches: Batches,
    begin: Path,
    device: str = "cpu",
    teacher: Teacher | None = None,
) -> Run:
    """Begin a stage, or resume the run in the folder.

    Args:
        folder: the run's folder, which is made if necessary.
        stage: the settings.
        batches: the texts to learn from, made for this stage.
        begin: folder of the encoder that the stage starts from.
        device: ``"cpu"`` or ``"cuda"``.
        teacher: for distillation; for other objectives, held-back texts are compared with it.

    Raises:
        InvalidArgument: the folder has a run of another stage, or distillation has no teacher.
        CheckpointError: ``begin`` or the run's checkpoint can't be used.
    """
    _same_stage(folder, stage)
    model = load_student(begin, stage, device)
    trained = trained_parameters(model, stage)
    optimizer = Optimizer(trained, stage)
    progress = Progress()
    kept = checkpoint.load(folder)
    if kept is not None:
        progress, tensors = kept
        _restore(model, optimizer, tensors)
        batches.order.epoch, batches.order.cursor = progress.epoch, progress.cursor
    learning = _learning(model, batches, stage, device, teacher)
    held = hold_back(batches, teacher)
    return Run(folder, stage, model, batches, learning, held, optimizer, trained, device, progress)


def _same_stage(folder: Path, stage: Stage) -> None:
    """Record the stage in a new run's folder; refuse a folder with another stage."""
    folder.mkdir(parents=True, exist_ok=True)
    path, settings = folder / "stage.json", json.dumps(asdict(stage), indent=2) + "\n"
    if not path.exists():
        path.write_text(settings, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != settings:
        raise InvalidArgument(f"{folder} has a run of another stage: give another --run")


def _restore(model: GteModel, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    model.load_state_dict(_under(_WEIGHTS, tensors), strict=False)
    optimizer.restore(_under(_OPTIMIZER, tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without the prefix."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _learning(
    model: GteModel, batches: Batches, stage: Stage, device: str, teacher: Teacher | None
) -> Learning:
    match stage.objective:
        case "mlm":
            return MaskedTokens(model, batches, stage, device)
        case "contrastive":
            return Pairs(model, batches, stage, device)
        case "distil":
            if teacher is None:
                raise InvalidArgument("distillation needs a teacher: give one with --teacher")
            return Distillation(model, batches, stage, device, teacher)
