"""Embeddings in the forms of OpenAI and of text-embeddings-inference (TEI)."""

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter
from fastapi import Query as InQuery
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import embed_requests
from retrieval.client.results import Embeddings
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION, parse_collection
from retrieval.domain.wording import did_you_mean
from retrieval.errors import InvalidArgument
from retrieval.gateway.problems import Problem, Refused
from retrieval.gateway.routes.common import KnownModel, Server, as_json, server_for
from retrieval.gateway.schemas import embeddings as schemas
from retrieval.v1 import collection_pb2
from retrieval.v1 import index_service_pb2 as pb

_MOST_COLLECTIONS: Final = 1000
"""On a page of ListCollections; its maximum."""
_NO_TEXTS: Final = (
    "{} has token ids, which only the tokenizer of the model that they were made for can read: "
    "send texts; OpenAIEmbeddings of LangChain sends them with check_embedding_ctx_length=False"
)


router = APIRouter(tags=["embeddings"])
"""The routes of embeddings."""


@router.post("/v1/embeddings", operation_id="create_embeddings", response_model=schemas.Embeddings)
async def create_embeddings(request: Request, body: schemas.EmbeddingsBody) -> Response:
    """Embed texts, in OpenAI's form."""
    texts = _texts(body.input, field="input")
    made = await _embed_by_model(server_for(request), texts, body.input_type, body.model)
    _check_dimensions(body.dimensions, made)
    tokens = sum(made.token_counts)
    return as_json(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _base64(vector) if body.encoding_format == "base64" else vector,
                    "truncated": truncated,
                }
                for index, (vector, truncated) in enumerate(
                    zip(made.vectors, made.truncated, strict=True)
                )
            ],
            "model": body.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


@router.get("/v1/models", operation_id="list_models", response_model=schemas.OfferedModels)
async def list_models(request: Request) -> Response:
    """List what `model` can be for embeddings: models, and collections."""
    offered = _offered(await _collections(server_for(request)))
    return as_json({"object": "list", "data": [*offered.values()]})


@router.get(
    "/v1/models/{model:path}", operation_id="get_model", response_model=schemas.OfferedModel
)
async def get_model(request: Request, model: str) -> Response:
    """Return one of the models for embeddings."""
    offered = _offered(await _collections(server_for(request)))
    if model not in offered:
        raise _no_model(model, offered)
    return as_json(offered[model])


@router.post("/embed", operation_id="embed", response_model=schemas.Vectors)
async def embed(
    request: Request,
    body: schemas.EmbedBody,
    collection: Annotated[
        str, InQuery(description="The collection whose model to use.")
    ] = DEFAULT_COLLECTION,
) -> Response:
    """Embed texts, in the form of text-embeddings-inference."""
    texts = _texts(body.inputs, field="inputs")
    kind: TextKind = body.prompt_name or "passage"
    made = await _embed(server_for(request), texts, kind, collection)
    _check_dimensions(body.dimensions, made)
    if body.truncate is False and any(made.truncated):
        place = made.truncated.index(True)
        raise Refused(
            Problem(
                413,
                "TEXT_TOO_LONG",
                f"inputs[{place}] is longer than the model reads, {made.token_counts[place]} "
                "tokens: shorten it, or set truncate",
                {"field": "inputs"},
            )
        )
    return as_json(made.vectors)


async def _embed(
    server: Server, texts: Sequence[str], kind: TextKind, collection: str
) -> Embeddings:
    """Embed texts with the model of a collection.

    Raises:
        Refused: the server refused.
        InvalidArgument: a text can't be sent.
    """
    messages = [
        await server.call(server.stubs.embedding.BatchEmbed, message)
        for message in embed_requests(texts, kind, collection=collection)
    ]
    return Embeddings.from_messages(messages)


