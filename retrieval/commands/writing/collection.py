"""``retrieval collection``: create, list, change and delete the collections of a server."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from retrieval.commands.connection_options import (
    CONNECTION_NAMES,
    TARGET_OPTION,
    Command,
    connect,
    connection_options,
)
from retrieval.domain.languages import LANGUAGES, NO_LANGUAGE
from retrieval.domain.resource_names import own_name
from retrieval.domain.wording import counted

if TYPE_CHECKING:
    from retrieval.client import CollectionInfo, RetrievalClient

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval collection create tickets --language de\n"
    "  retrieval collection list\n"
    "  retrieval collection update tickets --target-recall 0.95\n"
    "  retrieval collection delete tickets\n"
)
_SETTINGS = (
    click.option(
        "--language",
        type=click.Choice([*LANGUAGES, NO_LANGUAGE]),
        help="Language of the texts for lexical search. [default: no change; for a new collection "
        "the server's]",
    ),
    click.option(
        "--index-type",
        type=click.Choice(["auto", "flat", "ivf", "hnsw"]),
        help="How to search vectors. [default: no change; for a new collection auto]",
    ),
    click.option(
        "--target-recall",
        type=float,
        help="Recall@10 to tune an approximate index to. [default: no change; for a new collection "
        "the server's]",
    ),
)
_JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _settings(command: Command) -> Command:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def _client_options(command: Command) -> Command:
    return TARGET_OPTION(connection_options(command))


def _connect(options: dict[str, Any]) -> "RetrievalClient":
    """Return a client; leave only the options that were given and are not of the connection."""
    connection: Any = {name: options.pop(name) for name in CONNECTION_NAMES}
    client = connect(options.pop("target"), connection)
    for name in [name for name, value in options.items() if value is None]:
        del options[name]
    return client


@click.group(epilog=_EXAMPLES)
def collection() -> None:
    """Create, list, change and delete the collections of a server.

    To create and to delete, the server must have been started with --data.
    """


@collection.command(epilog=_EXAMPLES)
@click.argument("name")
@click.option("--model", default="", metavar="NAME", help="[default: the server's]")
@click.option(
    "--chunk-tokens",
    type=int,
    metavar="N",
    help="Maximum number of tokens in a passage; 0 for one passage a document. [default: what "
    "suits the model]",
)
@click.option(
    "--chunk-overlap",
    type=int,
    metavar="N",
    help="Maximum number of tokens that a passage repeats. [default: an eighth of --chunk-tokens]",
)
@_settings
@_client_options
@_JSON_OPTION
def create(*, name: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Create an empty collection."""
    with _connect(options) as client:
        _print(client.create_collection(name, **options), as_json=as_json)


@collection.command("list", epilog=_EXAMPLES)
@_client_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """List the collections, by name."""
    with _connect(options) as client:
        found = list(client.collections())
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], default=str))
        return
    for one in found:
        _print(one, as_json=False)


@collection.command(epilog=_EXAMPLES)
@click.argument("name")
@_settings
@_client_options
@_JSON_OPTION
def update(*, name: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Change settings of a collection; the others stay."""
    with _connect(options) as client:
        _print(client.update_collection(name, **options), as_json=as_json)


@collection.command(epilog=_EXAMPLES)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_client_options
def delete(*, name: str, yes: bool, **options: Any) -> int:  # noqa: ANN401
    """Delete a collection with all its documents; asks first, on a terminal."""
    if not yes and sys.stdin.isatty():
        question = f"Delete the collection {name} with all its documents?"
        if not click.confirm(question, err=True):
            click.echo("nothing was deleted", err=True)
            return 1
    with _connect(options) as client:
        client.delete_collection(name)
    click.echo(f"deleted {name}")
    return 0


def _print(info: "CollectionInfo", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(info), default=str))
        return
    documents = counted(info.document_count, "document")
    passages = counted(info.passage_count, "passage")
    click.echo(f"{own_name(info.name)}: {documents}, {passages}, model {info.model.name}")
