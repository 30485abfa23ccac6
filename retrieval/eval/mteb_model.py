"""Adapters to mteb: an ``Encoder`` as its model, BEIR folders as its tasks (extra ``mteb``)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.cache import ResultCache
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from retrieval.domain.records import TextKind
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import find_card
from retrieval.errors import InvalidArgument
from retrieval.eval.sets.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

_SPLIT = "test"


class MtebEncoder(AbsEncoder):
    """An ``Encoder`` behind mteb's interface; queries get the model's own prompt."""

    def __init__(self, encoder: Encoder) -> None:
        """Bind a loaded model."""
        self.model = encoder
        self.mteb_model_meta = _meta(encoder)

    def encode(
        self,
        inputs: "Iterable[Mapping[str, list[str]]]",
        *,
        prompt_type: PromptType | None = None,
        **_others: Any,  # noqa: ANN401  (mteb's: which task, which split)
    ) -> "NDArray[np.float32]":
        """Embed batches of texts.

        Args:
            inputs: batches with a column ``text``, which for documents includes the title.
            prompt_type: tells queries of retrieval tasks; everything else is embedded as passages.

        Returns:
            float32 [n, dim], L2-normalised.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        kind: TextKind = "query" if prompt_type == PromptType.query else "passage"
        vectors: NDArray[np.float32] = self.model.encode(texts, kind)
        return vectors


def _meta(encoder: Encoder) -> ModelMeta:
    """Return the description of the model that mteb writes into its results."""
    identity = encoder.identity
    card = find_card(identity.name)
    name = card.hub_id if card else identity.name
    return ModelMeta(
        loader=None,
        name=name if "/" in name else f"local/{name}",
        revision=identity.revision or identity.fingerprint[:40],
        release_date=None,
        languages=None,
        n_parameters=card.parameters if card else None,
        memory_usage_mb=None,
        max_tokens=identity.max_tokens,
        embed_dim=identity.dim,
        license=None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=None,
        training_datasets=None,
    )


def local_task(folder: Path) -> AbsTaskRetrieval:
    """Make a retrieval task of a set in BEIR form on the disk.

    Args:
        folder: holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``.

    Raises:
        InvalidArgument: a file is missing or malformed.
    """
    name = "".join(part.capitalize() for part in folder.resolve().name.replace("-", "_").split("_"))

    class LocalRetrieval(AbsTaskRetrieval):
        """Retrieval task over local files; see ``local_task``."""

        metadata = TaskMetadata(
            name=name,
            description=f"{folder.resolve().name}, from local files",
            dataset={"path": f"local/{folder.resolve().name}", "revision": "local"},
            type="Retrieval",
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            modalities=["text"],
        )

        def load_data(self, **_options: Any) -> None:  # noqa: ANN401  (mteb's)
            """Read the files."""
            self.dataset = {"default": {_SPLIT: _read(folder)}}
            self.data_loaded = True

    return LocalRetrieval()


def _read(folder: Path) -> Any:  # noqa: ANN401  (mteb's RetrievalSplitData)
    queries = load_queries(folder)
    try:
        with (folder / "corpus.jsonl").open(encoding="utf-8-sig") as file:
            corpus = [
                {"id": str(one["_id"]), "title": one.get("title", ""), "text": one["text"]}
                for one in map(json.loads, filter(str.strip, file))
            ]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgument(f"{folder} is not a set in BEIR form: {error}") from error
    return {
        "corpus": Dataset.from_list(corpus),
        "queries": Dataset.from_list([{"id": query.id, "text": query.text} for query in queries]),
        "relevant_docs": {query.id: dict(query.documents) for query in queries},
        "top_ranked": None,
    }


def run_tasks(
    encoder: Encoder, *, tasks: str, benchmark: str | None, local: "Sequence[Path]", output: Path
) -> "Iterator[tuple[str, float]]":
    """Run tasks; mteb writes the results to ``output``.

    Args:
        encoder: the model.
        tasks: names of mteb tasks, separated by commas.
        benchmark: name of an mteb benchmark.
        local: folders of sets in BEIR form.
        output: folder for the results.

    Yields:
        each task's name and main score.

    Raises:
        InvalidArgument: a set can't be used.
    """
    chosen = [local_task(folder) for folder in local]
    chosen += mteb.get_tasks(tasks=[name.strip() for name in tasks.split(",")]) if tasks else []
    chosen += list(mteb.get_benchmark(benchmark).tasks) if benchmark else []
    results = mteb.evaluate(
        MtebEncoder(encoder), chosen, cache=ResultCache(output), overwrite_strategy="always"
    )
    for result in results:
        yield result.task_name, result.get_score()
