"""The documents of a collection, their passages, their fields, and the files without one."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from retrieval.domain.passages import Passage
from retrieval.domain.records import (
    CharRange,
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    Skipped,
    TextPart,
    TextRange,
)
from retrieval.domain.resource_names import DocumentName, DocumentUri, PassageName
from retrieval.domain.search_options import MAX_K
from retrieval.errors import InvalidArgument
from retrieval.search import filter_warnings
from retrieval.service.collections.open_collections import Collections, OpenCollection
from retrieval.service.config import Limits
from retrieval.service.engine.bounds import DEFAULT_PAGE_SIZE
from retrieval.service.engine.calls import Call
from retrieval.service.page_tokens import PageScope, page_size
from retrieval.service.scheduling.pools import Pools
from retrieval.store import parse_filter
from retrieval.store.api import Reader


class FoundDocument(NamedTuple):
    """A document of one generation."""

    row: DocumentRow
    part: TextPart | None
    """The text that was asked for; None if none was."""
    generation: int


class DocumentPage(NamedTuple):
    """Some documents of one generation, by URI."""

    documents: list[DocumentRow]
    next_page_token: str
    generation: int
    total: DocumentCounts | None
    """Numbers of the documents on all pages; None if they were not asked for."""
    warnings: tuple[str, ...]
    """What the user probably did not mean, in sentences without a full stop."""


class SkippedPage(NamedTuple):
    """Some files of one generation that are not indexed, by URI."""

    files: list[Skipped]
    next_page_token: str
    generation: int
    counts: Mapping[str, int]
    """Of all pages together, by reason."""


class Neighbours(NamedTuple):
    """A passage and those around it, in the document's order."""

    before: list[Passage]
    passage: Passage
    after: list[Passage]
    generation: int


