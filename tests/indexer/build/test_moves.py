"""What a person may do to an index's folder, and to its documents, between two builds."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.errors import IndexLocked
from retrieval.store import read_info
from retrieval.store.disk.tables import locks
from tests.indexer.build.test_build import Workplace, counts
from tests.indexer.commands.test_cli import indexer


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(tmp_path)
    made.write("a.md", "# Alpha\n\nFirst words.\n")
    made.write("part/b.md", "# Beta\n\nSecond words.\n")
    made.build()
    return made


def test_an_index_can_be_moved(place: Workplace) -> None:
    generation = read_info(place.index).generation
    place.index = place.index.rename(place.folder / "elsewhere")
    assert counts(place.build()) == (0, 0, 0, 2)
    assert read_info(place.index).generation == generation
    found = indexer("search", "words", "--index", place.index, "--json", cwd=place.folder)
    assert len(json.loads(found.stdout)["passages"]) == 2


def test_documents_can_be_moved_with_their_root(place: Workplace) -> None:
    """A document's name has nothing of the folder's place on the disk."""
    new = place.folder / "moved" / "docs"
    new.parent.mkdir()
    place.docs = place.docs.rename(new)
    report = place.build()
    assert counts(report) == (0, 0, 0, 2)
    assert report.chunks_embedded == 0
    assert place.uris() == ["docs/a.md", "docs/part/b.md"]


def test_a_root_of_another_name_is_another_root(place: Workplace) -> None:
    place.docs = place.docs.rename(place.folder / "wiki")
    report = place.build()
    assert counts(report) == (2, 0, 0, 0)
    assert report.chunks_embedded == 0
    assert place.uris() == ["docs/a.md", "docs/part/b.md", "wiki/a.md", "wiki/part/b.md"]


@pytest.mark.parametrize("lock", ["writer.lock", "build.lock"])
def test_a_copy_is_made_under_a_lock(
    place: Workplace, lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``flock ./index/writer.lock cp -a ./index ./index-backup``."""
    monkeypatch.setattr(locks, "COMMIT_WAIT_SECONDS", 0.1)
    place.write("c.md", "# Gamma\n\nThird words.\n")
    with (place.index / lock).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(IndexLocked):
            place.build()
        shutil.copytree(place.index, place.folder / "backup", symlinks=True)
    assert counts(place.build()) == (1, 0, 0, 2)
    shutil.rmtree(place.index)
    (place.folder / "backup").rename(place.index)
    assert place.uris() == ["docs/a.md", "docs/part/b.md"]
    assert counts(place.build()) == (1, 0, 0, 2)


def test_each_commit_is_a_generation(place: Workplace) -> None:
    before = read_info(place.index).generation
    for number in range(1, 3):
        place.write("c.md", f"Words, for the {number}th time.")
        place.build()
        assert read_info(place.index).generation == before + number


def test_vectors_take_what_is_said(place: Workplace) -> None:
    shown = indexer("status", "--index", place.index, "--json", cwd=place.folder)
    status = json.loads(shown.stdout)
    sizes = [path.stat().st_size for path in place.index.glob("vectors-*")]
    assert sum(sizes) == 4 * status["dimensions"] * status["vectors"] + 45 * len(sizes)
    assert status["bytes_mapped"] == sum(sizes)
    assert status["bytes_in_memory"] == 8 * status["vectors"]


@pytest.mark.parametrize(
    ("context", "heading", "fits"),
    [(False, "Long " * 30, True), (True, "Short", True), (True, "Long " * 30, False)],
)
def test_default_chunks_fit_the_model(
    tmp_path: Path, context: bool, heading: str, fits: bool
) -> None:
    """64 tokens are kept for the context; one that is longer is cut off and counted."""
    place = Workplace(tmp_path)
    (place.model / "sentence_bert_config.json").write_text('{"max_seq_length": 100}')
    place.write("a.md", f"# {heading}\n\n" + "word " * 500 + "x" * 500)
    report = place.build(chunk_tokens=None, context=context)
    assert report.info.chunks > 5
    assert (report.truncated == 0) == fits


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("--help", [], 0),
        ("status", ["--index", "index"], 0),
        ("build", ["docs", "--index", "new", "--model", "nowhere"], 2),
    ],
)
def test_what_needs_no_model_starts_without_torch(
    place: Workplace, command: str, options: list[str], expected: int
) -> None:
    code = (
        "import sys; from indexer.commands.cli import main; code = main(sys.argv[1:]);"
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=place.folder,
    )
    assert done.stderr.splitlines()[-1] == f"{expected} False"
