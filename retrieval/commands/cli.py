"""The program ``retrieval``: serves indexes, searches and changes a server, measures a search.

Slow imports are inside the commands, so ``--help`` and ``search`` start without torch and faiss.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

import retrieval
from retrieval.commands import program
from retrieval.commands.connection_options import (
    CONNECTION_NAMES,
    TARGET_OPTION,
    collection_option,
    connect,
    connection_options,
)
from retrieval.commands.evaluation.evaluate import evaluate
from retrieval.commands.parameters import DEVICE_OPTION, QUERY_ARGUMENT, not_empty
from retrieval.commands.proto import proto
from retrieval.commands.render import passages_as_text
from retrieval.commands.search_options import COPIES_OPTION, search_options, without_copies
from retrieval.commands.serving.gateway import gateway
from retrieval.commands.serving.mcp import mcp
from retrieval.commands.serving.serve import serve
from retrieval.commands.serving.tokens import token
from retrieval.commands.text_lines import text_batches
from retrieval.commands.writing.collection import collection
from retrieval.commands.writing.delete import delete
from retrieval.commands.writing.put import put
from retrieval.domain.records import DTYPE_NAMES, TextKind
from retrieval.domain.wording import counted, printable
from retrieval.encoding.model_cards import DEFAULT_MODEL

if TYPE_CHECKING:
    from retrieval.client import SearchResults
    from retrieval.encoding.encoder import Encoder

# In click, \b at the start of a paragraph keeps its lines as they are.
_CLI_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval serve --index ./index\n"
    '  retrieval search "how are pods scheduled?"\n'
)
_SEARCH_EXAMPLES = (
    "\b\nExamples:\n"
    '  retrieval search "how are pods scheduled?"\n'
    '  retrieval search "rate limits" -k 3 --collection docs\n'
    "  retrieval search \"rate limits\" --json | jq '.passages[].uri'\n"
    '  retrieval search "rate limits" --target search.example.org:443 --tls\n'
)
_EMBED_EXAMPLES = (
    "\b\nExamples:\n"
    '  echo "how are pods scheduled?" | retrieval embed --kind query\n'
    "  retrieval embed --model all-minilm-l6-v2 < passages.txt > vectors.jsonl\n"
)

_NO_ARGUMENTS = {
    "embed": "; texts come from standard input, one per line: echo TEXT | retrieval embed"
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_CLI_EXAMPLES)
@click.version_option(retrieval.__version__, prog_name="retrieval")
def cli() -> None:
    """Serve indexes over gRPC, search and change them; `indexer build` makes one."""


@cli.command(epilog=_SEARCH_EXAMPLES)
@QUERY_ARGUMENT
@TARGET_OPTION
@collection_option("to search")
@search_options
@COPIES_OPTION
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def search(
    *,
    query: str,
    target: str,
    collection: str,
    copies: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  (ConnectionOptions, and SearchOptions of the client)
) -> None:
    """Search a server for the passages that best match QUERY.

    A query of several words needs no quotes.
    """
    options["collapse"] = without_copies(options["collapse"], copies=copies, as_json=as_json)
    connection: Any = {name: options.pop(name) for name in CONNECTION_NAMES}
    with connect(target, connection) as client:
        results = client.search(query, collection=collection, **options)
    for warning in results.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    if as_json:
        click.echo(json.dumps(_results_json(query, collection, results), ensure_ascii=False))
        return
    if results.query_truncated:
        click.echo(
            "note: the query is longer than the model reads; its end had no effect", err=True
        )
    if results.rerank_truncated_count:
        count = results.rerank_truncated_count
        click.echo(f"note: the reranker read {counted(count, 'passage')} in part", err=True)
    click.echo(passages_as_text(results))


def _results_json(query: str, collection: str, results: "SearchResults") -> dict[str, object]:
    from retrieval.client.results import results_as_json

    return {"query": query, "collection": collection, **results_as_json(results)}


@cli.command(epilog=_EMBED_EXAMPLES)
@click.option(
    "--model",
    callback=not_empty,
    default=DEFAULT_MODEL,
    metavar="NAME|FOLDER",
    show_default=True,
    help="Name of a known model, hub id or local folder.",
)
@click.option(
    "--kind",
    type=click.Choice(["query", "passage"]),
    default="passage",
    show_default=True,
    help="What the texts are.",
)
@DEVICE_OPTION
@click.option(
    "--dtype",
    type=click.Choice(["auto", *DTYPE_NAMES]),
    default="auto",
    show_default=True,
    help="Type of the weights; int8 is for the CPU.",
)
def embed(*, model: str, kind: TextKind, device: str, dtype: str) -> None:
    """Embed texts from stdin, one per line, as JSON arrays on stdout, one per line.

    Lines that arrive together are embedded together; no line waits for more to come.
    """
    from retrieval.encoding.encoder import Encoder

    encoder = Encoder.load(model, device=device, dtype=dtype)
    if sys.stdin.isatty():
        click.echo("note: reading texts from the keyboard, one per line; Ctrl-D ends", err=True)
    total = cut = 0
    for texts in text_batches(sys.stdin.buffer):
        total += len(texts)
        cut += _print_vectors(encoder, texts, kind)
    if cut:
        click.echo(
            f"note: {cut} of {counted(total, 'text')} {'was' if cut == 1 else 'were'} cut off "
            f"after {counted(encoder.max_tokens, 'token')}",
            err=True,
        )


def _print_vectors(encoder: "Encoder", texts: Sequence[str], kind: TextKind) -> int:
    """Print the texts' vectors, and return how many texts were cut off."""
    embedded = encoder.embed(texts, kind)
    for vector in embedded.vectors:
        # str() of a float32 is the shortest text that reads back as the same float32.
        click.echo(json.dumps([float(str(value)) for value in vector]))
    sys.stdout.flush()
    return sum(embedded.truncated)


cli.add_command(collection)
cli.add_command(delete)
cli.add_command(evaluate)
cli.add_command(gateway)
cli.add_command(mcp)
cli.add_command(proto)
cli.add_command(put)
cli.add_command(serve)
cli.add_command(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see ``retrieval.commands.program.run``."""
    return program.run(cli, "retrieval", arguments, takes_no_arguments=_NO_ARGUMENTS)