class Documents:
    """Reads documents and passages of the open collections."""

    def __init__(self, collections: Collections, limits: Limits, pools: Pools) -> None:
        """Read from some collections, in the threads of some pools."""
        self._collections = collections
        self._limits = limits
        self._pools = pools

    async def get(
        self,
        call: Call,
        name: DocumentName | DocumentUri,
        *,
        text: TextRange | Literal["whole"] | None,
    ) -> FoundDocument:
        """Return a document.

        Args:
            call: who asks.
            name: of the document.
            text: what to return of its text. A range has at most ``Limits.range_chars`` characters;
                a longer one is cut, see ``Reader.text_part``.

        Raises:
            NotFound: no such collection or document.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        call.begin("read")
        most = None if text == "whole" else self._limits.range_chars
        asked = CharRange() if text == "whole" else text
        with self._collections.use(name.collection, call.caller) as collection:
            row, part = await self._pools.search.run(
                collection, _read_document, collection, name, asked, most
            )
            return FoundDocument(row, part, collection.info.generation)

    async def page(
        self,
        call: Call,
        collection: str,
        size: int = 0,
        page_token: str = "",
        *,
        filter: str = "",
        count: bool = False,
    ) -> DocumentPage:
        """Return a page of a collection's documents, by URI.

        Args:
            call: who asks.
            collection: its own name.
            size: of the page; 0 means ``DEFAULT_PAGE_SIZE``.
            page_token: empty for the first page.
            filter: the documents must pass it; empty for all.
            count: whether to count the documents on all pages.

        Raises:
            InvalidArgument: the size is out of range, the filter is malformed, or the token is of
                another request.
            StaleGeneration: the token is of another index.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        call.begin("read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            request = f"ListDocuments {collection}" + (f" {filter}" if filter else "")
            scope = PageScope(request.encode(), opened.info.index_id)
            after = scope.key(page_token)
            threads = self._pools.filter if filter else self._pools.search
            # One more than the page shows whether there is another page.
            rows, total, warnings = await threads.run(
                opened, _list_documents, opened, size + 1, after, filter, count
            )
        page = rows[:size]
        token = scope.token_after(page[-1].uri) if len(rows) > size else ""
        return DocumentPage(page, token, opened.info.generation, total, warnings)

    async def skipped(
        self, call: Call, collection: str, size: int = 0, page_token: str = ""
    ) -> SkippedPage:
        """Return a page of the files that are not indexed, by URI; see ``page``."""
        call.begin("read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            scope = PageScope(f"ListSkippedFiles {collection}".encode(), opened.info.index_id)
            after = scope.key(page_token)
            files, counts = await self._pools.search.run(
                opened, _read_skipped, opened.reader, size + 1, after
            )
        page = files[:size]
        token = scope.token_after(page[-1].uri) if len(files) > size else ""
        return SkippedPage(page, token, opened.info.generation, counts)

    async def fields(self, call: Call, collection: str) -> tuple[list[FieldInfo], int]:
        """Return the fields that filters can compare, and the generation that was read.

        Raises:
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        call.begin("read")
        with self._collections.use(collection, call.caller) as opened:
            found = await self._pools.search.run(opened, opened.reader.fields)
            return found, opened.info.generation

    async def field_values(
        self, call: Call, collection: str, name: str, containing: str, size: int = 0
    ) -> tuple[list[FieldValue], int]:
        """Return values of a field, and the generation that was read.

        Args:
            call: who asks.
            collection: its own name.
            name: the field as a filter names it.
            containing: a part of the values, in any case; empty for all.
            size: maximum number of values; 0 means ``DEFAULT_PAGE_SIZE``.

        Raises:
            InvalidArgument: the size is out of range, or values of the field are not listed.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        call.begin("read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            # It may read a row of every document, as a filter does.
            found = await self._pools.filter.run(
                opened, opened.reader.field_values, name, containing, size
            )
            return found, opened.info.generation

    async def passage(
        self, call: Call, name: PassageName, *, before: int = 0, after: int = 0
    ) -> Neighbours:
        """Return a passage and its neighbours in the document.

        Args:
            call: who asks.
            name: of the passage.
            before: how many passages before it.
            after: how many passages after it.

        Raises:
            InvalidArgument: more neighbours than ``Limits.neighbours``.
            NotFound: no such collection, document or passage.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        call.begin("read")
        for field, count in (("before", before), ("after", after)):
            if not 0 <= count <= self._limits.neighbours:
                raise InvalidArgument(
                    f"{field} is {count}; it must be from 0 to {self._limits.neighbours}",
                    field=field,
                )
        with self._collections.use(name.collection, call.caller) as collection:
            around, passage = await self._pools.search.run(
                collection, _read_passage, collection, name, before, after
            )
            generation = collection.info.generation
        return Neighbours(
            [one for one in around if one.ordinal < passage.ordinal],
            passage,
            [one for one in around if one.ordinal > passage.ordinal],
            generation,
        )


def _read_document(
    collection: OpenCollection,
    name: DocumentName | DocumentUri,
    text: TextRange | None,
    most_chars: int | None,
) -> tuple[DocumentRow, TextPart | None]:
    reader = collection.reader
    if isinstance(name, DocumentUri):
        row = reader.document_by_uri(name.uri)
    else:
        row = reader.document(name.document_id)
    return row, None if text is None else reader.text_part(row.id, text, most_chars)


def _list_documents(
    collection: OpenCollection, limit: int, after_uri: str, filter: str, count: bool
) -> tuple[list[DocumentRow], DocumentCounts | None, tuple[str, ...]]:
    """Read documents in order of URI, count all of them if wanted, and warn about the filter."""
    reader = collection.reader
    parsed = parse_filter(filter) if filter else None
    warnings = filter_warnings(reader, parsed) if parsed else ()
    rows = reader.documents(limit, after_uri, parsed)
    return rows, reader.count_documents(parsed) if count else None, tuple(warnings)


def _read_skipped(reader: Reader, limit: int, after: str) -> tuple[list[Skipped], dict[str, int]]:
    return reader.skipped(limit, after), reader.skip_counts()


def _read_passage(
    collection: OpenCollection, name: PassageName, before: int, after: int
) -> tuple[list[Passage], Passage]:
    """Read a passage's neighbours, in the document's order, and the passage itself."""
    reader, place = collection.reader, (name.document_id, name.ordinal)
    around = reader.neighbours(*place, before=before, after=after)
    return around, reader.passage(*place)
