"""Bodies of reranking in the forms of Cohere and Jina, and of TEI."""

from pydantic import Field

from retrieval.gateway.schemas.answers import Answer
from retrieval.gateway.schemas.others import OthersBody
from retrieval.gateway.schemas.requests import Whole, example


class TextDocument(OthersBody):
    """A text as an object."""

    text: str


class RerankBody(OthersBody):
    """Texts to order, in the form of Cohere and Jina."""

    model_config = example(query="pods", documents=["Pods run.", "Bread rises."], top_n=1)
    query: str
    documents: list[str | TextDocument]
    top_n: Whole | None = Field(None, description="Maximum number of results; null for all.")
    model: str | None = Field(None, description="Has no effect: the server has one reranker.")
    return_documents: bool | None = Field(None, description="Whether to return the texts.")


class RankedDocument(Answer):
    """The score of one text."""

    index: int
    relevance_score: float = Field(description="Probability that it answers the query.")
    document: TextDocument | None = None


class RerankAnswer(Answer):
    """The best texts, best first, in the form of Cohere and Jina."""

    id: str
    model: str
    results: list[RankedDocument]


class TeiRerankBody(OthersBody):
    """Texts to order, in TEI's form."""

    model_config = example(query="pods", texts=["Pods run.", "Bread rises."])
    query: str
    texts: list[str]
    raw_scores: bool = Field(False, description="Can't be true: scores are probabilities.")
    return_text: bool = Field(False, description="Whether to return the texts.")
    truncate: bool | None = Field(None, description="false refuses texts that are too long.")


class RankedText(Answer):
    """The score of one text, in TEI's form."""

    index: int
    score: float
    text: str | None = None
