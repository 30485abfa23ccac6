"""The ``indexer`` command: the only place in this package that prints and exits."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from indexer import look, upkeep
from indexer.options import DEVICE_OPTION, INDEX_OPTION, JSON_OPTION, read_list
from indexer.progress import ConsoleProgress
from retrieval import __version__, command
from retrieval.errors import InvalidArgument
from retrieval.registry import DEFAULT_MODEL, MODEL_CARDS, OFFLINE_MODEL
from retrieval.render import passage_as_json, passages_as_text
from retrieval.store import IndexType

QUERY_DTYPE_OPTION = click.option(
    "--query-dtype",
    type=click.Choice(["auto", "index", "float32", "bfloat16", "int8"]),
    default="auto",
    show_default=True,
    help="Type of the weights for queries; index: the one it was built in; auto: int8 where that "
    "was measured to cost next to nothing, else index.",
)

_CLI_EXAMPLES = (
    "\b\nExamples:\n"
    "  indexer build ./docs\n"
    '  indexer search "how are pods scheduled?"\n'
    "  retrieval serve --index ./index\n"
)

_BUILD_EXAMPLES = (
    "\b\nExamples:\n"
    "  indexer build ./docs\n"
    "  indexer build ./docs ./wiki --index ./index --model all-minilm-l6-v2\n"
    "  indexer build ./docs --exclude 'drafts/**' --chunk-tokens 256\n"
    "  git ls-files docs | indexer build -\n"
    "  indexer build ./docs --dry-run\n"
)

_SEARCH_EXAMPLES = (
    "\b\nExamples:\n"
    '  indexer search "how are pods scheduled?"\n'
    '  indexer search "rate limits" -k 3 --json\n'
)

_MODELS_EXAMPLES = "\b\nExamples:\n  indexer models\n  indexer models --json\n"


class ChunkTokens(click.ParamType[int]):
    """A number of tokens, or ``document`` for one chunk a document (as 0)."""

    name = "N|document"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse the option's value."""
        if value == "document":
            return 0
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither a number from 1 up nor 'document'", param, ctx)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_CLI_EXAMPLES)
@click.version_option(__version__, prog_name="indexer")
def cli() -> None:
    """Build a search index from folders of documents, and look into it."""


