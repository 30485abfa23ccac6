"""How well the files of a corpus are read, by format, beside references and other extractors.

    python -m benchmarks.corpora FOLDER [--references FILE] [--peers markitdown,kreuzberg]
                                 [--python PYTHON_WITH_PEERS] [--formats pdf,docx] [--show N]

Reads the files of a folder as a build does, in processes with limits, and prints a line for each
format:

- files read and skipped, those of which a part could not be read, and megabytes read a second;
- *recall*: share of the reference's words that were found; *order*: of the words that occur once in
  both, the largest share in the same order;
- *title*: share of the titles that are right; *headings*: F1 of the headings;
- *absent*: share of the texts that should be absent and are there, by references;
- *peers*: share of the words found by all peers that we find, and, of the words of the reference,
  what the best peer finds.

References are JSON lines (``--references``; by default ``references.jsonl`` in the folder) or lie
beside their files as ``NAME.expected.md`` or ``NAME.expected.txt``: see
``benchmarks.corpora.references``. A hand-checked list of 200 titles of a collection of technical
documentation is in ``benchmarks/corpora/docs_medium_titles.jsonl``. ``--show`` lists the worst
files.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from benchmarks.corpora import peers
from benchmarks.corpora.reading import offline_setup
from benchmarks.corpora.references import (
    BESIDE,
    Reference,
    headings_agree,
    headings_of,
    is_same,
    load_references,
    order_agrees,
    plain,
    recall,
    words,
)
from indexer.files.discover import discover
from indexer.parse.base.fields import UNREAD
from indexer.parse.formats import format_of, is_container
from indexer.readers.messages import Job, Parsed
from indexer.readers.pool import Readers, reader_count
from retrieval.domain.records import Document, Skipped, SourceFile

CHUNK_TOKENS = 512
"""Size of the chunks that files are cut into; reading is measured with cutting, as in a build."""
COLUMNS = ("recall", "order", "title", "headings", "absent", "peers", "best peer")


class Share(NamedTuple):
    """A share for one file."""

    value: float
    weight: int
    """The number of words that it is a share of, or 1."""
    detail: str
    """What is missing or wrong."""


@dataclass
class Row:
    """Figures of one format."""

    read: int = 0
    skipped: int = 0
    incomplete: int = 0
    shares: dict[str, list[Share]] = field(default_factory=lambda: defaultdict(list))
    """Name of a column to a share for each file."""

    def as_text(self, name: str) -> str:
        """Return the figures as a line of the table."""
        cells = (_mean_as_text(self.shares[column]) for column in COLUMNS)
        counts = f"{self.read:>6} {self.skipped:>7} {self.incomplete:>10}"
        return f"{name:<14} {counts} " + " ".join(f"{cell:>9}" for cell in cells)


def _mean_as_text(shares: Sequence[Share]) -> str:
    """Return the mean of shares, each by its weight; a dash if there are none."""
    weights = [share.weight for share in shares]
    if not sum(weights):
        return "-"
    return f"{fmean((share.value for share in shares), weights):.4f}"


def main() -> None:
    """Read the corpus and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--references", type=Path)
    parser.add_argument("--peers", default="", help=f"of {', '.join(peers.SCRIPTS)}")
    parser.add_argument("--python", default=sys.executable, help="has the peers installed")
    parser.add_argument("--formats", default="", help="keys of formats; all by default")
    parser.add_argument("--show", type=int, default=0, help="worst files to list for a column")
    options = parser.parse_args()
    folder = options.folder.resolve()
    listed = options.references or folder / "references.jsonl"
    references = load_references(folder, listed if listed.exists() else None)
    wanted = set(filter(None, options.formats.split(",")))
    files = [
        file
        for file in discover([folder], exclude=[f"*{end}" for end in BESIDE]).files
        if not wanted or getattr(format_of(file.uri), "key", "") in wanted
    ]
    started = time.perf_counter()
    documents, skipped = read_all(files)
    seconds = time.perf_counter() - started
    size = sum(file.size for file in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB, {size / 1e6 / seconds:.1f} MB/s with cutting")
    texts = peer_texts(options.python, list(filter(None, options.peers.split(","))), files)
    rows, worst = compare(folder, documents, references, texts)
    for skip in skipped:
        rows[_format_name(skip.uri)].skipped += 1
    head = " ".join(f"{column:>9}" for column in COLUMNS)
    print(f"{'format':<14} {'read':>6} {'skipped':>7} {'incomplete':>10} {head}")
    for name, row in sorted(rows.items()):
        print(row.as_text(name))
    for column, scored in worst.items() if options.show else ():
        print(f"\nlowest {column}:")
        for share, uri in sorted(scored)[: options.show]:
            print(f"  {share.value:.4f}  {uri}  {share.detail}")
    for skip in skipped[: options.show]:
        print(f"skipped: {skip.uri}: {skip.reason} {skip.detail}")


def read_all(files: Sequence[SourceFile]) -> tuple[list[Document], list[Skipped]]:
    """Read files in processes of their own; return the documents, and what was skipped."""
    documents, skipped = [], []
    setup = offline_setup(CHUNK_TOKENS, max_tokens=CHUNK_TOKENS + 2)
    with Readers(setup, reader_count(len(files))) as readers:
        for outcome in readers.read(Job(file, {}) for file in files):
            if isinstance(outcome, Parsed):
                documents.append(outcome.document)
            elif isinstance(outcome, Skipped):
                skipped.append(outcome)
    return documents, skipped


def peer_texts(
    python: str, names: Sequence[str], files: Sequence[SourceFile]
) -> Mapping[str, Sequence[str]]:
    """Return the texts by each peer of the files that are no containers, by URI."""
    plain_files = [file for file in files if not is_container(file.uri)]
    found: dict[str, list[str]] = {file.uri: [] for file in plain_files}
    for name in names:
        paths = [file.path for file in plain_files]
        for file, text in zip(plain_files, peers.extract(python, name, paths), strict=True):
            found[file.uri].append(plain(text))
    return found


def compare(
    folder: Path,
    documents: Iterable[Document],
    references: Mapping[str, Reference],
    texts: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Row], dict[str, list[tuple[Share, str]]]]:
    """Return a row for each format, and for each column the share and the URI of each file."""
    rows: dict[str, Row] = defaultdict(Row)
    worst: dict[str, list[tuple[Share, str]]] = defaultdict(list)
    for document in documents:
        row = rows[_format_name(document.uri)]
        row.read += 1
        row.incomplete += UNREAD in document.metadata
        reference = references.get(document.uri.removeprefix(folder.name + "/"), Reference())
        others = [words(text) for text in texts.get(document.uri, ())]
        for column, share in judge(document, reference, others):
            row.shares[column].append(share)
            worst[column].append((share, document.uri))
    return rows, worst


