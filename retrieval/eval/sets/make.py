"""A first test set, from the documents themselves: titles, headings, questions.

Such queries are easier than those that people ask, as their words are in the text. They tell
whether one setting is better than another, and where nothing is found at all; not how good a search
is.
"""

import re
from collections.abc import Iterator
from typing import Final

from retrieval.domain.passages import Passage
from retrieval.store import IndexReader

_QUESTION: Final = re.compile(r"(?:^|(?<=[.!?:]\s)|(?<=\n))([A-Z\"'“][^.!?\n]{10,200}\?)")
_MIN_WORDS: Final = 2
_ANSWER_CHARS: Final = 300
_PER_QUERY: Final = 4
"""Passages that are looked at for each query that is wanted."""


def make_queries(reader: IndexReader, count: int) -> Iterator[dict[str, str]]:
    """Make up to so many queries, spread over the documents; of no text two.

    Args:
        reader: the index.
        count: how many, at most.

    Yields:
        ``query``, ``source`` (``question``, ``heading`` or ``title``), the ``document``'s URI, and
        but for titles some text of the ``passage``; see ``retrieval.eval.sets.queries``.
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
    """What could be asked so that this passage is the answer, the best first."""
    for match in _QUESTION.finditer(passage.text):
        yield match.group(1), "question"
    if passage.heading_path and passage.heading_path[-1] != passage.title:
        yield passage.heading_path[-1], "heading"
    if passage.ordinal == 0:
        yield passage.title, "title"


def _without(text: str, query: str) -> str:
    """The longer part of a text beside a query, cut short: what the answer can be known by."""
    before, _, after = text.partition(query)
    return max(before.strip(), after.strip(), key=len)[:_ANSWER_CHARS].strip()
