"""Several writers of one index: commits take turns, and each sees what the others did."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.records import RootInfo, SourceFile
from retrieval.errors import ForeignRoot, IndexLocked, ModelMismatch, StorageError
from retrieval.store import open_reader, open_writer, parse_filter, read_info, verify
from retrieval.store.disk.tables import locks
from retrieval.store.disk.writing.lookups import after_prefix
from tests.store.test_store import CHUNKING, MODEL, fill, key, staged, unit_vectors

PUSHED = RootInfo("notes")
BUILT = RootInfo("docs", "/somewhere/docs", None)


def put(folder: Path, root: RootInfo, name: str) -> int:
    """Commit one document by a writer of its own; return the generation."""
    with open_writer(folder, shared=True) as writer, writer.commit() as commit:
        commit.claim_root(root)
        ids = commit.add_vectors([key(f"{root.name} {name}")], unit_vectors(1), [False])
        commit.put_document(staged(f"{root.name}/{name}", [f"{root.name} {name}"], ids))
    return commit.generation


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "index", 2)
    return tmp_path / "index"


def test_a_build_and_shared_writers_take_turns(index: Path) -> None:
    with open_writer(index) as build, open_writer(index, shared=True) as service:
        with open_writer(index, shared=True) as another:
            for number, writer in enumerate([build, service, another, build]):
                with writer.commit() as commit:
                    (vector,) = commit.add_vectors([key(f"{number}")], unit_vectors(1), [False])
                    commit.put_document(staged(f"d/{number}", [f"{number}"], [vector]))
                assert commit.generation == 2 + number
        assert len(service.known_files("d")) == 5
        with pytest.raises(IndexLocked, match="is being written by process"):
            open_writer(index)
    assert list(verify(index)) == []


def test_a_commit_waits_for_another_one(index: Path) -> None:
    begun, order = threading.Event(), list[str]()

    def slow() -> None:
        with open_writer(index, shared=True) as writer, writer.commit() as commit:
            begun.set()
            time.sleep(0.2)
            order.append("first")
            commit.remove_document("d/a.txt")

    with ThreadPoolExecutor(1) as threads, open_writer(index, shared=True) as writer:
        done = threads.submit(slow)
        begun.wait()
        with writer.commit() as commit:
            order.append("second")
            assert commit.known_file("d/a.txt") is None
        done.result()
    assert order == ["first", "second"]


def test_who_holds_the_lock_too_long_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "COMMIT_WAIT_SECONDS", 0.1)
    code = (
        "import sys; from pathlib import Path; from retrieval.store import open_writer\n"
        "with open_writer(Path(sys.argv[1]), shared=True) as writer, writer.commit() as commit:\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with open_writer(index, shared=True) as writer:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            named = pytest.raises(IndexLocked, match=f"process {holder.pid}, which did not finish")
            with named, writer.commit():
                pytest.fail("two commits at once")
            with pytest.raises(IndexLocked):
                open_writer(index)
            open_reader(index).close()
        finally:
            holder.kill()
            holder.wait()
        with writer.commit() as commit:  # the lock died with its holder
            commit.remove_document("d/a.txt")


def test_one_that_commits_on_and_on_keeps_nobody_out(index: Path) -> None:
    stop, commits = threading.Event(), 0

    def busy() -> None:
        with open_writer(index, shared=True) as writer:
            while not stop.is_set():
                with writer.commit() as commit:
                    commit.set_index_type("auto", 0.9)

    with ThreadPoolExecutor(2) as threads, open_writer(index, shared=True) as writer:
        others = [threads.submit(busy) for _ in range(2)]
        started = time.monotonic()
        while commits < 10:
            with writer.commit() as commit:
                commit.set_index_type("auto", 0.8)
            commits += 1
        took = time.monotonic() - started
        stop.set()
        [other.result() for other in others]
    assert took < 10


def test_an_index_that_was_replaced_is_not_written(index: Path, tmp_path: Path) -> None:
    with open_writer(index, shared=True) as writer:
        index.rename(tmp_path / "old")
        fill(index, 3)
        with pytest.raises(StorageError, match="open it again"), writer.commit():
            pytest.fail("it is another index")
    assert list(verify(index)) == []
    assert list(verify(tmp_path / "old")) == []


def test_a_commit_without_changes_makes_no_generation(index: Path) -> None:
    before = read_info(index).identity
    with open_writer(index, shared=True) as writer, writer.commit() as commit:
        commit.remove_document("d/missing")
    assert commit.generation == before.generation
    assert read_info(index).identity == before


def test_two_writers_set_the_model_of_a_new_index(tmp_path: Path) -> None:
    with open_writer(tmp_path, shared=True) as one, open_writer(tmp_path, shared=True) as two:
        one.set_model(MODEL, CHUNKING, "en")
        two.set_model(MODEL, CHUNKING, "de")
        assert two.info is not None
        assert two.info.language == "en"
        with pytest.raises(ModelMismatch):
            two.set_model(MODEL, type(CHUNKING)(50, 10), "en")


def test_a_root_is_written_one_way(index: Path) -> None:
    assert put(index, PUSHED, "a") == 2
    assert put(index, BUILT, "a") == 3
    assert put(index, PUSHED, "b") == 4
    with pytest.raises(ForeignRoot, match=r"docs/ come from a folder .* put documents under"):
        put(index, RootInfo("docs"), "x")
    with pytest.raises(ForeignRoot, match=r"notes/ are written over the API; rename"):
        put(index, RootInfo("notes", "/home/notes"), "x")
    with open_writer(index) as writer, pytest.raises(ForeignRoot), writer.commit() as commit:
        commit.set_root(RootInfo("notes", "/home/notes"), [], {})
    # Of an interrupted build of an older version: documents without a recorded root.
    with pytest.raises(ForeignRoot, match="another first part"):
        put(index, RootInfo("d"), "x")
    with open_reader(index) as reader:
        assert [row.uri for row in reader.documents(9)] == [
            "d/a.txt",
            "docs/a",
            "notes/a",
            "notes/b",
        ]


def test_documents_are_looked_up_in_a_commit(index: Path) -> None:
    for name in ("a", "b", "b/c", "é"):
        put(index, PUSHED, name)
    put(index, BUILT, "b")
    with open_writer(index, shared=True) as writer:
        assert writer.pushed_documents() == ["notes/a", "notes/b", "notes/b/c", "notes/é"]
        with writer.commit() as commit:
            assert commit.pushed_documents("notes/b") == ["notes/b", "notes/b/c"]
            assert commit.pushed_documents("docs/") == []
            assert commit.pushed_documents("", parse_filter("path:b/* OR path:a")) == [
                "notes/a",
                "notes/b/c",
            ]
            assert commit.pushed_documents("notes/a", parse_filter("k=v")) == ["notes/a"]
            known = commit.known_file("notes/a")
            assert known is not None
            assert (known.sha256, known.stamp.mtime_ns) == ("0" * 64, 1_700_000_000_000_000_000)
            assert commit.truncated_chunks(known.document_id) == 0
            assert commit.remove_document("notes/a")
            assert not commit.remove_document("notes/a")
            assert commit.pushed_documents("notes/a") == []
        assert len(writer.known_files("notes")) == 3


@given(prefix=st.text(min_size=1, max_size=3), texts=st.lists(st.text(max_size=4)))
def test_the_first_text_after_a_prefix(prefix: str, texts: list[str]) -> None:
    end = after_prefix(prefix)
    for text in [*texts, prefix, *(prefix + text for text in texts)]:
        inside = text.encode() >= prefix.encode() and (end is None or text.encode() < end.encode())
        assert inside == text.startswith(prefix)


def test_a_document_of_another_root_is_untouched_by_a_touch(index: Path) -> None:
    """A build touches by id; a document that was removed and put again has another id."""
    with open_writer(index) as build:
        known = build.known_files("d")["d/a.txt"]
        with open_writer(index, shared=True) as service, service.commit() as commit:
            commit.remove_document("d/a.txt")
        put(index, PUSHED, "a")
        with build.commit() as commit:
            source = SourceFile(Path("/x"), "d/a.txt", "d", 1, 1)
            commit.touch_document(known.document_id, source)
        after = build.known_file("notes/a")
    assert after is not None
    assert after.stamp.mtime_ns == 1_700_000_000_000_000_000
