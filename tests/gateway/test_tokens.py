"""Tokens of every kind through every route: one table, which has to name each of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from retrieval.gateway.app import create_api
from retrieval.gateway.config import GatewayConfig
from retrieval.service.access.token_file import SCOPES, Scope, create_token
from retrieval.service.config import Writing
from tests.gateway.harness import Answered, Http, gateway
from tests.service.harness import build_index, running, word_model, write_documents


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
    "GET /v1/models": Request("read", names_collection=False),
    "GET /v1/models/{model}": Request("read", names_collection=False),
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
VALUES = {"uri": "a", "document": "1", "passage": "0", "model": "default"}
"""Of parameters in paths."""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Http]]:
    """A gateway to a server with tokens that takes documents, by the token to ask with."""
    folder = tmp_path_factory.mktemp("tokens")
    write_documents(folder / "notes")
    index = build_index(folder / "notes", folder / "data" / "default")
    file = folder / "tokens.json"
    made = {"": "", "wrong": "rt_0123_wrong"}
    made["other"] = create_token(file, "other", scopes=SCOPES, collections=("other",))
    made["spent"] = create_token(file, "spent", scopes=SCOPES, rate=0.001)
    for scope in SCOPES:
        made[scope] = create_token(file, scope, scopes=(scope,))
        rest = [other for other in SCOPES if other != scope]
        made[f"not {scope}"] = create_token(file, f"not-{scope}", scopes=rest)
    settings = {"writing": Writing(folder / "data"), "model": str(word_model())}
    with (
        running({"default": index}, token_file=file, **settings) as server,
        gateway(server.target) as http,
    ):
        yield {
            name: Http(http.port, **{"authorization": f"Bearer {token}"} if token else {})
            for name, token in made.items()
        }


def ask(http: Http, route: str) -> Answered:
    method, path = route.split(" ")
    collection = "default" if method == "GET" or path.endswith("/reload") else "nowhere"
    return http(method, path.format(**VALUES, collection=collection), REQUESTS[route].body)


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


def test_the_table_names_every_route() -> None:
    async def routes() -> set[str]:
        from retrieval.gateway.upstream import Upstream

        config = GatewayConfig()
        upstream = Upstream(config)
        api = create_api(config, upstream)
        await upstream.close()
        return {
            f"{method} {route.path.replace(':path', '')}"
            for route in api.routes
            for method in route.methods - {"HEAD"}
        }

    import asyncio

    assert {route.partition("?")[0] for route in REQUESTS} == asyncio.run(routes())


@pytest.mark.parametrize("token", ["", "wrong"])
def test_who_has_no_token_gets_401(tokens: dict[str, Http], token: str) -> None:
    for route, request in REQUESTS.items():
        answered = ask(tokens[token], route)
        if request.scope is None:
            assert answered.status == 200, (route, answered.body)
        else:
            expect(answered, route, 401, "UNAUTHENTICATED")
            assert answered.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_its_routes_and_no_others(tokens: dict[str, Http], scope: Scope) -> None:
    for route, request in REQUESTS.items():
        if request.scope == scope:
            expect(ask(tokens[f"not {scope}"], route), route, 403, "PERMISSION_DENIED")
            allowed = ask(tokens[scope], route)
            assert allowed.status not in (401, 403, 429), (route, allowed.body)


def test_a_token_is_for_its_collections_only(tokens: dict[str, Http]) -> None:
    for route, request in REQUESTS.items():
        answered = ask(tokens["other"], route)
        if request.names_collection and request.scope is not None:
            expect(answered, route, 403, "PERMISSION_DENIED")
        else:
            assert answered.status not in (401, 403, 429), (route, answered.body)


def test_who_asks_too_often_is_told_when_to_ask_again(tokens: dict[str, Http]) -> None:
    tokens["spent"]("POST", "/v1/search", SEARCH)
    for route, request in REQUESTS.items():
        if request.scope is not None:
            answered = ask(tokens["spent"], route)
            expect(answered, route, 429, "RATE_LIMITED")
            assert int(answered.headers["retry-after"]) > 900
