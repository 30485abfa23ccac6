"""Reader processes for single files: unordered, limited, replaced, ended when idle."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.readers.messages import Job, Parsed, Setup
from indexer.readers.on_demand import OnDemandReaders
from retrieval.domain.records import ChunkSettings, ReadSettings, Skipped, SourceFile
from retrieval.errors import NotServing
from tests.service.harness import word_model

SETTINGS = ChunkSettings(chunk_tokens=64, chunk_overlap=8)
SETUP = Setup(Path(), 256, SETTINGS, (), (), ReadSettings(), 4 << 30, 60.0, 2.0)
SLOW = b"<p>one two three.\n" * 400_000
"""Takes a second or more to parse."""


def job(uri: str, data: bytes) -> Job:
    return Job(SourceFile(Path(), uri, uri.partition("/")[0], len(data), 1), {}, data=data)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return replace(SETUP, model_folder=word_model())


@pytest.fixture
def readers() -> Iterator[OnDemandReaders]:
    with OnDemandReaders(1, 2) as some:
        yield some


def test_bytes_are_read_without_a_file(readers: OnDemandReaders, setup: Setup) -> None:
    [note] = readers.read(job("a/note.md", b"# Head\n\nbody\n"), setup).result(60)
    assert isinstance(note, Parsed)
    assert note.document.title == "Head"
    assert [chunk.text for chunk in note.chunks] == ["# Head\n\nbody"]
    latin = replace(setup, reading=ReadSettings("cp1251"))
    [other] = readers.read(job("a/other.txt", "Привет, мир".encode("cp1251")), latin).result(60)
    assert isinstance(other, Parsed)
    assert other.document.text == "Привет, мир"
    [bad] = readers.read(job("a/bad.pdf", b"\0" * 99), setup).result(60)
    assert isinstance(bad, Skipped)
    assert bad.reason == "damaged"


def test_a_slow_file_holds_up_no_other(readers: OnDemandReaders, setup: Setup) -> None:
    slow = readers.read(job("a/slow.html", SLOW[: len(SLOW) // 3]), setup)
    quick = readers.read(job("a/quick.txt", b"text"), setup)
    assert isinstance(quick.result(60)[0], Parsed)
    assert not slow.done()
    assert isinstance(slow.result(120)[0], Parsed)


def test_a_stream_of_slow_files_holds_up_no_other_request(setup: Setup) -> None:
    with OnDemandReaders(1, 1) as readers:
        part = SLOW[: len(SLOW) // 50]
        stream = [readers.read(job(f"a/{n}.html", part), setup, "stream") for n in range(8)]
        wait_for(stream[0].running)
        quick = readers.read(job("b/quick.txt", b"text"), setup, "single")
        assert isinstance(quick.result(60)[0], Parsed)
        assert sum(one.done() for one in stream) <= 2
        assert all(isinstance(one.result(60)[0], Parsed) for one in stream)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_one_file(readers: OnDemandReaders, setup: Setup, number: int) -> None:
    crashing = readers.read(job("a/slow.html", SLOW), setup)
    wait_for(lambda: any(one.ready and one.tasks for one in readers._workers))
    after = [readers.read(job(f"a/{n}.txt", b"text"), setup) for n in range(5)]
    os.kill(next(iter(readers._workers)).process.pid, number)
    [skip] = crashing.result(60)
    assert isinstance(skip, Skipped)
    assert (skip.uri, skip.reason) == ("a/slow.html", "crashed its parser")
    assert skip.detail == f"ended by {signal.Signals(number).name}"
    assert all(isinstance(one.result(60)[0], Parsed) for one in after)


def test_one_that_dies_with_nothing_to_do_costs_nothing(
    readers: OnDemandReaders, setup: Setup
) -> None:
    readers.read(job("a/1.txt", b"text"), setup).result(60)
    [worker] = readers._workers
    worker.process.kill()
    worker.process.wait()
    assert isinstance(readers.read(job("a/2.txt", b"text"), setup).result(60)[0], Parsed)


def test_one_that_dies_while_it_starts_costs_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A reader as it is, which takes a while to start; those of the other tests are forked.
    monkeypatch.setattr("indexer.readers.worker.subprocess", subprocess)
    with OnDemandReaders(1, 1) as readers:
        result = readers.read(job("a/1.txt", b"text"), setup)
        wait_for(lambda: readers._workers)
        next(iter(readers._workers)).process.kill()
        assert isinstance(result.result(60)[0], Parsed)


def test_a_file_over_the_limit_of_time_is_skipped(readers: OnDemandReaders, setup: Setup) -> None:
    strict = replace(setup, seconds=0.2, seconds_per_mb=0.0)
    [skip] = readers.read(job("a/slow.html", SLOW), strict).result(60)
    assert isinstance(skip, Skipped)
    assert skip.reason == "took too long"


def test_a_file_that_holds_too_much_is_skipped_as_a_whole(
    readers: OnDemandReaders, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.readers.on_demand._MAX_OUTCOMES", 3)
    lines = b"".join(b'{"text": "line %d"}\n' % n for n in range(500))
    [skip] = readers.read(job("a/many.jsonl", lines), setup).result(60)
    assert isinstance(skip, Skipped)
    assert (skip.uri, skip.reason) == ("a/many.jsonl", "over a limit")
    assert isinstance(readers.read(job("a/1.txt", b"text"), setup).result(60)[0], Parsed)


def test_what_is_cancelled_is_not_read(readers: OnDemandReaders, setup: Setup) -> None:
    first = readers.read(job("a/slow.html", SLOW[: len(SLOW) // 10]), setup)
    others = [readers.read(job("a/slow.html", SLOW), setup) for _ in range(9)]
    assert all(one.cancel() for one in others[1:])
    assert isinstance(first.result(120)[0], Parsed)


def test_idle_processes_end_and_others_start(setup: Setup) -> None:
    with OnDemandReaders(2, 2, idle_seconds=0.05) as readers:
        for _ in range(2):
            assert readers.read(job("a/1.txt", b"text"), setup).result(60)
            wait_for(lambda: not readers._workers and not readers._threads)


def test_some_processes_are_kept(setup: Setup) -> None:
    with OnDemandReaders(2, 2, idle_seconds=0.05, kept=1) as readers:
        files = [readers.read(job(f"a/{n}.txt", b"text"), setup) for n in range(9)]
        assert all(one.result(60) for one in files)
        wait_for(lambda: len(readers._threads) == len(readers._workers) == 1)
        [worker] = readers._workers
        assert readers.read(job("a/1.txt", b"text"), setup).result(60)
        assert readers._workers == {worker}


def test_closing_ends_all(setup: Setup) -> None:
    readers = OnDemandReaders(1, 1)
    slow = readers.read(job("a/slow.html", SLOW), setup)
    waiting = readers.read(job("a/1.txt", b"text"), setup)
    wait_for(lambda: any(one.ready and one.tasks for one in readers._workers))
    processes = [one.process for one in readers._workers]
    readers.close()
    with pytest.raises(NotServing):
        slow.result(60)
    assert waiting.cancelled()
    assert readers.read(job("a/1.txt", b"text"), setup).cancelled()
    assert all(process.poll() is not None for process in processes)
    assert not [one for one in threading.enumerate() if one.name == "reader"]


def test_a_reader_that_cannot_start_is_an_error(readers: OnDemandReaders, tmp_path: Path) -> None:
    broken = replace(SETUP, model_folder=tmp_path)
    with pytest.raises(NotServing, match="could not start"):
        readers.read(job("a/1.txt", b"text"), broken).result(60)
