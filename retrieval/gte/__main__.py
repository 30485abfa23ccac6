"""Run a checkpoint over token ids: ``python -m retrieval.gte FOLDER inputs.json out.safetensors``.

It serves to compare this core with any other implementation. ``inputs.json`` holds
``{"input_ids": [[…], …], "token_type_ids": [[…], …] or null}``. For B sequences of N tokens in
total the output holds ``last_hidden_state``, float32 [N, hidden] (the sequences one after the
other, without padding), ``cls_embedding`` [B, hidden] (first token, L2-normalised), ``lengths``
[B], and ``logits`` if the checkpoint has a head.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import save_file
from torch import Tensor

from retrieval.domain.own_process import claim_process
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.gte import GteModel, load_model, normalize, pack, pool
from retrieval.gte.json_files import read_json

TokenRows = list[list[int]]

MAX_INPUT_BYTES = 1 << 30
"""Largest file of inputs that is read: 150 million tokens."""


def run(
    model: GteModel,
    input_ids: TokenRows,
    type_ids: TokenRows | None = None,
    *,
    single: bool = False,
) -> dict[str, Tensor]:
    """Encode sequences and return all outputs.

    Args:
        model: from ``load_model``.
        input_ids: B lists of token ids.
        type_ids: token types in the same shape, or None.
        single: whether to run one sequence at a time instead of one packed batch.

    Returns:
        the tensors described above, float32 (``lengths`` int64).

    Raises:
        InvalidArgument: an id is out of range, a sequence is empty, or the shapes disagree.
    """
    if single and len(input_ids) > 1:
        rows: Sequence[list[int] | None] = type_ids or [None] * len(input_ids)
        parts = [
            run(model, [ids], None if types is None else [types])
            for ids, types in zip(input_ids, rows, strict=True)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    batch = pack(input_ids, type_ids)
    with torch.inference_mode():
        hidden = model(batch)
        outputs = {
            "last_hidden_state": hidden.float(),
            "cls_embedding": normalize(pool(hidden, batch, "cls")),
            "lengths": torch.tensor(batch.lengths),
        }
        if model.head != "none":
            outputs["logits"] = model.logits(hidden, batch).float()
    return outputs


def main(argv: list[str] | None = None) -> int:
    """Run the command line, and return its exit code: 0 done, 2 for the user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m retrieval.gte", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint: config.json, model.safetensors")
    parser.add_argument("inputs", type=Path, help="JSON with input_ids (and token_type_ids)")
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--single", action="store_true", help="one sequence at a time, not packed")
    arguments = parser.parse_args(argv)
    try:
        claim_process()
        ids, types = _read_inputs(arguments.inputs)
        outputs = run(load_model(arguments.folder), ids, types, single=arguments.single)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in outputs.items()}, arguments.output)
    except RetrievalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: can't write {arguments.output}: {error.strerror}", file=sys.stderr)
        return 2
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
    print(f"{arguments.output}: {shapes}")
    return 0


def _read_inputs(path: Path) -> tuple[TokenRows, TokenRows | None]:
    raw = read_json(path, limit=MAX_INPUT_BYTES)
    ids, types = raw.get("input_ids"), raw.get("token_type_ids")
    if not _is_token_rows(ids) or (types is not None and not _is_token_rows(types)):
        raise InvalidArgument(
            f"{path}: input_ids (and token_type_ids, unless null) must be lists of lists of ints"
        )
    return ids, types


def _is_token_rows(value: Any) -> TypeGuard[TokenRows]:  # noqa: ANN401  (parsed JSON)
    return isinstance(value, list) and all(
        isinstance(row, list) and all(type(token) is int for token in row) for row in value
    )


if __name__ == "__main__":
    sys.exit(main())
