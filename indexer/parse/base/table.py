"""Rows of tables as lines of text that say what each value is."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

_LOOK_AHEAD: Final = 20
"""Rows that are looked at to tell whether the first names the columns."""


def table_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row that has any text.

    Where the first row names the columns, the others are ``name: value | name: value``, so that a
    line is understood without the first; else, and in the first row, values are set apart by bars.
    Empty values are left out where there are names, and rows without any value everywhere.

    Args:
        rows: values of each row; rows may differ in length.
    """
    filled = (row for row in (_tidy(row) for row in rows) if any(row))
    first = list(islice(filled, _LOOK_AHEAD))
    names = first[0] if first and _are_names(first[0], first[1:]) else []
    if names:
        yield " | ".join(name for name in names if name)
    for row in chain(first[bool(names) :], filled):
        yield _line(names, row)


def _tidy(row: Sequence[str]) -> list[str]:
    """Values on one line each, without the empty ones at the end."""
    values = [" ".join(value.split()) for value in row]
    while values and not values[-1]:
        values.pop()
    return values


def _are_names(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a first row plainly names what is below it: each name once, none a number."""
    names = [name for name in row if name]
    return (
        len(names) > 1
        and len(set(names)) == len(names)
        and not any(_is_number(name) for name in names)
        and len(below) > 0
        and max(map(len, below)) <= len(row)
        and not all(len(name) > _LONGEST_NAME for name in names)
    )


_LONGEST_NAME: Final = 80


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _line(names: Sequence[str], row: Sequence[str]) -> str:
    if not names:
        return " | ".join(row)
    named = (
        f"{name}: {value}" if name else value
        for name, value in zip(chain(names, [""] * len(row)), row, strict=False)
        if value
    )
    return " | ".join(named)
