"""Reader processes: the same outcomes as without them, in order; limits, crashes, early ends."""

import io
import os
import signal
import struct
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.files.discover import compile_patterns, discover
from indexer.parse.formats import ParseOptions, parse
from indexer.readers.messages import (
    Begun,
    Job,
    Outcome,
    Parsed,
    Setup,
    Unchanged,
    decode_job,
    decode_message,
    encode_job,
    encode_message,
)
from indexer.readers.pool import Finished, Readers
from indexer.readers.read_file import Reading, read_file, with_bytes
from retrieval.domain.records import ChunkSettings, ReadSettings, Skipped, SourceFile
from retrieval.encoding.tokenizer import Tokenizer
from retrieval.errors import RetrievalError
from tests.indexer.make_compound import SECTOR, make_xls
from tests.indexer.make_files import make_xlsx

SETTINGS = ChunkSettings(chunk_tokens=64, chunk_overlap=8)


def make_setup(
    folder: Path, *, memory: int = 1 << 30, seconds: float = 60.0, seconds_per_mb: float = 2.0
) -> Setup:
    return Setup(folder, 256, SETTINGS, (), (), ReadSettings(), memory, seconds, seconds_per_mb)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of all sorts: long and short, damaged, binary, with a sidecar, of a strange name."""
    root = tmp_path / "docs"
    root.mkdir()
    for number in range(30):
        paragraph = f"# Part {number}\n\nSome words, in a paragraph of part {number}.\n\n"
        (root / f"n{number:02}.md").write_text(paragraph * (1 + 400 * (number % 7 == 0)))
    (root / "binary.txt").write_bytes(b"\0\1\2")
    (root / "blank.txt").write_bytes(b" \n ")
    (root / "page.html").write_text("<title>Ünï</title><h1>Head</h1><p>body</p>")
    (root / "page.html.meta.json").write_text('{"team": "search"}')
    (root / "bad.md.meta.json").write_text("[1]")
    (root / "bad.md").write_text("text")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\n.md")).write_text("odd name")
    return root


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that takes a second or more to parse."""
    root = tmp_path / "big"
    root.mkdir()
    (root / "a.html").write_text("<p>one two three.\n" * 2_000_000)
    (root / "b.md").write_text("# Small\n\ntext\n")
    return root


def in_process(files: Iterable[SourceFile], model: Path) -> list[Outcome]:
    tokenizer = Tokenizer.from_folder(model, max_tokens=256)
    reading = Reading(tokenizer, SETTINGS, ParseOptions(), compile_patterns((), ()))
    news = [one for file in files for one in read_file(Job(file, {}), reading)]
    return [one for one in news if not isinstance(one, Begun)]


def outcomes_of(readers: Readers, jobs: Iterable[Job]) -> list[Outcome]:
    """What became of the documents; checks that each file is told to be finished."""
    jobs = list(jobs)
    told = list(readers.read(iter(jobs)))
    finished = [one for one in told if isinstance(one, Finished)]
    assert [one.source for one in finished] == [job.source for job in jobs]
    assert isinstance(told[-1], Finished)
    return [one for one in told if not isinstance(one, Finished)]


def read_all(setup: Setup, folder: Path, count: int = 2) -> list[Outcome]:
    with Readers(setup, count) as readers:
        return outcomes_of(readers, [Job(file, {}) for file in discover([folder]).files])


def test_the_outcomes_are_those_of_reading_here(folder: Path, minilm_folder: Path) -> None:
    files = discover([folder]).files
    expected = in_process(files, minilm_folder)
    assert read_all(make_setup(minilm_folder), folder) == expected
    assert read_all(make_setup(minilm_folder), folder, count=1) == expected
    with Readers(make_setup(minilm_folder), 2) as readers:
        sent = [job for file in files if isinstance(job := with_bytes(Job(file, {})), Job)]
        assert outcomes_of(readers, sent) == expected
    kinds = [type(outcome) for outcome in expected]
    assert kinds.count(Skipped) == 3
    assert kinds.count(Parsed) == len(files) - 3
    with Readers(make_setup(minilm_folder), 2) as readers:
        known = [
            {file.uri: getattr(one, "sha256", "")}
            for file, one in zip(files, expected, strict=True)
        ]
        again = outcomes_of(readers, map(Job, files, known))
        assert [type(outcome) for outcome in again] == [
            Unchanged if kind is Parsed else kind for kind in kinds
        ]


def test_what_is_sent_arrives_as_it_was(folder: Path, minilm_folder: Path) -> None:
    for file, outcome in zip(
        files := discover([folder]).files, in_process(files, minilm_folder), strict=True
    ):
        assert decode_job(encode_job(Job(file, {"a": "b"}, 3))) == Job(file, {"a": "b"}, 3)
        assert decode_message(encode_message(outcome)) == outcome


@given(st.text(st.characters(), max_size=20), st.text(max_size=20))
def test_any_name_and_detail_can_be_sent(name: str, detail: str) -> None:
    source = SourceFile(Path("/" + name.replace("\0", "")), "uri", "root", 1, 2)
    assert decode_job(encode_job(Job(source, {}))) == Job(source, {})
    for job in (Job(source, {}, data=b"", fields=b""), Job(source, {}, 2, b"a\nb", b"{}\n")):
        assert decode_job(encode_job(job)) == job
    skip = Skipped("uri", "root", "damaged", detail)
    assert decode_message(encode_message(skip)) == skip


