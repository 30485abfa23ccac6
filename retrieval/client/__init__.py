"""A typed client of the service ``retrieval.v1``; loads no model and no index.

::

    from retrieval.client import RetrievalClient

    with RetrievalClient("127.0.0.1:50051") as client:
        for passage in client.search("how are pods scheduled?", k=5):
            print(passage.score, passage.uri, passage.line_start, passage.text)

``AsyncRetrievalClient`` has the same methods, to be awaited.
"""

import retrieval.v1  # noqa: F401  (before grpc)
from retrieval.client.aio import AsyncPassageStream, AsyncRetrievalClient
from retrieval.client.client import DEFAULT_TARGET, DEFAULT_TIMEOUT, RetrievalClient
from retrieval.client.connection import Tls
from retrieval.client.filters import F, FilterExpression, FilterLike, FilterValue, filter_from_dict
from retrieval.client.requests import QueryLike
from retrieval.client.results import (
    CollectionInfo,
    DocumentInfo,
    Embeddings,
    ModelInfo,
    PassageContext,
    PassageStream,
    RerankedText,
    RerankerInfo,
    RerankResults,
    SearchResults,
    SearchTimings,
    ServedModel,
    ServedModels,
    ServerInfo,
    ServerLimits,
    SkippedFile,
)
from retrieval.client.writing.aio_stream import AsyncPutStream
from retrieval.client.writing.blocking import PUT_TIMEOUT
from retrieval.client.writing.blocking_stream import PutStream
from retrieval.client.writing.documents import Put, PutItem, PutPassage
from retrieval.client.writing.results import (
    DeleteResult,
    DeleteWhereResult,
    PutDocument,
    PutOutcome,
    PutProgress,
    PutResult,
    SkippedPart,
)
from retrieval.domain.records import DocumentCounts, FieldInfo, FieldValue

__all__ = [
    "DEFAULT_TARGET",
    "DEFAULT_TIMEOUT",
    "PUT_TIMEOUT",
    "AsyncPassageStream",
    "AsyncPutStream",
    "AsyncRetrievalClient",
    "CollectionInfo",
    "DeleteResult",
    "DeleteWhereResult",
    "DocumentCounts",
    "DocumentInfo",
    "Embeddings",
    "F",
    "FieldInfo",
    "FieldValue",
    "FilterExpression",
    "FilterLike",
    "FilterValue",
    "ModelInfo",
    "PassageContext",
    "PassageStream",
    "Put",
    "PutDocument",
    "PutItem",
    "PutOutcome",
    "PutPassage",
    "PutProgress",
    "PutResult",
    "PutStream",
    "QueryLike",
    "RerankResults",
    "RerankedText",
    "RerankerInfo",
    "RetrievalClient",
    "SearchResults",
    "SearchTimings",
    "ServedModel",
    "ServedModels",
    "ServerInfo",
    "ServerLimits",
    "SkippedFile",
    "SkippedPart",
    "Tls",
    "filter_from_dict",
]
