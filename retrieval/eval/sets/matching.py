"""Matching of the names in judgements with the documents of an index.

A document has names of several kinds, in this order: URI, path, record id, path without extension,
file name without extension. A wanted name means the documents that have it as a name of the first
kind for which there are any.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

from retrieval.domain.wording import counted, named
from retrieval.errors import InvalidArgument

RECORD_ID_FIELDS: Final = ("_id", "id", "doc_id", "docid", "docno")
"""Metadata fields that may hold a document's id in its collection; the first one counts."""

NAME_KINDS: Final = (
    "URI",
    "path",
    "record id",
    "path without extension",
    "file name without extension",
)
"""In order of precedence."""

_NUMBERED_RECORD: Final = re.compile(
    r".*\.(?:jsonl|ndjson)(?:\.[a-z0-9]+)?/[0-9]+\.json", re.DOTALL | re.IGNORECASE
)
"""URI of a record in a file of JSON lines that is named after its line number."""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document of an index, as far as matching needs it."""

    id: int
    uri: str
    title: str
    metadata: Mapping[str, object]

    @property
    def record_id(self) -> str:
        """The document's id in its original collection; empty if it has none."""
        values = (_as_id(self.metadata.get(field)) for field in RECORD_ID_FIELDS)
        return next(filter(None, values), "")

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, name) in order of precedence; a name may come twice."""
        path = self.uri.partition("/")[2] or self.uri
        yield "URI", self.uri
        yield "path", path
        if record_id := self.record_id:
            yield "record id", record_id
            if _NUMBERED_RECORD.fullmatch(self.uri):
                return  # The line's number is not a name; another record may have it as its id.
        for name in (self.uri, path):
            yield "path without extension", str(PurePosixPath(name).with_suffix(""))
        stem = PurePosixPath(path).stem
        yield "file name without extension", stem
        yield "file name without extension", unquote(stem)


@dataclass(frozen=True, slots=True)
class Matching:
    """Wanted names, and the documents that they mean."""

    documents: Mapping[str, tuple[IndexedDocument, ...]]
    """Documents by wanted name, without the names that no document has."""
    kinds: Mapping[str, int]
    """Number of wanted names found as each kind of name, in order of precedence."""
    missing: tuple[str, ...]
    """Wanted names that no document of the index has."""
    test_queries: int = 0
    """Number of documents in the index that are test queries themselves."""

    @property
    def several(self) -> tuple[str, ...]:
        """Wanted names that several documents have."""
        return tuple(name for name, found in self.documents.items() if len(found) > 1)

    @property
    def wanted(self) -> int:
        """Number of wanted names."""
        return len(self.documents) + len(self.missing)

    def notes(self) -> list[str]:
        """Return remarks on the matching, one sentence each."""
        notes = []
        if self.test_queries:
            what = (
                "1 document of this index is a test query itself, and takes the place of another"
                if self.test_queries == 1
                else f"{self.test_queries} documents of this index are the test queries "
                "themselves, and take the places of others"
            )
            notes.append(f"{what}: build the index from the corpus alone")
        if self.missing:
            notes.append(
                f"{len(self.missing)} of {counted(self.wanted, 'wanted document')} "
                f"{'is' if len(self.missing) == 1 else 'are'} not in this index, and "
                f"{'counts' if len(self.missing) == 1 else 'count'} as not found: "
                f"{named(self.missing)}"
            )
        if several := self.several:
            first = several[0]
            uris = named([document.uri for document in self.documents[first]])
            notes.append(
                f"{len(several)} of {counted(self.wanted, 'wanted document')} "
                f"{'means' if len(several) == 1 else 'mean'} several documents of this index, and "
                f"the best of them counts, once: {first} is {uris}"
            )
        return notes


def match_names(
    wanted: Collection[str], documents: Iterable[IndexedDocument], *, queries_name: str = ""
) -> Matching:
    """Find the documents that wanted names mean.

    Args:
        wanted: names in the judgements; may be empty.
        documents: all documents of the index.
        queries_name: name of the file of test queries. If records of that file were indexed with
            the corpus they are ignored, because their ids are those of queries.

    Raises:
        InvalidArgument: the index has none of the wanted documents.
    """
    names = dict.fromkeys(wanted)
    best: dict[str, tuple[int, list[IndexedDocument]]] = {}
    example: IndexedDocument | None = None
    test_queries = 0
    for document in documents:
        if queries_name and f"/{queries_name}/" in f"/{document.uri}":
            test_queries += 1
            continue
        example = example or document
        for name, kind in _first_kinds(document).items():
            if name not in names:
                continue
            place, found = best.setdefault(name, (kind, []))
            if kind < place:
                best[name] = (kind, [document])
            elif kind == place:
                found.append(document)
    matching = Matching(
        {name: tuple(best[name][1]) for name in names if name in best},
        {
            label: count
            for kind, label in enumerate(NAME_KINDS)
            if (count := sum(place == kind for place, _ in best.values()))
        },
        tuple(name for name in names if name not in best),
        test_queries,
    )
    if names and not matching.documents:
        raise _nothing_matches(matching, example)
    return matching


def _first_kinds(document: IndexedDocument) -> dict[str, int]:
    """Return each name of a document with its first kind, as a place in ``NAME_KINDS``."""
    kinds: dict[str, int] = {}
    for kind, name in document.names():
        kinds.setdefault(name, NAME_KINDS.index(kind))
    return kinds


def _as_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _nothing_matches(matching: Matching, example: IndexedDocument | None) -> InvalidArgument:
    if example is None:
        there = "it has no documents"
    else:
        record_id = f" (record id {example.record_id})" if example.record_id else ""
        there = f"it has documents such as {example.uri}{record_id}"
    asked = counted(matching.wanted, "wanted document")
    return InvalidArgument(
        f"none of {asked} is in this index: {there}, and the judgements name "
        f"{named(matching.missing)}; build the index from the documents that were judged"
    )
