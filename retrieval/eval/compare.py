"""Is one run better than another, or is it chance? And the file that keeps a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.errors import InvalidArgument, StorageError
from retrieval.eval.measure import Answer

_SHUFFLES: Final = 10_000
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one measure, over the queries that both runs have."""

    measure: str
    before: float
    after: float
    p_value: float
    """How often chance alone makes a difference of this size, were the two equally good."""
    better: int
    worse: int
    """Queries."""


def compare(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> list[Difference]:
    """Compare two runs, query by query.

    By Fisher's paired randomization test, two-sided, over 10,000 exchanges at random
    (https://doi.org/10.1145/1321440.1321528).

    Args:
        before: query id → measure → value.
        after: of the other run.

    Raises:
        InvalidArgument: they have no query, or no measure, in common.
    """
    queries = [query for query in before if query in after]
    if not queries:
        raise InvalidArgument("the two runs have no query in common")
    measures = [name for name in before[queries[0]] if name in after[queries[0]]]
    if not measures:
        raise InvalidArgument("the two runs have no measure in common; run both with the same -k")
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), size=(_SHUFFLES, len(queries)))
    differences = []
    for measure in measures:
        old, new = (np.array([run[query][measure] for query in queries]) for run in (before, after))
        gains = new - old
        chance = np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9
        p_value = (np.count_nonzero(chance) + 1) / (_SHUFFLES + 1)
        differences.append(
            Difference(
                measure,
                float(old.mean()),
                float(new.mean()),
                float(p_value),
                int(np.count_nonzero(gains > 0)),
                int(np.count_nonzero(gains < 0)),
            )
        )
    return differences


def values_of(answers: Sequence[Answer]) -> dict[str, Mapping[str, float]]:
    """Query id → measure → value."""
    return {answer.query.id: answer.measures for answer in answers}


def save_run(path: Path, answers: Sequence[Answer]) -> None:
    """Keep a run: one JSON object a line, a query each.

    Raises:
        StorageError: the disk refuses.
    """
    lines = [
        json.dumps(
            {
                "id": answer.query.id,
                "query": answer.query.text,
                "milliseconds": round(answer.milliseconds, 3),
                "measures": answer.measures,
                "found": list(answer.found),
            },
            ensure_ascii=False,
        )
        for answer in answers
    ]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def load_run(path: Path) -> dict[str, Mapping[str, float]]:
    """The measures of a run that was kept.

    Raises:
        InvalidArgument: it can't be read, or is none.
    """
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {str(record["id"]): dict(record["measures"]) for record in records}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{path} is no run that --save has kept: {error}") from error
