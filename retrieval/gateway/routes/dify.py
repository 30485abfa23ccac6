"""Searches in Dify's form of an external knowledge base."""

from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from retrieval.client.requests import search_request
from retrieval.client.results import SearchResults
from retrieval.domain.passages import Passage
from retrieval.domain.search_options import OPTIONS
from retrieval.errors import InvalidArgument
from retrieval.gateway.routes.common import as_json, server_for
from retrieval.gateway.schemas import others as schemas

_COMPARISONS: Final = {
    **{"is": "=", "=": "=", "is not": "!=", "≠": "!="},
    **{">": ">", "<": "<", "≥": ">=", "≤": "<=", "before": "<", "after": ">"},
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
        InvalidArgument: a condition lacks a value that its operator needs.
    """
    if condition is None or not condition.conditions:
        return ""
    word = " OR " if condition.logical_operator == "or" else " AND "
    return word.join(f"({_any_of(one)})" for one in condition.conditions)


def _any_of(condition: schemas.Condition) -> str:
    names = [condition.name] if isinstance(condition.name, str) else condition.name
    if not names:
        raise InvalidArgument("a condition names no field", field="metadata_condition")
    return " OR ".join(_comparison(_quoted(name), condition) for name in names)


def _comparison(field: str, condition: schemas.Condition) -> str:
    operator, value = condition.comparison_operator, condition.value
    if operator in ("empty", "not empty"):
        return f"{'NOT ' if operator == 'empty' else ''}{field}:*"
    if operator in ("in", "not in"):
        values = value if isinstance(value, list) else [_one(value, operator)]
        listed = ", ".join(_quoted(str(each)) for each in values)
        return f"{field} {operator.upper()} ({listed})"
    text = str(_one(value, operator))
    if operator in _COMPARISONS:
        return f"{field}{_COMPARISONS[operator]}{_quoted(text)}"
    negated = operator.startswith("not ")
    pattern = _PATTERNS[operator.removeprefix("not ")].format(text.translate(_WILDCARDS))
    return f"{'NOT ' if negated else ''}{field}:{_quoted(pattern)}"


def _one(value: str | float | list[str] | None, operator: str) -> str | float:
    if value is None or isinstance(value, list):
        raise InvalidArgument(
            f"the operator {operator!r} needs one value, not {value!r}", field="metadata_condition"
        )
    return value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
