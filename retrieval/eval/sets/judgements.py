"""Judgements (qrels): the documents that each query should find, in TREC or BEIR form."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.domain.wording import counted, named
from retrieval.errors import InvalidArgument
from retrieval.eval.sets.line_files import Line, read_lines

MAX_GRADE: Final = 1_000
"""Highest grade that is accepted. Real ones are single digits. trec_eval, which computes the
measures, keeps a table with a row for each grade up to the highest, and crashes on very large ones.
"""

_GRADE: Final = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_COLUMNS: Final = (3, 4)
"""Numbers of columns: BEIR has 3, TREC has 4."""
_HEADINGS: Final = frozenset(
    ("score", "grade", "relevance", "relevancy", "rel", "label", "judgment", "judgement", "rating")
)
"""Names of the last column in a heading."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """Content of a file of judgements."""

    grades: dict[str, dict[str, int]]
    """Grades above 0, by query id and document."""
    notes: tuple[str, ...]
    """Remarks on the file, one sentence each."""


def read_judgements(path: Path) -> Judgements:
    """Read judgements of the documents that queries should find.

    Columns are separated by tabs, or by white space if the line has no tab. A grade of 0 or less
    means that the document is not relevant. If two lines disagree, the higher grade counts.

    Args:
        path: file with TREC's four columns (query, iteration, document, grade) or BEIR's three
            (query, document, grade), with or without a heading.

    Raises:
        InvalidArgument: the file can't be read, or a line is not a judgement.
    """
    grades: dict[str, dict[str, int]] = {}
    repeated: list[str] = []
    contradicting: list[str] = []
    begun = False
    for line in read_lines(path):
        columns = [one.strip() for one in line.text.split("\t")]
        if len(columns) == 1:
            columns = line.text.split()
        is_first, begun = not begun, True
        if is_first and len(columns) in _COLUMNS and columns[-1].lower() in _HEADINGS:
            continue
        query, document, grade = _judgement(columns, line)
        of_query = grades.setdefault(query, {})
        if document in of_query:
            (repeated if of_query[document] == grade else contradicting).append(str(line.number))
        of_query[document] = max(grade, of_query.get(document, grade))
    relevant = {
        query: {document: grade for document, grade in of_query.items() if grade > 0}
        for query, of_query in grades.items()
    }
    return Judgements(
        {query: of_query for query, of_query in relevant.items() if of_query},
        (
            *_note(path, repeated, "repeats a judgement", "repeat judgements", ""),
            *_note(
                path,
                contradicting,
                "contradicts an earlier one",
                "contradict earlier ones",
                "; the higher grade counts",
            ),
        ),
    )


def load_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Return the grades of ``read_judgements``."""
    return read_judgements(path).grades


def _judgement(columns: list[str], line: Line) -> tuple[str, str, int]:
    problem = f"{line.where}: not a judgement: {line.text[:80]!r}"
    if len(columns) not in _COLUMNS:
        raise InvalidArgument(
            f"{problem}: it has {counted(len(columns), 'column')}; "
            "it needs query, document and grade, or query, iteration, document and grade"
        )
    query, document, grade = columns[0], columns[-2], columns[-1]
    if not query or not document:
        raise InvalidArgument(f"{problem}: the query or the document is empty")
    if not _GRADE.fullmatch(grade):
        raise InvalidArgument(f"{problem}: the grade must be a whole number, not {grade[:40]!r}")
    value = int(grade.partition(".")[0])
    if value > MAX_GRADE:
        raise InvalidArgument(f"{problem}: the grade must be at most {MAX_GRADE}")
    return query, document, value


def _note(path: Path, lines: list[str], one: str, many: str, end: str) -> list[str]:
    if not lines:
        return []
    does = one if len(lines) == 1 else many
    which = "line" if len(lines) == 1 else "lines"
    return [f"{path}: {counted(len(lines), 'line')} {does} ({which} {named(lines)}){end}"]
