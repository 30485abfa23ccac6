"""Test queries and what they should find, from BEIR and TREC files or from JSON lines."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.domain.wording import counted, named
from retrieval.errors import InvalidArgument
from retrieval.eval.sets.judgements import read_judgements
from retrieval.eval.sets.line_files import Line, read_lines

QUERIES_NAME: Final = "queries.jsonl"
"""Name of the file of queries in a folder in BEIR form."""


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A query, and what it should find."""

    id: str
    text: str
    documents: Mapping[str, int]
    """Grade of each relevant document by its name (see ``matching``): 1 or higher."""
    passages: Mapping[str, int]
    """Grade of each relevant passage by a text that contains it or that it contains."""

    __test__ = False  # not a class of tests


@dataclass(frozen=True, slots=True)
class TestSet:
    """Test queries that have something to find, and remarks on what was left out."""

    queries: list[TestQuery]
    """Queries in the file's order."""
    file: Path
    """File of the queries."""
    qrels: Path | None
    """File of the judgements; None if they are beside the queries."""
    notes: tuple[str, ...] = ()
    """Remarks on the set, one sentence each."""

    __test__ = False


def load_queries(path: Path, qrels: Path | None = None) -> list[TestQuery]:
    """Return the queries of ``load_test_set``."""
    return load_test_set(path, qrels).queries


def load_test_set(path: Path, qrels: Path | None = None) -> TestSet:
    """Read test queries that have something to find.

    Args:
        path: one of: a folder in BEIR form (``queries.jsonl``, ``qrels/test.tsv``); a file of
            queries with ``qrels``, in BEIR's JSON lines or as lines of id, tab and text; or JSON
            lines ``{"query": …, "document": …}`` or ``{"query": …, "passage": …}``, whose
            document or passage is one text or a list.
        qrels: judgements; see ``retrieval.eval.sets.judgements``.

    Raises:
        InvalidArgument: a file can't be read, is in none of these forms, or judges nothing.
    """
    if path.is_dir():
        return _judged(path / QUERIES_NAME, qrels or _qrels_of(path))
    if qrels is not None:
        return _judged(path, qrels)
    queries, notes = _distinct(_from_json(line) for line in read_lines(path))
    if not queries:
        raise InvalidArgument(f"{path} has no queries")
    return TestSet(queries, path, None, notes)


def _qrels_of(folder: Path) -> Path:
    """Return the file of judgements in a folder in BEIR form."""
    path = folder / "qrels" / "test.tsv"
    if path.exists():
        return path
    others = sorted(other.name for other in path.parent.glob("*.tsv"))
    there = f"; {path.parent} has {named(others)}: choose with --qrels" if others else ""
    raise InvalidArgument(f"can't read {path}: no such file{there}")


def _from_json(line: Line) -> tuple[TestQuery, Line]:
    record = line.as_object()
    if "query" not in record:
        raise InvalidArgument(f'{line.where}: "query" is missing; give --qrels for files without')
    text = _text(record["query"], f'{line.where}: "query"')
    documents, passages = (
        dict.fromkeys(_texts(record.get(field), f'{line.where}: "{field}"'), 1)
        for field in ("document", "passage")
    )
    if not documents and not passages:
        raise InvalidArgument(f'{line.where}: it needs a "document" or a "passage" to find')
    identifier = _identifier(record, ("id",), line)
    # If both are given the passage counts, because it is the more precise.
    query = TestQuery(
        str(line.number) if identifier is None else identifier,
        text,
        {} if passages else documents,
        passages,
    )
    return query, line


def _judged(path: Path, qrels: Path) -> TestSet:
    """Read queries with the judgements of another file; leave out those without any."""
    queries, notes = _distinct(_with_text(line) for line in read_lines(path))
    if not queries:
        raise InvalidArgument(f"{path} has no queries")
    judgements = read_judgements(qrels)
    grades = judgements.grades
    asked = [
        TestQuery(query.id, query.text, grades[query.id], {})
        for query in queries
        if query.id in grades
    ]
    if not asked:
        raise InvalidArgument(f"no query of {path} has a relevant document in {qrels}")
    left_out = []
    if less := len(queries) - len(asked):
        verb = "has" if less == 1 else "have"
        left_out.append(
            f"{less} of {counted(len(queries), 'query', 'queries')} {verb} no relevant document in "
            f"{qrels} and {'is' if less == 1 else 'are'} not asked"
        )
    texts = {query.id for query in queries}
    if unknown := [query for query in grades if query not in texts]:
        left_out.append(
            f"{qrels} judges {counted(len(unknown), 'query', 'queries')} that {path.name} does not "
            f"have: {named(unknown)}"
        )
    return TestSet(asked, path, qrels, (*notes, *judgements.notes, *left_out))


def _with_text(line: Line) -> tuple[TestQuery, Line]:
    """Read a query whose judgements are in another file."""
    if line.text.lstrip().startswith("{"):
        record = line.as_object()
        identifier = _identifier(record, ("_id", "id"), line)
        text = record.get("text")
    else:
        identifier, _, text = (one.strip() for one in line.text.partition("\t"))
    if not identifier or text in (None, ""):
        raise InvalidArgument(f"{line.where}: not JSON with _id and text, nor id, tab and text")
    return TestQuery(identifier, _text(text, f"{line.where}: the text"), {}, {}), line


def _distinct(
    found: Iterable[tuple[TestQuery, Line]],
) -> tuple[list[TestQuery], tuple[str, ...]]:
    """Return the queries without exact repeats, and a note with the number of repeats.

    Raises:
        InvalidArgument: two different queries have one id.
    """
    queries: dict[str, tuple[TestQuery, Line]] = {}
    repeated = 0
    for query, line in found:
        earlier, there = queries.setdefault(query.id, (query, line))
        if there is line:
            continue
        if earlier != query:
            raise InvalidArgument(
                f"{line.where}: another query with the id {query.id!r} is on line {there.number}"
            )
        repeated += 1
    notes = [f"{counted(repeated, 'repeated query', 'repeated queries')} left out"] * bool(repeated)
    return [query for query, _ in queries.values()], tuple(notes)


def _identifier(record: Mapping[str, object], fields: tuple[str, ...], line: Line) -> str | None:
    """Return the first of the fields that the record has, as text, or None."""
    value = next((record[field] for field in fields if record.get(field) is not None), None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InvalidArgument(f'{line.where}: "{fields[0]}" must be a text or a whole number')
    return _text(str(value), f'{line.where}: "{fields[0]}"')


def _texts(value: object, where: str) -> Iterator[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) and one.strip() for one in values):
        raise InvalidArgument(f"{where} must be a text or a list of texts")
    return (_text(one, where) for one in values)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument(f"{where} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which is not a character.
        raise InvalidArgument(f"{where} is not valid Unicode: {error.reason}") from error
    return value.strip()
