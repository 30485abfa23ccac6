"""Indexes where nothing can be written: full and read-only disks, other users, old versions."""

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.commands.cli import cli
from retrieval.domain.records import IndexInfo
from retrieval.errors import IndexDamaged, StorageError
from retrieval.store import (
    Reader,
    open_reader,
    open_writer,
    read_info,
    read_version,
    remove_documents,
    verify,
)
from retrieval.store.disk import info as info_module
from retrieval.store.disk.info import load_info
from retrieval.store.disk.lexical import segment_files as lexical_module
from retrieval.store.disk.reading import snapshot
from retrieval.store.disk.tables.locks import commit_lock
from retrieval.store.disk.tables.write_ahead_log import with_log
from tests.store.disk.old_index import make_older
from tests.store.places import EVERYTHING_READ_ONLY, run_with_mounts
from tests.store.test_store import fill, new_writer, unit_vectors

verify_module = import_module("retrieval.store.disk.verify")

OPEN = """
import sys
from pathlib import Path
from retrieval.errors import RetrievalError
from retrieval.store import open_reader, read_version, verify
folder = Path(sys.argv[1])
try:
    (folder / "x").write_text("x")
except OSError:
    pass
else:
    sys.exit("it can be written")
try:
    with open_reader(folder) as reader:
        print(reader.info.documents, len(reader.search_lexical("text", 10).vector_ids))
        assert read_version(folder) == reader.version
        assert list(verify(folder)) == []
except RetrievalError as error:
    print(type(error).__name__, error.message)
"""


def content(connection: sqlite3.Connection) -> list[str]:
    """All rows; that the database is damaged, where a log was cut that it needs."""
    try:
        return list(connection.iterdump())
    except sqlite3.DatabaseError as error:
        return [str(error)]


@given(
    transactions=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["put", "drop", "shrink"]), st.integers(0, 20)),
            min_size=1,
            max_size=4,
        ),
        max_size=5,
    ),
    page_size=st.sampled_from([512, 4096, 65536]),
    cut=st.floats(0, 1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_log_is_read_as_sqlite_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    transactions: list[list[tuple[str, int]]],
    page_size: int,
    cut: float,
    data: st.DataObject,
) -> None:
    """Also one that was cut off anywhere, or whose bytes changed."""
    folder = tmp_path_factory.mktemp("log")
    with closing(sqlite3.connect(folder / "a.db", isolation_level=None)) as writer:
        writer.execute(f"PRAGMA page_size = {page_size}")
        writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 3")
        writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        for changes in transactions:
            writer.execute("BEGIN")
            for what, number in changes:
                if what == "put":
                    writer.execute(
                        "INSERT OR REPLACE INTO t VALUES (?, ?)", [number, os.urandom(900 * number)]
                    )
                else:
                    writer.execute("DELETE FROM t WHERE id >= ?", [number])
                if what == "shrink":
                    writer.execute("PRAGMA incremental_vacuum(100)")
            writer.execute("COMMIT")
        database = (folder / "a.db").read_bytes()
        log = (folder / "a.db-wal").read_bytes()
    log = log[: int(cut * len(log))] if cut < 0.9 else log
    if log and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(log) - 1))
        log = log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]
    (folder / "b.db").write_bytes(database)
    (folder / "b.db-wal").write_bytes(log)
    with (
        closing(sqlite3.connect(folder / "b.db")) as theirs,
        closing(sqlite3.connect(":memory:")) as ours,
    ):
        ours.deserialize(with_log(database, log))
        assert content(ours) == content(theirs)


def without_shared_memory(folder: Path) -> None:
    """SQLite can't make its file of shared memory: it follows no link there."""
    (folder / "index.db-shm").unlink(missing_ok=True)
    (folder / "index.db-shm").symlink_to("nowhere")


def lose_view(folder: Path) -> None:
    """As a copy that keeps no links."""
    for view in folder.glob("lexical-*.view"):
        shutil.rmtree(view)


def words(reader: Reader) -> int:
    return len(reader.search_lexical("text", 99).vector_ids)


