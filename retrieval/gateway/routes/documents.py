"""Reading of collections, documents and passages."""

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter
from fastapi import Path as InPath
from fastapi import Query as InQuery
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import (
    document_request,
    documents_request,
    passage_request,
    resource_name,
    skipped_request,
)
from retrieval.client.results import (
    CollectionInfo,
    DocumentInfo,
    PassageContext,
    ServerInfo,
    SkippedFile,
    counts_from,
)
from retrieval.client.values import count, sendable
from retrieval.domain.passages import passage_as_json
from retrieval.domain.resource_names import DEFAULT_COLLECTION, DocumentName, PassageName
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import answers
from retrieval.gateway.schemas.requests import NAMED, Part
from retrieval.v1 import index_service_pb2 as pb

DEFAULT_PAGE_SIZE: Final = 50
"""As on the wire."""

Uri = Annotated[
    str,
    InPath(
        description="The document's URI; `/` needs no escape, `?`, `#` and `%` do.",
        min_length=1,
        examples=["tickets/4711"],
    ),
]
_OWN_NAME: Final[dict[str, Any]] = {
    "description": "The collection's own name.",
    "json_schema_extra": NAMED,
}
Collection = Annotated[str, InQuery(**_OWN_NAME)]
CollectionId = Annotated[str, InPath(**_OWN_NAME, examples=["guides"])]
PageSize = Annotated[int, InQuery(description="Maximum number of items to return.")]
PageToken = Annotated[
    str, InQuery(description="next_page_token of the page before; empty for the first page.")
]
Filter = Annotated[
    str, InQuery(description="Only list documents that meet a condition, e.g. path:guides/**.")
]
Counted = Annotated[
    bool, InQuery(description="Whether to count the documents on all pages, and their passages.")
]
DocumentId = Annotated[int, InPath(ge=0, le=2**63 - 1, examples=[1])]
Ordinal = Annotated[int, InPath(ge=0, le=2**63 - 1, examples=[0])]
Neighbours = Annotated[int, InQuery(description="Number of passages around it to return.")]


router = APIRouter()
"""The routes that read what is indexed."""


@router.get(
    "/v1/documents",
    operation_id="list_documents",
    tags=["documents"],
    response_model=answers.DocumentPage,
)
async def list_documents(
    *,
    request: Request,
    collection: Collection = DEFAULT_COLLECTION,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    page_token: PageToken = "",
    filter: Filter = "",
    count: Counted = False,
) -> Response:
    """List the documents of a collection by URI, without their texts."""
    message = documents_request(
        collection, page_size=page_size, page_token=page_token, filter=filter, counted=count
    )
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListDocuments, message)
    return as_json(
        {
            "documents": [asdict(DocumentInfo.from_message(one)) for one in answer.documents],
            "next_page_token": answer.next_page_token,
            "generation": answer.generation,
            "total": counts_from(answer)._asdict() if count else None,
            "warnings": list(answer.warnings),
        }
    )


@router.get(
    "/v1/skipped-files",
    operation_id="list_skipped_files",
    tags=["documents"],
    response_model=answers.SkippedPage,
)
async def list_skipped_files(
    request: Request,
    collection: Collection = DEFAULT_COLLECTION,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    page_token: PageToken = "",
) -> Response:
    """List the files that are not indexed, with the reasons."""
    message = skipped_request(collection, page_size=page_size, page_token=page_token)
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListSkippedFiles, message)
    files = [SkippedFile.from_message(one)._asdict() for one in answer.files]
    return as_json(
        {
            "files": files,
            "counts": dict(answer.counts),
            "next_page_token": answer.next_page_token,
            "generation": answer.generation,
        }
    )


@router.get(
    "/v1/documents/{uri:path}",
    operation_id="get_document",
    tags=["documents"],
    response_model=answers.Document,
)
async def get_document(
    request: Request,
    uri: Uri,
    part: Annotated[Part, InQuery()],
    collection: Collection = DEFAULT_COLLECTION,
) -> Response:
    """Return one document by its URI, with its text or a part of it."""
    message = document_request("", uri=uri, collection=collection, **part.keywords)
    return await _document(request, message, with_text=part.text)


