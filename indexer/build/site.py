"""Where a build reads files and embeds texts: processes of this machine, or those of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions, Loader, Model, load_encoder
from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.pool import Finished, Readers, reader_count
from indexer.staging import Embed, one_by_one
from retrieval.domain.records import IndexInfo, SourceFile

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder


class Workers(Protocol):
    """What reads files and embeds texts."""

    @property
    def count(self) -> int:
        """How many lists of texts are embedded at once."""
        ...

    @property
    def embed(self) -> Embed:
        """Function that embeds."""
        ...

    def read(
        self, files: Sequence[SourceFile], job_of: Callable[[SourceFile], Job]
    ) -> Iterator[Outcome | Finished]:
        """Read files; see ``indexer.readers.pool.Readers.read``.

        Args:
            files: the files.
            job_of: returns the job for a file; it is called from other threads, once for each.
        """
        ...


class Site(Protocol):
    """A place to do the work of a build."""

    def load(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> Model:
        """Load the model of an existing index, or the model for a new one; called at most once.

        Raises:
            RetrievalError: see ``indexer.build.build.build``.
        """
        ...

    def workers(self, setup: Setup, files: int) -> AbstractContextManager[Workers]:
        """Return what does the work, with the model loaded before.

        Args:
            setup: how files are read.
            files: number of files.
        """
        ...


class ThisMachine:
    """Reads with processes of this machine, and embeds in this process."""

    def __init__(self, load: Loader = load_encoder) -> None:
        """Load nothing yet.

        Args:
            load: loads the model, like ``load_encoder``.
        """
        self._load = load
        self._encoder: Encoder | None = None

    def load(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> "Encoder":
        """Load the model; see ``Site``."""
        self._encoder = self._load(options, existing, report, progress)
        return self._encoder

    @contextmanager
    def workers(self, setup: Setup, files: int) -> Iterator[Workers]:
        """Start processes that read; see ``Site``."""
        assert self._encoder is not None, "load comes first"  # noqa: S101
        with Readers(setup, reader_count(files)) as readers:
            yield _LocalWorkers(self._encoder, readers)


class _LocalWorkers:
    """Workers of this machine."""

    count = 1

    def __init__(self, encoder: "Encoder", readers: Readers) -> None:
        self._readers = readers
        self.embed: Embed = one_by_one(lambda texts: encoder.embed(texts, "passage"))

    def read(
        self, files: Sequence[SourceFile], job_of: Callable[[SourceFile], Job]
    ) -> Iterator[Outcome | Finished]:
        """Read files; see ``Workers``."""
        return self._readers.read(map(job_of, files))
