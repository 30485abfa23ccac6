"""Results of the client: frozen records made from messages.

Passages are the same record that a search in the same process gives.
"""

from retrieval.client.results.index import (
    CollectionInfo,
    DocumentInfo,
    PassageContext,
    ServerInfo,
    ServerLimits,
    SkippedFile,
    counts_from,
    field_values_from,
    fields_from,
    is_serving,
)
from retrieval.client.results.passages import metadata_from, passage_from
from retrieval.client.results.searches import (
    PassageStream,
    SearchResults,
    SearchTimings,
    mode_name,
    results_as_json,
)
from retrieval.client.results.texts import (
    Embeddings,
    ModelInfo,
    RerankedText,
    RerankerInfo,
    RerankResults,
    ServedModel,
    ServedModels,
    check_obeyed,
)
from retrieval.client.results.times import to_datetime

__all__ = [
    "CollectionInfo",
    "DocumentInfo",
    "Embeddings",
    "ModelInfo",
    "PassageContext",
    "PassageStream",
    "RerankResults",
    "RerankedText",
    "RerankerInfo",
    "SearchResults",
    "SearchTimings",
    "ServedModel",
    "ServedModels",
    "ServerInfo",
    "ServerLimits",
    "SkippedFile",
    "check_obeyed",
    "counts_from",
    "field_values_from",
    "fields_from",
    "is_serving",
    "metadata_from",
    "mode_name",
    "passage_from",
    "results_as_json",
    "to_datetime",
]
