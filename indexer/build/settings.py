"""What a build needs before its first file: the options, the model, the settings."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.files.discover import Discovery, discover
from indexer.readers.messages import Setup
from retrieval.domain.embedded_text import CONTEXT_TOKENS
from retrieval.domain.records import ChunkSettings, IndexInfo, ModelIdentity
from retrieval.encoding.model_cards import DEFAULT_CHUNK_TOKENS, DEFAULT_MODEL, find_card
from retrieval.errors import InvalidArgument, ModelMismatch, NotAnIndex
from retrieval.store import IndexType, LocationLike, exists, read_info

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

DEFAULT_CONTEXT = False

FILE_SECONDS, FILE_SECONDS_PER_MB = 60.0, 2.0
"""Processor time that a file may take to be read and cut, and more for each million bytes."""

FILE_MEMORY_BYTES = 2 << 30
"""Memory that the process which reads a file may use."""

_OVERLAP_SHARE = 8
# By default a chunk repeats an eighth of the one before it.


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to index, and how; None leaves the choice to the index, or to the default."""

    docs: Sequence[Path]
    index: LocationLike
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
    language: str | None = None
    """Of the texts, for search by words."""


class Loader(Protocol):
    """Loads a model, as ``load_encoder`` does, or has it already."""

    def __call__(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> "Encoder":
        """The model that the index is, or is to be, made with."""
        ...


def find_documents(options: BuildOptions) -> Discovery:
    """Find the files; see ``indexer.files.discover``."""
    return discover(
        options.docs,
        options.include,
        options.exclude,
        use_ignore_files=options.use_ignore_files,
        listed=options.listed,
    )


def existing_info(index: LocationLike) -> IndexInfo | None:
    """What the index is already; None for one to be made (or one that got no commit yet)."""
    if not exists(index):
        return None
    try:
        return read_info(index)
    except NotAnIndex:
        return None  # opening it for writing tells an unfinished index from a stranger's file


def load_encoder(
    options: BuildOptions,
    existing: IndexInfo | None,
    report: BuildReport,
    progress: BuildProgress,
) -> "Encoder":
    """Load the index's model, or the one asked for; notes the time in the report."""
    # Imported here: it loads torch, and a build with nothing to embed needs no model.
    from retrieval.encoding.encoder import Encoder, load_for_index

    started = time.perf_counter()
    if existing is None:
        name = options.model or DEFAULT_MODEL
        progress.note(f"loading model {name}")
        encoder = Encoder.load(name, device=options.device, dtype=options.dtype)
    else:
        progress.note(f"loading model {options.model or existing.model.name}")
        try:
            encoder = load_for_index(existing.model, model=options.model, device=options.device)
        except ModelMismatch as error:
            if options.model is None:
                raise
            raise ModelMismatch(
                f"{options.index} was made with --model {existing.model.name}, and "
                f"{options.model} is another model: leave --model out, or build into another "
                "folder with --index",
                **error.metadata,
            ) from error
    report.load_seconds = time.perf_counter() - started
    return encoder


def check_settings(options: BuildOptions, existing: IndexInfo) -> None:
    """Refuse settings that differ from the index's, before anything is read or loaded.

    Raises:
        ModelMismatch: one does; the message says it as the command line does.
    """
    made_with = existing.chunking
    fields = None if options.text_fields is None else tuple(options.text_fields)
    dtype = None if options.dtype == "auto" else options.dtype
    compared = (
        _Setting("--dtype", dtype, existing.model.dtype, str),
        _Setting("--chunk-tokens", options.chunk_tokens, made_with.chunk_tokens, _tokens_as_typed),
        _Setting("--chunk-overlap", options.chunk_overlap, made_with.chunk_overlap, str),
        _Setting("--context", options.context, made_with.context, _context_as_typed),
        _Setting("--text-field", fields, made_with.text_fields, " --text-field ".join),
    )
    for setting in compared:
        if setting.wanted not in (None, setting.recorded):
            raise ModelMismatch(
                f"{options.index} was made {setting.as_made()}, not with "
                f"{setting.as_typed(setting.wanted)}: leave {setting.option} out, or build into "
                "another folder with --index"
            )


class _Setting(NamedTuple):
    """A setting as it is wanted and as the index has it; None: nothing is wanted."""

    option: str
    wanted: Any
    recorded: Any
    shown: Callable[[Any], str]

    def as_typed(self, value: Any) -> str:  # noqa: ANN401  (of the setting's own type)
        """Return the option with a value, as it stands on the command line."""
        return f"{self.option} {self.shown(value)}"

    def as_made(self) -> str:
        """Return what the index was made with; no text fields is no option."""
        empty = self.recorded == ()
        return f"without {self.option}" if empty else f"with {self.as_typed(self.recorded)}"


def _tokens_as_typed(tokens: int) -> str:
    return str(tokens or "document")


def _context_as_typed(context: bool) -> str:
    return "headings" if context else "none"


def is_recorded(model: str | None, recorded: ModelIdentity) -> bool:
    """Whether the model asked for is plainly the index's own, without loading it."""
    return model in (None, recorded.name, recorded.location)


def chunk_settings(
    options: BuildOptions, existing: IndexInfo | None, encoder: "Encoder"
) -> ChunkSettings:
    """The settings asked for, filled up from the index or from the model's defaults."""
    made_with = existing.chunking if existing else ChunkSettings(0, 0, DEFAULT_CONTEXT)
    context = made_with.context if options.context is None else options.context
    fields = made_with.text_fields if options.text_fields is None else tuple(options.text_fields)
    room = encoder.passage_room - (CONTEXT_TOKENS if context else 0)
    if room < 1:
        raise InvalidArgument(
            f"--context headings takes {CONTEXT_TOKENS} tokens of a text, and "
            f"{encoder.identity.name} reads {encoder.max_tokens}: build with --context none"
        )
    tokens, overlap = options.chunk_tokens, options.chunk_overlap
    if tokens is None:
        card = find_card(encoder.identity.name)
        suited = card.chunk_tokens if card else DEFAULT_CHUNK_TOKENS
        tokens = made_with.chunk_tokens if existing else min(suited, room)
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


def reader_setup(
    options: BuildOptions, model_folder: Path, max_tokens: int, settings: ChunkSettings
) -> Setup:
    """What the processes that read files are told."""
    return Setup(
        model_folder=model_folder,
        max_tokens=max_tokens,
        settings=settings,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        memory_bytes=FILE_MEMORY_BYTES,
        seconds=FILE_SECONDS,
        seconds_per_mb=FILE_SECONDS_PER_MB,
    )
