"""`retrieval eval`: how good a search is, on a local index or through a server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.errors import InvalidArgument
from retrieval.search_options import RERANKER_OPTION, ranking_options
from retrieval.server_commands import DEVICE_OPTION, FILE

if TYPE_CHECKING:
    from retrieval.eval.measure import Search
    from retrieval.found import Passage

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval eval --make-queries 200 --index ./index > queries.jsonl\n"
    "  retrieval eval queries.jsonl --index ./index --save hybrid.jsonl --report hybrid.html\n"
    "  retrieval eval queries.jsonl --index ./index --mode dense --compare hybrid.jsonl\n"
    "  retrieval eval ./scifact --target 127.0.0.1:50051\n"
)


@click.command("eval", epilog=_EXAMPLES)
@click.argument("queries", type=click.Path(path_type=Path), required=False)
@click.option("--qrels", type=FILE, help="Judgements, in TREC's or BEIR's form.")
@click.option("--index", type=click.Path(path_type=Path), help="Search this index right here.")
@click.option("--target", metavar="HOST:PORT", help="Search through this server.")
@click.option(
    "--collection", default="default", metavar="NAME", show_default=True, help="Of the server."
)
@click.option("--token", envvar="RETRIEVAL_TOKEN", default="", help="What the server knows you by.")
@click.option(
    "-k",
    "k",
    type=click.IntRange(10, 1000),
    default=100,
    show_default=True,
    help="How many documents, or passages where these are judged, are looked at.",
)
@ranking_options
@RERANKER_OPTION
@DEVICE_OPTION
@click.option("--save", type=FILE, help="Keep the run, to compare others with.")
@click.option("--compare", "other", type=FILE, help="Say how it differs from a run that was kept.")
@click.option("--report", type=FILE, help="Write an HTML page: measures, plot, every query.")
@click.option("--plot", type=FILE, help="Write the plot alone, e.g. recall.png.")
@click.option(
    "--make-queries",
    type=click.IntRange(1),
    metavar="N",
    help="Make up to N queries from the titles, headings and questions of --index instead, and "
    "print them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    *, queries: Path | None, index: Path | None, make_queries: int | None, **chosen: Any
) -> None:
    """Measure a search on test QUERIES: nDCG, MRR, MAP, recall, time.

    QUERIES is a folder in BEIR form, a file of queries with --qrels beside it, or JSON lines such
    as {"query": "how do bees find nectar?", "document": "docs/bees.md"}; "passage" in place of
    "document" is text that the wanted passage has in it.
    """
    if make_queries is not None:
        _print_queries(index, make_queries)
        return
    if queries is None:
        raise InvalidArgument("give test queries, or --make-queries N to begin with")
    _evaluate(queries, index, **chosen)


def _print_queries(index: Path | None, count: int) -> None:
    from retrieval.eval.make import make_queries
    from retrieval.store import IndexReader

    if index is None:
        raise InvalidArgument(
            "--make-queries reads the documents of an index: name it with --index"
        )
    with IndexReader.open(index) as reader:
        for record in make_queries(reader, count):
            click.echo(json.dumps(record, ensure_ascii=False))


def _evaluate(
    queries: Path,
    index: Path | None,
    *,
    qrels: Path | None,
    k: int,
    save: Path | None,
    other: Path | None,
    report: Path | None,
    plot: Path | None,
    as_json: bool,
    **search: Any,
) -> None:
    from retrieval.eval import compare as runs
    from retrieval.eval import report as shown
    from retrieval.eval.measure import run_queries
    from retrieval.eval.queries import load_queries

    asked = load_queries(queries, qrels)
    before = runs.load_run(other) if other else None
    with _searching(index, **search) as ask:
        answers = list(run_queries(asked, ask, k))
    differences = runs.compare(before, runs.values_of(answers)) if before else []
    if save:
        runs.save_run(save, answers)
    if report:
        shown.write_html(report, answers, differences)
    if plot:
        shown.write_plot(plot, answers)
    if not as_json:
        click.echo(shown.as_text(answers, differences))
        return
    result = {
        "queries": len(answers),
        "measures": shown.means(answers),
        "milliseconds": shown.percentiles(answers),
        "without_any": [answer.query.id for answer in shown.failures(answers)],
        "compared": [asdict(one) for one in differences],
    }
    click.echo(json.dumps(result, ensure_ascii=False))


@contextmanager
def _searching(
    index: Path | None,
    *,
    target: str | None,
    collection: str,
    token: str,
    device: str,
    reranker: str | None,
    **options: Any,
) -> Iterator["Search"]:
    """What answers the queries: an index right here, or a server."""
    if (index is None) == (target is None):
        raise InvalidArgument("say where to search: --index DIR or --target HOST:PORT")
    if target is not None:
        with _through_server(target, token, {"collection": collection, **options}) as ask:
            yield ask
    elif index is not None:
        with _right_here(index, device, reranker, options) as ask:
            yield ask


@contextmanager
def _through_server(target: str, token: str, options: Mapping[str, Any]) -> Iterator["Search"]:
    from retrieval.client import RetrievalClient

    with RetrievalClient(target, token=token) as client:

        def ask(text: str, k: int, *, by_document: bool) -> "Sequence[Passage]":
            return client.search(text, k=k, group_by_document=by_document, **options)

        yield ask


@contextmanager
def _right_here(
    index: Path, device: str, reranker: str | None, options: Mapping[str, Any]
) -> Iterator["Search"]:
    from retrieval.local import open_local
    from retrieval.search import Query
    from retrieval.store import search_on_one_core

    search_on_one_core()  # as a server does, so that times compare
    with open_local(
        index, device=device, reranker=reranker if options.get("rerank_top") else None
    ) as local:

        def ask(text: str, k: int, *, by_document: bool) -> "Sequence[Passage]":
            query = Query(text=text, k=k, group_by_document=by_document, **options)
            return local.search(query).passages

        yield ask
