"""``indexer watch``: real folders, a real process, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer.build import watch as module
from indexer.build.settings import BuildOptions
from indexer.build.watch import Change, _matter, watch
from retrieval.errors import InvalidArgument
from retrieval.store import open_writer, read_info, verify
from tests.commands.forking import Forked
from tests.indexer.build.test_build import Workplace


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@contextmanager
def watching(place: Workplace) -> Iterator["subprocess.Popen[str]"]:
    command = ["-m", "indexer", "watch", str(place.docs), "--index", str(place.index)]
    process = Forked(
        [sys.executable, *command, "--model", str(place.model), "--chunk-tokens", "40", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def report_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line and process.stderr:
        pytest.fail(process.stderr.read())
    report: dict[str, Any] = json.loads(line)
    return report


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_index_is_kept_in_step(place: Workplace) -> None:
    place.write("a.md", "Alpha text.")
    place.write("sub/b.md", "Beta text.")
    with watching(place) as process:
        assert report_of(process)["documents"]["added"] == 2

        # As editors save: a temporary file, renamed over the old one.
        place.write(".a.md.swp", "x")
        place.write("a.md~", "x")
        place.write("4913", "x").unlink()
        place.write("new.tmp", "Gamma text.")
        (place.docs / "new.tmp").rename(place.docs / "a.md")
        report = report_of(process)
        assert (report["documents"]["changed"], report["documents"]["added"]) == (1, 0)

        (place.docs / "sub").rename(place.docs / "moved")
        report = report_of(process)
        documents = report["documents"]
        assert (documents["added"], documents["removed"]) == (1, 1)
        assert report["chunks"]["embedded"] == 0  # its vector is found again
        assert place.uris() == ["docs/a.md", "docs/moved/b.md"]

        place.write("new/folder/c.md", "Delta text.")
        assert report_of(process)["documents"]["added"] == 1
        (place.docs / ".gitignore").write_text("new/\n")
        assert report_of(process)["documents"]["removed"] == 1

        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_killed_and_started_again(place: Workplace) -> None:
    place.write("0.md", "Zero.")
    for number in (1, 3):
        with watching(place) as process:
            report_of(process)
            for part in range(20):
                place.write(f"{number}-{part}.md", f"Document {number}, {part}.")
                time.sleep(0.01)
            time.sleep(0.3 * number / 2)
            process.kill()
        assert list(verify(place.index)) == []
    with watching(place) as process:
        report = report_of(process)
        assert report["documents"]["total"] == 41


def test_what_goes_wrong_is_told_and_tried_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(module, "STEP_MS", 50)
    monkeypatch.setattr(module, "_TICK_MS", 50)
    place.write("a.md", "Alpha.")
    notes: list[str] = []
    reports = watch(place.options(), notes.append)
    next(reports)
    with open_writer(place.index):
        place.write("b.md", "Beta.")
        busy = module.build

        def build_and_release(*arguments: Any) -> Any:
            try:
                return busy(*arguments)
            finally:
                monkeypatch.setattr(module, "build", busy)

        monkeypatch.setattr(module, "build", build_and_release)
        waiting = _in_thread(reports)
        until(lambda: bool(notes))
    assert waiting().added == 1
    assert notes[0].startswith("build failed: ")

    gone = place.folder / "elsewhere"
    place.docs.rename(gone)
    notes.clear()
    waiting = _in_thread(reports)
    until(lambda: bool(notes))
    (gone / "c.md").write_text("Gamma.")
    gone.rename(place.docs)
    assert waiting().added == 1
    place.write("d.md", "Delta.")  # the folder that came back is watched again
    assert next(reports).added == 1
    assert read_info(place.index).documents == 4


def _in_thread(reports: Iterator[Any]) -> Callable[[], Any]:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1).submit(next, reports).result


def test_changes_that_matter(tmp_path: Path) -> None:
    (tmp_path / "folder.x").mkdir()
    root = os.path.realpath(tmp_path)

    def matters(name: str, change: Change = Change.modified) -> bool:
        options = BuildOptions([tmp_path], tmp_path / "index")
        return _matter({(change, f"{root}/{name}")}, options)

    for name in (
        "a.md",
        "x/a.PDF",
        "README",
        "a.zip",
        "a.md.meta.json",
        ".gitignore",
        "folder.x",
        "4913",
        "a.foo",
    ):
        assert matters(name)
    for name in ("a.exe", ".a.md", ".git/a.md", "~$a.docx", "a.md~", "x/.y/.gitignore"):
        assert not matters(name)
    for name in ("index", "index/index.db", "node_modules/a/README.md", "a/yarn.lock", "a.min.js"):
        assert not matters(name)
        assert not matters(name, Change.deleted)
    assert matters("gone", Change.deleted)


def test_a_file_is_no_folder_to_watch(place: Workplace) -> None:
    path = place.write("a.md", "x")
    with pytest.raises(InvalidArgument, match="watch its folder"):
        next(watch(place.options(path), print))
