"""Settings of a build: what the user asked for, checked against what the index was made with."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.files.discover import Discovery, discover
from indexer.readers.messages import Setup
from retrieval.domain.embedded_text import CONTEXT_TOKENS
from retrieval.domain.records import (
    DEFAULT_READING,
    ChunkSettings,
    FileChoice,
    IndexInfo,
    ModelIdentity,
    ReadSettings,
)
from retrieval.domain.wording import on_one_line
from retrieval.encoding.model_cards import DEFAULT_CHUNK_TOKENS, DEFAULT_MODEL, find_card
from retrieval.encoding.model_folders import ModelFolder, find_model, recorded_name
from retrieval.errors import InvalidArgument, ModelMismatch, NotAnIndex
from retrieval.store import IndexType, Location, LocationLike, exists, read_info

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

DEFAULT_CONTEXT = False
"""Whether chunks of a new index are embedded with their title and headings: opt-in, as it takes
tokens away from the text."""

FILE_SECONDS, FILE_SECONDS_PER_MB = 60.0, 2.0
"""Processor time to read and cut a document, and extra time for each million bytes of its file.
Markdown takes 0.2 s a million bytes (docs/benchmarks.md); this leaves room for slower formats."""

FILE_MEMORY_BYTES = 2 << 30
"""Memory for a process that reads files: 20 times the largest file."""

_OVERLAP_SHARE = 8
"""By default a chunk repeats an eighth of the one before it: a sentence or two at usual sizes."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to index, and how. None means the index's own value, or the default for a new index."""

    docs: Sequence[Path]
    """Folders and files."""
    index: LocationLike
    """Location of the index."""
    model: str | None = None
    """Registered name, hub id or folder."""
    chunk_tokens: int | None = None
    """Maximum number of tokens in a chunk; 0 for one chunk per document."""
    chunk_overlap: int | None = None
    """Maximum number of tokens that a chunk repeats from the one before."""
    context: bool | None = None
    """Whether to embed chunks with their title and headings."""
    text_fields: Sequence[str] | None = None
    """Fields that make up the text of JSON records."""
    listed: Sequence[str] | None = None
    """Paths of files in the only folder of ``docs``, to index no others; None for all files."""
    use_ignore_files: bool = True
    """Whether to follow ``.gitignore`` and ``.indexerignore`` files."""
    generated: bool = False
    """Whether to take in files and folders that programs generate."""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    reading: ReadSettings = DEFAULT_READING
    """How to read files that leave it open; other settings than the last build's make it read all
    files again."""
    reread: bool = False
    """Whether to read all files again, also those that have not changed."""
    device: str = "auto"
    dtype: str = "auto"
    index_type: IndexType | None = None
    target_recall: float | None = None
    """Recall@10 to tune an approximate index to."""
    language: str | None = None
    """Language of the texts, for lexical search."""


class Model(Protocol):
    """What a build needs to know of its model; an ``Encoder`` is one."""

    @property
    def identity(self) -> ModelIdentity:
        """What the index records about it."""
        ...

    @property
    def folder(self) -> Path:
        """Folder of its files, on this machine."""
        ...

    @property
    def max_tokens(self) -> int:
        """As in ``Encoder``."""
        ...

    @property
    def passage_room(self) -> int:
        """As in ``Encoder``."""
        ...


class Loader(Protocol):
    """Function that loads the model of an index, like ``load_encoder``."""

    def __call__(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> "Encoder":
        """Return the model of an existing index, or the model for a new one."""
        ...


def find_documents(options: BuildOptions) -> Discovery:
    """Find the files to index; see ``indexer.files.discover.discover``."""
    return discover(
        options.docs,
        options.include,
        options.exclude,
        use_ignore_files=options.use_ignore_files,
        generated=options.generated,
        listed=options.listed,
        reading=options.reading,
        index=Location.parse(options.index).on_disk,
    )


def existing_info(index: LocationLike) -> IndexInfo | None:
    """Return what the index is; None if there is none, or it has no commit yet."""
    if not exists(index):
        return None
    try:
        return read_info(index)
    except NotAnIndex:
        return None  # opening it for writing will tell an unfinished index from a foreign file


def load_encoder(
    options: BuildOptions,
    existing: IndexInfo | None,
    report: BuildReport,
    progress: BuildProgress,
) -> "Encoder":
    """Load the index's model, or the one asked for, and record the time in the report."""
    started = time.perf_counter()
    name = options.model or DEFAULT_MODEL
    found: str | ModelFolder = name
    if existing is None:
        progress.note(f"loading model {name}")
        # A wrong name is refused before torch is imported, which takes over a second. A GPU that
        # this machine lacks is refused by torch, which comes first so that nothing is downloaded.
        if options.device != "cuda":
            found = find_model(name)
    # Imports torch, which a build with nothing to embed doesn't need.
    from retrieval.encoding.encoder import Encoder, load_for_index

    if existing is None:
        encoder = Encoder.load(found, device=options.device, dtype=options.dtype)
    else:
        progress.note(f"loading model {options.model or existing.model.name}")
        with _mismatch_as_typed(options, existing):
            encoder = load_for_index(existing.model, model=options.model, device=options.device)
    report.load_seconds = time.perf_counter() - started
    return encoder


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is loaded elsewhere."""

    name: str
    """Name or absolute folder, by which others find it, too."""
    folder: ModelFolder
    dtype: str
    fingerprint: str


def find_index_model(options: BuildOptions, existing: IndexInfo | None, device: str) -> FoundModel:
    """Find the model of an existing index, or the model for a new one, without loading it.

    Args:
        options: options of the build.
        existing: the index.
        device: ``"cpu"`` or ``"cuda"``: where it will be loaded.

    Raises:
        ModelNotFound, CheckpointError: the model's files are missing, or can't be used.
        ModelMismatch: the index was made with another model.
    """
    name = options.model or (recorded_name(existing.model) if existing else DEFAULT_MODEL)
    folder = find_model(name)
    # Imports torch, which a build with nothing to embed doesn't need.
    from retrieval.encoding.backend import usual_dtype
    from retrieval.encoding.encoder import check_same_model
    from retrieval.encoding.loading import fingerprint_of

    dtype = usual_dtype(device) if options.dtype == "auto" else options.dtype
    if existing is not None:
        dtype = existing.model.dtype
    fingerprint = fingerprint_of(folder, dtype)
    if existing is not None:
        with _mismatch_as_typed(options, existing):
            check_same_model(existing.model, name, fingerprint)
    return FoundModel(recorded_name(folder), folder, dtype, fingerprint)


@contextmanager
def _mismatch_as_typed(options: BuildOptions, existing: IndexInfo) -> Iterator[None]:
    """Raise a ``ModelMismatch`` in the terms of the command line, if the user named a model."""
    try:
        yield
    except ModelMismatch as error:
        if options.model is None:
            raise
        raise ModelMismatch(
            f"{options.index} was made with --model {existing.model.name}, and "
            f"{options.model} is another model: omit --model, or build into another "
            "folder with --index",
            **error.metadata,
        ) from error


def check_settings(options: BuildOptions, existing: IndexInfo) -> None:
    """Refuse settings that differ from the index's, before anything is read or loaded.

    Raises:
        ModelMismatch: a setting differs; the message has it as on the command line.
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
                f"{setting.as_typed(setting.wanted)}: omit {setting.option}, or build into another "
                "folder with --index"
            )


