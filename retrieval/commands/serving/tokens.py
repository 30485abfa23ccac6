"""The command `retrieval token`: the access tokens of a server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval.commands.parameters import FILE
from retrieval.commands.program import FiniteRange
from retrieval.domain.wording import counted
from retrieval.service.access.token_file import MAX_DAYS, MAX_QUOTA, SCOPES

if TYPE_CHECKING:
    from retrieval.service.access.token_file import Scope, TokenRecord

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval token create backend --scope search --collection docs --rate 50\n"
    "  retrieval token create crawler --scope write --max-documents-per-day 10000\n"
    "  retrieval token list\n"
    "  retrieval token revoke backend\n"
)

_TOKEN_FILE = click.option(
    "--token-file",
    type=FILE,
    default=Path("tokens.json"),
    show_default=True,
    help="File of the tokens, as salted hashes.",
)


@click.group(epilog=_EXAMPLES)
def token() -> None:
    """Make, list and revoke access tokens of a server.

    A running server reads its token file again on SIGHUP.
    """


@token.command(epilog=_EXAMPLES)
@click.argument("name")
@_TOKEN_FILE
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the token allows: searching, embedding, reading documents, reloading collections, "
    "or putting and deleting documents. Repeatable; all of them but write if none is given.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Collection that the token allows. Repeatable; all if none is given.",
)
@click.option(
    "--rate",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="N",
    help="Requests per second that the token allows; 0 for any number.",
)
@click.option(
    "--days",
    type=FiniteRange(min=0, min_open=True, max=MAX_DAYS),
    help="Days until the token expires; never if left out.",
)
@click.option(
    "--max-documents-per-day",
    type=click.IntRange(min=0, max=MAX_QUOTA),
    default=0,
    metavar="N",
    help="Documents that the token may put in a day of UTC; 0 for any number.",
)
@click.option(
    "--max-bytes-per-day",
    type=click.IntRange(min=0, max=MAX_QUOTA),
    default=0,
    metavar="N",
    help="Bytes of documents that the token may put in a day of UTC; 0 for any number.",
)
def create(
    *,
    name: str,
    token_file: Path,
    scopes: Sequence["Scope"],
    collections: Sequence[str],
    rate: float,
    days: float | None,
    max_documents_per_day: int,
    max_bytes_per_day: int,
) -> None:
    """Make a token for NAME and print it, this once."""
    from retrieval.service.access.token_file import (
        ANY_COLLECTION,
        DEFAULT_SCOPES,
        Quota,
        create_token,
    )

    made = create_token(
        token_file,
        name,
        scopes=scopes or DEFAULT_SCOPES,
        collections=collections or (ANY_COLLECTION,),
        rate=rate,
        days=days,
        quota=Quota(max_documents_per_day, max_bytes_per_day),
    )
    click.echo(made)
    click.echo("keep it now: it can't be shown again", err=True)


@token.command("list", epilog=_EXAMPLES)
@_TOKEN_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(*, token_file: Path, as_json: bool) -> None:
    """List the tokens of a file, without their secrets."""
    from retrieval.service.access.token_file import read_tokens

    tokens = read_tokens(token_file)
    if as_json:
        shown = (
            *("id", "name", "scopes", "collections", "rate", "created_at", "expires_at"),
            *("max_documents_per_day", "max_bytes_per_day"),
        )
        click.echo(json.dumps([{key: getattr(each, key) for key in shown} for each in tokens]))
        return
    for each in tokens:
        rate = f"{each.rate:g} per second" if each.rate else "any rate"
        until = f"until {each.expires_at}" if each.expires_at else "for ever"
        click.echo(
            f"{each.name}  {each.id}  {','.join(each.scopes)}  collections "
            f"{','.join(each.collections)}  {rate}  {until}{_quota_of(each)}"
        )


def _quota_of(token: "TokenRecord") -> str:
    """Describe what a token may put in a day; empty if there is no limit."""
    documents, most_bytes = token.quota
    parts = [counted(documents, "document")] if documents else []
    parts += [counted(most_bytes, "byte")] if most_bytes else []
    return f"  at most {' and '.join(parts)} a day" if parts else ""


@token.command(epilog=_EXAMPLES)
@click.argument("name")
@_TOKEN_FILE
def revoke(*, name: str, token_file: Path) -> None:
    """Remove the token of NAME (a name or an id) from a file."""
    from retrieval.service.access.token_file import revoke_token

    revoke_token(token_file, name)
