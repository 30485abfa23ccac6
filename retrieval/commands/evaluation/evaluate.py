"""The command `retrieval eval`: measures the search of a local index or of a server."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from retrieval.commands.connection_options import CONNECTION_NAMES, connect, connection_options
from retrieval.commands.parameters import DEVICE_OPTION, FILE, IndexLocation, NonEmptyPath
from retrieval.commands.search_options import RERANKER_OPTION, ranking_options
from retrieval.domain.search_options import MAX_K, OPTIONS
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from retrieval.commands.evaluation.systems import System
    from retrieval.eval.run import Run
    from retrieval.eval.sets.queries import TestSet
    from retrieval.store import LocationLike

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval eval --make-queries 200 > queries.jsonl\n"
    "  retrieval eval queries.jsonl --save hybrid.jsonl --report hybrid.html\n"
    "  retrieval eval queries.jsonl --mode dense --compare hybrid.jsonl\n"
    "  retrieval eval ./scifact --index ./scifact-index\n"
    "  retrieval eval ./scifact --target search.example.org:443 --tls\n"
)

_DEFAULT_INDEX: Final = Path("./index")
_MIN_K: Final = 10
"""nDCG@10 and MRR@10 need ten results."""

_FOR_SERVER: Final = ("collection", *CONNECTION_NAMES)
"""Options that have no meaning for an index in this process."""
_FOR_INDEX: Final = ("reranker", "device")
"""Options that a server decides for itself."""
_RANKING_NAMES: Final = (
    *(option.name for option in OPTIONS.values() if option.ranks and option.name != "mode"),
    "reranker",
)
"""Options that a report names if they were given."""


@click.command("eval", epilog=_EXAMPLES)
@click.argument("queries", type=NonEmptyPath(), required=False)
@click.option("--qrels", type=FILE, help="Judgements, in TREC or BEIR form.")
@click.option(
    "--index",
    type=IndexLocation(),
    metavar="DIR",
    help="Index to search in this process; ./index unless --target is given.",
)
@click.option("--target", metavar="HOST:PORT", help="Server to search instead.")
@click.option(
    "--collection",
    default="default",
    metavar="NAME",
    show_default=True,
    help="Collection of the server.",
)
@connection_options
@click.option(
    "-k",
    "k",
    type=click.IntRange(_MIN_K, MAX_K),
    default=100,
    show_default=True,
    help="Number of documents to search for, or of passages if passages are judged.",
)
@ranking_options
@RERANKER_OPTION
@DEVICE_OPTION
@click.option("--save", type=FILE, help="Save the run, to compare later ones with it.")
@click.option("--compare", "other", type=FILE, help="Compare with a saved run.")
@click.option("--report", type=FILE, help="Write an HTML page: measures, plot, every query.")
@click.option("--plot", type=FILE, help="Write only the plot, e.g. recall.png.")
@click.option(
    "--make-queries",
    type=click.IntRange(1),
    metavar="N",
    help="Instead, print up to N queries made from the titles, headings and questions of --index.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    *,
    queries: Path | None,
    index: "LocationLike | None",
    target: str | None,
    make_queries: int | None,
    **chosen: Any,
) -> None:
    """Measure a search with test QUERIES: nDCG, MRR, MAP, recall, time.

    QUERIES is a folder in BEIR form, a file of queries together with --qrels, or JSON lines such as
    {"query": "how do bees find nectar?", "document": "docs/bees.md"}. Instead of "document", a line
    can have "passage": text that the wanted passage contains.
    """
    _check_place(context, index, target)
    if make_queries is not None:
        if queries is not None or target is not None:
            raise InvalidArgument(
                "--make-queries makes test queries from an index: give --index, but neither "
                "QUERIES nor --target"
            )
        _print_queries(index or _DEFAULT_INDEX, make_queries)
        return
    if queries is None:
        raise InvalidArgument("give test QUERIES, or make some with --make-queries N")
    given = {name: chosen[name] for name in _RANKING_NAMES if _is_given(context, name)}
    _evaluate(queries, index, target, given, **chosen)


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _check_place(context: click.Context, index: "LocationLike | None", target: str | None) -> None:
    """Refuse options that would have no effect.

    Raises:
        InvalidArgument: names the first of them.
    """
    if index is not None and target is not None:
        raise InvalidArgument("say where to search: --index DIR or --target HOST:PORT, not both")
    useless = _FOR_INDEX if target is not None else _FOR_SERVER
    place = "--index" if target is not None else "--target"
    for name in useless:
        if _is_given(context, name):
            raise InvalidArgument(f"--{name} has no effect without {place}")


def _print_queries(index: "LocationLike", count: int) -> None:
    from retrieval.eval.sets.make_queries import make_queries
    from retrieval.store import open_reader

    made = 0
    with open_reader(index) as reader:
        for record in make_queries(reader, count):
            click.echo(json.dumps(record, ensure_ascii=False))
            made += 1
    if made < count:
        click.echo(
            f"note: made {made} of {count}; the index has no more titles, headings and questions "
            "of two words or more",
            err=True,
        )


def _evaluate(
    queries: Path,
    index: "LocationLike | None",
    target: str | None,
    given: Mapping[str, Any],
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
    from retrieval.eval import html_page, summary
    from retrieval.eval.run import load_run, save_run
    from retrieval.eval.sets.queries import load_test_set

    _check_outputs(save, report, plot)
    tests = load_test_set(queries, qrels)
    before = load_run(other) if other else None
    if before:
        before.values_of(tests.queries)  # fails now, not after all the searches
    with _open_system(index, target, **search) as system:
        run = _run(tests, system, queries, k, given)
    if save:
        save_run(save, run)
    comparison = summary.compare_with(other, before, run) if other and before else None
    if report:
        html_page.write_html(report, run, comparison)
    if plot:
        html_page.write_plot(plot, run)
    if as_json:
        click.echo(json.dumps(summary.as_json(run, comparison), ensure_ascii=False))
    else:
        click.echo(summary.as_text(run, comparison))


def _check_outputs(save: Path | None, report: Path | None, plot: Path | None) -> None:
    """Check before an hour of searches that the outputs can be written.

    Raises:
        InvalidArgument: a folder is missing, a format is unknown, or matplotlib is not installed.
    """
    from retrieval.eval.html_page import check_plot

    for path in filter(None, (save, report, plot)):
        if not path.absolute().parent.is_dir():
            raise InvalidArgument(f"can't write {path}: there is no folder {path.parent}")
    if report or plot:
        check_plot(plot or Path("page.svg"))


def _run(
    tests: "TestSet", system: "System", queries: Path, k: int, options: Mapping[str, Any]
) -> "Run":
    """Match the judgements with documents, warm up, and search for every query."""
    from retrieval.eval.measure import run_queries, warm_up
    from retrieval.eval.run import Run, RunInfo, in_order, notes_on
    from retrieval.eval.sets.matching import match_names

    wanted = dict.fromkeys(
        name for query in tests.queries if not query.passages for name in query.documents
    )
    matching = match_names(wanted, system.documents, queries_name=tests.file.name)
    began = datetime.now(UTC)
    asking = run_queries(tests.queries, system.search, k, matching)
    warm_up(tests.queries, system.search, k)
    answers = list(asking)
    info = RunInfo(
        queries=str(queries),
        qrels=str(tests.qrels or ""),
        where=system.where,
        generation=in_order(answer.generation for answer in answers),
        documents=system.document_count,
        model=system.model,
        mode=in_order(answer.mode for answer in answers),
        k=k,
        options=options,
        date=began.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    return Run(info, answers, matching, [*tests.notes, *matching.notes(), *notes_on(answers)])


@contextmanager
def _open_system(
    index: "LocationLike | None",
    target: str | None,
    *,
    collection: str,
    device: str,
    reranker: str | None,
    **options: Any,
) -> Iterator["System"]:
    """Open the index, or connect to the server, that answers the queries."""
    from retrieval.commands.evaluation.systems import search_index, search_server

    connection: Any = {name: options.pop(name) for name in CONNECTION_NAMES}
    if target is None:
        with search_index(
            index or _DEFAULT_INDEX, device=device, reranker=reranker, options=options
        ) as system:
            yield system
    else:
        with (
            connect(target, connection) as client,
            search_server(client, target, collection, options) as system,
        ):
            yield system
