"""Changes: documents to put and to delete, and collections."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter
from fastapi import Query as InQuery
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import resource_name
from retrieval.client.results import CollectionInfo
from retrieval.client.writing.blocking import PUT_TIMEOUT
from retrieval.client.writing.documents import Put, PutPassage, put_request
from retrieval.client.writing.requests import (
    create_collection_request,
    delete_collection_request,
    delete_request,
    delete_where_request,
    settings_message,
    update_collection_request,
)
from retrieval.client.writing.results import DeleteResult, DeleteWhereResult, PutResult
from retrieval.domain.resource_names import DEFAULT_COLLECTION, parse_collection
from retrieval.errors import InvalidArgument
from retrieval.gateway.problems import Problem, Refused, of_error
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.routes.documents import Collection, CollectionId, Uri
from retrieval.gateway.schemas import answers
from retrieval.gateway.schemas import writes as schemas
from retrieval.indexer_v1 import ingest_service_pb2 as pb

_NO_FORMAT: Final = ("application/octet-stream", "application/x-www-form-urlencoded")
"""Media types that clients send if they know no better; curl sends the second by default."""

_CONTENTS: Final = ("text", "data", "passages")
"""A client here has no path of a file: it would be a path of the gateway's machine."""
_PUTS_AT_ONCE: Final = 64
"""Puts of a batch at the server at once: the server commits those together that wait together."""
_OF_ALL: Final = (401, 403, 429, 501)
"""Statuses that say nothing about one document, but about the caller or the server."""
_CONDITIONS: Final = frozenset({"if-match", "if-none-match"})
"""Headers with which a conflict is a 412 and not a 409."""

Wait = Annotated[bool, InQuery(description="Whether to answer only once searches see the change.")]
Text = Annotated[str, InQuery()]
JsonObject = Annotated[str, InQuery(description="Fields for filters and answers: a JSON object.")]
_RAW_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "Content of a file of any format; Content-Type tells which.",
        "content": {
            "text/markdown": {"schema": {"type": "string"}, "example": "# The door\n\nIt squeaks."},
            "*/*": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": description,
        }
        for name, description in (
            ("If-Match", "The sha256 of the version to replace, in quotes."),
            ("If-None-Match", "`*` refuses the put if the document exists."),
        )
    ],
}
_IF_MATCH: Final = {"parameters": _RAW_BODY["parameters"][:1]}  # type: ignore[index]
_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"model": schemas.PutResult, "description": "The document was created."}
}

router = APIRouter()
"""The routes that change collections."""


@router.put(
    "/v1/documents/{uri:path}",
    operation_id="upload_document",
    tags=["documents"],
    response_model=schemas.PutResult,
    responses=_CREATED,
    openapi_extra=_RAW_BODY,
)
async def upload_document(
    *,
    request: Request,
    uri: Uri,
    collection: Collection = DEFAULT_COLLECTION,
    title: Text = "",
    file_name: Text = "",
    language: Text = "",
    metadata: JsonObject = "",
    wait: Wait = False,
) -> Response:
    """Put a file: the body is its content, whatever its format.

    The answer comes once the document is committed, and has its version as ETag.
    """
    if_match, if_absent = _conditions(request)
    put = Put(
        uri,
        data=await request.body(),
        media_type=_media_type(request),
        file_name=file_name,
        title=title,
        language=language,
        metadata=_metadata(metadata),
        if_sha256=if_match,
        if_absent=if_absent,
    )
    return await _Writer(request).put(put, collection, wait=wait)


@router.post(
    "/v1/documents",
    operation_id="put_document",
    tags=["documents"],
    response_model=schemas.PutResult,
    responses=_CREATED,
)
async def put_document(request: Request, body: schemas.PutBody) -> Response:
    """Add a document, or replace the one of the same URI.

    The answer comes once the document is committed.
    """
    return await _Writer(request).put(_put_of(body), body.collection, wait=body.wait)


@router.post(
    "/v1/documents:batch",
    operation_id="put_documents",
    tags=["documents"],
    response_model=schemas.PutOutcomes,
)
async def put_documents(request: Request, body: schemas.BatchPutBody) -> Response:
    """Put several documents; one that can't be put does not hold up the others."""
    puts = [_put_of(one) for one in body.documents]
    outcomes = await _Writer(request).put_all(puts, body.collection, wait=body.wait)
    return as_json({"results": outcomes})