def test_a_file_that_takes_too_long_is_skipped(endless: Path, minilm_folder: Path) -> None:
    setup = make_setup(minilm_folder, memory=4 << 30, seconds=0.3, seconds_per_mb=0.0)
    slow, fine = read_all(setup, endless)
    assert isinstance(slow, Skipped)
    assert slow.uri == "big/a.html"
    assert slow.reason == "took too long"
    assert slow.detail == "more than 0.3 s of processor time"
    assert isinstance(fine, Parsed)


def test_a_file_that_takes_too_much_memory_is_skipped(endless: Path, minilm_folder: Path) -> None:
    greedy, fine = read_all(make_setup(minilm_folder, memory=200 << 20), endless)
    assert isinstance(greedy, Skipped)
    assert greedy.reason in {"over a limit", "crashed its parser"}
    assert isinstance(fine, Parsed)


@pytest.mark.parametrize("count", [1, 2])
def test_a_file_that_crashes_its_parser_is_skipped(
    endless: Path, minilm_folder: Path, count: int
) -> None:
    with Readers(make_setup(minilm_folder), count) as readers:
        told = readers.read(Job(file, {}) for file in discover([endless]).files)
        while not (readers._readers[0].ready and readers._readers[0].tasks):
            time.sleep(0.01)
        os.kill(readers._readers[0].process.pid, signal.SIGSEGV)
        crashed, _, fine, _ = told
    assert crashed == Skipped("big/a.html", "big", "crashed its parser", "ended by SIGSEGV")
    assert isinstance(fine, Parsed)


def write_xlsx(path: Path, strings: int) -> None:
    """Write a workbook that says to have a number of strings; it has seven."""
    with zipfile.ZipFile(io.BytesIO(make_xlsx())) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'Count="7"', b'Count="%d"' % strings))


def test_why_a_library_aborts_is_told_with_the_file_only(
    tmp_path: Path, minilm_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_xlsx(tmp_path / "many.xlsx", strings=9_999_999)
    (tmp_path / "next.md").write_text("# Small")
    first, then = read_all(make_setup(minilm_folder, memory=200 << 20), tmp_path, count=1)
    assert isinstance(first, Skipped)
    assert first.detail == "ended by SIGABRT: memory allocation of 239999976 bytes failed"
    assert isinstance(then, Parsed)
    assert capfd.readouterr().err == ""


def test_workbooks_that_lie_about_their_sizes_are_read(tmp_path: Path, minilm_folder: Path) -> None:
    cells = [(0, 0, 1.5), (3, 2, 7)]
    endless = bytearray(make_xls(cells))
    directory, table = struct.unpack_from("<I", endless, 48) + struct.unpack_from("<I", endless, 76)
    struct.pack_into("<I", endless, (1 + table) * SECTOR + 4 * directory, directory)
    (tmp_path / "endless.xls").write_bytes(endless)
    size = struct.pack("<IIHHH", 0, 0xFFFFFFFF, 0, 0xFF, 0)
    (tmp_path / "huge.xls").write_bytes(make_xls(cells, dimensions=size))
    write_xlsx(tmp_path / "many.xlsx", strings=90_000_000_000)
    outcomes = read_all(make_setup(minilm_folder), tmp_path)
    texts = [one.document.text if isinstance(one, Parsed) else one for one in outcomes]
    assert texts == [parse("a.xls", make_xls(cells)).text] * 2 + [parse("a.xlsx", make_xlsx()).text]


def test_one_that_dies_with_nothing_to_do_is_replaced(
    folder: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.readers.pool._ASSIGNED", 1)
    jobs = [Job(file, {}) for file in discover([folder]).files]

    def later() -> Iterator[Job]:
        yield jobs[0]
        reader = readers._readers[0]
        while not reader.ready or reader.tasks:
            time.sleep(0.01)
        reader.process.kill()
        reader.process.wait()
        yield from jobs[1:]

    with Readers(make_setup(minilm_folder), 1) as readers:
        told = [one for one in readers.read(later()) if not isinstance(one, Finished)]
    assert told == in_process([job.source for job in jobs], minilm_folder)


def test_ending_early_leaves_nothing_behind(endless: Path, minilm_folder: Path) -> None:
    with Readers(make_setup(minilm_folder), 2) as readers:
        readers.read(Job(file, {}) for file in discover([endless]).files)
        processes = [reader.process for reader in readers._readers]
    assert all(process.poll() is not None for process in processes)
    assert not [thread for thread in threading.enumerate() if thread.name == "readers"]


def test_a_reader_that_cannot_start_is_an_error(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RetrievalError, match="could not start"):
        read_all(make_setup(tmp_path / "no model"), folder)
    assert "Traceback" in capfd.readouterr().err


def test_what_goes_wrong_with_the_jobs_is_raised(minilm_folder: Path) -> None:
    def jobs() -> Iterator[Job]:
        raise OSError("no list")
        yield

    with (
        Readers(make_setup(minilm_folder), 1) as readers,
        pytest.raises(OSError, match="no list"),
    ):
        list(readers.read(jobs()))
