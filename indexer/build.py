"""The whole build: find files → parse → chunk → embed → commit."""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.chunk import chunk_document
from indexer.discover import discover
from indexer.embed import Embedder
from indexer.parse import parse
from indexer.plan import Plan, check_not_empty, plan_build
from indexer.progress import BuildProgress
from indexer.report import BuildReport
from indexer.sidecar import with_sidecar
from indexer.skip import SkipDocument, SkipReason
from indexer.walk import MAX_FILE_BYTES
from retrieval.errors import InvalidArgument, ModelMismatch, NotAnIndex
from retrieval.records import ChunkSettings, IndexInfo, ModelIdentity, Skipped, SourceFile
from retrieval.registry import DEFAULT_MODEL
from retrieval.store import IndexType, IndexWriter, check_folder, is_index, maintain, read_info

if TYPE_CHECKING:
    from retrieval.encoder import Encoder

DEFAULT_CHUNK_TOKENS = 512
"""Or as many as the model takes, where that is less."""

_OVERLAP_SHARE = 8
# By default a chunk repeats an eighth of the one before it.


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to index, and how; None leaves the choice to the index, or to the default."""

    docs: Sequence[Path]
    index: Path
    model: str | None = None
    chunk_tokens: int | None = None
    """Most tokens in a chunk; 0 = one chunk a document."""
    chunk_overlap: int | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    device: str = "auto"
    dtype: str = "auto"
    index_type: IndexType | None = None
    target_recall: float | None = None
    """Recall@10 that an approximate index is tuned to."""


def build(options: BuildOptions, progress: BuildProgress) -> BuildReport:
    """Bring an index in step with folders of documents.

    Work is in proportion to what changed. Commits are made on the way, so a run that is cut off
    loses little, and the next one goes on from there.

    Args:
        options: what to index, and how.
        progress: told about every step.

    Returns:
        what was done.

    Raises:
        SourceError: the documents are missing or there are none.
        ModelNotFound, CheckpointError: the model can't be loaded.
        ModelMismatch: the index was made with another model or other settings.
        NotAnIndex, IndexLocked, IndexDamaged, StorageError: the index can't be written.
    """
    started = time.perf_counter()
    report = BuildReport(index=str(options.index))
    discovery = discover(options.docs, options.include, options.exclude)
    existing = _existing(options.index)
    if existing is None:
        check_not_empty(discovery)
        check_folder(options.index)
        encoder = _load(options, None, report, progress)
    with IndexWriter.open(options.index) as writer:
        plan = plan_build(writer, discovery)
        if existing is not None:
            _check_settings(options, existing)
            if plan.to_read or not _is_recorded(options.model, existing.model):
                encoder = _load(options, existing, report, progress)
        if plan.to_read:
            settings = _chunk_settings(options, existing, encoder)
            writer.set_model(encoder.identity, settings)
            embedder = Embedder(encoder, writer, report, progress)
            _ingest(plan, embedder, settings, report, progress)
        _choose_index_type(options, writer)
        _finish(plan, writer, report)
    report.seconds = time.perf_counter() - started
    return report


def _existing(index: Path) -> IndexInfo | None:
    """What the index is already; None for one to be made (or one that got no commit yet)."""
    if not is_index(index):
        return None
    try:
        return read_info(index)
    except NotAnIndex:
        return None  # opening it for writing tells an unfinished index from a stranger's file


def _load(
    options: BuildOptions,
    existing: IndexInfo | None,
    report: BuildReport,
    progress: BuildProgress,
) -> "Encoder":
    # Imported here: it loads torch, and a build with nothing to embed needs no model.
    from retrieval.encoder import Encoder, load_for_index

    started = time.perf_counter()
    if existing is None:
        name = options.model or DEFAULT_MODEL
        progress.note(f"loading model {name}")
        encoder = Encoder.load(name, device=options.device, dtype=options.dtype)
    else:
        progress.note(f"loading model {existing.model.name}")
        encoder = load_for_index(existing.model, model=options.model, device=options.device)
    report.load_seconds = time.perf_counter() - started
    return encoder


def _check_settings(options: BuildOptions, existing: IndexInfo) -> None:
    """Refuse settings that differ from the index's, before anything is read or loaded."""
    made_with = {
        "--dtype": (None if options.dtype == "auto" else options.dtype, existing.model.dtype),
        "--chunk-tokens": (options.chunk_tokens, existing.chunking.chunk_tokens),
        "--chunk-overlap": (options.chunk_overlap, existing.chunking.chunk_overlap),
    }
    for option, (wanted, recorded) in made_with.items():
        if wanted not in (None, recorded):
            raise ModelMismatch(
                f"{options.index} was made with {option} {recorded}, not {wanted}: "
                f"build into another folder with --index, or leave {option} out"
            )


