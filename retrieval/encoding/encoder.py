"""The encoder: texts in, vectors out; it adds prompts, tokenises, batches and runs a model.

``Encoder.load`` loads every model: GTE, BERT and XLM-R run in the GTE core, Qwen2 in transformers.
Indexer and service embed with the same class, so a query and a passage differ only in their prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.arguments import check_text, text_list
from retrieval.domain.records import ModelIdentity, TextKind
from retrieval.encoding.backend import resolve_device
from retrieval.encoding.batching import embed_batches
from retrieval.encoding.cores import ahead
from retrieval.encoding.loading import Parts, assemble, fingerprint_of
from retrieval.encoding.model_folders import ModelFolder, find_model, recorded_name
from retrieval.encoding.tokenizer import Tokens
from retrieval.errors import CheckpointError, InvalidArgument, ModelMismatch, ModelNotFound
from retrieval.gte import Workload, has_exact_int8

_TOKENIZE_WINDOW = 1024
"""Texts tokenised at a time, which bounds the memory of tokens that wait for the model."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings, with token counts and truncation."""

    vectors: NDArray[np.float32]
    """[n, dim], L2-normalised."""
    token_counts: list[int]
    """Tokens of each text in the model, prompt and special tokens included."""
    truncated: list[bool]
    """Whether each text was longer than the model reads."""


