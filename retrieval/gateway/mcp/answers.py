"""Answers of the tools, each shorter than ``ANSWER_CHARS``.

An answer is one JSON object in one text. Structured content would repeat it: models would read
everything twice, or clients that ignore it would show nothing. ChatGPT asks for this form.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from retrieval.client.results import CollectionInfo, DocumentInfo, SearchResults
from retrieval.domain.metadata import Metadata
from retrieval.domain.passages import Passage
from retrieval.domain.resource_names import own_name
from retrieval.gateway.mcp.bounds import (
    ANSWER_CHARS,
    as_json,
    fitting,
    fitting_fields,
    fitting_items,
    json_length,
    length,
    shortened,
)
from retrieval.gateway.mcp.cursors import Position, to_cursor
from retrieval.gateway.mcp.names import MAX_NAME_CHARS, document_id, part_id
from retrieval.gateway.mcp.reading import Part

_ROOM: Final = ANSWER_CHARS - 1
_TITLE_CHARS: Final = 300
_URL_CHARS: Final = 2_000
_HEADING_CHARS: Final = 300
_PASSAGE_CHARS: Final = 6_000
"""Of one result, so that several fit; passages of 512 tokens have about 2,500."""
_PASSAGE_METADATA_CHARS: Final = 400
_DOCUMENT_METADATA_CHARS: Final = 3_000
_FIELDS_CHARS: Final = 1_000
_VERSION_CHARS: Final = 12
_WARNING_CHARS: Final = 400
_WARNINGS: Final = 3
_ERROR_CHARS: Final = 2_000
_CURSOR_CHARS: Final = 8_000
_SLACK: Final = 40
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def error_text(message: str) -> str:
    """Return the text of an error, in one line."""
    return shortened(" ".join(message.split()), _ERROR_CHARS)


def search_answer(results: SearchResults, position: Position, *request: object) -> str:
    """Return the results that fit.

    Args:
        results: a page of the server.
        position: the page, and the results of it that were shown before.
        request: what was asked for, for the cursor.
    """
    left = results.passages[position.shown :]
    head = _warnings(results.warnings)
    if not left:
        return as_json({"results": [], **head, "note": "Nothing was found."})

    def tail(count: int) -> dict[str, Any]:
        if count < len(left):
            after = Position(position.page_token, position.page_size, position.shown + count)
        elif results.next_page_token:
            after = Position(results.next_page_token, position.page_size)
        else:
            return head
        note = "There are more results: call search again with the same arguments and this cursor."
        return {**head, "next_cursor": to_cursor(after, *request), "note": note}

    # Numbers in a cursor of fewer results may have some digits more.
    rest = json_length(tail(len(left) - 1)) + json_length({"results": []}) + _SLACK
    rows = fitting_items(map(_result, left), _ROOM - rest) or [_result(left[0])]
    return as_json({"results": rows, **tail(len(rows))})


def fits_whole(part: Part, asked: str) -> bool:
    """Return whether a part is a whole document, and an answer has room for it."""
    return part.is_whole and part.cut(_room(_description(part, asked))).is_whole


def fetch_answer(part: Part, asked: str) -> str:
    """Return a document, or as much of a part of it as fits.

    Args:
        part: of the document.
        asked: the id that was asked for.
    """
    description = _description(part, asked)
    shown = part.cut(_room(description))
    return as_json({**description, "text": shown.text, **_about(shown)})


def _description(part: Part, asked: str) -> dict[str, Any]:
    """Return what an answer says about a document, with no text yet."""
    document = part.document
    identifier = document_id(document.name, document.uri)
    metadata, omitted = fitting_fields(document.metadata, _DOCUMENT_METADATA_CHARS)
    return {
        "id": asked if length(asked) <= MAX_NAME_CHARS else identifier,
        "title": title_of(document.title, document.uri),
        "text": "",
        "url": _url(document.uri, document.metadata, identifier),
        "metadata": metadata,
        **({"metadata_fields_left_out": omitted} if omitted else {}),
        "format": document.format,
        **_modified(document.modified_at),
    }


def _room(description: Mapping[str, Any]) -> int:
    """Return the room for the text of an answer, whatever part of the document that is."""
    return _ROOM - json_length({**description, **_NUMBERS_ROOM})


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list, of which an answer may have room for the first rows only."""

    name: str
    """What the rows are."""
    rows: Sequence[object]
    next_cursor: str
    """Asks the server for the next page; empty on the last one."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """What comes before the rows."""

    @property
    def fitting(self) -> int:
        """Number of first rows that fit, at least one."""
        return max(1, len(fitting_items(self.rows, _ROOM - json_length(self._with(())))))

    @property
    def text(self) -> str:
        """The answer with all rows."""
        return as_json(self._with(self.rows))

    def _with(self, rows: Sequence[object]) -> dict[str, Any]:
        return {**self.head, self.name: rows, **self._rest}

    @property
    def _rest(self) -> dict[str, Any]:
        if not self.next_cursor:
            return {}
        if len(self.next_cursor) > _CURSOR_CHARS:
            return {"note": "There are more, but the URI of the last is too long to go on from."}
        note = (
            f"There are more: call list_{self.name} again with the same arguments and this cursor."
        )
        return {"next_cursor": self.next_cursor, "note": note}


def documents_listing(
    documents: Sequence[DocumentInfo],
    next_cursor: str,
    *,
    total: int | None,
    warnings: Sequence[str],
) -> Listing:
    """Return a page of documents.

    Args:
        documents: of a page of the server.
        next_cursor: asks for the next page; empty on the last one.
        total: number of documents on all pages; None if they were not counted.
        warnings: of the server, about the filter.
    """
    rows = [
        {
            "id": document_id(one.name, one.uri),
            "title": title_of(one.title, one.uri),
            "uri": shortened(one.uri, _URL_CHARS),
            "format": one.format,
            "characters": one.char_count,
            **_modified(one.modified_at),
        }
        for one in documents
    ]
    head = {**({} if total is None else {"total": total}), **_warnings(warnings)}
    return Listing("documents", rows, next_cursor, head)


def collections_listing(
    collections: Sequence[CollectionInfo], fields: Sequence[Sequence[str]], next_cursor: str
) -> Listing:
    """Return a page of collections.

    Args:
        collections: a page of the server.
        fields: of the documents' metadata, for each collection.
        next_cursor: asks for the next page; empty on the last one.
    """
    rows = [
        {
            "name": own_name(one.name),
            "documents": one.document_count,
            "passages": one.passage_count,
            "model": shortened(one.model.name, _TITLE_CHARS),
            **_modified(one.updated_at, name="updated"),
            **({"filter_fields": kept} if (kept := _some(names)) else {}),
        }
        for one, names in zip(collections, fields, strict=True)
    ]
    return Listing("collections", rows, next_cursor)


def _result(passage: Passage) -> dict[str, Any]:
    text = passage.text[: fitting(passage.text, _PASSAGE_CHARS)]
    metadata, omitted = fitting_fields(passage.metadata, _PASSAGE_METADATA_CHARS)
    heading = shortened(" › ".join(passage.heading_path), _HEADING_CHARS)
    whole = document_id(passage.name, passage.uri)
    return {
        "id": part_id(whole, passage.char_start, passage.char_end),
        "title": title_of(passage.title, passage.uri),
        "url": _url(passage.uri, passage.metadata, whole),
        "text": text,
        **({} if len(text) == len(passage.text) else {"text_is_cut": True}),
        **({"heading": heading} if heading else {}),
        **_place(passage),
        **({} if math.isnan(passage.score) else {"score": round(passage.score, 4)}),
        **({"metadata": metadata} if metadata else {}),
        **({"metadata_fields_left_out": omitted} if omitted else {}),
    }


def _place(passage: Passage) -> dict[str, Any]:
    if passage.page_start:
        return {"pages": _range(passage.page_start, passage.page_end)}
    return {"lines": _range(passage.line_start, passage.line_end)}


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def title_of(title: str, uri: str) -> str:
    """Return a document's title, or the last part of its URI if it has none."""
    return shortened(title or uri.rstrip("/").rpartition("/")[2] or uri, _TITLE_CHARS)


