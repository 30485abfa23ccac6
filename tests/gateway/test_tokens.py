"""Tokens of every kind through every door: two tables, which name each route and each method."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from starlette.routing import Route

from retrieval.gateway.app import create_api
from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.upstream import Upstream
from retrieval.indexer_v1 import ingest_service_pb2
from retrieval.service.access.token_file import SCOPES, Scope
from retrieval.v1 import (
    embedding_service_pb2,
    index_service_pb2,
    rerank_service_pb2,
    search_service_pb2,
)
from tests.gateway.harness import Answered, Doors


@dataclass(frozen=True)
class Request:
    """A request that a token of the scope may send, whatever the answer then is."""

    scope: Scope | None
    """None if it needs no token."""
    body: object = None
    names_collection: bool = True
    """Whether a token of another collection is refused."""


SEARCH = {"query": "bread"}
TEXTS = {"query": "bread", "documents": ["a", "b"]}
PUT = {"uri": "a", "text": "b"}
NOWHERE = {"collection": "nowhere"}
"""Changes are asked for where nothing is, so that those that are allowed change nothing."""
REQUESTS = {
    "GET /": Request(None),
    "POST /v1/search": Request("search", SEARCH),
    "POST /v1/search/batch": Request("search", {"searches": [SEARCH]}),
    "POST /v1/search/stream": Request("search", SEARCH),
    "GET /v1/documents": Request("read"),
    "GET /v1/documents/{uri}": Request("read"),
    "GET /v1/skipped-files": Request("read"),
    "GET /v1/fields": Request("read"),
    "GET /v1/fields/values?field=tag": Request("read"),
    "GET /v1/collections/{collection}/documents/{document}": Request("read"),
    "GET /v1/collections/{collection}/documents/{document}/passages/{passage}": Request("read"),
    "GET /v1/collections": Request("read", names_collection=False),
    "GET /v1/collections/{collection}": Request("read"),
    "POST /v1/collections/{collection}/reload": Request("reload"),
    "GET /v1/server": Request("read", names_collection=False),
    "PUT /v1/documents/{uri}?collection=nowhere": Request("write"),
    "POST /v1/documents": Request("write", {**PUT, **NOWHERE}),
    "POST /v1/documents:batch": Request("write", {"documents": [PUT], **NOWHERE}),
    "POST /v1/documents:delete": Request("write", {"prefix": "a", **NOWHERE}),
    "DELETE /v1/documents/{uri}?collection=nowhere": Request("write"),
    "POST /v1/collections": Request("write", {"collection": "default"}),
    "PATCH /v1/collections/{collection}": Request("write", {"language": "en"}),
    "DELETE /v1/collections/{collection}": Request("write"),
    "POST /v1/embeddings": Request("embed", {"input": "bread", "model": "default"}),
    "GET /v1/models": Request("embed", names_collection=False),
    "GET /v1/models/{model}": Request("embed", names_collection=False),
    "POST /embed": Request("embed", {"inputs": "bread"}),
    "POST /v1/rerank": Request("search", TEXTS, names_collection=False),
    "POST /v2/rerank": Request("search", TEXTS, names_collection=False),
    "POST /rerank": Request("search", {"query": "a", "texts": ["b"]}, names_collection=False),
    "POST /retrieval": Request(
        "search", {"knowledge_id": "default", "query": "bread", "retrieval_setting": {"top_k": 1}}
    ),
    "POST /open-webui/search": Request("search", {"query": "bread", "count": 1}),
    "GET /healthz": Request(None),
    "GET /readyz": Request(None),
    "GET /openapi.json": Request(None),
}
METHODS: dict[str, Scope] = {
    "retrieval.v1.SearchService/Search": "search",
    "retrieval.v1.SearchService/BatchSearch": "search",
    "retrieval.v1.SearchService/StreamSearch": "search",
    "retrieval.v1.RerankService/Rerank": "search",
    "retrieval.v1.EmbeddingService/BatchEmbed": "embed",
    "retrieval.v1.EmbeddingService/CountTokens": "embed",
    "retrieval.v1.EmbeddingService/ListModels": "embed",
    "retrieval.v1.IndexService/GetCollection": "read",
    "retrieval.v1.IndexService/ListCollections": "read",
    "retrieval.v1.IndexService/GetDocument": "read",
    "retrieval.v1.IndexService/ListDocuments": "read",
    "retrieval.v1.IndexService/GetPassage": "read",
    "retrieval.v1.IndexService/ListSkippedFiles": "read",
    "retrieval.v1.IndexService/ListFields": "read",
    "retrieval.v1.IndexService/ListFieldValues": "read",
    "retrieval.v1.IndexService/GetServerInfo": "read",
    "retrieval.v1.IndexService/ReloadCollection": "reload",
    "indexer.v1.IngestService/PutDocument": "write",
    "indexer.v1.IngestService/PutDocuments": "write",
    "indexer.v1.IngestService/DeleteDocument": "write",
    "indexer.v1.IngestService/DeleteDocuments": "write",
    "indexer.v1.IngestService/CreateCollection": "write",
    "indexer.v1.IngestService/UpdateCollection": "write",
    "indexer.v1.IngestService/DeleteCollection": "write",
}
"""The same over gRPC, with an empty message: what a token may do is decided before it is read."""
SERVICES = (
    *(search_service_pb2, rerank_service_pb2, embedding_service_pb2, index_service_pb2),
    ingest_service_pb2,
)
VALUES = {"uri": "a", "document": "1", "passage": "0", "model": "default"}
"""Of parameters in paths."""


@pytest.fixture(scope="module")
def channel(doors: Doors) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(doors.target) as channel:
        yield channel


def ask(doors: Doors, token: str, route: str) -> Answered:
    """Send the request of a route."""
    method, path = route.split(" ")
    collection = "default" if method == "GET" or path.endswith("/reload") else "nowhere"
    path = path.format(**VALUES, collection=collection)
    return doors.http(token)(method, path, REQUESTS[route].body)


def call(channel: grpc.Channel, method: str, headers: dict[str, str]) -> tuple[str, float]:
    """Call a method; return the reason that it ends with, and after how many seconds to retry."""
    service, _, name = method.partition("/")
    (found,) = [one for one in _services() if one.full_name == service]
    kind = found.methods_by_name[name]
    words = [
        "stream" if each else "unary" for each in (kind.client_streaming, kind.server_streaming)
    ]
    start: Any = getattr(channel, "_".join(words))(f"/{method}")
    message: Any = iter([b""]) if kind.client_streaming else b""
    try:
        answer = start(message, metadata=[*headers.items()], timeout=60)
        if kind.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        status: Any = rpc_status.from_call(cast(grpc.Call, error))
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details:
            for known in (info, retry):
                detail.Unpack(known)
        return info.reason, retry.retry_delay.ToMilliseconds() / 1000
    return "", 0.0


def _services() -> list[ServiceDescriptor]:
    return [one for module in SERVICES for one in module.DESCRIPTOR.services_by_name.values()]


def expect(answered: Answered, route: str, status: int, reason: str) -> None:
    """The answer refuses as the clients of this form of the route expect it."""
    assert answered.problem == (status, reason), (route, answered.body)
    body, path = answered.json, route.split(" ")[1]
    if path.startswith(("/v1/embeddings", "/v1/models")):
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        assert (body["error"]["type"], body["error"]["code"]) == (kind[status], reason)
        assert body["error"]["message"] == body["detail"]
    elif path in ("/v1/rerank", "/v2/rerank"):
        assert body["message"] == body["detail"]
    elif path in ("/embed", "/rerank"):
        assert body["error"] == body["detail"]
        assert body["error_type"] == ("Overloaded" if status == 429 else "Unauthorized")
    elif path == "/retrieval":
        assert body["error_code"] == {401: 1001, 403: 1002, 429: 500}[status]
        assert body["error_msg"] == body["detail"]


def test_the_tables_name_every_route_and_method() -> None:
    async def routes() -> set[str]:
        config = GatewayConfig()
        upstream = Upstream(config)
        api = create_api(config, upstream)
        await upstream.close()
        return {
            f"{method} {route.path.replace(':path', '')}"
            for route in api.routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }

    assert {route.partition("?")[0] for route in REQUESTS} == asyncio.run(routes())
    assert METHODS.keys() == {
        f"{service.full_name}/{method.name}"
        for service in _services()
        for method in service.methods
    }


@pytest.mark.parametrize("token", ["", "wrong"])
def test_who_has_no_token_gets_401(doors: Doors, channel: grpc.Channel, token: str) -> None:
    for route, request in REQUESTS.items():
        answered = ask(doors, token, route)
        if request.scope is None:
            assert answered.status == 200, (route, answered.body)
        else:
            expect(answered, route, 401, "UNAUTHENTICATED")
            assert answered.headers["www-authenticate"] == "Bearer"
    assert {call(channel, method, doors.headers(token)) for method in METHODS} == {
        ("UNAUTHENTICATED", 0.0)
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_its_doors_and_no_others(
    doors: Doors, channel: grpc.Channel, scope: Scope
) -> None:
    for route, request in REQUESTS.items():
        if request.scope == scope:
            expect(ask(doors, f"not {scope}", route), route, 403, "PERMISSION_DENIED")
            allowed = ask(doors, scope, route)
            assert allowed.status not in (401, 403, 429), (route, allowed.body)
    for method, needed in METHODS.items():
        if needed == scope:
            assert call(channel, method, doors.headers(f"not {scope}")) == (
                "PERMISSION_DENIED",
                0.0,
            ), method
            assert call(channel, method, doors.headers(scope))[0] != "PERMISSION_DENIED", method


def test_a_token_is_for_its_collections_only(doors: Doors) -> None:
    for route, request in REQUESTS.items():
        answered = ask(doors, "other", route)
        if request.names_collection and request.scope is not None:
            expect(answered, route, 403, "PERMISSION_DENIED")
        else:
            assert answered.status not in (401, 403, 429), (route, answered.body)


def test_who_asks_too_often_is_told_when_to_ask_again(doors: Doors, channel: grpc.Channel) -> None:
    ask(doors, "spent", "POST /v1/search")
    for route, request in REQUESTS.items():
        if request.scope is not None:
            answered = ask(doors, "spent", route)
            expect(answered, route, 429, "RATE_LIMITED")
            assert int(answered.headers["retry-after"]) > 900
    for method in METHODS:
        reason, seconds = call(channel, method, doors.headers("spent"))
        assert (reason, seconds > 900) == ("RATE_LIMITED", True), method