def test_a_read_only_system(tmp_path: Path) -> None:
    fill(tmp_path / "index", 3)
    assert run_with_mounts(EVERYTHING_READ_ONLY, OPEN, str(tmp_path / "index")) == "1 3\n"


def test_a_read_only_system_and_an_index_that_needs_links(tmp_path: Path) -> None:
    fill(tmp_path / "index", 3)
    lose_view(tmp_path / "index")
    said = run_with_mounts(EVERYTHING_READ_ONLY, OPEN, str(tmp_path / "index"))
    assert said.startswith("StorageError can't open the lexical index")
    assert "TMPDIR" in said


def test_a_read_only_system_with_commits_in_the_log(tmp_path: Path) -> None:
    fill(tmp_path / "index", 3)
    with open_reader(tmp_path / "index"):
        fill(tmp_path / "index", 2, name="d/b")
        shutil.copytree(tmp_path / "index", tmp_path / "copy", symlinks=True)
    assert (tmp_path / "copy" / "index.db-wal").stat().st_size
    (tmp_path / "copy" / "index.db-shm").unlink()
    assert run_with_mounts(EVERYTHING_READ_ONLY, OPEN, str(tmp_path / "copy")) == "2 5\n"


@pytest.mark.parametrize("in_log", [False, True])
def test_a_full_disk(tmp_path: Path, in_log: bool) -> None:
    fill(tmp_path / "index", 3)
    if in_log:
        with open_reader(tmp_path / "index"):
            fill(tmp_path / "index", 2, name="d/b")
            shutil.copytree(tmp_path / "index", tmp_path / "copy", symlinks=True)
        (tmp_path / "copy" / "index.db-shm").unlink()
    else:
        shutil.copytree(tmp_path / "index", tmp_path / "copy", symlinks=True)
    (tmp_path / "disk").mkdir()
    setup = """
        mount -t tmpfs -o size=2m none "$1"; cp -a "$2" "$1/index"
        dd if=/dev/zero of="$1/fill" bs=1k 2>/dev/null || true
        set -- "$1/index"
    """
    said = run_with_mounts(setup, OPEN, str(tmp_path / "disk"), str(tmp_path / "copy"))
    assert said == ("2 5\n" if in_log else "1 3\n")


def test_the_true_reason_of_a_write_to_a_full_disk(tmp_path: Path) -> None:
    fill(tmp_path / "index", 3)
    (tmp_path / "disk").mkdir()
    setup = """
        mount -t tmpfs -o size=2m none "$1"; cp -a "$2" "$1/index"
        dd if=/dev/zero of="$1/fill" bs=1k 2>/dev/null || true
    """
    code = """
import sys
from pathlib import Path
from retrieval.errors import StorageError
from retrieval.domain.records import IndexInfo
from tests.store.test_store import fill
try:
    fill(Path(sys.argv[1]) / "index", 50, name="d/b")
except StorageError as error:
    print(error.message)
"""
    said = run_with_mounts(setup, code, str(tmp_path / "disk"), str(tmp_path / "index"))
    assert "disk is full" in said or "No space left" in said


