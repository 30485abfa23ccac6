"""Filters put together in Python, or translated from dictionaries, in place of texts."""

from retrieval.client.filters.dictionaries import filter_from_dict
from retrieval.client.filters.expressions import (
    F,
    FilterExpression,
    FilterLike,
    FilterValue,
    all_of,
    any_of,
    filter_text,
)

__all__ = [
    "F",
    "FilterExpression",
    "FilterLike",
    "FilterValue",
    "all_of",
    "any_of",
    "filter_from_dict",
    "filter_text",
]
