"""What is known to be right of a corpus's files, and how far an extracted document agrees."""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.domain.records import Document

BESIDE = (".expected.md", ".expected.txt")
"""Ends of the names of references that lie beside their files, as in ``report.pdf.expected.md``."""

_WORD = re.compile(r"[^\W_]+")
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_LINK = re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>|!\[[^\]]*\]\([^)]*\)")
"""Targets of Markdown's links and pictures, which are not text of a document."""


@dataclass(frozen=True)
class Reference:
    """What is right of one file; None where it is not known."""

    titles: Sequence[str] | None = None
    """Titles of which each is right."""
    headings: Sequence[str] | None = None
    """All headings in order."""
    text: str | None = None
    absent: Sequence[str] | None = None
    """Texts that a reader does not take for a part of the document, such as navigation."""


def load_references(folder: Path, listed: Path | None) -> dict[str, Reference]:
    """Return the references of a corpus, by path relative to its folder.

    Args:
        folder: the corpus; references may lie beside its files (see ``BESIDE``).
        listed: file of JSON lines with the keys ``path`` and, where known, ``title`` (a text, or a
            list of which each is right), ``headings``, ``text`` and ``absent``.
    """
    references = {}
    for end in BESIDE:
        for path in folder.rglob("*" + end):
            name = str(path.relative_to(folder)).removesuffix(end)
            references[name] = _of_text(path.read_text(), is_markdown=end.endswith(".md"))
    if listed is not None:
        for line in listed.read_text().splitlines():
            record = json.loads(line)
            references[record["path"]] = _of_record(record)
    return references


def _of_record(record: Mapping[str, Any]) -> Reference:
    title = record.get("title")
    titles = [title] if isinstance(title, str) else title
    return Reference(titles, record.get("headings"), record.get("text"), record.get("absent"))


def _of_text(text: str, *, is_markdown: bool) -> Reference:
    if not is_markdown:
        return Reference(text=text)
    found = _HEADING.findall(text)
    titles = [title for marks, title in found if len(marks) == 1][:1]
    return Reference(titles or None, [title for _, title in found] or None, plain(text))


def plain(markdown: str) -> str:
    """Return Markdown without the targets of its links."""
    return _LINK.sub("] ", markdown)


def words(text: str) -> Counter[str]:
    """Count the words, which are runs of letters and digits in lower case."""
    return Counter(_WORD.findall(text.lower()))


def recall(reference: Counter[str], found: Counter[str]) -> float:
    """Return the share of a reference's words that were found; each as often as it occurs."""
    return (reference & found).total() / max(1, reference.total())


def is_same(one: str, other: str) -> bool:
    """Whether two titles or headings have the same words."""
    return _WORD.findall(one.lower()) == _WORD.findall(other.lower())


def headings_of(document: Document) -> list[str]:
    """Return the headings of a document in order."""
    return [part.heading_path[-1] for part in document.sections if part.heading_path]


def headings_agree(expected: Sequence[str], found: Sequence[str]) -> float:
    """Return F1 of the headings: the harmonic mean of their precision and recall."""
    one, other = (
        Counter(" ".join(_WORD.findall(h.lower())) for h in hs) for hs in (expected, found)
    )
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def order_agrees(expected: str, found: str) -> float:
    """Return the largest share of the words that occur once in both and come in the same order."""
    one, other = (_WORD.findall(text.lower()) for text in (expected, found))
    once = {word for word, count in Counter(one).items() if count == 1}
    once &= {word for word, count in Counter(other).items() if count == 1}
    place = {word: number for number, word in enumerate(word for word in one if word in once)}
    ends: list[int] = []  # smallest last place of an increasing run of each length
    for word in other:
        if word in once:
            at = bisect_left(ends, place[word])
            ends[at : at + 1] = [place[word]]
    return len(ends) / max(1, len(once))
