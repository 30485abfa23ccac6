"""Searches in Dify's form of an external knowledge base."""

from collections.abc import Callable, Mapping
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.filters import F, FilterExpression, all_of, any_of
from retrieval.client.requests import search_request
from retrieval.client.results import SearchResults
from retrieval.domain.passages import Passage
from retrieval.domain.search_options import OPTIONS
from retrieval.errors import InvalidArgument
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import others as schemas

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], FilterExpression]]] = {
    **{"is": eq, "=": eq, "is not": ne, "≠": ne},
    **{">": gt, "<": lt, "≥": ge, "≤": le, "before": lt, "after": gt},
}
_PATTERNS: Final = {"contains": "*{}*", "start with": "{}*", "end with": "*{}"}
_WILDCARDS: Final = str.maketrans({char: f"[{char}]" for char in "*?["})


router = APIRouter(tags=["dify"])
"""The route that Dify asks; it is registered there without its last part."""


@router.post("/retrieval", operation_id="retrieve", response_model=schemas.Records)
async def retrieve(request: Request, body: schemas.RetrievalBody) -> Response:
    """Find passages, in Dify's form: scores are from 0 to 1."""
    setting = body.retrieval_setting
    message = search_request(
        body.query,
        k=OPTIONS["k"].default if setting.top_k is None else setting.top_k,
        collection=body.knowledge_id,
        filter=filter_of(body.metadata_condition),
    )
    server = server_for(request)
    answer = await server.call(server.stubs.search.Search, message)
    records = [_record(one) for one in SearchResults.from_message(answer)]
    least = setting.score_threshold or 0.0
    return as_json({"records": [one for one in records if one["score"] >= least]})


def _record(passage: Passage) -> dict[str, Any]:
    content = f"{passage.table_header}\n{passage.text}" if passage.table_header else passage.text
    return {
        "content": content,
        # Scores of cosines, and weighted ones, can be below 0; those of words alone above 1.
        "score": min(1.0, max(0.0, passage.score)),
        "title": passage.title,
        "metadata": {
            **passage.metadata,
            "name": passage.name,
            "uri": passage.uri,
            "line_start": passage.line_start,
            "line_end": passage.line_end,
            **({"page": passage.page_start} if passage.page_start else {}),
        },
    }


def filter_of(condition: schemas.MetadataCondition | None) -> str:
    """Return Dify's conditions in the language of filters.

    Raises:
        InvalidArgument: a condition lacks a value that its operator needs, or has one that no
            filter can have.
    """
    if condition is None or not condition.conditions:
        return ""
    try:
        parts = [_any_of(one) for one in condition.conditions]
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field="metadata_condition") from error
    return (any_of(parts) if condition.logical_operator == "or" else all_of(parts)).text


def _any_of(condition: schemas.Condition) -> FilterExpression:
    names = [condition.name] if isinstance(condition.name, str) else condition.name
    if not names:
        raise InvalidArgument("a condition names no field")
    return any_of([_comparison(F(name), condition) for name in names])


def _comparison(field: F, condition: schemas.Condition) -> FilterExpression:
    operator, value = condition.comparison_operator, condition.value
    if operator in ("empty", "not empty"):
        return ~field.exists() if operator == "empty" else field.exists()
    if operator in ("in", "not in"):
        one_of = field.isin(value if isinstance(value, list) else [_one(value, operator)])
        return ~one_of if operator == "not in" else one_of
    one = _one(value, operator)
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](field, one)
    text = str(one).translate(_WILDCARDS)
    matches = field.matches(_PATTERNS[operator.removeprefix("not ")].format(text))
    return ~matches if operator.startswith("not ") else matches


def _one(value: str | float | list[str] | None, operator: str) -> str | float:
    if value is None or isinstance(value, list):
        raise InvalidArgument(f"the operator {operator!r} needs one value, not {value!r}")
    return value
