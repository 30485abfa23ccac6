"""What holds for the whole process: whose program it is, and what its environment turns off.

A library must not change the allocator or the environment of the process that imports it. The
programs ``retrieval`` and ``indexer`` do, because it makes models faster: they claim their process
when they start, and what is process-wide asks here first.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from retrieval.errors import InvalidArgument

ALL: Final = "all"
"""Name that turns off everything that a variable can turn off."""


class _Owner:
    claimed = False


def claim_process() -> None:
    """Say that this process runs one of the project's own programs; called by the programs."""
    _Owner.claimed = True


def is_own_process() -> bool:
    """Return whether ``claim_process`` was called."""
    return _Owner.claimed


def is_turned_off(name: str, *, variable: str, names: Sequence[str]) -> bool:
    """Return whether an environment variable turns something off, by its name or by ``all``.

    Args:
        name: one of ``names``.
        variable: environment variable that lists what to turn off, separated by commas.
        names: all names that the variable may list besides ``all``.

    Raises:
        InvalidArgument: the variable lists another name.
    """
    off = {listed.strip() for listed in os.environ.get(variable, "").split(",")} - {""}
    if unknown := sorted(off.difference(names, (ALL,))):
        raise InvalidArgument(
            f"{variable} names {', '.join(unknown)}; it may name {', '.join((*names, ALL))}"
        )
    return not off.isdisjoint((name, ALL))


def at_end_of_stdin(call: Callable[[], None]) -> None:
    """Call once standard input closes, as it does when the program that started this one has ended.

    For a process whose standard input is a pipe; called in a running event loop.
    """
    import asyncio  # takes a while, and most commands do without

    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin)
            call()

    loop.add_reader(sys.stdin, on_readable)
