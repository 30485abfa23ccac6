"""Embed some of an index's chunks again: do their vectors come out the same?"""

import numpy as np

from retrieval.domain.embedded_text import embedded_text
from retrieval.encoding.encoder import load_for_index
from retrieval.store import Location, Problem, open_reader

_LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "float16": 0.999, "int8": 0.99}
"""Of a vector with itself, by the type of the weights: rounding differs with the processor."""


def compare_sample(
    index: Location, count: int, *, model: str | None = None, device: str = "auto"
) -> list[Problem]:
    """Embed a sample of chunks again.

    Args:
        index: the index's folder.
        count: how many chunks, spread evenly over the index.
        model: where the index's model is now, if it has moved.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        a problem for each chunk whose vector differs.

    Raises:
        NotAnIndex, IndexDamaged: the index can't be read.
        ModelNotFound, CheckpointError, ModelMismatch: its model can't be used.
    """
    with open_reader(index) as reader:
        encoder = load_for_index(reader.info.model, model=model, device=device)
        context = reader.info.chunking.context
        places = reader.sample_places(count)
        passages = [reader.passage(*place) for place in places]
        stored = [reader.passage_vector(*place) for place in places]
    if not passages:
        return []
    texts = [
        embedded_text(
            passage.text, title=passage.title, heading_path=passage.heading_path, context=context
        )
        for passage in passages
    ]
    vectors = encoder.encode(texts, "passage")
    cosines = (vectors * np.stack(stored)).sum(axis=1)
    least = _LEAST_COSINE[encoder.dtype]
    return [
        Problem(
            "index.db",
            f"chunk {passage.ordinal} of {passage.uri} embeds to another vector "
            f"(cosine {cosine:.4f})",
            "was the model changed? build the index anew",
        )
        for passage, cosine in zip(passages, cosines, strict=True)
        if cosine < least
    ]
