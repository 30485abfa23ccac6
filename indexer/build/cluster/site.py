"""A Ray cluster as the site of a build: ``indexer build --ray``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from indexer.build.cluster.pool import Pool, Share
from indexer.build.cluster.read_ahead import ReadAhead
from indexer.build.cluster.session import connected
from indexer.build.cluster.worker import Wanted
from indexer.build.progress import BuildProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions, find_index_model
from indexer.build.site import Workers
from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.pool import Finished
from retrieval.domain.records import IndexInfo, ModelIdentity, SourceFile
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Embedded


@dataclass(frozen=True, slots=True)
class ClusterModel:
    """A model that the workers have loaded; see ``indexer.build.settings.Model``."""

    identity: ModelIdentity
    folder: Path
    max_tokens: int
    passage_room: int


class RayCluster:
    """Reads and embeds on a Ray cluster; a context manager. Ray starts when there is work."""

    def __init__(self, address: str, share: Share) -> None:
        """Connect to nothing yet.

        Args:
            address: see ``indexer.build.cluster.session.connected``.
            share: what the workers get of the cluster.
        """
        self._address = address
        self._share = share
        self._opened = ExitStack()
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What it holds is told of the error, and takes leave accordingly.
        self._opened.__exit__(kind, error, traceback)

    def load(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> ClusterModel:
        """Start workers, and wait until the first has the model; see ``Site``.

        Raises:
            InvalidArgument: the device is not that of the workers, or Ray is not installed.
            ClusterUnavailable: the cluster can't be reached, or can't do the work.
            RetrievalError: see ``indexer.build.build.build``.
        """
        started = perf_counter()
        device = "cuda" if self._share.gpus else "cpu"
        if options.device not in ("auto", device):
            raise InvalidArgument(
                f"--device {options.device} with --ray: workers have GPUs with --ray-gpus, and "
                f"embed on the CPU without"
            )
        found = find_index_model(options, existing, device)
        wanted = Wanted(found.name, device, found.dtype, found.fingerprint)
        progress.note(f"starting workers on Ray ({self._address}) with model {found.folder.name}")
        ray = self._opened.enter_context(connected(self._address))
        self._pool = pool = self._opened.enter_context(
            Pool(ray, wanted, self._share, progress.note)
        )
        loaded = pool.loaded.result()
        report.load_seconds = perf_counter() - started
        folder = found.folder
        identity = ModelIdentity(
            name=folder.name,
            source=folder.source,
            location=folder.location,
            revision=folder.revision,
            fingerprint=found.fingerprint,
            dim=loaded.dim,
            max_tokens=loaded.max_tokens,
            dtype=found.dtype,
        )
        return ClusterModel(identity, folder.path, loaded.max_tokens, loaded.passage_room)

    @contextmanager
    def workers(self, setup: Setup, files: int) -> Iterator[Workers]:  # noqa: ARG002
        """Give files and texts to the workers; see ``Site``."""
        assert self._pool is not None, "load comes first"  # noqa: S101
        with ReadAhead(self._pool, setup) as reading:
            yield _ClusterWorkers(self._pool, reading)


class _ClusterWorkers:
    """The workers of a cluster; see ``Workers``."""

    def __init__(self, pool: Pool, reading: ReadAhead) -> None:
        self._pool = pool
        self._reading = reading

    @property
    def count(self) -> int:
        """Number of workers that are ready."""
        return self._pool.count

    def embed(self, lists: Iterable[list[str]]) -> Iterator[tuple["Embedded", float]]:
        """Embed lists of texts, several at once."""
        from retrieval.encoding.encoder import Embedded

        for embedded, seconds in self._pool.in_order(("embed", texts) for texts in lists):
            # A copy of its own: the vectors lie in Ray's store, which has no room for all.
            vectors = np.array(embedded.vectors)
            yield Embedded(vectors, embedded.token_counts, embedded.truncated), seconds

    def read(
        self, files: Sequence[SourceFile], job_of: Callable[[SourceFile], Job]
    ) -> Iterator[Outcome | Finished]:
        """Read files; see ``Workers``."""
        return self._reading.read(files, job_of)
