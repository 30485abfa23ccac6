"""The model of an index, as a server runs it."""

import threading
from typing import TYPE_CHECKING

from retrieval.domain.records import ModelIdentity
from retrieval.service.config import ServiceConfig

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder
    from retrieval.gte import Workload


class IndexModel:
    """The model that an index was made with, in one type of weights for queries, one for passages.

    Passages always get the index's own, so that their vectors are what a build would make; where
    queries get another, the model is loaded once more when the first passage comes.
    """

    def __init__(self, identity: ModelIdentity, config: ServiceConfig) -> None:
        """Load the model for queries; see ``load_for_index`` for the errors."""
        self._identity = identity
        self._config = config
        self._loading = threading.Lock()
        self.for_queries = self._load(config.query_dtype, "latency")
        _ = self.for_queries.query_on_one_core  # tried now, while nobody waits
        same = self.for_queries.dtype == identity.dtype
        self.loaded_for_passages = self.for_queries if same else None

    def load_for_passages(self) -> "Encoder":
        """The model in the index's type, loaded once; for any thread but the event loop's."""
        with self._loading:
            if self.loaded_for_passages is None:
                self.loaded_for_passages = self._load("index", "throughput")
            return self.loaded_for_passages

    def _load(self, dtype: str, workload: "Workload") -> "Encoder":
        # Loads torch: seconds that a mistyped folder's error need not wait for.
        from retrieval.encoding.encoder import load_for_index

        config = self._config
        return load_for_index(
            self._identity,
            model=config.model,
            device=config.device,
            dtype=dtype,
            workload=workload,
        )
