"""Files of the lexical index: the segments that a commit records, and a folder to open them in.

tantivy's segments are files that never change. They are in the index's folder, and a commit records
their names, sizes and checksums. The engine needs a folder of its own with the segments and a list
of them, and takes a lock in that folder even for reading. The folder is made of links, in one of
two ways:

- The writer keeps a *view* in the index: relative links to the index's own files, the list, and, in
  place of the lock, a link to a device that everyone may open. A reader of a view needs no place to
  write in.
- If there is no view, as in a copy that has lost its links, the reader makes a temporary folder,
  and removes it after opening the index.

Either way a reader writes nothing into the index, and sees only the segments of its own generation.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tantivy

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.open_files import library_path
from retrieval.store.disk.files.shared_parts import FileStamp, Opened
from retrieval.store.disk.files.vector_file import LEXICAL, WrittenFile, sample_sha256
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.disk.lexical.lexical_index import LexicalIndex
from retrieval.store.disk.tables.rows import damaged_row
from retrieval.store.records import LexicalState

META = "meta.json"
"""The engine's list of segments."""
_SEGMENT_FILE = re.compile(r"(?P<segment>[0-9a-f]{32})\.(?:(?P<opstamp>[0-9]+)\.del|[a-z]+)")
_REMOVALS = 10
"""Number of attempts to remove a folder that the engine may still write to."""
_LOCK = ".tantivy-meta.lock"
_LOCK_TARGET = "/dev/null"
"""Target of the link in place of the lock. It can be opened for writing even on a read-only disk,
and a copy that follows links makes an empty file of it."""


@dataclass(frozen=True, slots=True)
class LexicalRecord:
    """Record of the lexical index in a commit."""

    language: str
    analysis: int
    meta: str
    files: Sequence[WrittenFile]


def engine_name(file: WrittenFile) -> str:
    """Return the engine's name for a file."""
    return file.name.removeprefix(LEXICAL)


def load_state(connection: sqlite3.Connection) -> LexicalRecord | None:
    """Read a snapshot's record of the lexical index; None if there is none yet.

    Raises:
        IndexDamaged: the checksum of the list of segments does not match.
    """
    row = connection.execute(
        "SELECT language, analysis, meta, meta_sha256 FROM lexical_index"
    ).fetchone()
    if row is None:
        return None
    language, analysis, meta, digest = row
    if hashlib.sha256(meta.encode()).hexdigest() != digest:
        raise damaged_row("its list of lexical segments has changed")
    files = connection.execute(
        "SELECT file, bytes, sha256, sample_sha256 FROM lexical_files ORDER BY file"
    )
    return LexicalRecord(language, analysis, meta, [WrittenFile(*file) for file in files])


def lexical_state(connection: sqlite3.Connection) -> LexicalState:
    """Return whether the connection's snapshot can be searched by words."""
    row = connection.execute("SELECT analysis FROM lexical_index").fetchone()
    if row is not None:
        return "searchable" if row[0] == VERSION else "outdated"
    has_passages = connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone()
    return "missing" if has_passages else "searchable"


@contextmanager
def assembled(folder: Path, state: LexicalRecord, place: Path | None = None) -> Iterator[Path]:
    """Yield a folder of links in the layout that the engine needs; remove it at the end.

    Args:
        folder: the index.
        state: record of the lexical index.
        place: folder to make it in; None for the folder of temporary files.

    Raises:
        OSError: the folder can't be made.
        StorageError: no folder for temporary files can be written.
    """
    made = _linked(folder, state, place) if place else _linked_somewhere(folder, state)
    try:
        yield made
    finally:
        _remove(made)


def parts_of(state: LexicalRecord, segments: Sequence[str] | None = None) -> LexicalRecord:
    """Return the record of some of the segments of a lexical index.

    Args:
        state: record of the lexical index.
        segments: their ids as in the engine's list; None for no segments.
    """
    listed = json.loads(state.meta)
    names = set(segments or ())
    listed["segments"] = [one for one in listed["segments"] if one["segment_id"] in names]
    bare = tuple(name.replace("-", "") for name in names)
    files = [file for file in state.files if bare and engine_name(file).startswith(bare)]
    return replace(state, meta=json.dumps(listed), files=files)


def joined(first: LexicalRecord, second: LexicalRecord) -> LexicalRecord:
    """Return the record of two lexical indexes of the same schema as one."""
    one, two = json.loads(first.meta), json.loads(second.meta)
    one["segments"] += two["segments"]
    # The engine numbers its next change, which names a file, from here.
    one["opstamp"] = max(one["opstamp"], two["opstamp"])
    return replace(first, meta=json.dumps(one), files=[*first.files, *second.files])


