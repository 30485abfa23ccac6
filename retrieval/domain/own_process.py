"""Whether this process is one of the project's own programs, which may set it up as a whole.

A library must not change the allocator or the environment of the process that imports it. The
programs ``retrieval`` and ``indexer`` do, because it makes models faster: they claim their process
when they start, and what is process-wide asks here first.
"""


class _Owner:
    claimed = False


def claim_process() -> None:
    """Say that this process runs one of the project's own programs; called by the programs."""
    _Owner.claimed = True


def is_own_process() -> bool:
    """Return whether ``claim_process`` was called."""
    return _Owner.claimed
