"""Fields and values that filters can name."""

from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as InQuery
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import resource_name
from retrieval.client.values import count, sendable
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.routes.documents import DEFAULT_PAGE_SIZE, Collection, PageSize
from retrieval.gateway.schemas import answers
from retrieval.v1 import index_service_pb2 as pb

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
    message = pb.ListFieldsRequest(parent=resource_name(collection))
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListFields, message)
    fields = [
        {"name": one.name, "built_in": one.built_in, "has_values": one.has_values}
        for one in answer.fields
    ]
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
    message = pb.ListFieldValuesRequest(
        parent=resource_name(collection),
        field=sendable(field, field="field"),
        containing=sendable(containing, field="containing"),
        page_size=count(page_size, field="page_size"),
    )
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListFieldValues, message)
    values = [
        {"text": one.text, "document_count": one.document_count, "filter": one.filter}
        for one in answer.values
    ]
    return as_json({"values": values, "generation": answer.generation})
