"""``retrieval put``: send files to a server, which indexes them."""

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from retrieval.commands.connection_options import (
    CONNECTION_NAMES,
    changing_options,
    collection_option,
    connect,
)
from retrieval.commands.parameters import not_empty
from retrieval.domain.wording import counted, named, on_one_line
from retrieval.errors import InvalidArgument, RetrievalError, ServiceError

if TYPE_CHECKING:
    from retrieval.client import Put, PutOutcome, PutProgress, PutStream

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval put report.pdf --title 'Annual report' --metadata year=2024\n"
    "  retrieval put ./notes --to wiki --wait\n"
    "  curl -s https://example.com/ | retrieval put - --uri https://example.com/ "
    "--media-type text/html\n"
)
_STANDARD_INPUT: Final = "-"
_MAX_INPUT_BYTES: Final = 1 << 30
"""Largest message that a server can be started for."""
_SHOWN_EVERY_SECONDS: Final = 0.2
_OF_ALL: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED", "QUOTA_EXCEEDED", "DISK_FULL")
"""Statuses and reasons of errors that every other document would meet as well."""

_Fields = dict[str, Any]


def _metadata(_: click.Context, param: click.Parameter, pairs: Sequence[str]) -> _Fields:
    """Return the fields of ``NAME=VALUE`` texts; a name that is repeated has a list."""
    fields: _Fields = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name.strip() or not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param=param)
        value = _value(text)
        if name in fields:
            before = fields[name]
            value = [*(before if isinstance(before, list) else [before]), value]
        fields[name] = value
    return fields


def _value(text: str) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a value as JSON has it, or as a text if it is no JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_value = value is not None and not (isinstance(value, float) and not math.isfinite(value))
    return value if is_value else text


@click.command(epilog=_EXAMPLES)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|FOLDER...")
@collection_option("to change")
@click.option(
    "--to",
    "prefix",
    default="",
    callback=lambda _, __, value: value.rstrip("/"),
    metavar="PREFIX",
    help="Begin all URIs with PREFIX/.",
)
@click.option("--uri", callback=not_empty, help="URI of the only document.")
@click.option("--title", default="", help="Title of the only document.")
@click.option(
    "--metadata",
    callback=_metadata,
    multiple=True,
    metavar="NAME=VALUE",
    help="Field for filters. Numbers, true and false are such values; a repeated name is a list. "
    "Repeatable.",
)
@click.option("--language", default="", metavar="CODE", help="Language, such as en.")
@click.option(
    "--file-name", default="", metavar="NAME", help="Name that tells the only document's format."
)
@click.option(
    "--media-type", default="", metavar="TYPE", help="Format of the documents, such as text/html."
)
@click.option("--if-absent", is_flag=True, help="Refuse documents that exist.")
@click.option(
    "--if-sha256",
    default="",
    metavar="HEX",
    help="Replace the only document if this is its present version.",
)
@click.option("--wait", is_flag=True, help="Wait until searches see the documents.")
@changing_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each document.")
def put(
    *,
    paths: Sequence[str],
    collection: str,
    prefix: str,
    uri: str | None,
    wait: bool,
    target: str,
    as_json: bool,
    **options: Any,  # noqa: ANN401  (ConnectionOptions, and fields of Put)
) -> int:
    """Send files to a server started with --writable or --data, which indexes them.

    The URI of a FILE is its name. That of a file in a FOLDER is its path from there, with the
    folder's name before it. Of a FOLDER all files are sent but hidden ones and links; to choose
    files by rules, and to follow changes, is the work of `indexer build`. The path `-` is standard
    input and needs --uri.

    Documents that can't be put are listed on standard error, and the exit code is then 1. An error
    that all others would meet as well, such as a full disk, ends the command.
    """
    connection: Any = {name: options.pop(name) for name in CONNECTION_NAMES}
    report = _Report(as_json=as_json)
    items = _items(paths, prefix, uri, options, report.unreadable)
    with connect(target, connection) as client:
        stream = client.put_many(
            items,
            collection=collection,
            wait=wait,
            timeout=connection["timeout"],
            on_progress=report.progress,
        )
        report.read(stream)
    return 1 if report.failed else 0


def _items(
    paths: Sequence[str],
    prefix: str,
    uri: str | None,
    fields: _Fields,
    on_error: Callable[[OSError], None],
) -> "Iterator[Put]":
    """Check the arguments, and return the documents to put.

    Args:
        paths: files, folders, or ``-``.
        prefix: of all URIs, without a slash at the end; empty for none.
        uri: of the only document; None for the usual one.
        fields: of ``Put``, for all documents.
        on_error: is called for a folder that can't be read.

    Raises:
        InvalidArgument: a path does not exist, or the options don't fit the paths.
    """
    from retrieval.client import Put  # loads grpc

    folders = {path for path in paths if path != _STANDARD_INPUT and Path(path).is_dir()}
    if len(paths) > 1 or folders:
        _refuse_fields_of_one({"uri": uri, **fields})
    if _STANDARD_INPUT in paths:
        if len(paths) > 1:
            raise InvalidArgument("give - alone: it stands for the only document", field="paths")
        if uri is None:
            raise InvalidArgument("give --uri with -: standard input has no name", field="uri")
        data = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
        return iter([Put(_below(prefix, uri), data=data, **fields)])
    names = {path: uri or _name(path) for path in paths}
    _refuse_equal_names(names)
    for path in paths:
        if not os.path.lexists(path):
            raise InvalidArgument(f"{path} does not exist", field="paths")

    def items() -> "Iterator[Put]":
        for path, name in names.items():
            begin = _below(prefix, name)
            if path not in folders:
                yield Put(begin, path=path, **fields)
                continue
            for file in _files_below(Path(path), on_error):
                yield Put(f"{begin}/{file.relative_to(path).as_posix()}", path=file, **fields)

    return items()