@router.delete(
    "/v1/documents/{uri:path}",
    operation_id="delete_document",
    tags=["documents"],
    response_model=schemas.DeleteResult,
    openapi_extra=_IF_MATCH,
)
async def delete_document(
    request: Request,
    uri: Uri,
    collection: Collection = DEFAULT_COLLECTION,
    wait: Wait = False,
) -> Response:
    """Delete a document that was put, or all documents of an archive that was put."""
    if_match, _ = _conditions(request)
    message = delete_request(uri, if_sha256=if_match, wait=wait, collection=collection)
    answer = await _Writer(request).call("DeleteDocument", message)
    return as_json(asdict(DeleteResult.from_message(answer)))


@router.post(
    "/v1/documents:delete",
    operation_id="delete_documents",
    tags=["documents"],
    response_model=schemas.DeleteWhereResult,
)
async def delete_documents(request: Request, body: schemas.DeleteBody) -> Response:
    """Delete all documents that were put and match a filter or a prefix, in one commit."""
    message = delete_where_request(
        body.filter,
        body.prefix,
        dry_run=body.dry_run,
        wait=body.wait,
        collection=body.collection,
    )
    answer = await _Writer(request).call("DeleteDocuments", message)
    return as_json(asdict(DeleteWhereResult.from_message(answer)))


@router.post(
    "/v1/collections",
    operation_id="create_collection",
    tags=["collections"],
    status_code=201,
    response_model=answers.Collection,
)
async def create_collection(request: Request, body: schemas.CreateCollectionBody) -> Response:
    """Create an empty collection; the server must have been started with --data."""
    message = create_collection_request(
        body.collection,
        model=body.model,
        chunk_tokens=body.chunk_tokens,
        chunk_overlap=body.chunk_overlap,
        settings=_settings(body),
    )
    answer = await _Writer(request).call("CreateCollection", message)
    return as_json(asdict(CollectionInfo.from_message(answer.collection)), status=201)


@router.patch(
    "/v1/collections/{collection}",
    operation_id="update_collection",
    tags=["collections"],
    response_model=answers.Collection,
)
async def update_collection(
    request: Request, collection: CollectionId, body: schemas.Settings
) -> Response:
    """Change settings of a collection; those that are not given stay."""
    message = update_collection_request(collection, _settings(body))
    answer = await _Writer(request).call("UpdateCollection", message)
    return as_json(asdict(CollectionInfo.from_message(answer.collection)))


@router.delete(
    "/v1/collections/{collection}",
    operation_id="delete_collection",
    tags=["collections"],
    status_code=204,
)
async def delete_collection(request: Request, collection: CollectionId) -> Response:
    """Delete a collection with all its documents; needs --data, as creation does."""
    await _Writer(request).call("DeleteCollection", delete_collection_request(collection))
    return Response(status_code=204)


