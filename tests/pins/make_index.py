"""Make an index of ``tests/pins/documents`` with the version of the program that is checked out.

The tables of ``tests/pins/index`` end with the migration ``m013_filtered_columns``, and the folder
stays as it is. When a later version changes the format, make another index beside it and add its
folder to ``INDEXES`` in ``conftest.py``::

    python -m tests.pins.make_index tests/pins/index-m014

Two runs give indexes with the same meaning but different bytes: ids and times are new each time.
The index records the folder that was indexed, so the documents are first copied to a folder whose
path says nothing about the machine.
"""

import shutil
import sqlite3
import sys
from pathlib import Path

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.encoding.model_cards import OWN_MODEL

DOCUMENTS = Path(__file__).parent / "documents"
NEUTRAL_PLACE = Path("/tmp/pins")


def make_index(documents: Path, index: Path) -> None:
    """Build an index, or update one, with the model that comes with the package.

    Args:
        documents: the folder to index; its name is the first part of every URI.
        index: the index's folder.
    """
    options = BuildOptions([documents], index, OWN_MODEL, chunk_tokens=40, device="cpu")
    build(options, SilentProgress())


def tidy(index: Path) -> None:
    """Leave only what a commit names: no write-ahead log, no lock, no folders of links."""
    with sqlite3.connect(index / "index.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for leftover in (*index.glob("index.db-*"), *index.glob("*.lock")):
        leftover.unlink(missing_ok=True)
    for links in index.glob("*.view"):
        shutil.rmtree(links)


def main(index: Path) -> None:
    """Make the index that is to be committed."""
    documents = NEUTRAL_PLACE / DOCUMENTS.name
    shutil.copytree(DOCUMENTS, documents)
    try:
        make_index(documents, index)
    finally:
        shutil.rmtree(NEUTRAL_PLACE)
    tidy(index)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