def segments_of(meta: str) -> dict[str, int]:
    """Return the number of texts in each listed segment, by its id."""
    sizes = {}
    for one in json.loads(meta)["segments"]:
        removed = one["deletes"]["num_deleted_docs"] if one["deletes"] else 0
        sizes[one["segment_id"]] = one["max_doc"] - removed
    return sizes


def deletions_of(meta: str) -> dict[str, object]:
    """Return what the engine's list records of removals from each segment, by its id."""
    return {one["segment_id"]: one["deletes"] for one in json.loads(meta)["segments"]}


def _linked(folder: Path, state: LexicalRecord, place: Path | None) -> Path:
    """Make a folder of links in a place, or in the folder of temporary files."""
    made = Path(tempfile.mkdtemp(".tmp", LEXICAL, place))
    try:
        for file in state.files:
            (made / engine_name(file)).symlink_to((folder / file.name).absolute())
        if state.meta:
            (made / META).write_text(state.meta)
    except BaseException:
        _remove(made)
        raise
    return made


def _linked_somewhere(folder: Path, state: LexicalRecord) -> Path:
    """Make a folder of links in the first temporary folder that can be written."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [None, *(Path(place) for place in ("/dev/shm", runtime, "/run") if place)]  # noqa: S108
    for place in places:
        try:
            return _linked(folder, state, place)
        except OSError as error:
            reason = error.strerror or str(error)
    raise StorageError(
        f"can't open the lexical index of {folder} ({reason}): it has no links of its own, and "
        f"none can be made where temporary files go; set TMPDIR to a folder that can be "
        f"written, or run `indexer build` or `indexer compact` on the index once"
    )


def _remove(made: Path) -> None:
    """Remove a folder that the engine has used.

    A thread of the engine reads the list of segments now and then, and locks it with a file in the
    folder. That file may appear while the folder is being emptied.
    """
    for left in reversed(range(_REMOVALS)):
        try:
            shutil.rmtree(made)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
        else:
            return


def segment_files(folder: Path, meta: str) -> list[str]:
    """Return the names of the files in an engine's folder that belong to the listed segments.

    A segment has a file of deletions if texts were removed from it; only the newest one is used.
    """
    live = {
        segment["segment_id"].replace("-", ""): (segment["deletes"] or {}).get("opstamp")
        for segment in json.loads(meta)["segments"]
    }
    names = []
    for path in folder.iterdir():
        match = _SEGMENT_FILE.fullmatch(path.name)
        if match is None or match["segment"] not in live:
            continue
        if match["opstamp"] is None or int(match["opstamp"]) == live[match["segment"]]:
            names.append(path.name)
    return sorted(names)


def check_file(folder: Path, file: WrittenFile, path: Path | None = None) -> None:
    """Refuse a file whose size or sample does not match a commit's record.

    Args:
        folder: the index.
        file: the record of the file.
        path: path to read the file by; None for its name in the folder.

    Raises:
        FileNotFoundError: there is no file.
        IndexDamaged: the file does not match its record.
    """
    if not file.name.startswith(LEXICAL) or not _SEGMENT_FILE.fullmatch(engine_name(file)):
        raise IndexDamaged(f"{folder} names a lexical file outside itself: {file.name!r}")
    path = path or folder / file.name
    if path.stat().st_size != file.size or sample_sha256(path) != file.sample:
        raise IndexDamaged(
            f"{folder / file.name} is not what the index recorded; "
            f"make it anew with: indexer compact --index {folder}",
            file=file.name,
        )


def open_lexical(
    folder: Path, connection: sqlite3.Connection, opened: Opened
) -> LexicalIndex | None:
    """Open the lexical index that the connection's snapshot names.

    Args:
        folder: the index.
        connection: connection in a read transaction.
        opened: files that are open already.

    Returns:
        the lexical index, or None if there is none or another version made it. The next build
        makes a new one.

    Raises:
        FileNotFoundError: a file is missing.
        IndexDamaged: a file does not match the snapshot's record.
        StorageError: temporary links are needed but can't be made.
    """
    return open_record(folder, load_state(connection), opened)


def open_record(folder: Path, state: LexicalRecord | None, opened: Opened) -> LexicalIndex | None:
    """Open the lexical index of a record; see ``open_lexical``."""
    if state is None or state.analysis != VERSION:
        return None
    files = tuple(
        opened.take(key, partial(_checked, folder, file, key))
        for file in state.files
        for key in [("words", file, FileStamp.of(folder / file.name))]
    )
    return opened.take(
        ("lexical", state.language, state.meta, files), partial(_open_checked, folder, state)
    )


def _checked(folder: Path, file: WrittenFile, key: Hashable) -> Hashable:
    """Check a file and return its key, which later generations take as proof of the check."""
    check_file(folder, file)
    return key


def _open_checked(folder: Path, state: LexicalRecord) -> LexicalIndex:
    """Open a lexical index whose files were checked.

    Raises:
        FileNotFoundError, IndexDamaged, StorageError: see ``open_lexical``.
    """
    view = find_view(folder, state)
    if view is not None:
        try:
            return _open(folder, view, state)
        except (ValueError, OSError):
            pass  # a writer has just replaced the view, or the system has no ``/dev/null``
    with assembled(folder, state) as place:
        try:
            return _open(folder, place, state)
        except ValueError as error:
            for file in state.files:
                check_file(folder, file)  # a merge may have removed a file meanwhile
            raise IndexDamaged(
                f"the lexical index of {folder} can't be read ({error}); "
                f"make it anew with: indexer compact --index {folder}"
            ) from error


def _open(folder: Path, place: Path, state: LexicalRecord) -> LexicalIndex:
    """Open a lexical index by the engine's folder.

    Args:
        folder: the index.
        place: the engine's folder.
        state: record of the lexical index.

    Raises:
        ValueError: the engine can't open it.
        FileNotFoundError: a merge has removed a file meanwhile.
        OSError: the engine's folder does not exist.
    """
    with library_path(place) as name:
        index = tantivy.Index.open(name)
        index.config_reader(reload_policy="manual")
        opened = LexicalIndex(index, state.language)
    for file in state.files:
        # The engine takes a segment without its file of positions for one that has none, and would
        # fail in the first search. A link and a file that exist now were there when the engine
        # opened them.
        (place / engine_name(file)).lstat()
        (folder / file.name).stat()
    return opened


def view_name(meta: str) -> str:
    """Return the name of the view for an engine's list of segments."""
    return f"{LEXICAL}{hashlib.sha256(meta.encode()).hexdigest()[:32]}.view"


