"""Folder of links that the engine opens the lexical index by, kept in the index by the writer.

The engine wants a folder with its segments and its list of them, and takes a lock in there even to
read. A view is such a folder, ready made: relative links to the index's own files, the list, and a
link in the place of the lock to a device that everyone may open. So a reader needs no place to
write in, and sees the segments of its own generation alone. A view is only a convenience: without
it, as where a copy has lost the links, a reader puts a folder together where temporary files go.
"""

import hashlib
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from retrieval.store.disk.files.vector_file import LEXICAL, sync

_META = "meta.json"
_LOCK = ".tantivy-meta.lock"
_LOCK_TARGET = "/dev/null"
"""Can be opened for writing on a read-only disk, too, and is empty to a copy that follows links."""


def view_name(meta: str) -> str:
    """Name of the view of the segments that an engine's list names."""
    return f"{LEXICAL}{hashlib.sha256(meta.encode()).hexdigest()[:32]}.view"


def write_view(folder: Path, meta: str, files: Sequence[str]) -> None:
    """Make the view of some segments, unless it is there.

    Args:
        folder: the index.
        meta: the engine's list of segments.
        files: names of the segments' files in the index.

    Raises:
        OSError: the disk refuses.
    """
    if find_view(folder, meta, files):
        return
    made = folder / f"{LEXICAL}{secrets.token_hex(8)}.tmp"
    made.mkdir()
    for name, target in _links(files).items():
        (made / name).symlink_to(target)
    (made / _META).write_text(meta)
    sync(made / _META)
    sync(made)
    final = folder / view_name(meta)
    if final.is_dir():
        # What a copy that follows links made of it.
        replaced = final.rename(folder / f"{LEXICAL}{secrets.token_hex(8)}.tmp")
        shutil.rmtree(replaced, ignore_errors=True)
    made.rename(final)
    sync(folder)


def find_view(folder: Path, meta: str, files: Sequence[str]) -> Path | None:
    """The view of some segments, if it is there and holds nothing but what it should.

    Args:
        folder: the index.
        meta: the engine's list of segments.
        files: names of the segments' files in the index.
    """
    view, links = folder / view_name(meta), _links(files)
    try:
        found = {path.name for path in view.iterdir()}
        whole = (
            found == {*links, _META}
            and all(str((view / name).readlink()) == target for name, target in links.items())
            and not (view / _META).is_symlink()
            and (view / _META).read_text() == meta
        )
    except (OSError, UnicodeDecodeError):
        return None
    return view if whole else None


def _links(files: Sequence[str]) -> dict[str, str]:
    """Name in a view → what it links to."""
    links = {name.removeprefix(LEXICAL): f"../{name}" for name in files}
    return {**links, _LOCK: _LOCK_TARGET}
