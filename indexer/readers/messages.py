"""Messages to and from reader processes: what they say, and how they are encoded.

A message is a line of JSON; a file's bytes or a document's text follow it as they are. A reader
works on files that may be hostile, and nothing here is unpickled: even a reader whose parser was
taken over can only send data.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ReadSettings,
    Section,
    Skipped,
    SourceFile,
    Table,
)


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings of a reader process, sent to it once."""

    model_folder: Path
    """Folder with the model's ``tokenizer.json``."""
    max_tokens: int
    """Maximum number of tokens that the model reads."""
    settings: ChunkSettings
    include: tuple[str, ...]
    """Patterns that members of containers must match, if there are any."""
    exclude: tuple[str, ...]
    """Patterns of members of containers to skip."""
    reading: ReadSettings
    """How files are read."""
    memory_bytes: int
    """Limit on the memory of the process."""
    seconds: float
    """Limit on the processor time for one document, without the part that depends on its file."""
    seconds_per_mb: float
    """Processor time added to the limit for each million bytes of the file."""
    generated: bool = False
    """Whether members of containers that programs generate are read."""

    def seconds_for(self, size: int) -> float:
        """Return the limit on the processor time for one document of a file of ``size`` bytes."""
        return self.seconds + size / 1e6 * self.seconds_per_mb


@dataclass(frozen=True, slots=True)
class Job:
    """A file to read."""

    source: SourceFile
    known: Mapping[str, str]
    """URI to ``Parsed.sha256`` of the documents that the index has of this file."""
    after: int = 0
    """Number of members of a container to pass over."""
    data: bytes | None = None
    """The file's bytes, if it lies on no disk; ``source.path`` is not opened then."""
    fields: bytes = b""
    """The bytes of its sidecar, if it has one and ``data`` is given."""

    def open(self) -> BinaryIO:
        """Open the file for reading."""
        return self.source.path.open("rb") if self.data is None else io.BytesIO(self.data)


@dataclass(frozen=True, slots=True)
class Begun:
    """A member of a container is about to be parsed."""

    uri: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A document whose bytes are those that the index has, whatever its modification time says."""

    source: SourceFile
    """The file as it was when it was read."""
    consumed: int
    """Bytes read for it: its own, or those of its container since the document before."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document that is new or has changed."""

    source: SourceFile
    """The file as it was when it was read."""
    sha256: str
    """Hex digest of the bytes of the file and its sidecar."""
    document: Document
    chunks: list[Chunk]
    consumed: int
    """As in ``Unchanged``."""


Outcome = Unchanged | Parsed | Skipped
"""Result of reading a document."""


@dataclass(frozen=True, slots=True)
class Working:
    """A part of a document that took seconds has been read; there are more."""


@dataclass(frozen=True, slots=True)
class Done:
    """A file has been read to its end."""


Message = Outcome | Begun | Working | Done
"""What a reader sends for a file: ``Begun`` for each member of a container, ``Working`` while it
reads, an outcome for each document, and ``Done`` at the end."""


_SOURCE_FIELDS: Final = tuple(field.name for field in fields(SourceFile))


def encode_setup(setup: Setup) -> bytes:
    """Return a setup as bytes to send."""
    return _dump({"setup": asdict(setup)})


def decode_setup(data: bytes) -> Setup:
    """Return the setup that ``encode_setup`` encoded."""
    return _decode_setup(_load(data)["setup"])


def _decode_setup(raw: dict[str, Any]) -> Setup:
    raw |= {name: tuple(raw[name]) for name in ("include", "exclude")}
    raw |= {
        "model_folder": Path(raw["model_folder"]),
        "settings": _decode_settings(raw["settings"]),
        "reading": _decode_reading(raw["reading"]),
    }
    return Setup(**raw)


def _decode_settings(raw: Mapping[str, Any]) -> ChunkSettings:
    return ChunkSettings(**{**raw, "text_fields": tuple(raw["text_fields"])})


def _decode_reading(raw: Mapping[str, Any]) -> ReadSettings:
    read_as = tuple((end, key) for end, key in raw["read_as"])
    return ReadSettings(raw["encoding"], read_as, tuple(raw["ocr_languages"]))


def encode_job(job: Job) -> bytes:
    """Return a job as bytes to send."""
    size = None if job.data is None else len(job.data)
    line = _dump({"source": job.source, "known": dict(job.known), "after": job.after, "size": size})
    return line if job.data is None else b"".join((line, b"\n", job.data, job.fields))


def decode_job(data: bytes) -> Job:
    """Return the job that ``encode_job`` encoded."""
    line, _, attached = data.partition(b"\n")
    return _decode_job(_load(line), attached)


