"""What a build tells of its progress: true shares of what has been read, and sound times left."""

import gzip
import io
import json
import os
import random
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from indexer.build import embed, progress
from indexer.build.build import build
from indexer.build.progress import ConsoleProgress, SilentProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions
from tests.indexer.commands.test_cli import indexer
from tests.tiny_model import make_tiny_model

MEMBERS = 120


def text(number: int) -> str:
    """Words that hardly compress, so that what is read shows in the compressed file, too.

    And so long that the tokenizer makes one token of each, which is embedded in no time.
    """
    generator = random.Random(number)
    return " ".join(f"{generator.getrandbits(480):0120x}" for _ in range(4))


def json_lines() -> bytes:
    return "".join(json.dumps({"text": text(n)}) + "\n" for n in range(MEMBERS)).encode()


def mailbox() -> bytes:
    return "".join(f"From a\nSubject: {n}\n\n{text(n)}\n\n" for n in range(MEMBERS)).encode()


def zipped(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return archive.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def texts() -> dict[str, bytes]:
    return {f"{n}.txt": text(n).encode() for n in range(MEMBERS)}


def with_much_that_is_skipped() -> bytes:
    return zipped({f"{n}.exe": os.urandom(400) for n in range(MEMBERS)} | texts())


CONTAINERS: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "a.jsonl": json_lines,
        "a.jsonl.gz": lambda: gzip.compress(json_lines()),
        "a.mbox": mailbox,
        "a.zip": lambda: zipped(texts()),
        "a.tar.gz": lambda: tarred(texts()),
        "nested.zip": lambda: zipped({"in/b.tar.gz": tarred(texts())}),
        "skipped.zip": with_much_that_is_skipped,
    }
)


class Recorded(SilentProgress):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.total = self.files = self.files_total = 0
        self.sizes = [0.0]

    def start(self, files: int, size: int) -> None:
        self.files_total, self.total = files, size

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        self.sizes.append(self.sizes[-1] + size)
        self.files += files

    @property
    def widest(self) -> float:
        """The largest step, as a share of all."""
        steps = [after - before for before, after in zip(self.sizes, self.sizes[1:], strict=False)]
        assert min(steps) >= 0
        return max(steps) / self.total


class Place:
    """Documents, a tiny model and an index."""

    def __init__(self, folder: Path) -> None:
        self.docs = folder / "docs"
        self.docs.mkdir()
        self.options = BuildOptions((self.docs,), folder / "index", str(make_tiny_model(folder)))

    def build(self) -> tuple[BuildReport, Recorded]:
        told = Recorded()
        report = build(self.options, told)
        # All that was there to do was done, and nothing was counted twice.
        assert (round(told.sizes[-1]), told.files) == (told.total, told.files_total)
        return report, told


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(embed, "WINDOW_CHUNKS", 20)
    return Place(tmp_path)


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_is_read_of_a_container_counts_as_it_is_read(place: Place, name: str) -> None:
    path = place.docs / name
    path.write_bytes(CONTAINERS[name]())
    report, told = place.build()
    assert report.added == MEMBERS
    # What is skipped at the start of an archive counts with the first document after it.
    assert told.widest < (0.8 if name == "skipped.zip" else 0.4)
    # Nothing in it has changed, which shows when it is read.
    os.utime(path, ns=(1, 1))
    report, told = place.build()
    assert report.unchanged == MEMBERS
    assert told.widest < (0.8 if name == "skipped.zip" else 0.4)


def test_files_and_containers_side_by_side(place: Place) -> None:
    for number in range(20):
        (place.docs / f"{number}.txt").write_text(text(number) * number)
    (place.docs / "empty.jsonl").write_bytes(b"")
    (place.docs / "broken.zip").write_bytes(zipped(texts())[:-4000])
    (place.docs / "skipped.zip").write_bytes(zipped({"a.exe": b"x" * 5000}))
    (place.docs / "a.jsonl").write_bytes(json_lines() + b"{no json\n")
    place.build()


@pytest.mark.parametrize("name", ["a.jsonl", "a.mbox", "a.tar.gz"])
def test_the_lines_that_are_printed(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LEFT_AFTER_SECONDS", 0.0)
    (place.docs / name).write_bytes(CONTAINERS[name]())
    options = place.options
    built = indexer("build", place.docs, "--index", options.index, "--model", str(options.model))
    assert built.returncode == 0, built.stderr
    pattern = r"indexing (\d+)% [01]/1 file, \d+ chunks?, \d+ tokens/s(?:, (\d+) s left)?"
    lines = [line for line in built.stderr.splitlines() if line.startswith("indexing")]
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    shares = [int(match[1]) for match in found if match]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert sum(5 < share < 95 for share in shares) >= 3
    assert all((match[2] is None) == (int(match[1]) < 2) for match in found if match)
    assert lines[-1].endswith(", 0 s left")


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_no_time_left_is_told_until_it_means_something(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    shown = ConsoleProgress(stream)
    shown.start(2, 1_000_000)
    for now, size, expected in (
        (3.0, 0.0, ""),  # no line yet
        (10.0, 1.0, "indexing 0% 0/2 files, 0 chunks, 0 tokens/s"),
        (1000.0, 10_000.0, "indexing 1% 0/2 files, 0 chunks, 0 tokens/s"),
        (1100.0, 90_000.0, "indexing 10% 0/2 files, 0 chunks, 0 tokens/s, 2 h 45 min left"),
        (1200.0, 700_000.0, "indexing 80% 0/2 files, 0 chunks, 0 tokens/s, 5 min left"),
        (1300.0, 175_000.0, "indexing 98% 0/2 files, 0 chunks, 0 tokens/s, 33 s left"),
        # A file has grown.
        (1400.0, 900_000.0, "indexing 100% 0/2 files, 0 chunks, 0 tokens/s, 0 s left"),
    ):
        clock.now = now
        stream.truncate(0)
        stream.seek(0)
        shown.advance(size=size)
        assert stream.getvalue().strip() == expected
