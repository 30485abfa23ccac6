"""Switches that turn off what reaches below gRPC and Python, to track down a problem.

The environment variable ``RETRIEVAL_SERVER_OFF`` lists what to turn off, separated by commas:

- ``hang-up``: reading and closing connections by file descriptor (``hang_up``);
- ``trim``: giving the memory of large messages back to the system (``memory``);
- ``all``: both.
"""

import os
from typing import Final, Literal, get_args

from retrieval.errors import InvalidArgument

Mechanism = Literal["hang-up", "trim"]

VARIABLE: Final = "RETRIEVAL_SERVER_OFF"
_ALL: Final = "all"
_NAMES: Final = (*get_args(Mechanism), _ALL)


def is_on(mechanism: Mechanism) -> bool:
    """Return whether a mechanism may be used: whether the environment does not turn it off.

    Raises:
        InvalidArgument: the variable names something else.
    """
    off = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if unknown := sorted(off.difference(_NAMES)):
        raise InvalidArgument(
            f"{VARIABLE} names {', '.join(unknown)}; it may name {', '.join(_NAMES)}"
        )
    return off.isdisjoint((mechanism, _ALL))
