"""What runs on the nodes of a cluster: one worker has the model, and processes that read files.

Ray makes an actor of the class, one for each ``--ray-cpus`` cores or ``--ray-gpus`` GPUs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

from indexer.parse.formats import read_with_extras
from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.on_demand import OnDemandReaders
from retrieval import __version__
from retrieval.errors import RetrievalError

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Embedded, Encoder


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model that all workers must have."""

    name: str
    """Name or absolute folder, the same on every node."""
    device: str
    dtype: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as a worker has loaded it."""

    dim: int
    max_tokens: int
    passage_room: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a worker can't do the work."""

    message: str


class ClusterWorker:
    """Reads files and embeds texts, several calls at a time."""

    def __init__(self, cores: int) -> None:
        """Load nothing yet.

        Args:
            cores: number of cores to use for embedding, and of processes that read.
        """
        self._cores = cores
        self._readers = OnDemandReaders(cores, cores, kept=cores)
        self._embedding = Lock()
        self._encoder: Encoder | None = None

    def hello(self) -> tuple[str, frozenset[tuple[str, str]], str]:
        """Return the version of this program on the node, what extras read, and the node's id."""
        import ray

        return __version__, read_with_extras(), ray.get_runtime_context().get_node_id()

    def load(self, wanted: Wanted) -> Loaded | Refused:
        """Load the model."""
        import torch

        from retrieval.encoding.encoder import Encoder

        torch.set_num_threads(self._cores)
        try:
            encoder = Encoder.load(wanted.name, device=wanted.device, dtype=wanted.dtype)
        except RetrievalError as error:
            return Refused(error.message)
        if encoder.identity.fingerprint != wanted.fingerprint:
            return Refused(f"{wanted.name} is another model there than on this machine")
        self._encoder = encoder
        return Loaded(encoder.dim, encoder.max_tokens, encoder.passage_room)

    def read(self, setup: Setup, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """Return the outcomes of files whose bytes the jobs have.

        Raises:
            NotServing: no process that reads can start.
        """
        here = replace(setup, model_folder=self._model().folder)
        futures = [self._readers.read(job, here) for job in jobs]
        return [future.result() for future in futures]

    def embed(self, texts: list[str]) -> tuple["Embedded", float]:
        """Return the vectors of passages, and the seconds that the model took."""
        with self._embedding:
            started = perf_counter()
            embedded = self._model().embed(texts, "passage")
            return embedded, perf_counter() - started

    def _model(self) -> "Encoder":
        assert self._encoder is not None, "load comes first"  # noqa: S101
        return self._encoder