async def _embed_by_model(
    server: Server, texts: Sequence[str], kind: TextKind, model: str
) -> Embeddings:
    """Embed texts with the model of that name, or of the collection of that name.

    Raises:
        Refused: there is no such collection or model, or the server refused.
        InvalidArgument: a text can't be sent.
    """
    remembered = server.gateway.models
    key = (dict(server.caller.metadata).get("authorization", ""), model)
    known = remembered.get([key]).get(key)
    if known is None:
        if _may_be_collection(model):
            try:
                return await _embed(server, texts, kind, model)
            except Refused as refused:
                # Without a token for a collection, it is unknown whether there is one.
                if refused.problem.status not in (403, 404):
                    raise
                first = refused
        else:
            first = None
        known = await _look_up(server, model, first)
    made = await _embed(server, texts, kind, known.collection)
    if made.model_fingerprint != known.fingerprint:
        # The collection was built again with another model since its name was looked up.
        known = await _look_up(server, model, None)
        made = await _embed(server, texts, kind, known.collection)
    remembered.put({key: known})
    return made


async def _look_up(server: Server, model: str, first: Refused | None) -> KnownModel:
    """Find a collection by the name of its model.

    Raises:
        Refused: there is none. It is the first refusal if collections can't be listed, or if that
            one was about the token.
    """
    try:
        found = await _collections(server)
    except Refused as refused:
        raise first or refused from None
    for one in found:
        if one.model.name == model:
            name = parse_collection(one.name, field="name")
            return KnownModel(name, one.model.fingerprint)
    if first is not None and first.problem.status == HTTPStatus.FORBIDDEN:
        raise first
    raise _no_model(model, _offered(found))


async def _collections(server: Server) -> list[collection_pb2.Collection]:
    """Return the collections that a caller sees, by name."""
    request = pb.ListCollectionsRequest(page_size=_MOST_COLLECTIONS)
    found: list[collection_pb2.Collection] = []
    while True:
        answer = await server.call(server.stubs.index.ListCollections, request)
        found += answer.collections
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def _may_be_collection(model: str) -> bool:
    try:
        return bool(parse_collection(f"collections/{model}", field="model"))
    except InvalidArgument:
        return False


def _offered(collections: Sequence[collection_pb2.Collection]) -> dict[str, dict[str, Any]]:
    """Return what can be given as model, by id: names of models, then of collections."""
    offered: dict[str, dict[str, Any]] = {}
    own = {parse_collection(one.name, field="name"): one for one in collections}
    for name, one in [*((each.model.name, each) for each in collections), *own.items()]:
        # A collection takes precedence over a model of the same name.
        offered[name] = {
            "id": name,
            "object": "model",
            "created": one.create_time.seconds,
            "owned_by": "gte-retrieval",
            "root": one.model.name,
            "dimension": one.model.dimension,
            "max_model_len": one.model.max_tokens,
        }
    return offered


def _no_model(model: str, offered: dict[str, dict[str, Any]]) -> Refused:
    hint = did_you_mean(model, offered)
    return Refused(
        Problem(
            404,
            "MODEL_NOT_FOUND",
            f"no collection and no model of a collection is named {model[:100]!r}{hint}",
            {"field": "model"},
        )
    )


def _texts(given: schemas.Texts, *, field: str) -> list[str]:
    """Return the texts of a request.

    Raises:
        InvalidArgument: there are none, one is empty, or they are token ids.
    """
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise InvalidArgument(f"{field} is empty: give a text, or a list of texts", field=field)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgument(_NO_TEXTS.format(field), field=field)
        if not text:
            raise InvalidArgument(
                f"{field} has an empty text, which has no meaningful vector", field=field
            )
    return [text for text in texts if isinstance(text, str)]


def _check_dimensions(asked: int | None, made: Embeddings) -> None:
    own = made.vectors.shape[1]
    if asked is not None and asked != own:
        raise InvalidArgument(
            f"dimensions is {asked}, but the vectors of this model have {own}, and a part of them "
            "finds worse passages: leave it out",
            field="dimensions",
        )


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
