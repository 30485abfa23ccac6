"""Test queries and what they should find: BEIR and TREC files, or one JSON object a line."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.errors import InvalidArgument
from retrieval.eval.sets.files import Line, read_lines
from retrieval.eval.sets.judgements import read_judgements
from retrieval.eval.wording import counted, named

QUERIES_NAME: Final = "queries.jsonl"
"""In a folder in BEIR form."""


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A query, and what it should find."""

    id: str
    text: str
    documents: Mapping[str, int]
    """Name of a document (see ``matching``) → how relevant it is, above 0: 1, or a
    higher grade."""
    passages: Mapping[str, int]
    """Text that is in the wanted passage, or that it is in → how relevant it is."""

    __test__ = False  # not a class of tests


@dataclass(frozen=True, slots=True)
class TestSet:
    """The queries that have something to find, and what was left out."""

    queries: list[TestQuery]
    """In the file's order."""
    file: Path
    """The file that they are in."""
    qrels: Path | None
    """The file of judgements; None: they are beside the queries."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know, a sentence each."""

    __test__ = False


def load_queries(path: Path, qrels: Path | None = None) -> list[TestQuery]:
    """Read test queries that have something to find; see ``load_test_set``."""
    return load_test_set(path, qrels).queries


def load_test_set(path: Path, qrels: Path | None = None) -> TestSet:
    """Read test queries that have something to find.

    Args:
        path: a folder in BEIR form (``queries.jsonl``, ``qrels/test.tsv``); a file of queries,
            which needs ``qrels``: BEIR's JSON lines, or lines of an id, a tab and the text; or JSON
            lines ``{"query": …, "document": …}`` and ``{"query": …, "passage": …}``, either of them
            one text or a list.
        qrels: judgements; see ``retrieval.eval.sets.judgements``.

    Raises:
        InvalidArgument: a file that can't be read, is in none of these forms, or judges nothing.
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
    """The judgements of a folder in BEIR form."""
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
        raise InvalidArgument(
            f'{line.where}: it needs a "document" or a "passage" that is to be found'
        )
    identifier = _identifier(record, ("id",), line)
    # A passage says more: where both are given, it is what must be found.
    query = TestQuery(
        str(line.number) if identifier is None else identifier,
        text,
        {} if passages else documents,
        passages,
    )
    return query, line


def _judged(path: Path, qrels: Path) -> TestSet:
    """Queries with the judgements of another file; those without any are left out."""
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
    """A query that is judged elsewhere."""
    if line.text.lstrip().startswith("{"):
        record = line.as_object()
        identifier = _identifier(record, ("_id", "id"), line)
        text = record.get("text")
    else:
        identifier, _, text = (one.strip() for one in line.text.partition("\t"))
    if not identifier or text in (None, ""):
        raise InvalidArgument(f"{line.where}: neither JSON with _id and text, nor id, tab and text")
    return TestQuery(identifier, _text(text, f"{line.where}: the text"), {}, {}), line


def _distinct(
    found: Iterable[tuple[TestQuery, Line]],
) -> tuple[list[TestQuery], tuple[str, ...]]:
    """Queries without exact repeats, and a note that counts these.

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
    """The first field that is there, as text; None: there is none."""
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
        # JSON can spell half of a surrogate pair, which is no character.
        raise InvalidArgument(f"{where} is not valid Unicode: {error.reason}") from error
    return value.strip()
