"""Fields and values that filters can name."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as InQuery
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import field_values_request, fields_request
from retrieval.client.results import field_values_from, fields_from
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.routes.documents import DEFAULT_PAGE_SIZE, Collection, PageSize
from retrieval.gateway.schemas import answers

FieldName = Annotated[
    str,
    InQuery(description="The field, as a filter names it.", min_length=1, examples=["extension"]),
]
Containing = Annotated[str, InQuery(description="A part of the values, in any case.")]


router = APIRouter(tags=["documents"])
"""The routes that suggest what a filter can say."""


@router.get("/v1/fields", operation_id="list_fields", response_model=answers.Fields)
async def list_fields(request: Request, collection: Collection = DEFAULT_COLLECTION) -> Response:
    """List the fields that a filter can compare."""
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListFields, fields_request(collection))
    fields = [asdict(one) for one in fields_from(answer)]
    return as_json({"fields": fields, "generation": answer.generation})


@router.get(
    "/v1/fields/values", operation_id="list_field_values", response_model=answers.FieldValues
)
async def list_field_values(
    *,
    request: Request,
    field: FieldName,
    containing: Containing = "",
    collection: Collection = DEFAULT_COLLECTION,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
) -> Response:
    """List values that documents have in a field, the most frequent first."""
    message = field_values_request(
        field, containing=containing, limit=page_size, collection=collection
    )
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListFieldValues, message)
    values = [asdict(one) for one in field_values_from(answer)]
    return as_json({"values": values, "generation": answer.generation})
