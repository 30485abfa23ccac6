"""Test queries and what they should find: BEIR and TREC files, or one JSON object a line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retrieval.errors import InvalidArgument

MAX_BYTES: Final = 1 << 30
"""Of a file."""


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A query, and what it should find."""

    id: str
    text: str
    documents: Mapping[str, int]
    """Name of a document → how relevant it is, above 0: 1, or a higher grade. Names are URIs, paths
    within their root, with or without extension, or file names without it."""
    passages: Mapping[str, int]
    """Text that is in the wanted passage, or that it is in → how relevant it is."""

    __test__ = False  # not a class of tests


def load_queries(path: Path, qrels: Path | None = None) -> list[TestQuery]:
    """Read test queries that have something to find.

    Args:
        path: a folder in BEIR form (``queries.jsonl``, ``qrels/test.tsv``); a file of queries,
            which needs ``qrels``: BEIR's JSON lines, or lines of an id, a tab and the text; or JSON
            lines ``{"query": …, "document": …}`` and ``{"query": …, "passage": …}``, either of them
            one text or a list.
        qrels: judgements: TREC's four columns (query, iteration, document, grade), or BEIR's three
            under a heading.

    Returns:
        the queries in the file's order.

    Raises:
        InvalidArgument: a file that can't be read, is in none of these forms, or judges nothing.
    """
    if path.is_dir():
        return _judged(path / "queries.jsonl", qrels or path / "qrels" / "test.tsv")
    if qrels is not None:
        return _judged(path, qrels)
    queries = [
        _from_json(number, line, path)
        for number, line in enumerate(_lines(path), start=1)
        if line.strip()
    ]
    if not queries:
        raise InvalidArgument(f"{path} has no queries")
    return queries


def load_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements of the documents that queries should find.

    Args:
        path: TREC's four columns (query, iteration, document, grade), or BEIR's three under a
            heading.

    Returns:
        query id → document → grade, of those above 0.

    Raises:
        InvalidArgument: the file can't be read, or a line is no judgement.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), start=1):
        columns = line.split("\t") if "\t" in line else line.split()
        if not columns or (number == 1 and not columns[-1].lstrip("-").isdigit()):
            continue  # BEIR's heading
        if len(columns) not in (3, 4) or not columns[-1].lstrip("-").isdigit():
            raise InvalidArgument(f"{path}, line {number}: not a judgement: {line[:80]!r}")
        grade = int(columns[-1])
        if grade > 0:
            grades.setdefault(columns[0], {})[columns[-2]] = grade
    return grades


def _from_json(number: int, line: str, path: Path) -> TestQuery:
    where = f"{path}, line {number}"
    record = _object(line, where)
    text = record.get("query")
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgument(f'{where}: "query" must be a text; give --qrels for files without')
    documents, passages = (
        dict.fromkeys(_texts(record.get(field), f'{where}: "{field}"'), 1)
        for field in ("document", "passage")
    )
    if not documents and not passages:
        raise InvalidArgument(f'{where}: it needs a "document" or a "passage" that is to be found')
    # A passage says more: where both are given, it is what must be found.
    return TestQuery(str(record.get("id", number)), text, {} if passages else documents, passages)


def _texts(value: object, where: str) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) and one.strip() for one in values):
        raise InvalidArgument(f"{where} must be a text or a list of texts")
    return [str(one) for one in values]


def _judged(path: Path, qrels: Path) -> list[TestQuery]:
    """Queries with the judgements of another file; those without any are left out."""
    grades = load_judgements(qrels)
    queries = [
        TestQuery(identifier, text, grades[identifier], {})
        for identifier, text in _texts_by_id(path)
        if grades.get(identifier)
    ]
    if not queries:
        raise InvalidArgument(f"no query of {path} has a relevant document in {qrels}")
    return queries


def _texts_by_id(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if line.lstrip().startswith("{"):
            record = _object(line, where)
            identifier, text = record.get("_id", record.get("id")), record.get("text")
        else:
            identifier, _, text = line.partition("\t")
        if identifier in (None, "") or not isinstance(text, str) or not text.strip():
            raise InvalidArgument(f"{where}: neither JSON with _id and text, nor id, tab and text")
        yield str(identifier), text.strip()


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InvalidArgument(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InvalidArgument(f"{where}: not a JSON object")
    return record


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidArgument(f"{path} has more than {MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"can't read {path}: {error}") from error
