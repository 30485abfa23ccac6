"""Commands that show which formats are supported, and how a document was cut."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from indexer.commands.options import INDEX_OPTION, JSON_OPTION
from indexer.decoding.decompress import COMPRESSED
from indexer.parse.formats import FORMATS, Extra
from retrieval.domain.metadata import flat_texts
from retrieval.domain.passages import Passage, passage_as_json
from retrieval.domain.records import DocumentRow
from retrieval.domain.wording import counted, on_one_line, printable
from retrieval.errors import NotFound
from retrieval.store import Location, open_reader

_FORMATS_EXAMPLES = "\b\nExamples:\n  indexer formats\n  indexer formats --json\n"

_SHOW_EXAMPLES = (
    "\b\nExamples:\n  indexer show docs/guide.md\n  indexer show docs/guide.pdf --json\n"
)


@click.command(epilog=_FORMATS_EXAMPLES)
@JSON_OPTION
def formats(as_json: bool) -> None:
    """List the supported formats, and what optional libraries would add."""
    rows = [(entry.name, entry.extensions) for entry in FORMATS]
    rows.append(("any, compressed", COMPRESSED))
    extras = list(_missing_extras())
    if as_json:
        shown = [
            {"install": one.install, "reads" if one.is_required else "sections_in": missing}
            for one, missing in extras
        ]
        click.echo(json.dumps({"formats": dict(rows), "extras": shown}))
        return
    for name, extensions in rows:
        click.echo(f"{name:<18} {' '.join(extensions)}")
    for entry in FORMATS:
        if entry.names:
            click.echo(f"{entry.name + ', by name':<18} {' '.join(sorted(entry.names)).upper()}")
    click.echo(f"{'any other name':<18} plain text, if the content looks like it")
    for one, missing in extras:
        adds = "reads" if one.is_required else "finds functions and classes in"
        click.echo(f"\n{one.install} {adds}\n{' '.join(missing)}")


def _missing_extras() -> Iterator[tuple[Extra, list[str]]]:
    """Yield the extras that are not all installed, and the extensions that lack them."""
    for entry in FORMATS:
        if extra := entry.extra:
            missing = [end for end in entry.extensions if not extra.is_installed(end)]
            if missing:
                yield extra, missing


@click.command(epilog=_SHOW_EXAMPLES)
@click.argument("document")
@INDEX_OPTION
@JSON_OPTION
def show(document: str, index: Location, as_json: bool) -> None:
    """Show the chunks of a document, and where each begins and ends.

    DOCUMENT is a URI, as `indexer list` shows it.
    """
    with open_reader(index) as reader:
        try:
            row = reader.document_by_uri(document)
        except NotFound as error:
            raise NotFound(
                f"{index} has no {document!r}; `indexer list` shows its documents"
            ) from error
        passages = [
            reader.passage(row.id, 0),
            *reader.neighbours(row.id, 0, after=row.chunk_count),
        ]
    if as_json:
        click.echo(json.dumps(_as_json(row, passages)))
    else:
        click.echo("\n".join(_as_text(row, passages)))


def _as_json(row: DocumentRow, passages: Sequence[Passage]) -> dict[str, Any]:
    shown = [passage_as_json(passage) for passage in passages]
    for one in shown:
        for key in ("metadata", "score", "title", "uri"):  # of the document, or empty
            del one[key]
    return {**asdict(row), "passages": shown}


def _as_text(row: DocumentRow, passages: Sequence[Passage]) -> Iterator[str]:
    yield on_one_line(f"{row.uri}  {row.title}")
    yield (
        f"{row.format}, {row.encoding}, {counted(row.char_count, 'character')}, "
        f"{counted(row.chunk_count, 'chunk')}"
    )
    for key, value in sorted(flat_texts(row.metadata).items()):
        yield on_one_line(f"{key}: {value}")
    end = 0
    for passage in passages:
        yield ""
        yield on_one_line(_boundary(passage, repeated=max(0, end - passage.char_start)))
        if passage.table_header:
            yield on_one_line(f"(columns: {passage.table_header})")
        yield printable(_text_of(passage))
        end = passage.char_end


def _boundary(passage: Passage, *, repeated: int) -> str:
    """Return the line above a chunk: its number, offsets, lines, pages, tokens and headings."""
    parts = [
        f"{passage.ordinal + 1}",
        f"characters {passage.char_start}-{passage.char_end}",
        _from_to("line", passage.line_start, passage.line_end),
        counted(passage.token_count, "token"),
    ]
    if passage.page_start:
        parts.insert(3, _from_to("page", passage.page_start, passage.page_end))
    if repeated:
        parts.append(f"the first {counted(repeated, 'character')} repeated")
    if passage.heading_path:
        parts.append(" › ".join(passage.heading_path))
    return f"──── {' · '.join(parts)}"


def _text_of(passage: Passage) -> str:
    """Return the text of a passage, with the length of what is not embedded in its place."""
    text, shown, at = passage.text, "", 0
    for start, end in passage.omitted:
        shown += f"{text[at:start]}[{counted(end - start, 'character')} not embedded]"
        at = end
    return shown + text[at:]


def _from_to(noun: str, first: int, last: int) -> str:
    return f"{noun} {first}" if first == last else f"{noun}s {first}-{last}"
