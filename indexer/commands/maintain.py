"""Commands that inspect or maintain an index: status, list, remove, compact, verify."""

import json
from dataclasses import asdict

import click

from indexer.build.settings import choice_as_typed
from indexer.commands.options import DEVICE_OPTION, INDEX_OPTION, JSON_OPTION
from retrieval.commands.parameters import not_empty
from retrieval.domain.embedded_text import embedded_text_of
from retrieval.domain.records import FileChoice, RootInfo, Skipped
from retrieval.domain.wording import counted, on_one_line
from retrieval.errors import IndexDamaged, NotFound
from retrieval.store import (
    Location,
    Problem,
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

_MIN_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "float16": 0.999, "int8": 0.99}
"""Smallest cosine between two embeddings of a text, by the type of the weights: rounding differs
between processors."""


@click.command(epilog=_STATUS_EXAMPLES)
@INDEX_OPTION
@JSON_OPTION
def status(index: Location, as_json: bool) -> None:
    """Show the state of an index: its size, its model and its settings."""
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
        click.echo(on_one_line(f"{key.replace('_', ' '):<18} {value}"))


def _as_text(root: RootInfo) -> str:
    """Return a root's name, where it comes from, and the options that chose its files."""
    if root.is_pushed:
        return f"{root.name}: written over the API"
    chosen = ""
    if root.choice is not None and root.choice != FileChoice():
        chosen = f", files chosen with {choice_as_typed(root.choice)}"
    return on_one_line(f"{root.name}: {root.path}{chosen}")


@click.command(name="list", epilog=_LIST_EXAMPLES)
@INDEX_OPTION
@click.option("--skipped", is_flag=True, help="List the skipped files and the reasons.")
@JSON_OPTION
def list_(index: Location, skipped: bool, as_json: bool) -> None:
    """List the documents of an index, or the files that were skipped."""
    with open_reader(index) as reader:
        entries = reader.skipped() if skipped else reader.documents(reader.info.documents)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries]))
        return
    for entry in entries:
        if isinstance(entry, Skipped):
            detail = f" ({entry.detail})" if entry.detail else ""
            click.echo(on_one_line(f"{entry.uri}: {entry.reason}{detail}"))
        else:
            shown = [counted(entry.chunk_count, "chunk")]
            if entry.encoding.partition("+")[2]:  # guessed, or not all of it could be decoded
                shown.append(entry.encoding)
            click.echo(on_one_line(f"{entry.uri}  {entry.title}  [{', '.join(shown)}]"))


@click.command(epilog=_REMOVE_EXAMPLES)
@click.argument("paths", nargs=-1, required=True)
@INDEX_OPTION
@JSON_OPTION
def remove(paths: tuple[str, ...], index: Location, as_json: bool) -> None:
    """Remove documents from an index.

    PATHS are URIs of documents, as `indexer list` shows them, or of folders. The files themselves
    stay, and a later build of their folder adds them again.
    """
    removed, missing = remove_documents(index, paths)
    if as_json:
        click.echo(json.dumps({"removed": removed, "missing": missing}))
    else:
        for uri in removed:
            click.echo(on_one_line(uri))
        click.echo(f"{counted(len(removed), 'document')} removed")
    if missing:
        raise NotFound(
            f"{index} has no {', '.join(map(repr, missing))}; `indexer list` shows its documents"
        )


@click.command(epilog=_COMPACT_EXAMPLES)
@INDEX_OPTION
@JSON_OPTION
def compact(index: Location, as_json: bool) -> None:
    """Drop vectors that no document uses, merge segments, and rebuild the vector index."""
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
        click.echo(f"{done.ann.kind} index: recall@10 {done.ann.recall} compared with exact search")
    for warning in warnings:
        click.echo(f"warning: {warning}")


@click.command(epilog=_VERIFY_EXAMPLES)
@INDEX_OPTION
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Number of chunks to embed again and compare with their vectors. With 0, the model is not "
    "loaded.",
)
@click.option("--model", callback=not_empty, help="Folder of the index's model, if it has moved.")
@DEVICE_OPTION
@JSON_OPTION
def verify(index: Location, sample: int, model: str | None, device: str, as_json: bool) -> None:
    """Check the hashes and the consistency of an index, and embed a sample of it again."""
    problems = list(verify_index(index))
    if sample and not problems:
        problems += compare_sample(index, sample, model=model, device=device)
    if as_json:
        click.echo(json.dumps({"problems": [asdict(problem) for problem in problems]}))
    for problem in () if as_json else problems:
        click.echo(on_one_line(f"{problem.file}: {problem.what}; {problem.advice}"))
    if problems:
        raise IndexDamaged(f"{index} has {counted(len(problems), 'problem')}")
    if not as_json:
        click.echo(on_one_line(f"{index} is whole"))


def compare_sample(
    index: Location, count: int, *, model: str | None = None, device: str = "auto"
) -> list[Problem]:
    """Embed a sample of chunks again, and compare the vectors with those of the index.

    Args:
        index: location of the index.
        count: number of chunks, spread evenly over the index.
        model: folder of the index's model, if it has moved.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        a problem for each chunk whose vector differs.

    Raises:
        NotAnIndex, IndexDamaged: the index can't be read.
        ModelNotFound, CheckpointError, ModelMismatch: the model can't be used.
    """
    import numpy as np

    from retrieval.encoding.encoder import load_for_index  # loads torch

    with open_reader(index) as reader:
        encoder = load_for_index(reader.info.model, model=model, device=device)
        context = reader.info.chunking.context
        places = reader.sample_places(count)
        passages = [reader.passage(*place) for place in places]
        stored = [reader.passage_vector(*place) for place in places]
    if not passages:
        return []
    texts = [embedded_text_of(one, title=one.title, context=context) for one in passages]
    vectors = encoder.encode(texts, "passage")
    cosines = (vectors * np.stack(stored)).sum(axis=1)
    lowest = _MIN_COSINE[encoder.dtype]
    return [
        Problem(
            "index.db",
            f"chunk {passage.ordinal} of {passage.uri} now embeds to another vector "
            f"(cosine {cosine:.4f})",
            "the model may have changed: build the index again in another folder",
        )
        for passage, cosine in zip(passages, cosines, strict=True)
        if cosine < lowest
    ]
