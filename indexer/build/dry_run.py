"""Estimate what a build would do, and how long it would take, without writing anything."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from indexer.build.plan import Plan, check_not_empty, plan_build
from indexer.build.progress import BuildProgress, duration_as_text
from indexer.build.report import BuildReport
from indexer.build.settings import (
    BuildOptions,
    check_settings,
    chunk_settings,
    existing_info,
    find_documents,
    load_encoder,
    reader_setup,
)
from indexer.files.sniff import without_binaries
from indexer.parse.formats import ReadAs, is_container
from indexer.readers.messages import Job, Parsed, Setup
from indexer.readers.pool import Readers, reader_count
from retrieval.domain.records import Chunk, Skipped, SourceFile
from retrieval.domain.wording import counted
from retrieval.store import LocationLike, Writer, open_writer

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

SAMPLE_FILES: Final = 64
"""Number of files to read as a sample of all files."""
SAMPLE_FILE_BYTES: Final = 4 << 20
"""Larger files are not sampled: one of them could take all the time."""
SAMPLE_SECONDS: Final = 5.0
"""Time to spend on reading, and again on embedding: as long as a user waits for an estimate."""
_BATCH_CHUNKS: Final = 16
"""Number of chunks to embed at once; between two batches the time is checked."""


@dataclass(slots=True)
class DryRun:
    """Counts and estimates of what a build would do."""

    added: int = 0
    """Number of new files; a container counts as one."""
    changed: int = 0
    """Number of files whose size or modification time differs; their content may be the same."""
    removed: int = 0
    unchanged: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of files that would be skipped, by reason; reading may find more."""
    bytes_to_read: int = 0
    sampled_files: int = 0
    sampled_bytes: int = 0
    sampled_skips: int = 0
    """Number of files of the sample that had nothing to index."""
    estimated_chunks: int = 0
    estimated_tokens: int = 0
    tokens_per_second: float = 0.0
    """Speed of the model, measured now."""
    estimated_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """As in ``BuildReport``."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as ``indexer build --dry-run --json`` prints it."""
        return {**asdict(self), "skipped": dict(sorted(self.skipped.items()))}

    def as_text(self) -> str:
        """Return the result as ``indexer build --dry-run`` prints it."""
        lines = [
            f"would read {self.added} new and {counted(self.changed, 'changed file')} "
            f"({self.bytes_to_read / 1e6:.1f} MB), remove {counted(self.removed, 'document')}, "
            f"leave {self.unchanged} as they are"
        ]
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            lines.append(f"would skip {counted(self.skipped.total(), 'file')}: {reasons}")
        if self.estimated_seconds:
            lines.append(
                f"about {counted(self.estimated_chunks, 'chunk')} with "
                f"{counted(self.estimated_tokens, 'token')} in total, "
                f"{duration_as_text(self.estimated_seconds)} "
                f"at {self.tokens_per_second:.0f} tokens/s"
            )
            lines.append(
                f"estimated from {counted(self.sampled_files, 'file')} "
                f"({self.sampled_bytes / 1e6:.1f} MB), "
                f"{self.sampled_skips} of them with nothing to index; "
                f"texts that the index already has take no time"
            )
        elif self.added + self.changed:
            lines.append(
                "no estimate: archives, mailboxes and files of JSON lines are not sampled, "
                "and no other file is small enough"
            )
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def dry_run(options: BuildOptions, progress: BuildProgress) -> DryRun:
    """Find out what a build would do.

    Holds the lock of the index while files and index are compared.

    Args:
        options: options of the build.
        progress: receives a line for each step.

    Raises:
        RetrievalError: as for ``indexer.build.build.build``.
    """
    discovery = find_documents(options)
    existing = existing_info(options.index)
    if existing is None:
        discovery = without_binaries(discovery, lambda _: False)
        check_not_empty(discovery)
    else:
        check_settings(options, existing)
    with _writer(options.index if existing else None) as writer:
        plan = plan_build(writer, discovery, reread=options.reread)
    result = _compare(plan)
    if plan.to_read:
        encoder = load_encoder(options, existing, BuildReport(), progress)
        settings = chunk_settings(options, existing, encoder)
        progress.note("reading a sample")
        setup = reader_setup(options, encoder.folder, encoder.max_tokens, settings)
        _estimate(result, plan.to_read, setup, encoder)
    return result


@contextmanager
def _writer(index: LocationLike | None) -> Iterator[Writer]:
    """Open the index, or a temporary empty one, for writing."""
    if index is not None:
        with open_writer(index) as writer:
            yield writer
        return
    with tempfile.TemporaryDirectory() as folder, open_writer(folder) as writer:
        yield writer


def _compare(plan: Plan) -> DryRun:
    return DryRun(
        added=sum(file.uri not in plan.known for file in plan.to_read),
        changed=sum(file.uri in plan.known for file in plan.to_read),
        removed=len(plan.gone),
        unchanged=plan.unchanged,
        skipped=Counter(str(skip.reason) for skip in plan.skipped),
        bytes_to_read=sum(file.size for file in plan.to_read),
        warnings=plan.warnings,
    )


def _estimate(
    result: DryRun, files: Sequence[SourceFile], setup: Setup, encoder: "Encoder"
) -> None:
    """Read and embed a sample, and scale up by bytes."""
    sample = _sample(files, setup.reading.read_as)
    if not sample:
        return
    started = time.perf_counter()
    chunks: list[Chunk] = []
    with Readers(setup, reader_count(len(sample))) as readers:
        for outcome in readers.read(Job(file, {}) for file in sample):
            if isinstance(outcome, Parsed):
                chunks += outcome.chunks
            elif isinstance(outcome, Skipped):
                result.sampled_skips += 1
            else:
                result.sampled_files += 1
                result.sampled_bytes += outcome.source.size
                if time.perf_counter() - started > SAMPLE_SECONDS:
                    break
    reading = time.perf_counter() - started
    scale = result.bytes_to_read / max(1, result.sampled_bytes)
    tokens = sum(chunk.token_count for chunk in chunks)
    result.tokens_per_second = _measure(encoder, chunks)
    result.estimated_chunks = round(len(chunks) * scale)
    result.estimated_tokens = round(tokens * scale)
    # A build reads files while it embeds others.
    embedding = tokens / result.tokens_per_second if tokens else 0.0
    result.estimated_seconds = max(reading, embedding) * scale


def _sample(files: Sequence[SourceFile], read_as: ReadAs) -> list[SourceFile]:
    """Return a sample of the smaller files, spread evenly."""
    small = [
        file
        for file in files
        if file.size <= SAMPLE_FILE_BYTES and not is_container(file.uri, read_as)
    ]
    step = max(1, -(-len(small) // SAMPLE_FILES))
    return small[step // 2 :: step]


def _measure(encoder: "Encoder", chunks: Sequence[Chunk]) -> float:
    """Return the model's speed in tokens per second, measured on some of the chunks."""
    by_length = sorted((chunk.text for chunk in chunks), key=len)
    step = max(1, len(chunks) // _BATCH_CHUNKS)  # each batch has short and long chunks
    started, tokens = time.perf_counter(), 0
    for start in range(step):
        tokens += sum(encoder.embed(by_length[start::step], "passage").token_counts)
        if time.perf_counter() - started > SAMPLE_SECONDS:
            break
    return tokens / max(1e-9, time.perf_counter() - started)
