"""Pieces of SQL with their parameters."""

from typing import NamedTuple

Parameter = str | int | float


class Sql(NamedTuple):
    """A piece of SQL, and the values of its marks in order."""

    text: str
    parameters: tuple[Parameter, ...] = ()