@router.get(
    "/v1/collections/{collection}/documents/{document}",
    operation_id="get_document_by_name",
    tags=["documents"],
    response_model=answers.Document,
)
async def get_document_by_name(
    request: Request,
    collection: CollectionId,
    document: DocumentId,
    part: Annotated[Part, InQuery()],
) -> Response:
    """Return one document by its resource name, with its text or a part of it."""
    name = str(DocumentName(sendable(collection, field="collection"), document))
    message = document_request(name, **part.keywords)
    return await _document(request, message, with_text=part.text)


async def _document(
    request: Request, message: pb.GetDocumentRequest, *, with_text: bool
) -> Response:
    server = server_for(request)
    answer = await server.call(server.stubs.index.GetDocument, message)
    return as_json(asdict(DocumentInfo.from_answer(answer, with_text=with_text)))


@router.get(
    "/v1/collections/{collection}/documents/{document}/passages/{passage}",
    operation_id="get_passage",
    tags=["documents"],
    response_model=answers.PassageContext,
)
async def get_passage(
    *,
    request: Request,
    collection: CollectionId,
    document: DocumentId,
    passage: Ordinal,
    before: Neighbours = 0,
    after: Neighbours = 0,
) -> Response:
    """Return one passage by its resource name, with its neighbours in the document."""
    name = str(PassageName(sendable(collection, field="collection"), document, passage))
    message = passage_request(name, before=before, after=after)
    server = server_for(request)
    answer = await server.call(server.stubs.index.GetPassage, message)
    context = PassageContext.from_message(answer)
    return as_json(
        {
            "passage": passage_as_json(context.passage),
            "before": [passage_as_json(one) for one in context.before],
            "after": [passage_as_json(one) for one in context.after],
            "generation": context.generation,
        }
    )


@router.get(
    "/v1/collections",
    operation_id="list_collections",
    tags=["collections"],
    response_model=answers.CollectionPage,
)
async def list_collections(
    request: Request, page_size: PageSize = DEFAULT_PAGE_SIZE, page_token: PageToken = ""
) -> Response:
    """List the collections that the server has open, by name."""
    message = pb.ListCollectionsRequest(
        page_size=count(page_size, field="page_size"),
        page_token=sendable(page_token, field="page_token"),
    )
    server = server_for(request)
    answer = await server.call(server.stubs.index.ListCollections, message)
    return as_json(
        {
            "collections": [collection_as_json(one) for one in answer.collections],
            "next_page_token": answer.next_page_token,
        }
    )


@router.get(
    "/v1/collections/{collection}",
    operation_id="get_collection",
    tags=["collections"],
    response_model=answers.Collection,
)
async def get_collection(request: Request, collection: CollectionId) -> Response:
    """Return what a collection holds, and the model that it was built with."""
    message = pb.GetCollectionRequest(name=resource_name(collection))
    server = server_for(request)
    answer = await server.call(server.stubs.index.GetCollection, message)
    return as_json(collection_as_json(answer.collection))


@router.post(
    "/v1/collections/{collection}/reload",
    operation_id="reload_collection",
    tags=["collections"],
    response_model=answers.Collection,
)
async def reload_collection(request: Request, collection: CollectionId) -> Response:
    """Make the server open the newest generation of a collection."""
    message = pb.ReloadCollectionRequest(name=resource_name(collection))
    server = server_for(request)
    answer = await server.call(server.stubs.index.ReloadCollection, message)
    return as_json(collection_as_json(answer.collection))


@router.get(
    "/v1/server",
    operation_id="get_server_info",
    tags=["server"],
    response_model=answers.ServerInfo,
)
async def get_server_info(request: Request) -> Response:
    """Return the server's version and limits."""
    message = pb.GetServerInfoRequest()
    server = server_for(request)
    answer = await server.call(server.stubs.index.GetServerInfo, message)
    return as_json(asdict(ServerInfo.from_message(answer.server_info)))


def collection_as_json(message: Any) -> dict[str, Any]:  # noqa: ANN401  (collection_pb2.Collection)
    """Return a collection as a JSON object."""
    return asdict(CollectionInfo.from_message(message))
