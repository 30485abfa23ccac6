"""Bytes on the wire: clients and servers of different versions understand each other.

``wire.json`` has the bytes of each message in hexadecimal digits. Maps are serialized in the order
of their keys here.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message

from retrieval import errors
from retrieval.client.requests import (
    batch_search_request,
    count_requests,
    document_request,
    embed_requests,
    passage_request,
    search_request,
    stream_search_request,
)
from retrieval.client.results import DocumentInfo, SearchResults
from retrieval.domain.passages import Highlights, Passage, SectionText, Span, StageScores
from retrieval.domain.records import DocumentRow
from retrieval.service.grpc_api.messages import document_message, fill_passage
from retrieval.service.grpc_api.status import DOMAIN, STATUS_CODES, to_status
from retrieval.v1 import document_pb2, search_service_pb2

BYTES = json.loads(Path(__file__).with_name("wire.json").read_text(encoding="utf-8"))

FOUND = "collections/docs/documents/7/passages/2"
NEIGHBOUR = Passage(
    name="documents/7/passages/1",
    document_id=7,
    uri="docs/ferry.md",
    title="The ferry",
    ordinal=1,
    char_start=0,
    char_end=5,
    line_start=1,
    line_end=1,
    heading_path=("Times",),
    text="First",
    token_count=1,
    metadata={},
    score=float("nan"),
)
PASSAGE = Passage(
    name="documents/7/passages/2",
    document_id=7,
    uri="docs/ferry.md",
    title="The ferry",
    ordinal=2,
    char_start=5,
    char_end=26,
    line_start=2,
    line_end=3,
    heading_path=("Times", "Sundays"),
    text="On Sundays at ten. ß",
    token_count=6,
    metadata={"tags": ["a", "b"], "year": 2021, "price": 4.5, "free": False},
    score=0.75,
    page_start=3,
    page_end=4,
    scores=StageScores("rerank", 0.5, 7.25, 1, 2, 0.625, 0.75),
    similar=("documents/8/passages/0",),
    highlights=Highlights((Span(3, 10),), Span(0, 18)),
    before=(NEIGHBOUR,),
    after=(),
    section=SectionText("First On Sundays at ten. ß", 0, 26, complete=True),
    similar_count=2,
)
TABLE = NEIGHBOUR._replace(table_header="Time | Fare", omitted=(Span(1, 3), Span(4, 5)))
DOCUMENT = DocumentRow(
    id=7,
    uri="docs/ferry.md",
    title="The ferry",
    format="markdown",
    encoding="utf-8",
    metadata={"author": {"name": "A. Author"}},
    size_bytes=27,
    modified_at="2024-05-01T10:00:00Z",
    char_count=26,
    chunk_count=3,
    sha256="",
)


def messages() -> dict[str, Message]:
    """Return messages as the client and the server of today make them."""
    passage = document_pb2.Passage()
    fill_passage(passage, "default", PASSAGE)
    table = document_pb2.Passage()
    fill_passage(table, "default", TABLE)
    vector = np.array([0.5, -0.25], dtype=np.float32)
    return {
        "search": search_request("when?", k=10),
        "search with every option": search_request(
            "where? ß",
            k=5,
            page_token="abc",
            collection="docs",
            mode="hybrid",
            fusion="rrf",
            dense_weight=0.5,
            min_score=0.25,
            filter="tag=a",
            exact=True,
            section_chars=400,
            group_by_document=True,
            group_size=3,
            collapse=0.95,
            mmr=0.75,
            rerank_top=20,
            highlight=True,
            context_before=1,
            context_after=2,
        ),
        "search by vector": search_request(vector, k=1, mode="dense"),
        "search by passage": search_request(PASSAGE._replace(name=FOUND), k=1),
        "batch search": batch_search_request(["one", "two"], k=3, filter="year>=2020"),
        "stream": stream_search_request("all", limit=None),
        "stream with every option": stream_search_request(
            "all",
            limit=200,
            collection="docs",
            mode="lexical",
            fusion="weighted",
            dense_weight=0.25,
            min_score=-0.5,
            filter="tag=a",
            exact=True,
            section_chars=100,
        ),
        "embed": next(embed_requests(["one", "two"], "query", collection="default")),
        "count tokens": next(count_requests(["one"], collection="docs")),
        "get document": document_request("collections/docs/documents/7", with_text=True),
        "get passage": passage_request(
            "collections/docs/documents/7/passages/2", before=1, after=2
        ),
        "passage": passage,
        "passage of a table": table,
        "document": document_message("default", DOCUMENT, "the text"),
        "answer": search_service_pb2.SearchResponse(
            passages=[passage],
            next_page_token="next",
            generation=4,
            model_fingerprint="f00d",
            query_token_count=5,
            query_truncated=True,
            mode=search_service_pb2.SEARCH_MODE_HYBRID,
            rerank_truncated_count=1,
            warnings=["no document has a field 'tga'"],
        ),
        "error": to_status(errors.InvalidArgument("k must be from 1 to 9", field="page_size")),
        "overload": to_status(errors.Overloaded("too many", limit="concurrent_requests")),
    }


@pytest.mark.parametrize("name", BYTES)
def test_bytes_of_a_message(name: str) -> None:
    assert messages()[name].SerializeToString(deterministic=True).hex() == BYTES[name]


def test_an_answer_is_read() -> None:
    message = search_service_pb2.SearchResponse.FromString(bytes.fromhex(BYTES["answer"]))
    results = SearchResults.from_message(message)
    name = "collections/default/documents/7/passages"
    neighbour = NEIGHBOUR._replace(name=f"{name}/1")
    (found,) = results.passages
    assert found._replace(before=()) == PASSAGE._replace(
        name=f"{name}/2", before=(), similar=("collections/default/documents/8/passages/0",)
    )
    assert [before._replace(score=0.0) for before in found.before] == [
        neighbour._replace(score=0.0)
    ]
    assert results.next_page_token == "next"
    assert (results.generation, results.model_fingerprint) == (4, "f00d")
    assert (results.query_token_count, results.query_truncated) == (5, True)
    assert (results.mode, results.rerank_truncated_count) == ("hybrid", 1)
    assert results.warnings == ("no document has a field 'tga'",)


def test_a_document_is_read() -> None:
    message = document_pb2.Document.FromString(bytes.fromhex(BYTES["document"]))
    document = DocumentInfo.from_message(message, with_text=True)
    assert document.name == "collections/default/documents/7"
    assert (document.uri, document.title) == ("docs/ferry.md", "The ferry")
    assert (document.format, document.encoding) == ("markdown", "utf-8")
    assert document.metadata == {"author": {"name": "A. Author"}}
    assert (document.size_bytes, document.char_count, document.passage_count) == (27, 26, 3)
    assert document.text == "the text"


REASONS = {
    "RetrievalError": ("INTERNAL", 1, ""),
    "UserError": ("USER_ERROR", 2, ""),
    "InvalidArgument": ("INVALID_ARGUMENT", 2, "INVALID_ARGUMENT"),
    "SourceError": ("SOURCE_ERROR", 2, ""),
    "ModelNotFound": ("MODEL_NOT_FOUND", 2, "FAILED_PRECONDITION"),
    "CheckpointError": ("CHECKPOINT_ERROR", 2, "FAILED_PRECONDITION"),
    "NotAnIndex": ("NOT_AN_INDEX", 2, "FAILED_PRECONDITION"),
    "IndexVersionError": ("INDEX_TOO_NEW", 2, "FAILED_PRECONDITION"),
    "NoLexicalIndex": ("NO_LEXICAL_INDEX", 2, "FAILED_PRECONDITION"),
    "NoReranker": ("NO_RERANKER", 2, "FAILED_PRECONDITION"),
    "UnknownModel": ("UNKNOWN_MODEL", 2, "NOT_FOUND"),
    "UnexpectedModel": ("UNEXPECTED_MODEL", 2, "FAILED_PRECONDITION"),
    "ModelMismatch": ("MODEL_MISMATCH", 2, "FAILED_PRECONDITION"),
    "IndexLocked": ("INDEX_LOCKED", 2, "FAILED_PRECONDITION"),
    "ClientClosed": ("CLIENT_CLOSED", 2, ""),
    "AddressInUse": ("ADDRESS_IN_USE", 2, ""),
    "NotFound": ("NOT_FOUND", 2, "NOT_FOUND"),
    "Unauthenticated": ("UNAUTHENTICATED", 2, "UNAUTHENTICATED"),
    "PermissionDenied": ("PERMISSION_DENIED", 2, "PERMISSION_DENIED"),
    "StaleGeneration": ("STALE_GENERATION", 2, "FAILED_PRECONDITION"),
    "AlreadyExists": ("ALREADY_EXISTS", 2, "ALREADY_EXISTS"),
    "Conflict": ("CONFLICT", 2, "ABORTED"),
    "ForeignRoot": ("FOREIGN_ROOT", 2, "FAILED_PRECONDITION"),
    "UnreadableDocument": ("UNREADABLE_DOCUMENT", 2, "INVALID_ARGUMENT"),
    "IndexDamaged": ("INDEX_DAMAGED", 1, "DATA_LOSS"),
    "StorageError": ("STORAGE_ERROR", 1, "UNAVAILABLE"),
    "DiskFull": ("DISK_FULL", 1, "RESOURCE_EXHAUSTED"),
    "StorageRefused": ("STORAGE_REFUSED", 2, "UNAVAILABLE"),
    "NotServing": ("NOT_SERVING", 1, "UNAVAILABLE"),
    "Overloaded": ("OVERLOADED", 1, "RESOURCE_EXHAUSTED"),
    "RateLimited": ("RATE_LIMITED", 1, "RESOURCE_EXHAUSTED"),
    "QuotaExceeded": ("QUOTA_EXCEEDED", 1, "RESOURCE_EXHAUSTED"),
    "DeadlinePassed": ("DEADLINE_PASSED", 1, "DEADLINE_EXCEEDED"),
    "TooSlow": ("TOO_SLOW", 1, "DEADLINE_EXCEEDED"),
    "AnswerTooLarge": ("ANSWER_TOO_LARGE", 1, "RESOURCE_EXHAUSTED"),
    "ServiceError": ("SERVICE_ERROR", 1, ""),
    "ServiceUnavailable": ("UNAVAILABLE", 1, ""),
}
"""Exception: its ``ErrorInfo.reason``, its exit code, and its gRPC status if it has one."""


@pytest.mark.parametrize("name", REASONS)
def test_reasons_exit_codes_and_statuses(name: str) -> None:
    kind = getattr(errors, name)
    reason, exit_code, status = REASONS[name]
    code = STATUS_CODES.get(kind)
    assert (kind.reason, kind.exit_code) == (reason, exit_code)
    assert (code.name if code else "") == status


def test_domain_of_errors() -> None:
    assert DOMAIN == "retrieval.v1"
