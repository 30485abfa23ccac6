"""Bodies in the forms of Dify (external knowledge) and Open WebUI (external web search)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.domain.search_options import OPTIONS
from retrieval.gateway.schemas.answers import Answer
from retrieval.gateway.schemas.requests import NAMED, Whole, example

Operator = Literal[
    "contains",
    "not contains",
    "start with",
    "end with",
    "is",
    "is not",
    "in",
    "not in",
    "empty",
    "not empty",
    "=",
    "≠",
    ">",
    "<",
    "≥",
    "≤",
    "before",
    "after",
]

_USUAL = f"{OPTIONS['k'].default} if it is null"
"""Both programs send null for what is not set."""


class OthersBody(BaseModel):
    """A body whose form is not ours: members that a later version adds have no effect."""

    model_config = ConfigDict(strict=True, extra="ignore")


class RetrievalSetting(OthersBody):
    """How much Dify wants."""

    top_k: Whole | None = Field(None, description=f"Maximum number of passages; {_USUAL}.")
    score_threshold: float | None = Field(None, description="Least score, from 0 to 1.")


class Condition(OthersBody):
    """A condition on the metadata of documents."""

    name: str | list[str] = Field(description="Field of the metadata; one of several.")
    comparison_operator: Operator
    value: str | int | float | list[str] | None = None


class MetadataCondition(OthersBody):
    """Conditions on the metadata of documents."""

    logical_operator: Literal["and", "or"] | None = "and"
    conditions: list[Condition] | None = None


class RetrievalBody(OthersBody):
    """A search, in Dify's form."""

    model_config = example(
        knowledge_id="default",
        query="how are pods scheduled?",
        retrieval_setting={"top_k": 2, "score_threshold": 0.0},
    )
    knowledge_id: str = Field(description="The collection's own name.", json_schema_extra={**NAMED})
    query: str
    retrieval_setting: RetrievalSetting
    metadata_condition: MetadataCondition | None = None


class Record(Answer):
    """A passage, in Dify's form."""

    content: str
    score: float = Field(ge=0, le=1)
    title: str
    metadata: dict[str, Any]


class Records(Answer):
    """Passages, best first, in Dify's form."""

    records: list[Record]


class WebSearchBody(OthersBody):
    """A search, in Open WebUI's form."""

    model_config = example(query="how are pods scheduled?", count=3)
    query: str
    count: Whole | None = Field(None, description=f"Maximum number of results; {_USUAL}.")


class WebResult(Answer):
    """A passage, in Open WebUI's form."""

    link: str
    title: str
    snippet: str
