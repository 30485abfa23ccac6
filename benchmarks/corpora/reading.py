"""How fast files are read, parsed and cut, without the model.

    python -m benchmarks.corpora.reading FOLDER [--megabytes 300] [--chunk-tokens 512]
        [--processes N]

Copies the text files (Markdown, reStructuredText, plain text) of a folder, each copy with a line of
its own, until they have the given size. Then reads them as a build does: in processes with limits,
cut by the shipped model's tokenizer, and sent back.
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

from indexer.build.settings import FILE_MEMORY_BYTES, FILE_SECONDS, FILE_SECONDS_PER_MB
from indexer.files.discover import discover
from indexer.parse.formats import format_of
from indexer.readers.messages import Job, Parsed, Setup
from indexer.readers.pool import Readers
from retrieval.domain.records import DEFAULT_READING, ChunkSettings
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model

TEXT_FORMATS = {"Markdown", "reStructuredText", "plain text"}


def fill(source: Path, target: Path, size: int) -> int:
    """Write copies of the texts; return their bytes."""
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and (found := format_of(path.name)) and found.name in TEXT_FORMATS
    ]
    written = 0
    for turn in itertools.count():
        for number, path in enumerate(files):
            if written >= size:
                return written
            data = path.read_bytes() + f"\n\nCopy {turn}.\n".encode()
            folder = target / str(turn)
            folder.mkdir(exist_ok=True)
            (folder / f"{number}{path.suffix}").write_bytes(data)
            written += len(data)
    raise AssertionError


def offline_setup(chunk_tokens: int, *, max_tokens: int) -> Setup:
    """Return a reader's settings, as of a build with the shipped model and an eighth of overlap."""
    return Setup(
        find_model(OFFLINE_MODEL).path,
        max_tokens,
        ChunkSettings(chunk_tokens, chunk_tokens // 8),
        (),
        (),
        DEFAULT_READING,
        FILE_MEMORY_BYTES,
        FILE_SECONDS,
        FILE_SECONDS_PER_MB,
    )


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--chunk-tokens", type=int, default=512)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    setup = offline_setup(options.chunk_tokens, max_tokens=512)
    with tempfile.TemporaryDirectory() as folder:
        size = fill(options.folder, Path(folder), round(options.megabytes * 1e6))
        started = time.perf_counter()
        found = discover([Path(folder)])
        discovered = time.perf_counter() - started
        chunks = documents = 0
        with Readers(setup, options.processes) as readers:
            for outcome in readers.read(Job(file, {}) for file in found.files):
                if isinstance(outcome, Parsed):
                    documents += 1
                    chunks += len(outcome.chunks)
        seconds = time.perf_counter() - started
    print(
        f"{size / 1e6:.0f} MB in {documents} files, {chunks} chunks: {seconds:.1f} s, "
        f"{size / 1e6 / seconds:.1f} MB/s in {options.processes} processes "
        f"({discovered:.1f} s to find them)"
    )


if __name__ == "__main__":
    main()
