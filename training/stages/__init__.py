"""Settings of a training stage: what is learned, from which texts, and how fast; read from TOML."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from retrieval.errors import InvalidArgument

Objective = Literal["mlm", "contrastive", "distil"]
OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Settings of one stage; a TOML file has the same names."""

    objective: Objective
    """``mlm`` predicts masked tokens, ``contrastive`` matches the texts of pairs, ``distil``
    reproduces a teacher's vectors and hidden states."""
    steps: int
    """Number of updates of the weights."""
    learning_rate: float
    """Highest learning rate."""
    max_length: int = 512
    """Maximum tokens of a text, special tokens included; longer texts are truncated."""
    min_length: int = 3
    """Minimum tokens of a text; shorter texts are left out."""
    whole_documents: bool = False
    """Whether a text is a whole document instead of a chunk of one."""
    stretches: bool = False
    """With ``whole_documents``: whether a text is a random stretch of a document instead of the
    whole. The logarithms of the lengths are uniform. Long documents are drawn more often, so that
    their tokens are seen as often as those of short ones."""
    rope_theta: float = 160_000.0
    """Base of the rotary frequencies (``rope_base`` in GTE's card)."""
    batch_tokens: int = 16_384
    """Minimum tokens of an update; in contrastive stages, of both sides together."""
    micro_tokens: int = 4_096
    """Tokens that go through the model at a time, to limit memory."""
    optimizer: OptimizerName = "adamw"
    """``muon`` is for the matrices of the hidden layers; AdamW trains the other weights."""
    warmup_steps: int = 100
    final_share: float = 0.0
    """Fraction of the learning rate at the last step; it falls linearly."""
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip_norm: float = 1.0
    frozen: tuple[str, ...] = ()
    """Prefixes of the names of weights that are not trained."""
    temperature: float = 0.01
    """Contrastive: divisor of the cosines."""
    hard_negatives: int = 0
    """Contrastive: mined passages for each pair (``training.mine``), beside the other pairs'."""
    mask_share: float = 0.3
    """MLM: fraction of the tokens that are masked."""
    hidden_weight: float = 1.0
    """Distil: weight of the error of hidden states, layer by layer."""
    similarity_weight: float = 1.0
    """Distil: weight of the error of the cosines between texts."""
    discriminant: float = 0.0
    """Distil: if above 0, the target of a long text is not the mean of its pieces' vectors but what
    distinguishes it; this is ``variance`` in ``training/learning/discriminant.py``."""
    evaluate_every: int = 250
    """Updates between measurements on held-back texts, and between checkpoints."""
    seed: int = 0

    @classmethod
    def from_file(cls, path: Path) -> "Stage":
        """Read the settings of a stage.

        Raises:
            InvalidArgument: it is not a TOML file of these fields, or a value is out of range.
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
            InvalidArgument: names the first of them.
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
