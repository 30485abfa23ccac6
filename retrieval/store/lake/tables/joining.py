"""Write the rows of some fragments of a table into new files, which no version names yet."""

from collections.abc import Collection
from typing import Final

from lance.optimize import Compaction

from retrieval.store.durable_files import sync
from retrieval.store.lake.place import TABLES
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.schema import Joined, lance_errors

_DATA: Final = "data"
"""Name of a table's folder of data files."""
_BATCH_ROWS: Final = 1_024
"""Number of rows to copy at a time; the engine holds several such batches in memory."""


def joined_files(
    base: Generation, name: str, numbers: Collection[int], *, every_deletion: bool
) -> Joined:
    """Write fragments anew, neighbours into one; flush the files to the disk.

    Args:
        base: the generation.
        name: the table.
        numbers: numbers of the fragments. A single one is left alone unless rows were deleted.
        every_deletion: whether any deleted row is a reason to write a single fragment anew; else
            a tenth of its rows is.

    Raises:
        StorageError, IndexDamaged: files can't be read or written.
    """
    fragments = base.layout(name).fragments
    options: dict[str, object] = {
        "excluded_fragment_ids": [one.number for one in fragments if one.number not in numbers],
        "batch_size": _BATCH_ROWS,
        "num_threads": 1,
    }
    if every_deletion:
        options["materialize_deletions_threshold"] = 0.0
    with lance_errors(base.place):
        table = base.table(name)
        results = [task.execute(table) for task in Compaction.plan(table, options).tasks]
        if base.place.local is not None:
            _flush(base, name, results)
    replaced = {one.id for result in results for one in result.original_fragments}
    sources = {(one.files, one.deletions) for one in fragments if one.number in replaced}
    return Joined(results, sources)


def _flush(base: Generation, name: str, results: Collection[object]) -> None:
    """Flush new data files to the disk."""
    folder = base.place.folder / TABLES / f"{name}.lance" / _DATA
    made = [file for one in results for new in one.new_fragments for file in new.files]  # type: ignore[attr-defined]
    for file in made:
        sync(folder / file.path)
    if made:
        sync(folder)