def _url(uri: str, metadata: Metadata, identifier: str) -> str:
    """Return an address that people can open if there is one, or else the document's id."""
    for address in (uri, metadata.get("url")):
        if (
            isinstance(address, str)
            and address.startswith(("https://", "http://"))
            and fitting(address, _URL_CHARS) == len(address)
        ):
            return address
    return identifier


def _about(part: Part) -> dict[str, Any]:
    """Return what part of a document an answer has, and how to go on."""
    document = part.document
    return _place_in(part.start, part.end, document.char_count, document.sha256)


def _place_in(start: int, end: int, total: int, sha256: str) -> dict[str, Any]:
    about: dict[str, Any] = {"start": start, "end": end, "characters": total}
    if start == 0 and end >= total:
        return about
    note = f"This is a part of the document: characters {start} to {end} of {total}."
    if start:
        note += " The document begins at start=0."
    if end < total:
        about["next_start"] = end
        note += f" To read on, call fetch with the same id and start={end}."
    # The model sees if the document changes while it reads.
    return {**about, "version": sha256[:_VERSION_CHARS], "note": note}


def _warnings(warnings: Sequence[str]) -> dict[str, Any]:
    shown = [shortened(one, _WARNING_CHARS) for one in warnings[:_WARNINGS]]
    return {"warnings": shown} if shown else {}


def _modified(when: datetime, *, name: str = "modified") -> dict[str, str]:
    return {} if when <= _EPOCH else {name: when.isoformat(timespec="seconds")}


def _some(names: Sequence[str]) -> list[str]:
    return fitting_items(names, _FIELDS_CHARS)


_NUMBERS_ROOM: Final = _place_in(2**31, 2**31, 2**32, "0" * _VERSION_CHARS)
"""The longest text about a part of a document."""
