"""Read hostile files, mutated ones of every format and bombs, with the build's own readers.

    python -m benchmarks.corpora.fuzz [--files 20000] [--seed 7] [--samples FOLDER]
                                      [--intact FOLDER...] [--keep FOLDER]

Takes small real files of every format (and those of ``--samples``), flips bits, cuts, repeats and
splices them, and reads them as a build does: found, read in processes with limits, parsed and cut.
Prints the outcomes by format and reason. Every document is checked: its sections cover the text,
its chunks are the text between their offsets, and nothing is outside them but white space and what
is left out (comments, encoded data and long rules). ``--keep`` copies the files that break a
promise, crash a reader or take too long; some samples hold the time at which they were made, so the
same seed makes slightly different files.
"""

import argparse
import io
import os
import random
import resource
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.common.bombs import STRANGE_NAMES, bombs
from benchmarks.common.samples import make_samples
from benchmarks.corpora.reading import offline_setup
from indexer.chunking.omit import read_document
from indexer.files.discover import discover
from indexer.files.sniff import without_binaries
from indexer.parse.formats import FORMATS, format_of
from indexer.readers.messages import Begun, Job, Parsed, Setup, Unchanged
from indexer.readers.pool import Finished, Readers
from retrieval.domain.embedded_text import without
from retrieval.domain.records import Document, Skipped, SourceFile

BATCH: Final = 500


def mutate(data: bytes, others: list[bytes], source: random.Random) -> bytes:
    """Return the file with random damage."""
    damaged = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(damaged)) if damaged else 0
        length = source.randint(1, 64)
        kind = source.randrange(7)
        if kind == 0:
            for place in range(at, min(len(damaged), at + length), source.randint(1, 9)):
                damaged[place] ^= 1 << source.randrange(8)
        elif kind == 1:
            del damaged[at : at + length]
        elif kind == 2:
            damaged[at:at] = source.randbytes(length)
        elif kind == 3:
            damaged[at:at] = damaged[at : at + length] * source.randint(2, 200)
        elif kind == 4:
            del damaged[at:]
        elif kind == 5:
            other = source.choice(others)
            damaged[at:] = other[source.randrange(len(other) + 1) :]
        else:
            damaged[at : at + 4] = source.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
    return rezip(bytes(damaged), data, source)


def rezip(damaged: bytes, data: bytes, source: random.Random) -> bytes:
    """Damage a ZIP file's members half of the time, because its checksums hide other damage."""
    if not data.startswith(b"PK") or source.randrange(2):
        return damaged
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        victim = source.choice(names)
        for name in names:
            content = bytearray(old.read(name))
            for _ in range(source.randint(1, 8) if name == victim and content else 0):
                content[source.randrange(len(content))] = source.choice(b"<>&/\"'=\0\xff0a")
            new.writestr(name, bytes(content))
    return stream.getvalue()


class Tally:
    """Counts of outcomes, by format."""

    def __init__(self, keep: Path | None) -> None:
        self.files = 0
        self.keep = keep
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.details: Counter[str] = Counter()
        self.chunks = 0
        self.violations: list[str] = []

    def run(self, root: Path, setup: Setup) -> None:
        """Read a folder and count the outcomes."""
        found = without_binaries(discover([root]), lambda _: False)
        self.files += len(found.files) + len(found.skipped)
        for skip in found.skipped:
            self.outcomes[kind_of(skip.uri), str(skip.reason)] += 1
        with Readers(setup, os.cpu_count() or 1) as readers:
            bad = False
            for outcome in readers.read(Job(file, {}) for file in found.files):
                if isinstance(outcome, Finished):
                    if bad and self.keep:
                        self._copy(outcome.source)
                    bad = False
                elif isinstance(outcome, Skipped | Parsed):
                    bad |= self._count(outcome)
                else:
                    assert isinstance(outcome, Unchanged | Begun)

    def _count(self, outcome: Skipped | Parsed) -> bool:
        """Count the outcome of a document; return whether it is one that must not be."""
        if isinstance(outcome, Parsed):
            self.outcomes[kind_of(outcome.source.uri), "read"] += 1
            broken = list(check(outcome))
            self.violations += broken
            self.chunks += len(outcome.chunks)
            return bool(broken)
        self.outcomes[kind_of(outcome.uri), str(outcome.reason)] += 1
        failed = outcome.reason in {"crashed its parser", "took too long"}
        if failed:
            self.details[f"{outcome.uri.rpartition('.')[2]}: {outcome.detail}"] += 1
        return failed

    def _copy(self, source: SourceFile) -> None:
        assert self.keep
        name = source.uri.replace("/", "_")
        (self.keep / name).write_bytes(source.path.read_bytes())


