"""Find the places of texts, i.e. the passages that have them, from the ids in memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.store.lake.tables.generation import Generation
from retrieval.store.records import PassageKey, TextKey

Mask = NDArray[np.bool_]


class TextPlaces:
    """Places of the texts of one generation."""

    def __init__(self, generation: Generation) -> None:
        """Look places up in a generation."""
        self._generation = generation

    def first(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        passing: Mask | None,
        named: Sequence[TextKey] | None,
    ) -> list[list[list[PassageKey]]]:
        """Return the first places of some groups of texts; see ``Reader.first_places``.

        Args:
            groups: groups of texts, each in order.
            limit: maximum number of places for each group.
            passing: whether each document passes, by its id; None for all.
            named: all texts of the ranking; None if these are the texts of the groups.

        Raises:
            IndexDamaged: a vector has no place.
        """
        every = named if named is not None else [text for group in groups for text in group]
        beside = _beside(every)
        found = []
        for group in groups:
            parts: list[list[PassageKey]] = []
            left = limit
            for text in group:
                if left <= 0:
                    break
                parts.append(self._keys(self._of(text, beside, passing)[:left]))
                left -= len(parts[-1])
            found.append(parts)
        return found

    def counts(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], passing: Mask | None
    ) -> list[int]:
        """Count the places of each of some texts; see ``Reader.count_places``."""
        beside = _beside(named)
        return [len(self._of(text, beside, passing)) for text in texts]

    def _of(
        self, text: TextKey, beside: NDArray[np.int64], passing: Mask | None
    ) -> NDArray[np.int64]:
        """Return the passages that have a text, in order of indexing."""
        generation = self._generation
        if text.text_id:
            found = generation.in_order(generation.by_text.rows(text.text_id))
        else:
            found = generation.in_order(generation.by_vector.rows(text.vector_id))
            if not len(found):
                raise generation.damaged("it has a vector that is some passage's, and names none")
            if len(beside):
                found = found[~np.isin(generation.places.texts[found], beside)]
        return found if passing is None else found[passing[generation.places.documents[found]]]

    def _keys(self, passages: NDArray[np.int64]) -> list[PassageKey]:
        places = self._generation.places
        return list(
            zip(
                places.documents[passages].tolist(),
                places.ordinals[passages].tolist(),
                strict=True,
            )
        )


def _beside(texts: Sequence[TextKey]) -> NDArray[np.int64]:
    """Return the ids of the texts that a ranking lists separately."""
    return np.unique([text.text_id for text in texts if text.text_id]).astype(np.int64)
