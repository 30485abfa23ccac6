"""JSON files of a model folder, read within bounds; whatever is wrong is a ``CheckpointError``."""

import json
from pathlib import Path
from typing import Any

from retrieval.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 20
"""Largest configuration file that is read; real ones have a few KiB, with many labels a few 100."""


def load_json(path: Path, *, limit: int = MAX_CONFIG_BYTES) -> Any:  # noqa: ANN401  (JSON)
    """Read a JSON file of at most ``limit`` bytes.

    Raises:
        CheckpointError: the file is missing, too large, or not JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise CheckpointError(f"{path} is larger than {limit} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def read_json(path: Path, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object; see ``load_json``.

    Raises:
        CheckpointError: as ``load_json``, or the JSON is not an object.
    """
    raw = load_json(path, limit=limit)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return raw