def test_without_shared_memory_the_database_is_read_as_it_lies(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    live = read_version(tmp_path)
    without_shared_memory(tmp_path)
    with open_reader(tmp_path) as reader:
        assert reader.info.documents == 1
        assert words(reader) == 3
        assert reader.version == read_version(tmp_path) != live
        # Once it can be opened with locks again, that is another look: a server goes over.
        (tmp_path / "index.db-shm").unlink()
        assert read_version(tmp_path) == live


def test_without_shared_memory_no_commit_of_the_log_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with open_reader(tmp_path):
        fill(tmp_path, 2, name="d/b")  # the held snapshot keeps this commit in the log
        (tmp_path / "index.db-shm").rename(tmp_path / "shm")
        without_shared_memory(tmp_path)
        with open_reader(tmp_path) as reader:
            assert (reader.info.documents, words(reader)) == (2, 5)
            assert reader.search_vectors(unit_vectors(1), 5).vector_ids.shape == (1, 5)
            assert reader.version == read_version(tmp_path)


def test_an_older_version_is_read_where_it_can_not_be_brought_up_to_date(tmp_path: Path) -> None:
    """The ids that it lacks are always the same, until its files are others."""
    fill(tmp_path / "old", 3)
    make_older(tmp_path / "old", "m009_index_id")
    with closing(sqlite3.connect(tmp_path / "old" / "index.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    without_shared_memory(tmp_path / "old")
    before = (tmp_path / "old" / "index.db").read_bytes()
    with open_reader(tmp_path / "old") as one, open_reader(tmp_path / "old") as two:
        assert words(one) == 3
        assert one.info.identity == two.info.identity
        assert len(one.info.index_id) == len(one.info.commit_id) == 32
        assert one.version == read_version(tmp_path / "old")
    assert (tmp_path / "old" / "index.db").read_bytes() == before
    shutil.copytree(tmp_path / "old", tmp_path / "other", symlinks=True)
    assert read_info(tmp_path / "other").identity != one.info.identity


def test_an_older_version_is_read_while_it_is_written(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    make_older(tmp_path, "m009_index_id")
    with commit_lock(tmp_path), open_reader(tmp_path) as reader:
        assert reader.info.documents == 1
        assert reader.version == read_version(tmp_path)
    made = read_info(tmp_path).identity
    assert made != reader.info.identity
    assert made == read_info(tmp_path).identity == read_version(tmp_path).identity


def test_a_view_is_made_for_every_commit_and_is_all_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    for number in range(12):
        fill(tmp_path, 2, name=f"d/{number}", seed=number)
        with open_reader(tmp_path) as reader:
            assert words(reader) == 2 * (number + 1)
        assert len(list(tmp_path.glob("lexical-*.view"))) == 1
    with new_writer(tmp_path) as writer:
        writer.compact()
    with open_reader(tmp_path) as reader:
        assert words(reader) == 24


@pytest.mark.parametrize("change", ["target", "list", "lock", "more", "lost", "copied"])
def test_a_view_that_is_not_what_it_should_be_is_not_used(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index may come from anywhere: a view must lead to nothing but the index's own files."""
    index = tmp_path / "index"
    fill(index, 3)
    (view,) = index.glob("lexical-*.view")
    segment = next(path for path in view.iterdir() if path.suffix == ".term")
    secret = tmp_path / "secret"
    if change == "target":
        shutil.copy(segment, secret)
        segment.unlink()
        segment.symlink_to(secret)
    elif change == "list":
        (view / "meta.json").write_text("{}")
    elif change == "lock":
        (view / ".tantivy-meta.lock").unlink()
        (view / ".tantivy-meta.lock").symlink_to(secret)
    elif change == "more":
        (view / ".managed.json").write_text("[]")
    elif change == "lost":
        shutil.rmtree(view)
    else:  # by a program that follows links
        shutil.copytree(index, tmp_path / "copy")
        index = tmp_path / "copy"
    used = []
    assembled = lexical_module.assembled

    def noted(*arguments: object) -> object:
        used.append(arguments)
        return assembled(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lexical_module, "assembled", noted)
    with open_reader(index) as reader:
        assert words(reader) == 3
    assert used
    if change == "lock":
        assert not secret.exists()
    used.clear()
    new_writer(index).close()
    with open_reader(index) as reader:
        assert words(reader) == 3
    assert not used
    assert not list(index.glob("*.tmp"))


def test_a_file_without_permission_is_no_damage(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (vectors,) = tmp_path.glob("vectors-*")
    vectors.unlink()
    vectors.symlink_to(vectors.name)  # what no user may read, root included
    with pytest.raises(StorageError, match="Too many levels of symbolic links"):
        open_reader(tmp_path)


def read_everything(folder: Path) -> None:
    """Status, list, verify and search must succeed, whatever is written meanwhile."""
    for command in ("status", "list"):
        done = CliRunner().invoke(cli, [command, "--index", str(folder), "--json"])
        assert done.exit_code == 0, done.exception
    assert list(verify(folder)) == []
    with open_reader(folder) as reader:
        assert words(reader) == min(99, reader.info.chunks)


def test_reading_beside_writers_never_fails(tmp_path: Path) -> None:
    """While files come and go as fast as they can."""
    fill(tmp_path, 3)
    stop = threading.Event()
    commits: list[int] = []
    failures: list[Exception] = []

    def write() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                fill(tmp_path, 2, name=f"d/{number}", seed=number)
                if number % 5 == 0:
                    remove_documents(tmp_path, [f"d/{number}", f"d/{number - 1}"])
                    with new_writer(tmp_path) as writer:
                        writer.compact()
                commits.append(number)
        except Exception as error:  # noqa: BLE001 -- the test fails with it
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while writer.is_alive() and len(commits) < 20:  # four compactions
            read_everything(tmp_path)
    finally:
        stop.set()
        writer.join()
    assert failures == []


@pytest.mark.parametrize(
    "moment",
    [(snapshot, "open_segments"), (snapshot, "open_lexical"), (snapshot, "OpenFiles")],
    ids=lambda moment: moment[1],
)
def test_reading_goes_on_where_files_go_before_they_are_opened(
    tmp_path: Path, moment: tuple[ModuleType, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction right after the snapshot that names the files."""
    for number in range(3):
        fill(tmp_path, 2, name=f"d/{number}", seed=number)
    module, name = moment
    opening = getattr(module, name)
    compacted: list[int] = []

    def compact_and_open(*arguments: Any, **named: Any) -> Any:
        if not compacted:
            compacted.append(1)
            with new_writer(tmp_path) as writer:
                writer.compact()
        return opening(*arguments, **named)

    monkeypatch.setattr(module, name, compact_and_open)
    read_everything(tmp_path)
    assert compacted


def test_status_beside_a_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the folder's list go before they are looked at."""
    for number in range(3):
        fill(tmp_path, 2, name=f"d/{number}", seed=number)
    listed = os.scandir

    @contextmanager
    def list_and_compact(folder: Path) -> Iterator[list["os.DirEntry[str]"]]:
        with listed(folder) as entries:
            found = list(entries)
        monkeypatch.undo()
        with new_writer(tmp_path) as writer:
            writer.compact()
        assert any(not Path(entry.path).exists() for entry in found)
        yield found

    monkeypatch.setattr(info_module.os, "scandir", list_and_compact)
    read_everything(tmp_path)


def test_verify_beside_a_compaction_finds_nothing(tmp_path: Path) -> None:
    """Files that go while it reads are those of its own generation, which are open."""
    for number in range(3):
        fill(tmp_path, 2, name=f"d/{number}", seed=number)
    with pytest.MonkeyPatch.context() as patched:

        def load_and_compact(folder: Path, connection: sqlite3.Connection) -> IndexInfo:
            with new_writer(folder) as writer:
                writer.compact()
            return load_info(folder, connection)

        patched.setattr(verify_module, "load_info", load_and_compact)
        assert list(verify(tmp_path)) == []


def test_a_lexical_file_that_goes_while_the_engine_opens_it_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself takes a segment without positions for one that records none."""
    fill(tmp_path, 3)
    found = lexical_module.find_view

    def find_and_remove(*arguments: Any) -> Path | None:
        view = found(*arguments)
        for path in tmp_path.glob("lexical-*.pos"):
            path.unlink()
        return view

    monkeypatch.setattr(lexical_module, "find_view", find_and_remove)
    with pytest.raises(IndexDamaged, match=r"\.pos is missing"):
        open_reader(tmp_path)


def test_the_log_begins_anew_though_a_server_always_reads(tmp_path: Path) -> None:
    """The server opens a new reader whenever the version differs, before it closes the old one."""
    fill(tmp_path, 3)
    log, sizes = tmp_path / "index.db-wal", list[int]()
    reader = open_reader(tmp_path)

    def look() -> bool:
        nonlocal reader
        if read_version(tmp_path) == reader.version:
            return False
        newer = open_reader(tmp_path, before=reader)
        reader.close()
        reader = newer
        return True

    with open_writer(tmp_path, shared=True) as writer:
        for number in range(6):
            with writer.commit() as commit:
                commit.set_index_type("auto", 0.5 + number / 100)
            sizes.append(log.stat().st_size)
            assert look()
            assert not look()
            writer.maintain()
            look()  # the same generation again, to let go of the log
            assert not look()
        reader.close()
    assert sizes[-1] == sizes[0]
