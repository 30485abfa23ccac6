"""The command that publishes an index for servers on other machines."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from indexer.commands.options import INDEX_OPTION, JSON_OPTION
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument
from retrieval.store import Location

_EXAMPLES = (
    "\b\nExamples:\n"
    "  indexer publish s3://bucket/docs\n"
    "  indexer publish s3://bucket/docs --index ./index --keep 5\n"
    "  retrieval serve --index docs=s3://bucket/docs --pull ./copies\n"
)


@click.command(epilog=_EXAMPLES)
@click.argument("url")
@INDEX_OPTION
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=3,
    metavar="N",
    show_default=True,
    help="Number of generations that stay there.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Publish although another index, or a newer generation of this one, was published there.",
)
@JSON_OPTION
def publish(*, url: str, index: Location, keep: int, replace: bool, as_json: bool) -> None:
    """Copy the newest generation of an index to an object store.

    Servers on other machines pull it from there. Only what has changed since the last time is sent.
    Credentials come from the environment variables of the store, such as AWS_ACCESS_KEY_ID.
    """
    from retrieval.store.replicas.publish import publish as publish_generation

    if index.scheme:
        raise InvalidArgument(
            f"{index} is not an index in a folder, and only those are published; servers open it "
            "where it is"
        )
    with _bar() as progress:
        done = publish_generation(index.folder, url, keep=keep, replace=replace, progress=progress)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    if not done.is_new:
        click.echo(f"generation {done.generation} is at {url} already")
        return
    deleted = f", {counted(done.deleted, 'old generation')} deleted" if done.deleted else ""
    click.echo(
        f"published generation {done.generation} to {url}: {_megabytes(done.size)}, "
        f"{_megabytes(done.sent)} of it sent{deleted}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show progress on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    with click.progressbar(length=1, label="sending", file=sys.stderr) as bar:

        def show(done: int, whole: int) -> None:
            bar.length = max(1, whole)
            bar.update(done - bar.pos)

        yield show
