"""Documents in a database as columns, for the evaluator of the store on Lance tables."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.store.lake.filtering import VALUE_COLUMNS, passing
from retrieval.store.lake.tables.schema import DOCUMENTS, SCHEMAS, VALUES

__all__ = ["InColumns", "passing"]


class InColumns:
    """Documents in order of their ids."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Read from the tables of an index on disk."""
        self._database = database

    @property
    def ids(self) -> NDArray[np.int64]:
        """See ``Documents``."""
        return np.array([row[0] for row in self._rows("SELECT id FROM documents ORDER BY id")])

    def column(self, name: str) -> Any:
        """See ``Documents``."""
        rows = self._rows(f"SELECT {name} FROM documents ORDER BY id")
        return pa.array([row[0] for row in rows], SCHEMAS[DOCUMENTS].field(name).type)

    def values(self, keys: Sequence[str]) -> Any:
        """See ``Documents``."""
        rows = self._rows("SELECT document_id, kind, text, number, key FROM metadata_values")
        found = [
            {
                **dict(zip(VALUE_COLUMNS[:3], row[:3], strict=True)),
                "whole": row[3] if isinstance(row[3], int) else None,
                "real": row[3] if isinstance(row[3], float) else None,
            }
            for row in rows
            if row[4] in keys
        ]
        schema = pa.schema([SCHEMAS[VALUES].field(name) for name in VALUE_COLUMNS])
        return pa.Table.from_pylist(found, schema=schema)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._database.execute(query).fetchall()
