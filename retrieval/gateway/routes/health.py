"""Probes: whether the gateway runs, and whether the server behind it answers."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrieval.gateway.problems import Refused
from retrieval.gateway.routes.common import as_json, gateway_of
from retrieval.gateway.schemas import answers

router = APIRouter(tags=["server"])
"""The routes of probes; they need no token."""


@router.get("/healthz", operation_id="is_alive", response_model=answers.Health)
async def is_alive() -> Response:
    """Answer while the gateway runs, whatever the server behind it does."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="is_ready",
    response_model=answers.Health,
    responses={503: {"model": answers.Health}},
)
async def is_ready(request: Request) -> Response:
    """Answer 200 if the server behind the gateway says that it answers requests, else 503."""
    try:
        ready = await gateway_of(request).upstream.is_serving()
    except Refused:
        ready = False
    if ready:
        return as_json({"status": "ok"})
    return as_json({"status": "unavailable"}, status=503, headers={"retry-after": "1"})
