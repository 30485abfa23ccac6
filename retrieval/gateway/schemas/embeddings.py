"""Bodies of embeddings in the forms of OpenAI and of text-embeddings-inference (TEI)."""

from typing import Annotated, Literal

from pydantic import Field

from retrieval.gateway.schemas.answers import Answer
from retrieval.gateway.schemas.requests import Body, Whole, example

Texts = str | list[str] | list[int] | list[list[int]]
"""Token ids have the form of a request, so that their error can say what to set."""


class EmbeddingsBody(Body):
    """Texts to embed, in OpenAI's form."""

    model_config = example(input=["how are pods scheduled?"], model="default", input_type="query")
    input: Annotated[Texts, Field(description="A text, or a list of texts.")]
    model: str = Field(
        description="The name of a model of the server, or of a collection that was built with it."
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64 is little-endian float32."
    )
    dimensions: Whole | None = Field(
        None, description="Length of the vectors, if the model was trained for shorter ones."
    )
    user: str | None = Field(None, description="Has no effect.")
    input_type: Literal["query", "passage"] = Field(
        "passage", description="What the texts are; not a part of OpenAI's form."
    )


class Embedding(Answer):
    """The vector of one text, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    truncated: bool = Field(
        description="Whether the text is longer than the model reads, and its end had no effect."
    )


class Usage(Answer):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Answer):
    """The vectors of texts, in OpenAI's form."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class OfferedModel(Answer):
    """A model or a collection, in OpenAI's form of a model."""

    id: str = Field(description="What to give as `model`.")
    object: Literal["model"]
    created: int = Field(description="When the server loaded it, in Unix time.")
    owned_by: str
    root: str = Field(description="Name of the embedding model.")
    dimension: int
    dimensions: list[int] = Field(description="Lengths that vectors can have.")
    max_model_len: int = Field(description="Tokens that the model reads of one text.")


class OfferedModels(Answer):
    """The models that can be asked for, in OpenAI's form."""

    object: Literal["list"]
    data: list[OfferedModel]


class EmbedBody(Body):
    """Texts to embed, in TEI's form."""

    model_config = example(inputs=["how are pods scheduled?"], prompt_name="query")
    inputs: Annotated[Texts, Field(description="A text, or a list of texts.")]
    truncate: bool | None = Field(
        None, description="false refuses texts that are longer than the model reads."
    )
    normalize: Literal[True] = Field(True, description="Vectors always have length 1.")
    truncation_direction: Literal["Right", "right"] = Field(
        "Right", description="A long text loses its end."
    )
    prompt_name: Literal["query", "passage"] | None = Field(
        None, description="What the texts are; passages if not given."
    )
    dimensions: Whole | None = Field(
        None, description="Length of the vectors, if the model was trained for shorter ones."
    )


Vectors = Annotated[list[list[float]], Field(description="One vector for each text.")]
