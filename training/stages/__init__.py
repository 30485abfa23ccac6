"""A stage of training as data: what is learned, on how much text at a time, how fast."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from retrieval.errors import InvalidArgument

Objective = Literal["mlm", "contrastive", "distil"]
OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; a TOML file has these fields under the same names."""

    objective: Objective
    """``mlm``: tokens that were masked; ``contrastive``: which text of a pair belongs to which;
    ``distil``: a teacher's vectors and hidden states."""
    steps: int
    """Updates of the weights."""
    learning_rate: float
    """At its highest."""
    max_length: int = 512
    """Tokens of a text, special tokens included; what is beyond is cut off."""
    min_length: int = 3
    """Shorter texts are left out."""
    whole_documents: bool = False
    """Whether a text is a whole document instead of a chunk of one."""
    stretches: bool = False
    """With ``whole_documents``: whether it is any stretch of one, of any length (their logarithms
    are even), instead of the whole. Long documents are drawn more often, for all of their tokens
    to be seen as often as those of short ones."""
    rope_theta: float = 160_000.0
    """Base of the rotary frequencies (the card's ``rope_base``)."""
    batch_tokens: int = 16_384
    """Tokens that one update learns from, at least; in contrastive stages of both sides."""
    micro_tokens: int = 4_096
    """Of those, about as many as go through the model at a time: memory, not arithmetic."""
    optimizer: OptimizerName = "adamw"
    """``muon``: for the matrices of the hidden layers; AdamW for what else there is."""
    warmup_steps: int = 100
    final_share: float = 0.0
    """Of the learning rate, at the last step; it falls on a line."""
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip_norm: float = 1.0
    frozen: tuple[str, ...] = ()
    """Weights whose names begin so stay as they are."""
    temperature: float = 0.01
    """Contrastive: cosines are divided by it."""
    hard_negatives: int = 0
    """Contrastive: mined passages for each pair (``training.mine``), beside the other pairs'."""
    mask_share: float = 0.3
    """MLM: tokens to be guessed."""
    hidden_weight: float = 1.0
    """Distil: of the difference of hidden states, layer by layer."""
    similarity_weight: float = 1.0
    """Distil: of the difference of the texts' cosines with each other."""
    discriminant: float = 0.0
    """Distil: if above 0, wanted of a long text is not the mean of its pieces' vectors, but what
    tells it from texts like it; in ``training/learning/discriminant.py`` this is ``variance``."""
    evaluate_every: int = 250
    """Steps from one measurement on held-back texts to the next, and to the next checkpoint."""
    seed: int = 0

    @classmethod
    def from_file(cls, path: Path) -> "Stage":
        """Read a stage.

        Raises:
            InvalidArgument: not a TOML file of these fields, or a value out of range.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"can't read the stage {path}: {error}") from error
        known = {field.name for field in fields(cls)}
        if strange := sorted(set(raw) - known):
            raise InvalidArgument(f"{path}: unknown settings: {', '.join(strange)}")
        raw["frozen"] = tuple(raw.get("frozen", ()))
        try:
            stage = cls(**raw)
        except TypeError as error:
            raise InvalidArgument(f"{path}: {error}") from error
        stage.check(str(path))
        return stage

    def check(self, where: str) -> None:
        """Refuse values that make no sense.

        Raises:
            InvalidArgument: the first of them.
        """
        if self.objective not in get_args(Objective):
            raise InvalidArgument(f"{where}: objective must be {', '.join(get_args(Objective))}")
        if self.optimizer not in get_args(OptimizerName):
            raise InvalidArgument(
                f"{where}: optimizer must be {' or '.join(get_args(OptimizerName))}"
            )
        if self.hard_negatives and self.whole_documents:
            raise InvalidArgument(f"{where}: hard_negatives are chunks, not whole_documents")
        if (self.stretches or self.discriminant) and not self.whole_documents:
            raise InvalidArgument(f"{where}: stretches and discriminant need whole_documents")
        if self.stretches and self.objective == "contrastive":
            raise InvalidArgument(f"{where}: a pair's document can't be a stretch of it")
        if self.discriminant < 0:
            raise InvalidArgument(f"{where}: discriminant must not be below 0")
        positive = ("steps", "max_length", "batch_tokens", "micro_tokens", "evaluate_every")
        for name in (*positive, "learning_rate", "rope_theta", "temperature", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(f"{where}: {name} must be above 0")
        if not 0 < self.mask_share < 1:
            raise InvalidArgument(f"{where}: mask_share must lie between 0 and 1")