def kind_of(uri: str) -> str:
    """Return the format of a file."""
    format_ = format_of(uri)
    return format_.name if format_ else "told by content"


def check(parsed: Parsed) -> Iterator[str]:
    """Return the promises that a document breaks."""
    document = parsed.document
    yield from _tiles(document)
    left_out = read_document(document).ranges
    end = 0
    for chunk in parsed.chunks:
        if document.text[chunk.char_start : chunk.char_end] != chunk.text or not chunk.text.strip():
            yield f"{document.uri}: chunk {chunk.ordinal} is not its text"
        if _has_words(document.text, end, chunk.char_start, left_out):
            yield f"{document.uri}: text before chunk {chunk.ordinal} is in none"
        end = max(end, chunk.char_end)
    if _has_words(document.text, end, len(document.text), left_out):
        yield f"{document.uri}: text at the end is in no chunk"


def _has_words(text: str, start: int, end: int, left_out: Sequence[tuple[int, int]]) -> bool:
    """Whether a range of a text holds more than white space and ranges that are left out."""
    if not text[start:end].strip():
        return False
    within = [
        (max(left, start) - start, min(right, end) - start)
        for left, right in left_out
        if left < end and right > start
    ]
    return bool(without(text[start:end], within).strip())


def _tiles(document: Document) -> Iterator[str]:
    starts = [section.char_start for section in document.sections]
    if starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= max(1, len(document.text)):
        yield f"{document.uri}: sections do not tile the text"
    if list(document.page_starts) != sorted(document.page_starts):
        yield f"{document.uri}: pages are out of order"


def fill(root: Path, count: int, samples: Mapping[str, list[bytes]], source: random.Random) -> None:
    """Write mutated files."""
    root.mkdir()
    everything = [data for files in samples.values() for data in files]
    for number in range(count):
        end = source.choice(sorted(samples))
        data = mutate(source.choice(samples[end]), everything, source)
        (root / f"{number}{end}").write_bytes(data)


def write_bombs(root: Path) -> None:
    """Write the bombs, a sparse file, and files with strange names."""
    root.mkdir()
    for name, data in bombs():
        (root / name).write_bytes(data)
    for name in ("sparse.txt", "sparse.pdf", "sparse.zip"):
        with (root / name).open("wb") as file:
            file.truncate(1 << 30)
    for name in STRANGE_NAMES:
        (root / name).write_bytes(b"# Strange\n\ntext\n")


def main() -> None:
    """Read the hostile files and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--intact", type=Path, nargs="*", default=[], help="read as they are, too")
    parser.add_argument("--keep", type=Path, help="empty folder for copies of files that fail")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True)
    source = random.Random(options.seed)
    samples = make_samples(options.samples)
    setup = offline_setup(200, max_tokens=256)
    tally, started = Tally(options.keep), time.perf_counter()
    for root in options.intact:
        tally.run(root, setup)
    for row in sorted(tally.outcomes.items()):
        print("intact:", *row[0], row[1])
    with tempfile.TemporaryDirectory() as folder:
        write_bombs(Path(folder) / "bombs")
        tally.run(Path(folder) / "bombs", setup)
        for number in range(-(-options.files // BATCH)):
            root = Path(folder) / str(number)
            fill(root, min(BATCH, options.files - number * BATCH), samples, source)
            tally.run(root, setup)
            for path in root.iterdir():
                path.unlink()
    for (kind, reason), count in sorted(tally.outcomes.items()):
        print(f"{kind:<18} {reason:<22} {count}")
    print(f"{tally.files} files of {len(FORMATS)} formats in {time.perf_counter() - started:.0f} s")
    print("crashed or too long:", dict(tally.details) or "none")
    print(f"violations in {tally.chunks} chunks:", tally.violations[:10] or "none")
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest reader {most / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
