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

from typing import Final, Literal, get_args

from retrieval.domain.own_process import is_turned_off

Optimisation = Literal["int8", "prepack", "gelu", "trace", "malloc"]

VARIABLE: Final = "RETRIEVAL_CPU_OFF"


def is_on(optimisation: Optimisation) -> bool:
    """Return whether an optimisation may be used: whether the environment does not turn it off.

    Raises:
        InvalidArgument: the variable names something else.
    """
    return not is_turned_off(optimisation, variable=VARIABLE, names=get_args(Optimisation))
