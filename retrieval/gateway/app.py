"""The gateway as an ASGI application, and its OpenAPI document."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Scope

import retrieval
from retrieval.errors import RetrievalError
from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.guard import Guard
from retrieval.gateway.problems import MEDIA_TYPE, Problem, Refused, of_error, of_status
from retrieval.gateway.routes import (
    dify,
    documents,
    embeddings,
    fields,
    health,
    open_webui,
    page,
    reranking,
    search,
    writes,
)
from retrieval.gateway.routes.common import Gateway, as_json
from retrieval.gateway.schemas import answers
from retrieval.gateway.upstream import REQUEST_ID, TIMEOUT_HEADER, Upstream

_DESCRIPTION: Final = (
    "Search indexed documents, read them, and embed texts. Every error is a Problem; its `reason` "
    "says which kind. If the server has tokens, send one as `Authorization: Bearer TOKEN`."
)
_CORS_HEADERS: Final = (
    *("authorization", "content-type", "if-match", "if-none-match"),
    *(REQUEST_ID, TIMEOUT_HEADER),
)
_NAMED_FAULTS: Final = 5
"""Faults of a body that an error names; the rest of a thousand would say the same."""
_REF: Final = "#/components/schemas/"
_SUBJECTS: Final = (
    *(search, documents, fields, writes),
    *(embeddings, reranking, dify, open_webui, health, page),
)


def create_app(config: GatewayConfig, upstream: Upstream) -> ASGIApp:
    """Return the application of a gateway."""
    return Guard(_with_cors(create_api(config, upstream), config.cors_origins), config)


def create_api(config: GatewayConfig, upstream: Upstream) -> FastAPI:
    """Return the routes and the errors of a gateway, without what guards it."""
    # The pages of FastAPI's documentation load scripts from elsewhere, so they are off.
    api = FastAPI(
        title="gte-retrieval",
        version=retrieval.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    api.state.gateway = Gateway(upstream, config.timeout)
    for subject in _SUBJECTS:
        # Not by include_router: a route within a router within an application costs each request.
        api.router.routes.extend(subject.router.routes)
    _answer_errors(api)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]
    return api


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=_CORS_HEADERS,
        expose_headers=[REQUEST_ID, "etag", "retry-after"],
    )


def _answer_errors(api: FastAPI) -> None:
    """Answer every error as a problem, in the form of the route if it has one of its own."""
    api.add_exception_handler(Refused, _on_refused)  # type: ignore[arg-type]
    api.add_exception_handler(RetrievalError, _on_mistake)  # type: ignore[arg-type]
    api.add_exception_handler(RequestValidationError, _on_malformed)  # type: ignore[arg-type]
    api.add_exception_handler(HTTPException, _on_no_route)  # type: ignore[arg-type]


async def _on_refused(request: Request, error: Refused) -> Response:
    return problem_response(error.problem, request)


async def _on_mistake(request: Request, error: RetrievalError) -> Response:
    return problem_response(of_error(error), request)


async def _on_malformed(request: Request, error: RequestValidationError) -> Response:
    return problem_response(_of_faults(error.errors()), request)


async def _on_no_route(request: Request, error: HTTPException) -> Response:
    problem = of_status(error.status_code, f"{error.detail}: see /openapi.json")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route of a path only.
        headers["allow"] = ", ".join(sorted(_methods(request.app.routes, request.scope)))
    return problem_response(problem, request, headers)


def _methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    """Return the methods of all routes of a request's path."""
    return {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


def problem_response(
    problem: Problem, request: Request, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer for a problem."""
    response = as_json(
        problem.body(request.url.path),
        status=problem.status,
        headers={**(headers or {}), **problem.headers()},
    )
    response.headers["content-type"] = MEDIA_TYPE
    return response


def _of_faults(faults: Sequence[Any]) -> Problem:
    """Return the problem of a request that does not have the form of its schema."""
    named = []
    for fault in faults[:_NAMED_FAULTS]:
        kind, *path = (str(part) for part in fault["loc"])
        place = ".".join(path) if path else kind
        named.append(f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    more = len(faults) - len(named)
    detail = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
    field = ".".join(str(part) for part in faults[0]["loc"][1:]) if faults else ""
    # JSON that can't be parsed is malformed; the rest is JSON of another schema.
    status = 400 if faults and faults[0]["type"] == "json_invalid" else 422
    return Problem(status, "INVALID_ARGUMENT", detail, {"field": field} if field else {})


def _openapi(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document; made once."""
    if api.openapi_schema:
        return api.openapi_schema
    document = get_openapi(
        title=api.title, version=api.version, description=api.description, routes=api.routes
    )
    components = document.setdefault("components", {})
    schema = TypeAdapter(answers.Problem).json_schema(ref_template=_REF + "{model}")
    components.setdefault("schemas", {})["Problem"] = schema
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"token": []}]
    problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}Problem"}}}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "An error.", **problem}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    api.openapi_schema = document
    return document
