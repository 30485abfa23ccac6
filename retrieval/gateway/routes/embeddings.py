"""Embeddings in the forms of OpenAI and of text-embeddings-inference (TEI)."""

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from fastapi import APIRouter
from fastapi import Path as InPath
from fastapi import Query as InQuery
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import embed_requests
from retrieval.client.results import Embeddings, check_obeyed
from retrieval.domain.records import TextKind
from retrieval.domain.resource_names import parse_collection
from retrieval.domain.wording import did_you_mean
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.gateway.problems import Problem, Refused, of_service
from retrieval.gateway.routes.common import Server, as_json, server_for
from retrieval.gateway.schemas import embeddings as schemas
from retrieval.v1 import embedding_service_pb2 as pb

_NO_TEXTS: Final = (
    "{} has token ids, which only the tokenizer of the model that they were made for can read: "
    "send texts; OpenAIEmbeddings of LangChain sends them with check_embedding_ctx_length=False"
)

ModelId = Annotated[
    str, InPath(description="The name of a model, or of a collection.", examples=["default"])
]

router = APIRouter(tags=["embeddings"])
"""The routes of embeddings."""


@router.post("/v1/embeddings", operation_id="create_embeddings", response_model=schemas.Embeddings)
async def create_embeddings(request: Request, body: schemas.EmbeddingsBody) -> Response:
    """Embed texts, in OpenAI's form."""
    texts = _texts(body.input, field="input")
    wanted = _Wanted(texts, body.input_type, body.dimensions)
    made = await _embed_by_name(server_for(request), wanted, body.model)
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
    offered = await _offered(server_for(request))
    return as_json({"object": "list", "data": [*offered.values()]})


@router.get(
    "/v1/models/{model:path}", operation_id="get_model", response_model=schemas.OfferedModel
)
async def get_model(request: Request, model: ModelId) -> Response:
    """Return one of the models for embeddings."""
    offered = await _offered(server_for(request))
    if model not in offered:
        raise _no_model(model, offered)
    return as_json(offered[model])


@router.post("/embed", operation_id="embed", response_model=schemas.Vectors)
async def embed(
    request: Request,
    body: schemas.EmbedBody,
    collection: Annotated[
        str | None,
        InQuery(
            description="The collection whose model to use: `default` if not given or, without "
            "such a collection, the first model of the server."
        ),
    ] = None,
    model: Annotated[
        str | None, InQuery(description="The name of a model, in place of a collection.")
    ] = None,
) -> Response:
    """Embed texts, in the form of text-embeddings-inference."""
    texts = _texts(body.inputs, field="inputs")
    wanted = _Wanted(texts, body.prompt_name or "passage", body.dimensions)
    made = await _embed(server_for(request), wanted, collection=collection, model=model)
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


class _Wanted(NamedTuple):
    """What to embed, and how."""

    texts: Sequence[str]
    kind: TextKind
    dimensions: int | None
    """Components of a vector; None for all."""


async def _embed(
    server: Server, wanted: _Wanted, *, collection: str | None = None, model: str | None = None
) -> Embeddings:
    """Embed texts with the model of a collection, or of a name; without both the server chooses.

    Raises:
        Refused: the server refused.
        InvalidArgument: a text can't be sent.
    """
    requests = embed_requests(
        wanted.texts,
        wanted.kind,
        collection=collection,
        model=model,
        dimensions=wanted.dimensions,
    )
    answers = []
    for each in requests:
        answer = await server.call(server.stubs.embedding.BatchEmbed, each)
        try:
            answers.append(check_obeyed(each, answer))
        except ServiceError as error:
            raise Refused(of_service(error, retry_seconds=None, ours=True)) from error
    return Embeddings.from_messages(answers)


async def _embed_by_name(server: Server, wanted: _Wanted, name: str) -> Embeddings:
    """Embed texts with the model of that name, or of the collection of that name.

    A collection takes precedence, unless the name was that of a model the last time.

    Raises:
        Refused: there is no such collection or model, or the server refused.
        InvalidArgument: a text can't be sent.
    """
    remembered = server.gateway.models
    key = (dict(server.caller.metadata).get("authorization", ""), name)
    was_model = remembered.get([key]).get(key, False)
    forbidden: Refused | None = None
    for as_model in (was_model, not was_model):
        if not name or not (as_model or _may_be_collection(name)):
            continue
        place = {"model" if as_model else "collection": name}
        try:
            made = await _embed(server, wanted, **place)
        except Refused as refused:
            # Without a token for a collection, it is unknown whether there is one.
            if as_model and refused.problem.reason != "UNKNOWN_MODEL":
                raise
            if refused.problem.status == HTTPStatus.FORBIDDEN:
                forbidden = refused
            elif refused.problem.status != HTTPStatus.NOT_FOUND:
                raise
        else:
            remembered.put({key: as_model})
            return made
    raise forbidden or _no_model(name, await _offered(server))


async def _offered(server: Server) -> dict[str, dict[str, Any]]:
    """Return what can be given as model, by id: names of models, then of collections.

    Raises:
        Refused: the server refused.
    """
    answer = await server.call(server.stubs.embedding.ListModels, pb.ListModelsRequest())
    offered: dict[str, dict[str, Any]] = {}
    for one in answer.models:
        for name in one.names:
            offered.setdefault(name, _offer(name, one))
    for one in answer.models:
        for resource in one.collections:
            # A collection takes precedence over a model of the same name.
            name = parse_collection(resource, field="name")
            offered[name] = _offer(name, one)
    return offered


def _offer(name: str, served: pb.ServedModel) -> dict[str, Any]:
    """Return what can be given as model, in OpenAI's form of a model."""
    return {
        "id": name,
        "object": "model",
        "created": served.load_time.seconds,
        "owned_by": "gte-retrieval",
        "root": served.model.name,
        "dimension": served.model.dimension,
        "dimensions": [*served.dimensions],
        "max_model_len": served.model.max_tokens,
    }


def _may_be_collection(name: str) -> bool:
    try:
        return bool(parse_collection(f"collections/{name}", field="model"))
    except InvalidArgument:
        return False


def _no_model(model: str, offered: dict[str, dict[str, Any]]) -> Refused:
    hint = did_you_mean(model, offered)
    return Refused(
        Problem(
            404,
            "MODEL_NOT_FOUND",
            f"no model and no collection is named {model[:100]!r}{hint}",
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


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