class _Setting(NamedTuple):
    """A setting as it was asked for and as the index has it."""

    option: str
    """Name of the option on the command line."""
    wanted: Any
    """Value asked for; None if the option was not given."""
    recorded: Any
    """Value that the index was made with."""
    shown: Callable[[Any], str]
    """Returns a value as it is typed."""

    def as_typed(self, value: Any) -> str:  # noqa: ANN401  (of the setting's own type)
        """Return the option with a value, as it is typed on the command line."""
        return f"{self.option} {self.shown(value)}"

    def as_made(self) -> str:
        """Return how the index was made; without text fields, the option was not given."""
        empty = self.recorded == ()
        return f"without {self.option}" if empty else f"with {self.as_typed(self.recorded)}"


def _tokens_as_typed(tokens: int) -> str:
    return str(tokens or "document")


def _context_as_typed(context: bool) -> str:
    return "headings" if context else "none"


def choice_as_typed(choice: FileChoice) -> str:
    """Return the options that choose and read files, as typed; "the defaults" if there are none."""
    reading = choice.reading
    options = [f"--include {shlex.quote(pattern)}" for pattern in choice.include]
    options += [f"--exclude {shlex.quote(pattern)}" for pattern in choice.exclude]
    if not choice.ignore_files:
        options.append("--no-ignore")
    if choice.generated:
        options.append("--all-files")
    if choice.listed:
        options.append("a list of files")
    if reading.encoding:
        options.append(f"--encoding {reading.encoding}")
    options += [f"--as {key}:{end}" for end, key in reading.read_as]
    options += [f"--ocr-language {language}" for language in reading.ocr_languages]
    return on_one_line(" ".join(options)) or "the defaults"


def is_recorded(model: str | None, recorded: ModelIdentity) -> bool:
    """Whether the model asked for is the index's own, as far as its name or folder tells."""
    return model in (None, recorded.name, recorded.location)


def chunk_settings(
    options: BuildOptions, existing: IndexInfo | None, model: Model
) -> ChunkSettings:
    """Return the settings asked for, completed from the index or from the model's defaults.

    Raises:
        InvalidArgument: a size is out of range for the model.
    """
    made_with = existing.chunking if existing else ChunkSettings(0, 0, DEFAULT_CONTEXT)
    context = made_with.context if options.context is None else options.context
    fields = made_with.text_fields if options.text_fields is None else tuple(options.text_fields)
    room = model.passage_room - (CONTEXT_TOKENS if context else 0)
    if room < 1:
        raise InvalidArgument(
            f"--context headings needs {CONTEXT_TOKENS} tokens of each chunk, but "
            f"{model.identity.name} reads only {model.max_tokens}: build with --context none"
        )
    tokens, overlap = options.chunk_tokens, options.chunk_overlap
    if tokens is None:
        card = find_card(model.identity.name)
        suited = card.chunk_tokens if card else DEFAULT_CHUNK_TOKENS
        tokens = made_with.chunk_tokens if existing else min(suited, room)
    if overlap is None:
        overlap = made_with.chunk_overlap if existing else tokens // _OVERLAP_SHARE
    if not 0 <= tokens <= room:
        raise InvalidArgument(
            f"--chunk-tokens must be from 1 to {room} for {model.identity.name}, "
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
    """Return the settings of the reader processes."""
    return Setup(
        model_folder=model_folder,
        max_tokens=max_tokens,
        settings=settings,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        reading=options.reading,
        generated=options.generated,
        memory_bytes=FILE_MEMORY_BYTES,
        seconds=FILE_SECONDS,
        seconds_per_mb=FILE_SECONDS_PER_MB,
    )
