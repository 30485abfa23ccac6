"""The whole build: find files → parse → chunk → embed → commit."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.discover import discover
from indexer.embed import Embedder
from indexer.plan import Plan, check_not_empty, plan_build
from indexer.progress import BuildProgress
from indexer.read import Parsed, Unchanged
from indexer.report import BuildReport
from indexer.wire import Job, Setup
from indexer.workers import Finished, Readers
from retrieval.context import CONTEXT_TOKENS
from retrieval.errors import InvalidArgument, ModelMismatch, NotAnIndex
from retrieval.records import ChunkSettings, ContainerStamp, IndexInfo, ModelIdentity, Skipped
from retrieval.registry import DEFAULT_MODEL
from retrieval.store import IndexType, IndexWriter, check_folder, is_index, maintain, read_info

if TYPE_CHECKING:
    from retrieval.encoder import Encoder

DEFAULT_CHUNK_TOKENS = 512
"""Or as many as the model takes, where that is less."""

DEFAULT_CONTEXT = False

FILE_SECONDS, FILE_SECONDS_PER_MB = 60.0, 2.0
"""Processor time that a file may take to be read and cut, and more for each million bytes."""

FILE_MEMORY_BYTES = 2 << 30
"""Memory that the process which reads a file may use."""

MOST_READERS = 8
"""Processes that read files, where there are as many cores and files."""

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
    context: bool | None = None
    """Whether chunks are embedded under their title and headings."""
    text_fields: Sequence[str] | None = None
    """Fields of JSON records that are their text."""
    listed: Sequence[str] | None = None
    """Paths of the files to index under the only folder of ``docs``; None = all in it."""
    use_ignore_files: bool = True
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
    discovery = discover(
        options.docs,
        options.include,
        options.exclude,
        use_ignore_files=options.use_ignore_files,
        listed=options.listed,
    )
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
            embedder = Embedder(encoder, writer, report, progress, context=settings.context)
            _ingest(plan, _setup(options, encoder, settings), embedder, report, progress)
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
        "--context": (options.context, existing.chunking.context),
        "--text-field": (options.text_fields, existing.chunking.text_fields),
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
    made_with = existing.chunking if existing else ChunkSettings(0, 0, DEFAULT_CONTEXT)
    context = made_with.context if options.context is None else options.context
    fields = made_with.text_fields if options.text_fields is None else tuple(options.text_fields)
    room = encoder.passage_room - (CONTEXT_TOKENS if context else 0)
    tokens, overlap = options.chunk_tokens, options.chunk_overlap
    if tokens is None:
        tokens = made_with.chunk_tokens if existing else min(DEFAULT_CHUNK_TOKENS, room)
    if overlap is None:
        overlap = made_with.chunk_overlap if existing else tokens // _OVERLAP_SHARE
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
    return ChunkSettings(tokens, overlap, context, fields)


def _setup(options: BuildOptions, encoder: "Encoder", settings: ChunkSettings) -> Setup:
    """What the processes that read files are told."""
    return Setup(
        model_folder=encoder.folder,
        max_tokens=encoder.max_tokens,
        settings=settings,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        memory_bytes=FILE_MEMORY_BYTES,
        seconds=FILE_SECONDS,
        seconds_per_mb=FILE_SECONDS_PER_MB,
    )


def _ingest(
    plan: Plan,
    setup: Setup,
    embedder: Embedder,
    report: BuildReport,
    progress: BuildProgress,
) -> None:
    """Read, parse, chunk, embed and commit every file that may have changed."""
    progress.start(len(plan.to_read), sum(source.size for source in plan.to_read))
    count = min(os.cpu_count() or 1, MOST_READERS, len(plan.to_read))
    with Readers(setup, count) as readers:
        taken = False  # by the embedder, which tells of the progress itself
        for outcome in readers.read(Job(file, plan.known_of(file)) for file in plan.to_read):
            if isinstance(outcome, Finished):
                plan.finish(outcome.source, complete=outcome.complete)
                if not taken:
                    progress.advance(size=outcome.source.size, files=1)
                taken = False
            elif isinstance(outcome, Skipped):
                plan.skip(outcome)
            else:
                _take(outcome, plan, embedder, report)
                taken = isinstance(outcome, Parsed) and not outcome.source.container
    embedder.flush()


def _take(outcome: Parsed | Unchanged, plan: Plan, embedder: Embedder, report: BuildReport) -> None:
    """Count a document; embed it if it is new or has changed."""
    source = outcome.source
    plan.turned_up(source)
    known = plan.known.get(source.uri)
    if isinstance(outcome, Parsed):
        report.encodings[outcome.document.encoding] += 1
        report.added += known is None
        report.changed += known is not None
        embedder.add(outcome)
    elif known:
        plan.touched.append((known.document_id, source))
        plan.unchanged += 1


def _choose_index_type(options: BuildOptions, writer: IndexWriter) -> None:
    """Note which kind of index is wanted, where it is said and differs."""
    info = writer.info
    if info is None:
        return
    wanted = (options.index_type or info.index_type, options.target_recall or info.target_recall)
    if wanted != (info.index_type, info.target_recall):
        with writer.commit() as commit:
            commit.set_index_type(*wanted)


def _finish(plan: Plan, writer: IndexWriter, report: BuildReport) -> None:
    """Remove what is gone, note what was skipped, and count up."""
    unique = {skip.uri: skip for skip in sorted(plan.skipped, key=lambda skip: skip.uri)}
    skipped = {
        name: [skip for skip in unique.values() if skip.root == name] for name, _ in plan.roots
    }
    containers = {name: _under(name, plan) for name, _ in plan.roots}
    recorded = writer.roots()
    stale = [
        (name, path)
        for name, path in plan.roots
        if recorded.get(name) != str(path)
        or writer.skipped(name) != skipped[name]
        or writer.containers(name) != containers[name]
    ]
    if plan.gone or plan.touched or stale:
        with writer.commit() as commit:
            for uri in sorted(plan.gone):
                commit.remove_document(uri)
            for document_id, source in plan.touched:
                commit.touch_document(document_id, source)
            for name, path in stale:
                commit.set_root(name, str(path), skipped[name], containers[name])
    report.maintained = maintain(writer)
    report.removed = len(plan.gone)
    report.kept = len(plan.kept)
    report.unchanged = plan.unchanged
    report.skipped.update(str(skip.reason) for skip in unique.values())
    report.truncated = writer.truncated_chunks()
    report.info = writer.info


def _under(root: str, plan: Plan) -> dict[str, ContainerStamp]:
    """The containers of a plan that lie under a root."""
    return {uri: stamp for uri, stamp in plan.containers.items() if uri.partition("/")[0] == root}