def _decode_job(raw: Mapping[str, Any], attached: bytes) -> Job:
    source = _decode_source(raw["source"])
    if (size := raw["size"]) is None:
        return Job(source, raw["known"], raw["after"])
    return Job(source, raw["known"], raw["after"], attached[:size], attached[size:])


def decode_order(data: bytes) -> Setup | Job:
    """Return what ``encode_setup`` or ``encode_job`` encoded."""
    line, _, attached = data.partition(b"\n")
    raw = _load(line)
    return _decode_setup(raw["setup"]) if "setup" in raw else _decode_job(raw, attached)


def encode_message(message: Message) -> bytes:
    """Return a reader's message as bytes to send."""
    if isinstance(message, Begun):
        return _dump({"begun": message.uri})
    if isinstance(message, Working):
        return _dump({"working": True})
    if isinstance(message, Done):
        return _dump({"done": True})
    return _encode_outcome(message)


def decode_message(data: bytes) -> Message:
    """Return the message that ``encode_message`` encoded."""
    line, _, text = data.partition(b"\n")
    raw = _load(line)
    if "begun" in raw:
        return Begun(raw["begun"])
    if "working" in raw:
        return Working()
    return Done() if "done" in raw else _decode_outcome(raw, _to_text(text))


def _encode_outcome(outcome: Outcome) -> bytes:
    if isinstance(outcome, Skipped):
        return _dump({"skipped": [outcome.uri, outcome.root, outcome.reason, outcome.detail]})
    if isinstance(outcome, Unchanged):
        return _dump({"unchanged": outcome.source, "consumed": outcome.consumed})
    line = _dump(
        {
            "source": outcome.source,
            "sha256": outcome.sha256,
            "document": _encode_document(outcome.document),
            "chunks": [_encode_chunk(chunk) for chunk in outcome.chunks],
            "consumed": outcome.consumed,
        }
    )
    # JSON escapes the ends of lines, so the first one ends the JSON. The text, which is most of the
    # message, follows without escapes.
    return b"\n".join((line, _to_bytes(outcome.document.text)))


def _decode_outcome(raw: Mapping[str, Any], text: str) -> Outcome:
    if "skipped" in raw:
        return Skipped(*raw["skipped"])
    if "unchanged" in raw:
        return Unchanged(_decode_source(raw["unchanged"]), raw["consumed"])
    return Parsed(
        _decode_source(raw["source"]),
        raw["sha256"],
        _decode_document(raw["document"], text),
        [_decode_chunk(number, row, text) for number, row in enumerate(raw["chunks"])],
        raw["consumed"],
    )


def _decode_source(raw: Mapping[str, Any]) -> SourceFile:
    sidecar = _decode_source(raw["sidecar"]) if raw["sidecar"] else None
    return SourceFile(**{**raw, "path": Path(raw["path"]), "sidecar": sidecar})


def _encode_document(document: Document) -> Mapping[str, Any]:
    """Return all fields but the text."""
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
        "tables": [
            (table.char_start, table.char_end, table.header, table.rows_start)
            for table in document.tables
        ],
        "omitted": document.omitted,
    }


def _decode_document(raw: Mapping[str, Any], text: str) -> Document:
    sections = tuple(Section(start, tuple(path), level) for start, path, level in raw["sections"])
    raw = {
        **raw,
        "text": text,
        "sections": sections,
        "page_starts": tuple(raw["page_starts"]),
        "tables": tuple(Table(*table) for table in raw["tables"]),
        "omitted": _ranges(raw["omitted"]),
    }
    return Document(**raw)


def _encode_chunk(chunk: Chunk) -> Sequence[Any]:
    """Return all fields but the ordinal, which is the place in the list, and the text."""
    lines, pages = (chunk.line_start, chunk.line_end), (chunk.page_start, chunk.page_end)
    where = (chunk.char_start, chunk.char_end, *lines)
    what = (chunk.heading_path, chunk.token_count, *pages, chunk.table_header, chunk.omitted)
    return (*where, *what)


def _decode_chunk(number: int, row: Sequence[Any], text: str) -> Chunk:
    start, end, line_start, line_end, path, *rest = row
    rest[-1] = _ranges(rest[-1])
    return Chunk(number, start, end, text[start:end], line_start, line_end, tuple(path), *rest)


def _ranges(raw: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    return tuple((start, end) for start, end in raw)


def _dump(value: Mapping[str, Any]) -> bytes:
    return _to_bytes(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: SourceFile | Path) -> str | dict[str, object]:
    """Return a path or a source file as a value that JSON has."""
    if isinstance(value, Path):
        return os.fspath(value)
    return {name: getattr(value, name) for name in _SOURCE_FIELDS}


def _load(data: bytes) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(_to_text(data))
    return raw


def _to_bytes(text: str) -> bytes:
    # File names may hold lone surrogates, which stand for bytes that are not UTF-8.
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