def write_view(folder: Path, state: LexicalRecord, before: LexicalRecord | None = None) -> None:
    """Make the view of a lexical index, unless it exists.

    A view is not flushed to the disk: ``find_view`` tells whether a power cut has left it whole.

    Args:
        folder: the index.
        state: record of the lexical index.
        before: record of the generation before. Its view is turned into the new one, so that only
            links that differ have to be made. None to make all links.

    Raises:
        OSError: the view can't be written.
    """
    if find_view(folder, state):
        return
    made, final = folder / f"{LEXICAL}{secrets.token_hex(8)}.tmp", folder / view_name(state.meta)
    links, old = _links(state.files), dict[str, str]()
    view = find_view(folder, before) if before else None
    if before and view:
        view.rename(made)
        old = _links(before.files)
    else:
        made.mkdir()
    for name in old.keys() - links.keys():
        (made / name).unlink()
    for name in links.keys() - old.keys():
        (made / name).symlink_to(links[name])
    (made / META).write_text(state.meta)
    if final.is_dir():
        # The folder is not a valid view: a copy that follows links has put files in their place.
        replaced = final.rename(folder / f"{LEXICAL}{secrets.token_hex(8)}.tmp")
        shutil.rmtree(replaced, ignore_errors=True)
    made.rename(final)


def find_view(folder: Path, state: LexicalRecord) -> Path | None:
    """Return the view of a lexical index if it exists and is complete and correct, else None."""
    view, links = folder / view_name(state.meta), _links(state.files)
    try:
        with os.scandir(view) as entries:
            found = {entry.name for entry in entries}
        whole = (
            found == {*links, META}
            # A commit looks at hundreds of links; pathlib takes ten times as long.
            and all(os.readlink(f"{view}/{name}") == to for name, to in links.items())  # noqa: PTH115
            and not (view / META).is_symlink()
            and (view / META).read_text() == state.meta
        )
    except (OSError, UnicodeDecodeError):
        return None
    return view if whole else None


def _links(files: Sequence[WrittenFile]) -> dict[str, str]:
    """Return the links of a view: each link's name and its target."""
    links = {engine_name(file): f"../{file.name}" for file in files}
    return {**links, _LOCK: _LOCK_TARGET}