def judge(
    document: Document, reference: Reference, others: Sequence[Counter[str]]
) -> Iterable[tuple[str, Share]]:
    """Yield (column, share) of all that is known of a document."""
    found = words(document.text)
    if reference.text is not None:
        expected = words(reference.text)
        missing = ", ".join(word for word, _ in (expected - found).most_common(8))
        yield "recall", Share(recall(expected, found), expected.total(), missing)
        yield "order", Share(order_agrees(reference.text, document.text), 1, "")
        if others:
            best = max(recall(expected, other) for other in others)
            yield "best peer", Share(best, expected.total(), "")
    if reference.titles is not None:
        right = any(is_same(title, document.title) for title in reference.titles)
        detail = f"{document.title!r}, expected {reference.titles[0]!r}"
        yield "title", Share(float(right), 1, detail)
    if reference.headings is not None:
        agreement = headings_agree(reference.headings, headings_of(document))
        yield "headings", Share(agreement, 1, "")
    if reference.absent:
        there = [text for text in reference.absent if text in document.text]
        share = len(there) / len(reference.absent)
        yield "absent", Share(share, len(reference.absent), ", ".join(there)[:100])
    if others and all(others):
        agreed = others[0]
        for other in others[1:]:
            agreed = agreed & other
        missing = ", ".join(word for word, _ in (agreed - found).most_common(8))
        yield "peers", Share(recall(agreed, found), agreed.total(), missing)


def _format_name(uri: str) -> str:
    found = format_of(uri)
    return found.key if found else "unknown"


if __name__ == "__main__":
    main()