class _Writer:
    """Sends the changes of a request to the server."""

    def __init__(self, request: Request) -> None:
        self._server = server_for(request, least_timeout=PUT_TIMEOUT)
        self._conditional = not _CONDITIONS.isdisjoint(request.headers)

    async def call(self, method: str, message: object) -> Any:  # noqa: ANN401
        """Send a change and wait until it is committed.

        Raises:
            Refused: the server refused it.
        """
        try:
            return await self._server.call(getattr(self._server.stubs.ingest, method), message)
        except Refused as refused:
            raise Refused(_of_write(refused.problem, conditional=self._conditional)) from refused

    async def put(self, put: Put, collection: str, *, wait: bool) -> Response:
        """Put one document.

        Raises:
            Refused: the server refused it.
            InvalidArgument: it can't be sent.
        """
        message = _message(put, collection, wait=wait)
        result = PutResult.from_message(await self.call("PutDocument", message))
        created = all(document.change == "created" for document in result.documents)
        one = result.document
        headers = {"etag": f'"{one.sha256}"'} if one.uri == put.uri and one.sha256 else {}
        return as_json(asdict(result), status=201 if created else 200, headers=headers)

    async def put_all(
        self, puts: Sequence[Put], collection: str, *, wait: bool
    ) -> list[dict[str, Any]]:
        """Put several documents, many at once; return what became of each, in order.

        Raises:
            Refused: the caller may put nothing, or the server takes nothing.
            InvalidArgument: the collection's name is malformed, or two documents have the same URI,
                so that their order would matter.
        """
        parse_collection(resource_name(collection), field="collection")
        for uri, times in Counter(put.uri for put in puts).items():
            if times > 1:
                raise InvalidArgument(f"{uri!r} is {times} times in the batch", field="documents")
        turns = asyncio.Semaphore(_PUTS_AT_ONCE)

        async def put_one(put: Put) -> PutResult | Problem:
            async with turns:
                try:
                    message = _message(put, collection, wait=wait)
                    return PutResult.from_message(await self.call("PutDocument", message))
                except Refused as refused:
                    return refused.problem
                except InvalidArgument as error:
                    return of_error(error)

        outcomes = await asyncio.gather(*map(put_one, puts))
        problems = [one for one in outcomes if isinstance(one, Problem) and one.status in _OF_ALL]
        if len(problems) == len(puts):
            raise Refused(problems[0])
        return [
            {"uri": put.uri, "result": None, "error": outcome.body("")}
            if isinstance(outcome, Problem)
            else {"uri": put.uri, "result": asdict(outcome), "error": None}
            for put, outcome in zip(puts, outcomes, strict=True)
        ]


def _message(put: Put, collection: str, *, wait: bool) -> pb.PutDocumentRequest:
    """Return the message of a document to put.

    Raises:
        InvalidArgument: a value can't be sent, or there is not one content.
    """
    given = [name for name in _CONTENTS if getattr(put, name) is not None]
    if len(given) != 1:
        found = f"there are {' and '.join(given)}" if given else "there is none"
        raise InvalidArgument(
            f"{found}; give the content as one of {', '.join(_CONTENTS)}", field="content"
        )
    return put_request(put, collection=collection, wait=wait)


def _of_write(problem: Problem, *, conditional: bool) -> Problem:
    """Return the problem of a change, as HTTP knows it."""
    if problem.status == 501:  # noqa: PLR2004  (HTTP's own number)
        detail = "the server takes no changes: start it with --writable, or with --data"
        return Problem(501, "NOT_WRITABLE", detail)
    if conditional and problem.reason in ("CONFLICT", "ALREADY_EXISTS"):
        return replace(problem, status=412)
    return problem


def _conditions(request: Request) -> tuple[str, bool]:
    """Return the version that a change is for, empty for any; and whether there must be none.

    Raises:
        InvalidArgument: a condition that the server can't check.
    """
    match, none_match = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if none_match not in (None, "*"):
        raise InvalidArgument("If-None-Match can only be *", field="if-none-match")
    version = (match or "").strip().removeprefix("W/").strip('"')
    if match is not None and (not version or "," in version or version == "*"):
        raise InvalidArgument(
            "If-Match must be the sha256 of one version, in quotes", field="if-match"
        )
    return version, none_match == "*"


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    return "" if given.partition(";")[0].strip().lower() in _NO_FORMAT else given


def _metadata(text: str) -> dict[str, Any] | None:
    """Return the metadata of a query parameter.

    Raises:
        InvalidArgument: it is no JSON object.
    """
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"metadata is no JSON: {error}", field="metadata") from error
    if not isinstance(value, dict):
        raise InvalidArgument("metadata must be a JSON object", field="metadata")
    return value


def _put_of(body: schemas.DocumentBody) -> Put:
    return Put(
        body.uri,
        text=body.text,
        data=body.data,
        passages=None
        if body.passages is None
        else [PutPassage(one.text, one.heading_path, one.page) for one in body.passages],
        file_name=body.file_name,
        media_type=body.media_type,
        title=body.title,
        metadata=body.metadata,
        language=body.language,
        modified=body.modified_at,
    )


def _settings(body: schemas.Settings) -> pb.CollectionSettings:
    return settings_message(body.language, body.index_type, body.target_recall)