def _refuse_fields_of_one(fields: Mapping[str, object]) -> None:
    for name in ("uri", "title", "file_name", "if_sha256"):
        if fields[name]:
            option = name.replace("_", "-")
            raise InvalidArgument(f"--{option} is for a single document", field=name)


def _refuse_equal_names(names: Mapping[str, str]) -> None:
    """Refuse paths whose documents would replace one another."""
    twice = [name for name, number in Counter(names.values()).items() if number > 1]
    if twice:
        raise InvalidArgument(
            f"several paths would get the same URI ({named(twice)}): put them one after the other, "
            "each with its own --to",
            field="paths",
        )


def _name(path: str) -> str:
    name = Path(path).name or Path(path).resolve().name
    name = Path(path).resolve().name if name == ".." else name
    if not name:
        raise InvalidArgument(f"{path} has no name; put what is in it", field="paths")
    return name


def _below(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def _files_below(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the regular files below a folder in order, without hidden ones."""
    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _ends_all(error: RetrievalError) -> bool:
    """Return whether no other document could be put either."""
    if not isinstance(error, ServiceError):
        return False
    no_collection = error.status == "NOT_FOUND" and "collection" in error.metadata
    return no_collection or error.status in _OF_ALL or error.service_reason in _OF_ALL


class _Report:
    """What the command prints: failures as they happen, progress on a terminal, and a summary."""

    def __init__(self, *, as_json: bool) -> None:
        """Print for a program if ``as_json``, otherwise for a person."""
        self.failed = 0
        self._as_json = as_json
        self._live = sys.stderr.isatty() and not as_json
        self._started = time.monotonic()
        self._shown = 0.0

    def read(self, stream: "PutStream") -> None:
        """Print the outcomes of a stream, and the summary; also if it fails after some of them."""
        some = False
        try:
            for outcome in stream:
                self._outcome(outcome)
                some = True
        except BaseException:
            if some:
                self._summary(stream.progress)
            raise
        self._summary(stream.progress)

    def progress(self, progress: "PutProgress") -> None:
        """Show how far it has come, on a terminal and now and then."""
        now = time.monotonic()
        if not self._live or now - self._shown < _SHOWN_EVERY_SECONDS:
            return
        self._shown = now
        done = progress.created + progress.updated + progress.unchanged
        rate = done / max(now - self._started, 1e-9)
        failed = f" · {progress.failed} failed" if progress.failed else ""
        line = f"put {counted(done, 'document')}{failed} · {rate:.0f}/s"
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)

    def unreadable(self, error: OSError) -> None:
        """Count and print a folder that can't be read."""
        self._failure(str(error.filename), "", InvalidArgument(f"can't read it: {error.strerror}"))

    def _outcome(self, outcome: "PutOutcome") -> None:
        from retrieval.client import Put  # loaded by now

        assert isinstance(outcome.item, Put)  # noqa: S101
        if outcome.error is not None and _ends_all(outcome.error):
            raise outcome.error
        if outcome.error is not None:
            self._failure(str(outcome.item.path or _STANDARD_INPUT), outcome.uri, outcome.error)
        elif outcome.result is not None:
            if self._as_json:
                self._print_json({"uri": outcome.uri, **asdict(outcome.result), "error": None})
            for part in outcome.result.skipped:
                detail = f": {part.detail}" if part.detail else ""
                self._note(f"skipped {part.uri}: {part.reason}{detail}")
            for document in outcome.result.documents:
                if document.unread:
                    self._note(f"{document.uri}: could not read {named(document.unread)}")

    def _failure(self, path: str, uri: str, error: RetrievalError) -> None:
        self.failed += 1
        place = path if not uri or path.endswith(uri) else f"{path} ({uri})"
        self._note(f"failed {place}: {error.message}")
        if self._as_json:
            reason = error.service_reason if isinstance(error, ServiceError) else error.reason
            shown = {"reason": reason, "message": error.message, "metadata": error.metadata}
            self._print_json({"path": path, "uri": uri, "error": shown})

    def _note(self, text: str) -> None:
        self._clear()
        click.echo(on_one_line(text), err=True)

    def _clear(self) -> None:
        if self._live and self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _summary(self, progress: "PutProgress") -> None:
        self._clear()
        seconds = time.monotonic() - self._started
        if self._as_json:
            # A failure counts where it is read, and that of a folder only here.
            counts = asdict(progress) | {"failed": self.failed}
            self._print_json({"summary": counts | {"seconds": round(seconds, 3)}})
            return
        done = progress.created + progress.updated + progress.unchanged
        changes = ", ".join(
            f"{number} {name}"
            for name in ("created", "updated", "unchanged")
            if (number := getattr(progress, name))
        )
        parts = [f"put {counted(done, 'document')}{f' ({changes})' if changes else ''}"]
        parts += [counted(progress.passages, "passage")]
        parts += [f"{counted(progress.tokens, 'token')} embedded"]
        parts += [f"{progress.skipped} skipped"] if progress.skipped else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{progress.waiting} without an answer"] if progress.waiting else []
        click.echo(f"{', '.join(parts)} in {seconds:.1f} s")

    def _print_json(self, value: object) -> None:
        click.echo(json.dumps(value, ensure_ascii=False, default=str))
