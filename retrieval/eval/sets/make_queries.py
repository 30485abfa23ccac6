"""Test queries made from an index's own documents: their titles, headings and questions.

These are easier than the queries that people ask, because their words occur in the text. They show
which of two settings is better, and which queries find nothing. They don't show how good a search
is for its users.
"""

import re
from collections.abc import Iterator
from typing import Final

from retrieval.domain.passages import Passage
from retrieval.store import Reader

_QUESTION: Final = re.compile(r"(?:^|(?<=[.!?:]\s)|(?<=\n))([A-Z\"'“][^.!?\n]{10,200}\?)")
_MIN_WORDS: Final = 2
"""Words of a query; a single word is too often the topic of many documents."""
_ANSWER_CHARS: Final = 300
"""Characters of a passage that identify it: two or three sentences."""
_PER_QUERY: Final = 4
"""Passages that are sampled for each query, because many have no new heading or question."""


def make_queries(reader: Reader, count: int) -> Iterator[dict[str, str]]:
    """Make up to ``count`` distinct queries, spread over the documents.

    Args:
        reader: the index.
        count: maximum number of queries.

    Yields:
        ``query``, ``source`` (``question``, ``heading`` or ``title``), the ``document``'s URI, and,
        except for titles, text of the ``passage``; see ``retrieval.eval.sets.queries``.
    """
    made: set[str] = set()
    for document_id, ordinal in reader.sample_places(_PER_QUERY * count):
        if len(made) >= count:
            return
        passage = reader.passage(document_id, ordinal)
        for query, source in _candidates(passage):
            text = " ".join(query.split()).strip("# *_`")
            if len(text.split()) < _MIN_WORDS or text.casefold() in made:
                continue
            made.add(text.casefold())
            record = {"query": text, "source": source, "document": passage.uri}
            if source != "title" and (answer := _without(passage.text, query)):
                record["passage"] = answer
            yield record
            break


def _candidates(passage: Passage) -> Iterator[tuple[str, str]]:
    """Yield queries that this passage answers, best first, and their sources."""
    for match in _QUESTION.finditer(passage.text):
        yield match.group(1), "question"
    if passage.heading_path and passage.heading_path[-1] != passage.title:
        yield passage.heading_path[-1], "heading"
    if passage.ordinal == 0:
        yield passage.title, "title"


def _without(text: str, query: str) -> str:
    """Return the longer of the parts before and after a query, shortened: it tells the answer."""
    before, _, after = text.partition(query)
    return max(before.strip(), after.strip(), key=len)[:_ANSWER_CHARS].strip()
