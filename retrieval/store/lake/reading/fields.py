"""Fields and values that exist, for people who write filters."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow.compute as pc

from retrieval.domain.records import FieldInfo, FieldValue
from retrieval.errors import InvalidArgument
from retrieval.store.disk.filtering.suggestions import LISTED, decimal_text
from retrieval.store.filters.language import equality, metadata_name, parse_field
from retrieval.store.filters.tree import BUILT_IN
from retrieval.store.filters.values import Kind, read_number
from retrieval.store.lake.filtering import COLUMNS
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.schema import DOCUMENTS, VALUES

_MOST_NAMES: Final = 10_000
"""Maximum number of metadata fields to list, as in the store on disk."""
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""Only letters of ASCII are compared in any case, as in the store on disk."""


def field_names(generation: Generation) -> list[str]:
    """Return the names of all metadata fields in order."""
    names = pc.unique(generation.column(VALUES, "key")).to_pylist()
    return sorted(names)[:_MOST_NAMES]


def list_fields(generation: Generation) -> list[FieldInfo]:
    """Return the fields that filters can compare: the built-in ones, then those of metadata."""
    built_in = [FieldInfo(name, True, kind in LISTED) for name, kind in BUILT_IN.items()]
    names = map(metadata_name, field_names(generation))
    return [*built_in, *(FieldInfo(name, False, True) for name in names)]


def list_values(generation: Generation, name: str, containing: str, limit: int) -> list[FieldValue]:
    """Return values of a field, the most frequent first; see ``Reader.field_values``.

    Raises:
        InvalidArgument: the name is malformed, or values of the field are not listed.
    """
    field = parse_field(name)
    if field.kind == "metadata":
        return list(_metadata_values(generation, name, field.keys, containing, limit))
    if field.kind not in LISTED:
        raise InvalidArgument(
            f"values of {field.name} are not listed: compare it, as in '{field.name}>…'",
            field="field",
        )
    texts = generation.column(DOCUMENTS, COLUMNS[field.name])
    counted = [(one["values"], one["counts"]) for one in pc.value_counts(texts).to_pylist()]
    found = [(text, count) for text, count in counted if _contains(text, containing)]
    found.sort(key=lambda one: (-one[1], one[0]))
    return [FieldValue(text, count, equality(name, text)) for text, count in found[:limit]]


def _metadata_values(
    generation: Generation, name: str, keys: Sequence[str], containing: str, limit: int
) -> Iterator[FieldValue]:
    columns = ("kind", "text", "whole", "real")
    table = generation.read(VALUES, columns, pc.field("key").isin(list(keys)))
    counts: Counter[tuple[int, str]] = Counter()
    numbers: dict[tuple[int, str], int | float] = {}
    for kind, text, whole, real in zip(*(table[one].to_pylist() for one in columns), strict=True):
        if kind == Kind.OBJECT or not _contains(text, containing):
            continue
        counts[kind, text] += 1
        number = real if whole is None else whole
        if number is not None:
            numbers[kind, text] = max(number, numbers.get((kind, text), number))
    order = sorted(counts.items(), key=lambda one: (-one[1], one[0][1], one[0][0]))
    for (kind, text), count in order[:limit]:
        is_other = kind == Kind.NUMBER and read_number(text) is None
        written = decimal_text(float(numbers[kind, text])) if is_other else text
        yield FieldValue(text, count, equality(name, written) if written else "")


def _contains(text: str, part: str) -> bool:
    return not part or part.translate(_LOWER) in text.translate(_LOWER)
