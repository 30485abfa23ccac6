"""The whole build: find files, parse them, cut them into chunks, embed, commit."""

import time

from indexer.build.embed import Embedder
from indexer.build.plan import Plan, check_not_empty, plan_build
from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.build.settings import (
    BuildOptions,
    check_settings,
    chunk_settings,
    existing_info,
    find_documents,
    is_recorded,
    reader_setup,
)
from indexer.build.site import Site, ThisMachine, Workers
from indexer.files.sniff import without_binaries
from indexer.parse.base.fields import UNREAD
from indexer.readers.messages import Job, Parsed, Unchanged
from indexer.readers.pool import Finished
from retrieval.domain.languages import DEFAULT_LANGUAGE
from retrieval.domain.records import ContainerStamp, Skipped
from retrieval.store import Writer, check_free, open_writer, recall_warnings


def build(options: BuildOptions, progress: BuildProgress, site: Site | None = None) -> BuildReport:
    """Bring an index up to date with folders of documents.

    The work is proportional to what changed. The build commits on the way, so an interrupted build
    loses little, and the next one continues from there.

    Args:
        options: what to index, and how.
        progress: receives every step.
        site: where to do the work; None for this machine.

    Returns:
        counts of what was done.

    Raises:
        SourceError: a folder of documents is missing or empty.
        ModelNotFound, CheckpointError: the model can't be loaded.
        ModelMismatch: the index was made with another model or other settings.
        NotAnIndex, IndexLocked, IndexDamaged, StorageError: the index can't be written.
    """
    site, started = site or ThisMachine(), time.perf_counter()
    report = BuildReport(index=str(options.index))
    discovery = find_documents(options)
    existing = existing_info(options.index)
    if existing is None:
        discovery = without_binaries(discovery, lambda _: False)
        check_not_empty(discovery)
        check_free(options.index)
        model = site.load(options, None, report, progress)
    with open_writer(options.index) as writer:
        plan = plan_build(writer, discovery, reread=options.reread)
        report.warnings += plan.warnings
        for warning in plan.warnings:
            progress.note(f"warning: {warning}")
        if existing is not None:
            check_settings(options, existing)
            if plan.to_read or not is_recorded(options.model, existing.model):
                model = site.load(options, existing, report, progress)
        if plan.to_read:
            settings = chunk_settings(options, existing, model)
            language = options.language or DEFAULT_LANGUAGE
            writer.set_model(model.identity, settings, language)
            setup = reader_setup(options, model.folder, model.max_tokens, settings)
            with site.workers(setup, len(plan.to_read)) as workers:
                embedder = Embedder(
                    workers, writer, plan.roots, report, progress, context=settings.context
                )
                _ingest(plan, workers, embedder, report, progress)
        _record_choices(options, writer)
        _finish(plan, writer, report)
    report.seconds = time.perf_counter() - started
    return report


def _ingest(
    plan: Plan,
    workers: Workers,
    embedder: Embedder,
    report: BuildReport,
    progress: BuildProgress,
) -> None:
    """Read, parse, chunk, embed and commit every file that may have changed."""
    progress.start(len(plan.to_read), sum(source.size for source in plan.to_read))
    counted = 0  # bytes of the present file that the progress has counted, or will count
    embedded = False  # whether the embedder will count the file itself
    outcomes = workers.read(plan.to_read, lambda file: Job(file, plan.known_of(file)))
    for outcome in outcomes:
        if isinstance(outcome, Finished):
            plan.finish(outcome.source, complete=outcome.complete)
            # Count the bytes of skipped documents at the end of their file.
            if not embedded:
                progress.advance(size=max(0, outcome.source.size - counted), files=1)
            counted, embedded = 0, False
        elif isinstance(outcome, Skipped):
            plan.skip(outcome)
        else:
            _count_and_embed(outcome, plan, embedder, report)
            counted += outcome.consumed
            if isinstance(outcome, Unchanged):
                progress.advance(size=outcome.consumed)
            else:
                embedded = embedded or not outcome.source.container
    embedder.flush()


def _count_and_embed(
    outcome: Parsed | Unchanged, plan: Plan, embedder: Embedder, report: BuildReport
) -> None:
    """Count a document; embed it if it is new or has changed."""
    source = outcome.source
    plan.turned_up(source)
    known = plan.known.get(source.uri)
    if isinstance(outcome, Parsed):
        report.encodings[outcome.document.encoding] += 1
        report.incomplete += UNREAD in outcome.document.metadata
        report.added += known is None
        report.changed += known is not None
        embedder.add(outcome)
    elif known:
        plan.touched.append((known.document_id, source))
        plan.unchanged += 1


def _record_choices(options: BuildOptions, writer: Writer) -> None:
    """Record the index type, recall and language that were asked for, if they differ."""
    info = writer.info
    if info is None:
        return
    chosen = (options.index_type or info.index_type, options.target_recall or info.target_recall)
    if chosen != (info.index_type, info.target_recall):
        with writer.commit() as commit:
            commit.set_index_type(*chosen)
    if options.language and options.language != info.language:
        with writer.commit() as commit:
            commit.set_language(options.language)


def _finish(plan: Plan, writer: Writer, report: BuildReport) -> None:
    """Remove documents that are gone, record skipped files, and complete the report."""
    unique = {skip.uri: skip for skip in sorted(plan.skipped, key=lambda skip: skip.uri)}
    names = [root.name for root in plan.roots]
    skipped = {name: [skip for skip in unique.values() if skip.root == name] for name in names}
    containers = {name: _under(name, plan) for name in names}
    recorded = writer.roots()
    stale = [
        root
        for root in plan.roots
        if recorded.get(root.name) != root
        or writer.skipped(root.name) != skipped[root.name]
        or writer.containers(root.name) != containers[root.name]
    ]
    if plan.gone or plan.touched or stale:
        with writer.commit() as commit:
            for uri in sorted(plan.gone):
                commit.remove_document(uri)
            for document_id, source in plan.touched:
                commit.touch_document(document_id, source)
            for root in stale:
                commit.set_root(root, skipped[root.name], containers[root.name])
    report.maintained = writer.maintain()
    report.removed = len(plan.gone)
    report.kept = len(plan.kept)
    report.unchanged = plan.unchanged
    report.skipped.update(str(skip.reason) for skip in unique.values())
    report.truncated = writer.truncated_chunks()
    report.info = info = writer.info
    if info is not None:
        report.warnings += recall_warnings(writer.segments(), info.target_recall)


def _under(root: str, plan: Plan) -> dict[str, ContainerStamp]:
    """Return the stamps of the containers under a root."""
    return {uri: stamp for uri, stamp in plan.containers.items() if uri.partition("/")[0] == root}