class Encoder:
    """A model ready to embed texts."""

    def __init__(
        self, parts: Parts, identity: ModelIdentity, folder: Path, *, dtype: str, device: str
    ) -> None:
        """Combine the parts of a loaded model; use ``load``."""
        self._backend = parts.backend
        self._settings = parts.settings
        self.tokenizer = parts.tokenizer
        self.identity = identity
        self.folder = folder
        self.dtype = dtype
        self.dim = parts.backend.dim
        self.device = device
        self.side_by_side = parts.backend.side_by_side

    def __repr__(self) -> str:
        """Return name, dimension, length limit, type and device."""
        return (
            f"Encoder({self.identity.name!r}, dim={self.dim}, max_tokens={self.max_tokens}, "
            f"dtype={self.dtype!r}, device={self.device!r})"
        )

    @classmethod
    def load(
        cls,
        name: str | Path | ModelFolder,
        *,
        device: str = "auto",
        dtype: str = "auto",
        workload: Workload = "throughput",
    ) -> "Encoder":
        """Load a model; the process around it stays as it is (docs/encoder.md).

        Args:
            name: registry name, hub id (``@REVISION`` allowed) or local folder; or the model that
                ``find_model`` found.
            device: ``"cpu"``, ``"cuda"``, or ``"auto"`` (CUDA if there is one).
            dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"int8"`` (only encoders on the
                CPU), or ``"auto"`` (bfloat16 on CUDA, otherwise float32).
            workload: ``"throughput"`` for many texts at a time, ``"latency"`` for one short query
                at a time; the vectors are the same within rounding.

        Returns:
            the encoder.

        Raises:
            InvalidArgument: the device, dtype or workload is unknown.
            ModelNotFound: see ``retrieval.encoding.model_folders.find_model``.
            CheckpointError: the files can't be used.
        """
        device, dtype = resolve_device(device, dtype)
        if workload not in ("throughput", "latency"):
            raise InvalidArgument(f"workload must be throughput or latency, not {workload!r}")
        folder = name if isinstance(name, ModelFolder) else find_model(name)
        return cls._from_folder(folder, device, dtype, workload)

    @classmethod
    def _from_folder(
        cls,
        folder: ModelFolder,
        device: str,
        dtype: str,
        workload: Workload,
        index_dtype: str | None = None,
    ) -> "Encoder":
        """Load with weights in ``dtype``.

        The identity is that of an index whose vectors were made in ``index_dtype``; with None, of
        one that this encoder makes.
        """
        parts = assemble(folder, device=device, dtype=dtype, workload=workload)
        identity = parts.identity(folder, index_dtype or dtype)
        return cls(parts, identity, folder.path, dtype=dtype, device=device)

    @property
    def query_on_one_core(self) -> bool:
        """Whether a short query that comes alone is best served by one core.

        The first access measures it, which takes as long as about 20 queries.
        """
        return self._backend.query_on_one_core

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of one text, prompt and special tokens included."""
        return self._settings.max_tokens

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Numbers of components that vectors can have, ascending; the last is ``dim``."""
        shorter = {length for length in self._settings.dimensions if length < self.dim}
        return (*sorted(shorter), self.dim)

    @property
    def query_prompt(self) -> str:
        """Text before each query; empty for none."""
        return self._settings.query_prompt

    @property
    def passage_prompt(self) -> str:
        """Text before each passage; empty for none."""
        return self._settings.passage_prompt

    @property
    def passage_room(self) -> int:
        """Maximum tokens of a passage itself, without prompt and special tokens."""
        prompt = self._settings.passage_prompt
        return self.tokenizer.room - (self.tokenizer.count([prompt])[0] if prompt else 0)

    def encode(
        self,
        texts: str | Iterable[str],
        kind: TextKind = "passage",
        *,
        batch_tokens: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed one text or several; ``embed`` also returns token counts and truncation.

        Args:
            texts: a text; or n texts, which may come from a generator. Texts longer than
                ``max_tokens`` are truncated.
            kind: ``"query"`` or ``"passage"``: which of the model's prompts to put before each.
            batch_tokens: maximum tokens of one batch, 1 or more (a longer text is a batch by
                itself); None for what suits the device.

        Returns:
            float32 [dim] of one text, [n, dim] of several; L2-normalised.

        Raises:
            InvalidArgument: an item is not a text, or the kind is unknown.
            CheckpointError: the model computes numbers that the type of its weights can't hold.
        """
        if isinstance(texts, str):
            check_text(texts, field="texts")
            one = self.embed([texts], kind, batch_tokens=batch_tokens).vectors
            return one.reshape(self.dim)
        return self.embed(texts, kind, batch_tokens=batch_tokens).vectors

    def embed(
        self,
        texts: Iterable[str],
        kind: TextKind = "passage",
        *,
        batch_tokens: int | None = None,
    ) -> Embedded:
        """Embed texts; the results are in their order, whatever the batches.

        Arguments and errors are those of ``encode``, but a single text must be in a list.

        Returns:
            vectors, token counts and truncation flags, n of each.
        """
        texts = text_list(texts)
        if kind not in ("query", "passage"):
            raise InvalidArgument(f"kind must be query or passage, not {kind!r}", field="kind")
        if batch_tokens is not None and not (isinstance(batch_tokens, int) and batch_tokens > 0):
            raise InvalidArgument(
                f"batch_tokens is {batch_tokens!r}; it must be a whole number, 1 or more",
                field="batch_tokens",
            )
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        token_counts: list[int] = []
        truncated: list[bool] = []
        starts = range(0, len(texts), _TOKENIZE_WINDOW)
        windows = (
            self._tokenize(texts[start : start + _TOKENIZE_WINDOW], kind) for start in starts
        )
        for start, tokens in zip(
            starts, ahead(windows) if len(starts) > 1 else windows, strict=True
        ):
            token_counts += [len(text.ids) for text in tokens]
            truncated += [text.truncated for text in tokens]
            batches = embed_batches(self._backend, [text.ids for text in tokens], batch_tokens)
            for rows, embedded in batches:
                vectors[[start + row for row in rows]] = embedded
        if not np.isfinite(vectors).all():
            raise CheckpointError(
                f"{self.identity.name} makes vectors that are not finite in {self.dtype}: "
                "use bfloat16 or float32, or mend its weights"
            )
        return Embedded(vectors, token_counts, truncated)

    def _tokenize(self, texts: Sequence[str], kind: TextKind) -> list[Tokens]:
        settings = self._settings
        prompt = settings.query_prompt if kind == "query" else settings.passage_prompt
        # Stripped after the prompt is added, as in sentence-transformers.
        prompted = [(prompt + text).strip() for text in texts]
        if settings.lower_case:
            prompted = [text.lower() for text in prompted]
        return self.tokenizer.encode(prompted)


def load_for_index(
    identity: ModelIdentity,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "index",
    workload: Workload = "throughput",
) -> Encoder:
    """Load the model that an index was made with.

    Args:
        identity: the model as the index records it.
        model: where the model is now, if it has moved; it must be the same model.
        device: as in ``Encoder.load``.
        dtype: ``"index"`` for the type that the index was made with. For queries only: a type as in
            ``Encoder.load``; or ``"auto"``, which is int8 if the model's card allows it for
            passages in float32, otherwise the index's type.
        workload: as in ``Encoder.load``.

    Returns:
        the encoder.

    Raises:
        InvalidArgument: the dtype is unknown, or not for this model or device.
        ModelMismatch: another model was found.
        ModelNotFound: no model was found.
        CheckpointError: the model's files can't be used.
    """
    name = model or recorded_name(identity)
    folder = find_model(name)
    encoder = _load_for_queries(folder, identity.dtype, device, dtype, workload)
    check_same_model(identity, name, encoder.identity.fingerprint)
    return encoder


def check_same_model(identity: ModelIdentity, name: str, fingerprint: str) -> None:
    """Refuse a model that is not the one that an index was made with.

    Args:
        identity: the model as the index records it.
        name: name or folder of the model that was found.
        fingerprint: its fingerprint, with the index's dtype.

    Raises:
        ModelMismatch: it is another one.
    """
    if fingerprint != identity.fingerprint:
        raise ModelMismatch(
            f"the index was made with {identity.name} (fingerprint {identity.fingerprint[:12]}), "
            f"but {name} is another model (fingerprint {fingerprint[:12]}): "
            f"give the original with --model, or build a new index",
            index_fingerprint=identity.fingerprint,
            model_fingerprint=fingerprint,
        )


def load_for_one_of(
    identity: ModelIdentity,
    models: tuple[str, ...],
    *,
    device: str = "auto",
    dtype: str = "index",
    workload: Workload = "throughput",
) -> Encoder:
    """Load the model that an index was made with: one of some models if it is among them.

    Args:
        identity: the model as the index records it.
        models: names or folders; read before the index's own record is followed.
        device: as in ``load_for_index``.
        dtype: as in ``load_for_index``.
        workload: as in ``load_for_index``.

    Raises:
        ModelMismatch: none of the models is the index's, and it is not where the index says.
        RetrievalError: see ``load_for_index``.
    """
    for name in models:
        if fingerprint_of(find_model(name), identity.dtype) == identity.fingerprint:
            return load_for_index(
                identity, model=name, device=device, dtype=dtype, workload=workload
            )
    try:
        return load_for_index(identity, device=device, dtype=dtype, workload=workload)
    except ModelNotFound as error:
        if not models:
            raise
        raise ModelMismatch(
            f"the index was made with {identity.name} (fingerprint {identity.fingerprint[:12]}), "
            f"which is not {' or '.join(models)}, and is not where the index says "
            f"({error.message}): give the original with --model, or build a new index",
            index_fingerprint=identity.fingerprint,
        ) from error


def load_by_name(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    workload: Workload = "latency",
) -> Encoder:
    """Load a model to embed queries for vectors that ``Encoder.load`` makes of passages.

    Args:
        name: as in ``Encoder.load``.
        device: as in ``Encoder.load``.
        dtype: as in ``load_for_index``; ``"index"`` is that of the passages.
        workload: as in ``Encoder.load``.

    Returns:
        the encoder, with the identity of the model for passages.

    Raises:
        InvalidArgument: the dtype is unknown, or not for this model or device.
        ModelNotFound: no model was found.
        CheckpointError: the model's files can't be used.
    """
    passages = resolve_device(device, "auto")[1]
    return _load_for_queries(find_model(name), passages, device, dtype, workload)


def _load_for_queries(
    folder: ModelFolder, passages: str, device: str, dtype: str, workload: Workload
) -> Encoder:
    """Load a model for queries on vectors that were made with weights in the type ``passages``."""
    if dtype == "auto":
        dtype = _query_dtype(passages, folder, resolve_device(device, "auto")[0])
    device, dtype = resolve_device(device, passages if dtype == "index" else dtype)
    return Encoder._from_folder(folder, device, dtype, workload, passages)


def _query_dtype(passages: str, folder: ModelFolder, device: str) -> str:
    """Return the fastest type for queries that was measured to cost next to no quality."""
    measured = folder.card is not None and folder.card.int8_queries
    # Measured on processors with exact int8 sums; on others the loss is larger (docs/encoder.md).
    as_measured = passages == "float32" and device == "cpu" and has_exact_int8()
    return "int8" if measured and as_measured else passages
