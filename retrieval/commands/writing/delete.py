"""``retrieval delete``: delete documents that were put, by URI, prefix or filter."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from retrieval.commands.connection_options import (
    CONNECTION_NAMES,
    changing_options,
    collection_option,
    connect,
)
from retrieval.domain.wording import counted, named, on_one_line
from retrieval.errors import InvalidArgument, ServiceError

if TYPE_CHECKING:
    from retrieval.client import DeleteResult, DeleteWhereResult, RetrievalClient

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval delete report.pdf wiki/notes/a.md\n"
    "  retrieval delete --prefix tickets/ --dry-run\n"
    "  retrieval delete --filter 'ticket>4000 AND status=closed' --yes\n"
)
_AT_ONCE: Final = 16
"""Deletions under way at once, so that the server gathers them into few commits."""
_OF_A_DOCUMENT: Final = ("NOT_FOUND", "ABORTED", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
"""Statuses that concern one document; after any other, the next deletion would fail as well."""


@click.command(epilog=_EXAMPLES)
@click.argument("uris", nargs=-1, metavar="[URI]...")
@collection_option("to change")
@click.option("--prefix", metavar="PREFIX", help="Delete all documents whose URI begins with it.")
@click.option("--filter", metavar="EXPR", help="Delete all documents that match a filter.")
@click.option("--dry-run", is_flag=True, help="With --prefix or --filter: delete nothing, count.")
@click.option("--yes", is_flag=True, help="With --prefix or --filter: don't ask.")
@click.option(
    "--if-sha256",
    default="",
    metavar="HEX",
    help="Delete the only document if this is its present version.",
)
@click.option("--missing-ok", is_flag=True, help="Documents that don't exist are no failure.")
@click.option("--wait", is_flag=True, help="Wait until searches no longer find the documents.")
@changing_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def delete(
    *,
    uris: Sequence[str],
    prefix: str | None,
    filter: str | None,
    dry_run: bool,
    yes: bool,
    if_sha256: str,
    missing_ok: bool,
    target: str,
    as_json: bool,
    **options: Any,  # noqa: ANN401  (ConnectionOptions, collection and wait)
) -> int:
    """Delete documents that were put, by URI, or all that match a prefix or a filter.

    Before it deletes by prefix or filter, it tells how many documents that would be and asks, if
    standard input is a terminal. Documents that `indexer build` keeps up to date stay.
    """
    by_condition = prefix is not None or filter is not None
    if by_condition == bool(uris):
        raise InvalidArgument("give URIs, or --prefix, or --filter", field="uris")
    if by_condition and (if_sha256 or missing_ok):
        raise InvalidArgument("--if-sha256 and --missing-ok are for URIs", field="if_sha256")
    if not by_condition and dry_run:
        raise InvalidArgument("--dry-run is for --prefix and --filter", field="dry_run")
    if if_sha256 and len(uris) > 1:
        raise InvalidArgument("--if-sha256 is for a single document", field="if_sha256")
    connection: Any = {name: options.pop(name) for name in CONNECTION_NAMES}
    with connect(target, connection) as client:
        if not by_condition:
            options |= {"if_sha256": if_sha256, "missing_ok": missing_ok}
            return _delete(client, uris, options, as_json=as_json)
        options |= {"filter": filter, "prefix": prefix, "timeout": connection["timeout"]}
        return _delete_where(client, options, ask=not yes, dry_run=dry_run, as_json=as_json)


def _delete(
    client: "RetrievalClient", uris: Sequence[str], options: dict[str, Any], *, as_json: bool
) -> int:
    """Delete documents by URI, print what became of them, and return the exit code."""

    def one(uri: str) -> "DeleteResult | ServiceError":
        try:
            return client.delete(uri, **options)
        except ServiceError as error:
            if error.status in _OF_A_DOCUMENT and "collection" not in error.metadata:
                return error
            raise

    deleted: list[str] = []
    failed: list[dict[str, str]] = []
    generation = 0
    with ThreadPoolExecutor(min(_AT_ONCE, len(uris))) as threads:
        for uri, result in zip(uris, threads.map(one, uris), strict=True):
            if isinstance(result, ServiceError):
                click.echo(on_one_line(f"failed {uri}: {result.message}"), err=True)
                reason, message = result.service_reason, result.message
                failed.append({"uri": uri, "reason": reason, "message": message})
            else:
                deleted += result.uris
                generation = max(generation, result.generation)
    if as_json:
        _print_json({"deleted": deleted, "failed": failed, "generation": generation})
    else:
        failures = f", {len(failed)} failed" if failed else ""
        click.echo(f"deleted {counted(len(deleted), 'document')}{failures}")
    return 1 if failed else 0


def _delete_where(
    client: "RetrievalClient",
    options: dict[str, Any],
    *,
    ask: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Delete documents by a condition, print what was deleted, and return the exit code."""
    if ask and not dry_run and sys.stdin.isatty():
        would = client.delete_where(**options, dry_run=True)
        if would.document_count:
            click.echo(on_one_line(named(would.uris)), err=True)
            question = f"Delete {counted(would.document_count, 'document')}?"
            if not click.confirm(question, err=True):
                click.echo("nothing was deleted", err=True)
                return 1
    result = client.delete_where(**options, dry_run=dry_run)
    if as_json:
        _print_json({**asdict(result), "dry_run": dry_run})
    else:
        click.echo(_as_text(result, dry_run=dry_run))
    return 0


def _as_text(result: "DeleteWhereResult", *, dry_run: bool) -> str:
    text = (
        f"{'would delete' if dry_run else 'deleted'} {counted(result.document_count, 'document')}"
    )
    if dry_run and result.uris:
        text += f": {on_one_line(named(result.uris))}"
    if result.foreign_count:
        text += (
            f"; {counted(result.foreign_count, 'more document')} would match, and `indexer build` "
            "keeps them up to date"
        )
    return text


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
