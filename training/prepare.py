"""Preparation of a data folder to train on, from folders of documents.

    python -m training.prepare /usr/share/doc docs --out DATA --model all-minilm-l6-v2

Files are found, parsed and chunked as by ``indexer build``. Left out and counted are chunks whose
words have occurred before (whatever their case), chunks with few letters, and documents of which
nothing remains.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import numpy as np

from indexer.build.settings import BuildOptions, find_documents, reader_setup
from indexer.readers.messages import Job, Parsed, Setup
from indexer.readers.pool import Readers, reader_count
from retrieval.commands import program
from retrieval.domain.records import Chunk, ChunkSettings, Skipped, SourceFile
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.tokenizer import Tokenizer
from training.models.teacher import read_encoder

CHUNK_TOKENS: Final = 254
"""Tokens of a chunk: with the special tokens, the length that all-MiniLM-L6-v2 was trained on."""
_LETTERS: Final = 0.55
"""Fraction of a chunk's characters, except white space, that must be letters; tables have fewer."""
_LEAST_LETTERS: Final = 24
"""Letters of the shortest chunk: about five words."""


@dataclass(slots=True)
class _Written:
    """Contents of the data folder's arrays."""

    tokens: list[np.ndarray] = field(default_factory=list)
    headings: list[tuple[str, ...]] = field(default_factory=list)
    """Paths of headings: the document's title first, the heading itself last."""
    documents: list[int] = field(default_factory=lambda: [0])
    held: list[bool] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """Number of a heading; number of a chunk."""
    left_out: Counter[str] = field(default_factory=Counter)
    seen: set[bytes] = field(default_factory=set)


def prepare(roots: list[Path], out: Path, model: str, *, held: int = 64) -> dict[str, object]:
    """Write a data folder.

    Args:
        roots: folders of documents.
        out: folder to write.
        model: model of the tokenizer, whose vocabulary has at most 65,536 tokens.
        held: one in this many documents is held back, chosen by its name.

    Returns:
        the content of ``about.json``.

    Raises:
        SourceError, ModelNotFound: a folder or the model does not exist.
    """
    folder = find_model(model)
    _, settings = read_encoder(folder)
    tokenizer = Tokenizer.from_folder(folder.path, max_tokens=settings.max_tokens)
    written = _Written()
    options = BuildOptions(roots, out)
    discovery = find_documents(options)
    written.left_out.update(f"file: {skip.reason}" for skip in discovery.skipped)
    chunks = ChunkSettings(chunk_tokens=CHUNK_TOKENS, chunk_overlap=0, context=False)
    setup = reader_setup(options, folder.path, settings.max_tokens, chunks)
    for parsed in _documents(discovery.files, setup, written.left_out):
        _add(written, parsed, tokenizer, held)
    about = {"roots": [root.name for root in roots], "tokenizer": folder.name}
    return _write(written, out, tokenizer, about)


def _documents(
    files: Sequence[SourceFile], setup: Setup, left_out: Counter[str]
) -> Iterator[Parsed]:
    with Readers(setup, reader_count(len(files))) as readers:
        for outcome in readers.read(Job(file, {}) for file in files):
            if isinstance(outcome, Parsed):
                yield outcome
            elif isinstance(outcome, Skipped):
                left_out[f"file: {outcome.reason}"] += 1


def _add(written: _Written, parsed: Parsed, tokenizer: Tokenizer, held: int) -> None:
    bodies = [(chunk.heading_path, _body(chunk, parsed.document.title)) for chunk in parsed.chunks]
    kept = [(path, body) for path, body in bodies if _is_new_text(written, body)]
    if not kept:
        written.left_out["document: nothing left of it"] += 1
        return
    last: tuple[str, ...] = ()
    encoded = tokenizer.encode([body for _, body in kept])
    for (path, _), tokens in zip(kept, encoded, strict=True):
        ids = tokens.ids[1:-1]  # without special tokens
        written.tokens.append(np.array(ids, dtype="<u2"))
        heading = path or ((parsed.document.title,) if not last else ())
        if heading and heading != last:
            written.pairs.append((len(written.headings), len(written.tokens) - 1))
            written.headings.append((parsed.document.title, *path) if path else heading)
        last = heading or last
    written.documents.append(len(written.tokens))
    name = hashlib.sha256(parsed.document.uri.encode()).digest()
    written.held.append(int.from_bytes(name[:4]) % held == 0)


def _body(chunk: Chunk, title: str) -> str:
    """Return a chunk without its headings, since these are the queries that should find it."""
    known = {_words(heading) for heading in (*chunk.heading_path, title)} | {""}
    lines = chunk.text.splitlines(keepends=True)
    first = next((n for n, line in enumerate(lines) if _words(line) not in known), 0)
    return "".join(lines[first:])


def _words(line: str) -> str:
    return " ".join(re.findall(r"\w+", line.lower().replace("_", " ")))


def _is_new_text(written: _Written, text: str) -> bool:
    """Return whether a chunk is new and has enough letters; count it if not."""
    letters = sum(map(str.isalpha, text))
    if letters < max(_LEAST_LETTERS, _LETTERS * len(re.sub(r"\s", "", text))):
        written.left_out["chunk: few letters"] += 1
        return False
    digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=12).digest()
    if digest in written.seen:
        written.left_out["chunk: there already"] += 1
        return False
    written.seen.add(digest)
    return True


def _write(
    written: _Written, out: Path, tokenizer: Tokenizer, about: Mapping[str, object]
) -> dict[str, object]:
    """Write the files; headings come after all chunks."""
    out.mkdir(parents=True, exist_ok=True)
    chunks = len(written.tokens)
    headings = [
        np.array(tokens.ids[1:-1], dtype="<u2")
        for tokens in tokenizer.encode(_told_apart(written.headings))
    ]
    texts = [*written.tokens, *headings]
    bounds = np.cumsum([0, *map(len, texts)])
    np.concatenate(texts).tofile(out / "tokens.bin")
    np.save(out / "texts.npy", bounds)
    np.save(out / "documents.npy", np.array(written.documents, dtype=np.int64))
    np.save(out / "held.npy", np.array(written.held, dtype=np.bool_))
    pairs = [(chunks + heading, chunk) for heading, chunk in written.pairs]
    np.save(out / "pairs.npy", np.array(pairs, dtype=np.int64).reshape(-1, 2))
    about = {
        **about,
        "documents": len(written.held),
        "held": sum(written.held),
        "chunks": chunks,
        "headings": len(headings),
        "tokens": int(bounds[-1]),
        "left_out": dict(written.left_out.most_common()),
    }
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def _told_apart(headings: list[tuple[str, ...]]) -> list[str]:
    """Return each heading, with as many of those above it as make it unique."""
    counts = Counter(path[-n:] for path in headings for n in range(1, len(path) + 1))
    return [
        " ".join(next((path[-n:] for n in range(1, len(path)) if counts[path[-n:]] == 1), path))
        for path in headings
    ]


@click.command()
@click.argument("roots", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option(
    "--model", default="all-minilm-l6-v2", show_default=True, help="Model of the tokenizer."
)
def main(roots: tuple[Path, ...], out: Path, model: str) -> None:
    """Make a data folder from the documents in ROOTS."""
    click.echo(json.dumps(prepare(list(roots), out, model), indent=2))


if __name__ == "__main__":
    sys.exit(program.run(main, "training.prepare"))
