"""Switches that turn off what reaches below gRPC and Python, to track down a problem.

The environment variable ``RETRIEVAL_SERVER_OFF`` lists what to turn off, separated by commas:

- ``hang-up``: reading and closing connections by file descriptor (``hang_up``);
- ``trim``: giving the memory of large messages back to the system (``memory``);
- ``all``: both.
"""

from typing import Final, Literal, get_args

from retrieval.domain.own_process import is_turned_off

Mechanism = Literal["hang-up", "trim"]

VARIABLE: Final = "RETRIEVAL_SERVER_OFF"


def is_on(mechanism: Mechanism) -> bool:
    """Return whether a mechanism may be used: whether the environment does not turn it off.

    Raises:
        InvalidArgument: the variable names something else.
    """
    return not is_turned_off(mechanism, variable=VARIABLE, names=get_args(Mechanism))