def _is_recorded(model: str | None, recorded: ModelIdentity) -> bool:
    """Whether the model asked for is plainly the index's own, without loading it."""
    return model in (None, recorded.name, recorded.location)


def _chunk_settings(
    options: BuildOptions, existing: IndexInfo | None, encoder: "Encoder"
) -> ChunkSettings:
    """The settings asked for, filled up from the index or from the model's defaults."""
    room = encoder.passage_room
    tokens, overlap = options.chunk_tokens, options.chunk_overlap
    if tokens is None:
        tokens = existing.chunking.chunk_tokens if existing else min(DEFAULT_CHUNK_TOKENS, room)
    if overlap is None:
        overlap = existing.chunking.chunk_overlap if existing else tokens // _OVERLAP_SHARE
    if not 0 <= tokens <= room:
        raise InvalidArgument(
            f"--chunk-tokens must be from 1 to {room} for {encoder.identity.name}, "
            f"or 'document', not {tokens}"
        )
    if not 0 <= overlap <= tokens // 2:
        raise InvalidArgument(
            f"--chunk-overlap must be from 0 to half of --chunk-tokens ({tokens // 2}), "
            f"not {overlap}"
        )
    return ChunkSettings(tokens, overlap)


def _ingest(
    plan: Plan,
    embedder: Embedder,
    settings: ChunkSettings,
    report: BuildReport,
    progress: BuildProgress,
) -> None:
    """Read, parse, chunk, embed and commit every file that may have changed."""
    progress.start(len(plan.to_read), sum(source.size for source in plan.to_read))
    for found in plan.to_read:
        known = plan.known.get(found.uri)
        try:
            source, data, fields = _read_with_sidecar(found)
            sha256 = hashlib.sha256(data + fields).hexdigest()
            if known and known.sha256 == sha256:
                plan.touched.append((known.document_id, source))
                plan.unchanged += 1
                progress.advance(size=found.size, files=1)
                continue
            document = parse(source.uri, data)
            if source.sidecar:
                document = with_sidecar(document, fields)
        except SkipDocument as skip:
            plan.skip(Skipped(found.uri, found.root, skip.reason, skip.detail))
            progress.advance(size=found.size, files=1)
            continue
        report.encodings[document.encoding] += 1
        report.added += known is None
        report.changed += known is not None
        chunks = chunk_document(document, embedder.tokenizer, settings)
        embedder.add(document, source, sha256, chunks)
    embedder.flush()


def _choose_index_type(options: BuildOptions, writer: IndexWriter) -> None:
    """Note which kind of index is wanted, where it is said and differs."""
    info = writer.info
    if info is None:
        return
    wanted = (options.index_type or info.index_type, options.target_recall or info.target_recall)
    if wanted != (info.index_type, info.target_recall):
        with writer.commit() as commit:
            commit.set_index_type(*wanted)


def _read_with_sidecar(found: SourceFile) -> tuple[SourceFile, bytes, bytes]:
    """A file as it is now, its bytes, and its sidecar's, if it has one.

    Raises:
        SkipDocument: one of the two can't be read, or has grown beyond the limit.
    """
    source, data = _read(found)
    if source.sidecar is None:
        return source, data, b""
    beside, fields = _read(source.sidecar)
    return replace(source, sidecar=beside), data, fields


def _read(found: SourceFile) -> tuple[SourceFile, bytes]:
    """A file's bytes, and its size and time as they were when it was opened.

    Raises:
        SkipDocument: it can't be read, or has grown beyond the limit.
    """
    try:
        with found.path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SkipDocument(SkipReason.UNREADABLE, error.strerror or str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise SkipDocument(SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes")
    return replace(found, size=len(data), mtime_ns=status.st_mtime_ns), data


def _finish(plan: Plan, writer: IndexWriter, report: BuildReport) -> None:
    """Remove what is gone, note what was skipped, and count up."""
    unique = {skip.uri: skip for skip in sorted(plan.skipped, key=lambda skip: skip.uri)}
    skipped = {
        name: [skip for skip in unique.values() if skip.root == name] for name, _ in plan.roots
    }
    recorded = writer.roots()
    stale = [
        (name, path)
        for name, path in plan.roots
        if recorded.get(name) != str(path) or writer.skipped(name) != skipped[name]
    ]
    if plan.gone or plan.touched or stale:
        with writer.commit() as commit:
            for uri in plan.gone:
                commit.remove_document(uri)
            for document_id, source in plan.touched:
                commit.touch_document(document_id, source)
            for name, path in stale:
                commit.set_root(name, str(path), skipped[name])
    report.maintained = maintain(writer)
    report.removed = len(plan.gone)
    report.kept = len(plan.kept)
    report.unchanged = plan.unchanged
    report.skipped.update(str(skip.reason) for skip in unique.values())
    report.truncated = writer.truncated_chunks()
    report.info = writer.info
