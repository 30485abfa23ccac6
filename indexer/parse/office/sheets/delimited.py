"""Delimited tables, CSV and TSV: a line for each row."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from indexer.decoding.decode import decode
from indexer.decoding.decompress import without_compression
from indexer.parse.base.compose import Composer
from indexer.parse.office.sheets.table_lines import add_rows
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_DELIMITERS: Final = ",;\t|"
_SNIFFED_LINES: Final = 50
"""Number of rows that the delimiter is guessed from."""
_SNIFFED_CHARS: Final = 64_000
"""Maximum number of characters that the delimiter is guessed from, in case rows are long."""
_SEPARATOR_LINE: Final = re.compile(r"\s*+\"?sep=([^\w\s\"]|\t)\"?[^\S\n]*+(?:\r\n?|\n|$)", re.I)
"""A first line that tells Excel the delimiter; it is no row of the table."""


def parse_delimited(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a CSV file (RFC 4180, or with another delimiter) or a TSV file.

    Raises:
        SkipDocument: the data is binary, or not a table.
    """
    source, encoding = decode(data, encoding)
    composer = Composer()
    # The limit is that of the whole process: never lower it for others.
    csv.field_size_limit(max(csv.field_size_limit(), len(source) + 1))
    with parser_errors_as_damage():
        if match := _SEPARATOR_LINE.match(source):
            rows = _read(source[match.end() :], match[1])
        else:
            rows = _read(source, _delimiter(uri, source))
        add_rows(composer, rows)
    return composer.document(uri, "table", encoding=encoding)


def _delimiter(uri: str, source: str) -> str:
    """Return the delimiter that splits most of the first rows into the same number of values."""
    if PurePosixPath(without_compression(uri.lower())).suffix == ".tsv":
        return "\t"
    best, found = (0.0, 0), ","
    for delimiter in _DELIMITERS:
        rows = _read(source[:_SNIFFED_CHARS], delimiter)
        widths = Counter(len(row) for row in islice(rows, _SNIFFED_LINES) if row)
        total = widths.total()
        del widths[1]  # titles above the table
        if widths:
            width, count = widths.most_common(1)[0]
            score = (count / total, width)
            if score > best:
                best, found = score, delimiter
    return found


def _read(source: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(source, newline=""), delimiter=delimiter)