@cli.command(epilog=_BUILD_EXAMPLES)
@click.argument("docs", nargs=-1, required=True, type=click.Path(path_type=Path))
@INDEX_OPTION
@click.option(
    "--model",
    help=f"Registry name, hub id (@REVISION allowed) or folder. "
    f"[default: the index's own; for a new one {DEFAULT_MODEL}]",
)
@click.option(
    "--chunk-tokens",
    type=ChunkTokens(),
    metavar="N|document",
    help="Most tokens in a chunk; 'document': one chunk a document, cut at the model's maximum. "
    "[default: 512, or as many as the model takes]",
)
@click.option(
    "--chunk-overlap",
    type=click.IntRange(min=0),
    help="Most tokens repeated from the chunk before. [default: an eighth of --chunk-tokens]",
)
@click.option(
    "--context",
    type=click.Choice(["none", "headings"]),
    help="What a chunk is embedded under, beside its own text: nothing, or its document's title "
    "and its headings. [default: none]",
)
@click.option(
    "--text-field",
    "text_fields",
    multiple=True,
    metavar="PATH",
    help="Field of JSON records that is their text, as in answer.body. [default: the usual ones]",
)
@click.option("--include", multiple=True, metavar="GLOB", help="Index only files that match.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files that match.")
@click.option("--no-ignore", is_flag=True, help="Do not read .gitignore and .indexerignore files.")
@DEVICE_OPTION
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
    default="auto",
    show_default=True,
    help="Type of the weights while embedding; int8 is for the CPU.",
)
@click.option(
    "--index-type",
    type=click.Choice(["auto", "flat", "ivf", "hnsw"]),
    help="How vectors are searched; auto: exactly (flat) up to 50,000 of them, then ivf. "
    "[default: the index's own; for a new one auto]",
)
@click.option(
    "--target-recall",
    type=click.FloatRange(0.5, 1.0),
    help="Recall@10 that an approximate index is tuned to. [default: the index's own, or 0.98]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done, and about how long it would take; write nothing.",
)
@JSON_OPTION
def build(
    *,
    docs: tuple[Path, ...],
    index: Path,
    model: str | None,
    chunk_tokens: int | None,
    chunk_overlap: int | None,
    context: str | None,
    text_fields: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    no_ignore: bool,
    device: str,
    dtype: str,
    index_type: IndexType | None,
    target_recall: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Index folders and files, or bring an index in step with them.

    DOCS are folders and files, or `-` for a list of files on standard input.

    Only what changed since the last build is read and embedded; files that are gone leave the
    index. A build that is cut off goes on from its last commit: run it again.
    """
    from indexer.build import build as run  # loads torch
    from indexer.dry_run import dry_run as estimate
    from indexer.prepare import BuildOptions

    listed = read_list(sys.stdin.buffer) if Path("-") in docs else None
    if listed is not None and len(docs) > 1:
        raise InvalidArgument("`-` takes its files from standard input, and no folder beside it")
    options = BuildOptions(
        docs=docs if listed is None else (Path.cwd(),),
        listed=listed,
        use_ignore_files=not no_ignore,
        index=index,
        model=model,
        chunk_tokens=chunk_tokens,
        chunk_overlap=chunk_overlap,
        context=None if context is None else context == "headings",
        text_fields=text_fields or None,
        include=include,
        exclude=exclude,
        device=device,
        dtype=dtype,
        index_type=index_type,
        target_recall=target_recall,
    )
    with ConsoleProgress() as progress:
        report = estimate(options, progress) if dry_run else run(options, progress)
    click.echo(json.dumps(report.as_json()) if as_json else report.as_text())


@cli.command(epilog=_SEARCH_EXAMPLES)
@click.argument("query")
@INDEX_OPTION
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many passages.")
@click.option("--min-score", type=float, help="Leave out passages below this cosine similarity.")
@command.FILTER_OPTION
@command.EXACT_OPTION
@click.option("--model", help="Where the index's model is now, if it has moved.")
@DEVICE_OPTION
@QUERY_DTYPE_OPTION
@JSON_OPTION
def search(
    *,
    query: str,
    index: Path,
    k: int,
    min_score: float | None,
    filter_: str,
    exact: bool,
    model: str | None,
    device: str,
    query_dtype: str,
    as_json: bool,
) -> None:
    """Search an index right here, without a server."""
    from indexer.local_search import search_index  # loads torch
    from retrieval.search import Query

    asked = Query(text=query, k=k, min_score=min_score, filter=filter_, exact=exact)
    result = search_index(index, asked, model=model, device=device, query_dtype=query_dtype)
    if result.query_truncated:
        click.echo("note: the query is longer than the model takes; its end was cut off", err=True)
    if as_json:
        passages = [passage_as_json(passage) for passage in result.passages]
        click.echo(json.dumps({"generation": result.generation, "passages": passages}))
    else:
        click.echo(passages_as_text(result.passages))


@cli.command(epilog=_MODELS_EXAMPLES)
@JSON_OPTION
def models(as_json: bool) -> None:
    """List the models known by name."""
    if as_json:
        click.echo(json.dumps([asdict(card) for card in MODEL_CARDS.values()]))
        return
    click.echo(f"{'name':<31} {'dim':>5} {'tokens':>6} {'size':>6}  licence     hub id")
    for card in MODEL_CARDS.values():
        note = {DEFAULT_MODEL: "  (default)", OFFLINE_MODEL: "  (works offline)"}.get(card.name, "")
        click.echo(
            f"{card.name:<31} {card.dim:>5} {card.max_tokens:>6} {card.parameters // 10**6:>5}M  "
            f"{card.licence:<11} {card.hub_id}{note}"
        )


for _command in (
    look.formats,
    look.show,
    upkeep.status,
    upkeep.list_,
    upkeep.remove,
    upkeep.compact,
    upkeep.verify,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see ``retrieval.command.run``."""
    note = "interrupted; what was committed is kept, run it again to go on"
    return command.run(cli, "indexer", arguments, interrupted=note)


if __name__ == "__main__":
    sys.exit(main())
