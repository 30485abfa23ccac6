"""Switches that turn the CPU optimisations off, for comparison and to track down a problem.

The environment variable ``RETRIEVAL_CPU_OFF`` lists what to turn off, separated by commas:

- ``int8``: the int8 operators; the same integer sums are computed in float32, slowly;
- ``prepack``: float32 weights in oneDNN's layout; the plain ``nn.Linear`` stays;
- ``gelu``: GELU in place; it writes its result to new memory;
- ``trace``: TorchScript traces of short texts; every text takes the way through Python;
- ``malloc``: the setting of the C library that keeps freed memory in the process;
- ``all``: all of these.

It is read when a model is loaded.
"""

import os
from typing import Final, Literal, get_args

from retrieval.errors import InvalidArgument

Optimisation = Literal["int8", "prepack", "gelu", "trace", "malloc"]

VARIABLE: Final = "RETRIEVAL_CPU_OFF"
_ALL: Final = "all"
_NAMES: Final = (*get_args(Optimisation), _ALL)


def is_on(optimisation: Optimisation) -> bool:
    """Return whether an optimisation may be used: whether the environment does not turn it off.

    Raises:
        InvalidArgument: the variable names something else.
    """
    off = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if unknown := sorted(off.difference(_NAMES)):
        raise InvalidArgument(
            f"{VARIABLE} names {', '.join(unknown)}; it may name {', '.join(_NAMES)}"
        )
    return off.isdisjoint((optimisation, _ALL))
