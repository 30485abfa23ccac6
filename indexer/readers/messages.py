"""What the build and its reader processes tell each other: a line of JSON, and a document's text.

A reader works on files that may be hostile. What it sends is data and nothing else, however badly
a parser was deceived: nothing here is unpickled.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from indexer.readers.read_file import Begun, Outcome, Parsed, Unchanged
from retrieval.domain.records import Chunk, ChunkSettings, Document, Section, Skipped, SourceFile


@dataclass(frozen=True, slots=True)
class Setup:
    """What a reader is told once."""

    model_folder: Path
    """Holds ``tokenizer.json``."""
    max_tokens: int
    """The model's."""
    settings: ChunkSettings
    include: tuple[str, ...]
    """Patterns of the members of containers that are wanted."""
    exclude: tuple[str, ...]
    memory_bytes: int
    """Most memory that it may use."""
    seconds: float
    """Most processor time that a file may take ..."""
    seconds_per_mb: float
    """... and so much more for each million of its bytes."""

    def seconds_for(self, size: int) -> float:
        """Most processor time that a file of so many bytes may take."""
        return self.seconds + size / 1e6 * self.seconds_per_mb


@dataclass(frozen=True, slots=True)
class Done:
    """A file has been read to its end."""


News = Outcome | Begun | Done
"""What a reader tells of a file: what became of it or of its members, and then that it is done."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to read."""

    source: SourceFile
    known: Mapping[str, str]
    """See ``indexer.readers.read_file.read``."""
    after: int = 0
    """See ``indexer.readers.read_file.read``."""


_SOURCE_FIELDS: Final = tuple(field.name for field in fields(SourceFile))


def encode_setup(setup: Setup) -> bytes:
    """As bytes to send; see ``decode_setup``."""
    return _dump(asdict(setup))


def decode_setup(data: bytes) -> Setup:
    """What ``encode_setup`` was given."""
    raw = _load(data)
    raw |= {name: tuple(raw[name]) for name in ("include", "exclude")}
    raw |= {"model_folder": Path(raw["model_folder"]), "settings": _read_settings(raw["settings"])}
    return Setup(**raw)


def _read_settings(raw: Mapping[str, Any]) -> ChunkSettings:
    return ChunkSettings(**{**raw, "text_fields": tuple(raw["text_fields"])})


def encode_job(job: Job) -> bytes:
    """As bytes to send; see ``decode_job``."""
    return _dump({"source": job.source, "known": dict(job.known), "after": job.after})


def decode_job(data: bytes) -> Job:
    """What ``encode_job`` was given."""
    raw = _load(data)
    return Job(_read_source(raw["source"]), raw["known"], raw["after"])


def encode_news(news: News) -> bytes:
    """As bytes to send; see ``decode_news``."""
    if isinstance(news, Begun):
        return _dump({"begun": news.uri})
    if isinstance(news, Done):
        return _dump({"done": True})
    return _encode_outcome(news)


def decode_news(data: bytes) -> News:
    """What ``encode_news`` was given."""
    line, _, text = data.partition(b"\n")
    raw = _load(line)
    if "begun" in raw:
        return Begun(raw["begun"])
    return Done() if "done" in raw else _decode_outcome(raw, _decode(text))


def _encode_outcome(outcome: Outcome) -> bytes:
    if isinstance(outcome, Skipped):
        return _dump({"skipped": [outcome.uri, outcome.root, outcome.reason, outcome.detail]})
    if isinstance(outcome, Unchanged):
        return _dump({"unchanged": outcome.source, "consumed": outcome.consumed})
    line = _dump(
        {
            "source": outcome.source,
            "sha256": outcome.sha256,
            "document": _document(outcome.document),
            "chunks": [_chunk(chunk) for chunk in outcome.chunks],
            "consumed": outcome.consumed,
        }
    )
    # A line's end within JSON is written as an escape. Most of what is sent is text: as it is.
    return b"\n".join((line, _encode(outcome.document.text)))


def _decode_outcome(raw: Mapping[str, Any], text: str) -> Outcome:
    if "skipped" in raw:
        return Skipped(*raw["skipped"])
    if "unchanged" in raw:
        return Unchanged(_read_source(raw["unchanged"]), raw["consumed"])
    return Parsed(
        _read_source(raw["source"]),
        raw["sha256"],
        _read_document(raw["document"], text),
        [_read_chunk(number, row, text) for number, row in enumerate(raw["chunks"])],
        raw["consumed"],
    )


def _read_source(raw: Mapping[str, Any]) -> SourceFile:
    beside = raw["sidecar"]
    return SourceFile(
        **{**raw, "path": Path(raw["path"]), "sidecar": _read_source(beside) if beside else None}
    )


def _document(document: Document) -> Mapping[str, Any]:
    """All but its text."""
    return {
        "uri": document.uri,
        "title": document.title,
        "format": document.format,
        "sections": [
            (part.char_start, part.heading_path, part.level) for part in document.sections
        ],
        "encoding": document.encoding,
        "metadata": dict(document.metadata),
        "page_starts": document.page_starts,
    }


def _read_document(raw: Mapping[str, Any], text: str) -> Document:
    sections = tuple(Section(start, tuple(path), level) for start, path, level in raw["sections"])
    pages = tuple(raw["page_starts"])
    return Document(**{**raw, "text": text, "sections": sections, "page_starts": pages})


def _chunk(chunk: Chunk) -> Sequence[Any]:
    """All but its number, which is its place, and its text, which the document has."""
    lines, pages = (chunk.line_start, chunk.line_end), (chunk.page_start, chunk.page_end)
    return (chunk.char_start, chunk.char_end, *lines, chunk.heading_path, chunk.token_count, *pages)


def _read_chunk(number: int, row: Sequence[Any], text: str) -> Chunk:
    start, end, line_start, line_end, path, *rest = row
    return Chunk(number, start, end, text[start:end], line_start, line_end, tuple(path), *rest)


def _dump(value: Mapping[str, Any]) -> bytes:
    return _encode(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: SourceFile | Path) -> str | dict[str, object]:
    """What JSON has no form for, as what it has."""
    if isinstance(value, Path):
        return os.fspath(value)
    return {name: getattr(value, name) for name in _SOURCE_FIELDS}


def _load(data: bytes) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(_decode(data))
    return raw


def _encode(text: str) -> bytes:
    # Names of files may hold lone surrogates, which stand for bytes that are no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
