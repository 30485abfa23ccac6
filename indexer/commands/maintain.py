"""Commands that look into an index, or look after it."""

import json
from dataclasses import asdict

import click

from indexer.build.settings import choice_as_typed
from indexer.commands.options import DEVICE_OPTION, INDEX_OPTION, JSON_OPTION
from retrieval.commands.parameters import not_empty
from retrieval.domain.records import FileChoice, RootInfo, Skipped
from retrieval.domain.wording import counted, printable
from retrieval.errors import IndexDamaged, NotFound
from retrieval.store import (
    Location,
    open_reader,
    open_writer,
    read_status,
    recall_warnings,
    remove_documents,
)
from retrieval.store import verify as verify_index

_STATUS_EXAMPLES = "\b\nExamples:\n  indexer status\n  indexer status --index ./index --json\n"

_REMOVE_EXAMPLES = "\b\nExamples:\n  indexer remove docs/old.md\n  indexer remove docs/drafts\n"

_COMPACT_EXAMPLES = "\b\nExamples:\n  indexer compact\n  indexer compact --index ./index\n"

_VERIFY_EXAMPLES = "\b\nExamples:\n  indexer verify\n  indexer verify --sample 0 --json\n"

_LIST_EXAMPLES = "\b\nExamples:\n  indexer list\n  indexer list --skipped --json\n"


@click.command(epilog=_STATUS_EXAMPLES)
@INDEX_OPTION
@JSON_OPTION
def status(index: Location, as_json: bool) -> None:
    """Show what an index is and holds."""
    found = read_status(index)
    info, segments, roots = found.info, found.segments, found.roots
    anns = [segment.ann for segment in segments if segment.ann]
    rows = {
        "index": str(index),
        "index_id": info.index_id,
        "generation": info.generation,
        "documents": info.documents,
        "chunks": info.chunks,
        "tokens": info.tokens,
        "vectors": info.vectors,
        "unused_vectors": info.unused_vectors,
        "unused_share": round(info.unused_vectors / max(1, info.vectors), 4),
        "segments": info.segments,
        "index_type": info.index_type,
        "searched": ", ".join(sorted({ann.kind for ann in anns})) or "exactly",
        "target_recall": info.target_recall,
        "language": info.language,
        "words": found.lexical,
        "measured_recall": min((ann.recall for ann in anns), default=1.0),
        "bytes_on_disk": found.size,
        "bytes_in_memory": sum(segment.memory for segment in segments),
        "bytes_mapped": sum(segment.size for segment in segments),
        "model": info.model.name,
        "model_revision": info.model.revision,
        "model_fingerprint": info.model.fingerprint,
        "dimensions": info.model.dim,
        "dtype": info.model.dtype,
        "chunk_tokens": info.chunking.chunk_tokens or "document",
        "chunk_overlap": info.chunking.chunk_overlap,
        "context": "headings" if info.chunking.context else "none",
        "text_fields": " ".join(info.chunking.text_fields) or "the usual ones",
        "created_at": info.created_at,
        "updated_at": info.updated_at,
    }
    warnings = list(recall_warnings(segments, info.target_recall))
    if as_json:
        lists = {"roots": [asdict(root) for root in roots.values()], "warnings": warnings}
        click.echo(json.dumps({**rows, **lists}))
        return
    lines = [*rows.items(), *(("root", _as_text(root)) for root in roots.values())]
    lines += [("warning", warning) for warning in warnings]
    for key, value in lines:
        click.echo(printable(f"{key.replace('_', ' '):<18} {value}"))


def _as_text(root: RootInfo) -> str:
    """A root as a person reads it: where it was, and how its files were chosen."""
    chosen = ""
    if root.choice is not None and root.choice != FileChoice():
        chosen = f", files chosen with {choice_as_typed(root.choice)}"
    return printable(f"{root.name}: {root.path}{chosen}")


@click.command(name="list", epilog=_LIST_EXAMPLES)
@INDEX_OPTION
@click.option("--skipped", is_flag=True, help="List the files that were left out, and why.")
@JSON_OPTION
def list_(index: Location, skipped: bool, as_json: bool) -> None:
    """List the documents of an index, or the files that it left out."""
    with open_reader(index) as reader:
        entries = reader.skipped() if skipped else reader.documents(reader.info.documents)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries]))
        return
    for entry in entries:
        if isinstance(entry, Skipped):
            detail = f" ({entry.detail})" if entry.detail else ""
            click.echo(printable(f"{entry.uri}: {entry.reason}{detail}"))
        else:
            click.echo(
                printable(f"{entry.uri}  {entry.title}  [{counted(entry.chunk_count, 'chunk')}]")
            )


@click.command(epilog=_REMOVE_EXAMPLES)
@click.argument("paths", nargs=-1, required=True)
@INDEX_OPTION
@JSON_OPTION
def remove(paths: tuple[str, ...], index: Location, as_json: bool) -> None:
    """Take documents out of an index: by URI, as `indexer list` shows it, or whole folders.

    The files themselves stay; a later build of their folder takes them in again.
    """
    removed, missing = remove_documents(index, paths)
    if as_json:
        click.echo(json.dumps({"removed": removed, "missing": missing}))
    else:
        for uri in removed:
            click.echo(printable(uri))
        click.echo(f"{counted(len(removed), 'document')} removed")
    if missing:
        raise NotFound(
            f"{index} has no {', '.join(map(repr, missing))}; `indexer list` shows what it has"
        )


@click.command(epilog=_COMPACT_EXAMPLES)
@INDEX_OPTION
@JSON_OPTION
def compact(index: Location, as_json: bool) -> None:
    """Drop what no document uses any more, and index all vectors anew."""
    with open_writer(index, create=False) as writer:
        done = writer.compact()
        target = writer.info.target_recall if writer.info else 0.0
        warnings = list(recall_warnings(writer.segments(), target))
    ann = asdict(done.ann) if done.ann else None
    if as_json:
        result = {"merged": done.merged, "removed": done.removed, "ann": ann}
        click.echo(json.dumps({**result, "warnings": warnings}))
        return
    click.echo(
        f"{counted(done.merged, 'segment')} merged, "
        f"{counted(done.removed, 'unused vector')} dropped"
    )
    if done.ann:
        click.echo(f"{done.ann.kind} index: recall@10 {done.ann.recall} of exact search")
    for warning in warnings:
        click.echo(f"warning: {warning}")


@click.command(epilog=_VERIFY_EXAMPLES)
@INDEX_OPTION
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Chunks to embed again, to see that their vectors come out the same; 0: none, and the "
    "model is not loaded.",
)
@click.option(
    "--model", callback=not_empty, help="Where the index's model is now, if it has moved."
)
@DEVICE_OPTION
@JSON_OPTION
def verify(index: Location, sample: int, model: str | None, device: str, as_json: bool) -> None:
    """Check every byte of an index, and every promise between its parts."""
    problems = list(verify_index(index))
    if sample and not problems:
        from indexer.commands.reembed import compare_sample  # loads torch

        problems += compare_sample(index, sample, model=model, device=device)
    if as_json:
        click.echo(json.dumps({"problems": [asdict(problem) for problem in problems]}))
    for problem in () if as_json else problems:
        click.echo(printable(f"{problem.file}: {problem.what}; {problem.advice}"))
    if problems:
        raise IndexDamaged(f"{index} has {counted(len(problems), 'problem')}")
    if not as_json:
        click.echo(printable(f"{index} is whole"))
