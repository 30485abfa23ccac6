"""Commands that build an index: once, or again whenever files change."""

import codecs
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from indexer.build.progress import ConsoleProgress
from indexer.commands.options import DEVICE_OPTION, INDEX_OPTION, JSON_OPTION, read_list
from indexer.parse.formats import FORMAT_OF_KEY
from retrieval.commands.parameters import NonEmptyPath, not_empty
from retrieval.commands.program import FiniteRange
from retrieval.domain.languages import LANGUAGES, NO_LANGUAGE
from retrieval.domain.records import DTYPE_NAMES, ReadSettings
from retrieval.domain.wording import did_you_mean, on_one_line, printable
from retrieval.encoding.model_cards import DEFAULT_MODEL
from retrieval.errors import InvalidArgument

if TYPE_CHECKING:
    from indexer.build.dry_run import DryRun
    from indexer.build.report import BuildReport
    from indexer.build.settings import BuildOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_LANGUAGE: Final = re.compile(r"[a-zA-Z]{2,8}(?:[-_][a-zA-Z]{2,8})?")
"""Code of a language in ISO 639, or of Tesseract's data for it."""

_BUILD_EXAMPLES = (
    "\b\nExamples:\n"
    "  indexer build ./docs\n"
    "  indexer build ./docs ./wiki --index ./index --model all-minilm-l6-v2\n"
    "  indexer build ./docs --exclude 'drafts/**' --chunk-tokens 256\n"
    "  git ls-files docs | indexer build -\n"
    "  indexer build ./docs --dry-run\n"
    "  indexer build ./docs --ray 10.0.0.1:6379\n"
)

_WATCH_EXAMPLES = (
    "\b\nExamples:\n  indexer watch ./docs\n  indexer watch ./docs ./wiki --index ./index --json\n"
)


class ChunkTokens(click.ParamType[int]):
    """A number of tokens, or ``document`` (as 0) for one chunk per document."""

    name = "N|document"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of tokens."""
        if value == "document":
            return 0
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither a number from 1 up nor 'document'", param, ctx)
        return number


def _codec(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return the name of the codec that a user means."""
    if not value:
        return ""
    try:
        "".encode(value)  # some codecs, such as base64, are not of texts
        return codecs.lookup(value).name
    except (LookupError, UnicodeError, ValueError):
        raise click.BadParameter(
            f"{value!r} is no encoding; try a name such as cp1251, shift_jis or gb18030", ctx, param
        ) from None


def _languages(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return codes of languages, which become arguments of a program."""
    for value in values:
        if not _LANGUAGE.fullmatch(value):
            raise click.BadParameter(
                f"{value!r} is no code of a language; try one such as de, ru or chi_sim", ctx, param
            )
    return values


def _read_as(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return the extensions in ``FORMAT:.EXT,.EXT`` and the formats to read them as."""
    chosen: dict[str, str] = {}
    for value in values:
        key, _, listed = value.partition(":")
        ends = [end.strip().lower() for end in listed.split(",")]
        if not all(end.startswith(".") and end[1:] and "/" not in end for end in ends):
            raise click.BadParameter(
                f"{value!r} must be a format and extensions, such as text:.log,.foo", ctx, param
            )
        if key not in FORMAT_OF_KEY:
            advice = (
                did_you_mean(key, FORMAT_OF_KEY) or f"; the formats are {', '.join(FORMAT_OF_KEY)}"
            )
            raise click.BadParameter(f"there is no format {key!r}{advice}", ctx, param)
        chosen |= dict.fromkeys(ends, key)
    return tuple(sorted(chosen.items()))


_OPTIONS: Final = (
    click.argument("docs", nargs=-1, required=True, type=NonEmptyPath()),
    INDEX_OPTION,
    click.option(
        "--model",
        callback=not_empty,
        help=f"Registry name, hub id (@REVISION allowed) or folder. "
        f"[default: the index's own; for a new one {DEFAULT_MODEL}]",
    ),
    click.option(
        "--chunk-tokens",
        type=ChunkTokens(),
        metavar="N|document",
        help="Maximum number of tokens in a chunk; 'document' for one chunk per document, of which "
        "the model reads the start. [default: what suits the model, at most 512]",
    ),
    click.option(
        "--chunk-overlap",
        type=click.IntRange(min=0),
        help="Maximum number of tokens that a chunk repeats from the one before. [default: an "
        "eighth of --chunk-tokens]",
    ),
    click.option(
        "--context",
        type=click.Choice(["none", "headings"]),
        help="What to embed with each chunk: nothing, or its document's title and its headings. "
        "[default: none]",
    ),
    click.option(
        "--text-field",
        "text_fields",
        multiple=True,
        callback=not_empty,
        metavar="PATH",
        help="Field that holds the text of JSON records, such as answer.body. [default: the usual "
        "names, such as text and body]",
    ),
    click.option("--include", multiple=True, metavar="GLOB", help="Index only matching files."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Skip matching files."),
    click.option(
        "--no-ignore", is_flag=True, help="Don't follow .gitignore and .indexerignore files."
    ),
    click.option(
        "--all-files",
        "generated",
        is_flag=True,
        help="Take in what programs generate, too, such as node_modules, lock files and minified "
        "scripts.",
    ),
    click.option(
        "--as",
        "read_as",
        multiple=True,
        callback=_read_as,
        metavar="FORMAT:.EXT,...",
        help="Read files with these extensions as another format, as in text:.log,.foo. "
        "[default: as `indexer formats` lists them; others as text if they look like it]",
    ),
    click.option(
        "--encoding",
        default="",
        callback=_codec,
        metavar="NAME",
        help="Encoding of files that are not UTF-8 and name none, such as cp1251. [default: to "
        "detect it]",
    ),
    click.option(
        "--ocr-language",
        "ocr_languages",
        multiple=True,
        callback=_languages,
        metavar="CODE",
        help="Language of scanned pages and pictures, such as de or ru. [default: any that the "
        "engine knows]",
    ),
    DEVICE_OPTION,
    click.option(
        "--dtype",
        type=click.Choice(["auto", *DTYPE_NAMES]),
        default="auto",
        show_default=True,
        help="Type of the model's weights; int8 is for the CPU.",
    ),
    click.option(
        "--index-type",
        type=click.Choice(["auto", "flat", "ivf", "hnsw"]),
        help="How to search vectors; auto means exact search (flat) up to 50,000 vectors, and ivf "
        "above. [default: the index's own; for a new one auto]",
    ),
    click.option(
        "--target-recall",
        type=FiniteRange(0.5, 1.0),
        help="Recall@10 to tune an approximate index to. [default: the index's own; for a new one "
        "0.98]",
    ),
    click.option(
        "--language",
        type=click.Choice([*LANGUAGES, NO_LANGUAGE]),
        help="Language of the texts (ISO 639-1): chooses the stemmer and the stop words of lexical "
        "search; 'none' for neither. [default: the index's own; for a new one en]",
    ),
    JSON_OPTION,
)


def _build_options(command: Command) -> Command:
    """Add the options of a build to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(epilog=_BUILD_EXAMPLES)
@_build_options
@click.option(
    "--reread",
    is_flag=True,
    help="Read all files again, also those that have not changed, as after an upgrade; texts that "
    "the index has are not embedded again.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Estimate the work and the time without writing anything.",
)
@click.option(
    "--ray",
    "cluster",
    callback=not_empty,
    metavar="local|auto|HOST:PORT",
    help="Read files and embed on a Ray cluster: one of this machine for the time of the build, "
    "the one that this machine is a node of, or by its head's address. [default: in this program]",
)
@click.option(
    "--ray-cpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU cores of each worker on the cluster.",
)
@click.option(
    "--ray-gpus",
    type=FiniteRange(0.0),
    default=0.0,
    show_default=True,
    help="GPUs of each worker on the cluster; with 0, workers embed on the CPU.",
)
@click.option(
    "--ray-workers",
    type=click.IntRange(min=1),
    help="Number of workers on the cluster, which wait for room if need be. "
    "[default: as many as there is room for]",
)
def build(
    *,
    dry_run: bool,
    as_json: bool,
    cluster: str | None,
    ray_cpus: int,
    ray_gpus: float,
    ray_workers: int | None,
    **chosen: Any,
) -> None:
    """Build an index of folders and files, or bring it up to date.

    DOCS are folders and files, or `-` for a list of files on standard input.

    Only files that changed since the last build are read and embedded, and files that are gone
    leave the index. An interrupted build continues from its last commit when you run it again.
    """
    from indexer.build.build import build as run  # loads faiss
    from indexer.build.cluster.pool import Share
    from indexer.build.cluster.site import RayCluster
    from indexer.build.dry_run import dry_run as estimate

    if cluster is not None and dry_run:
        raise InvalidArgument("--dry-run measures the speed of this machine: omit --ray")
    listed = read_list(sys.stdin.buffer) if Path("-") in chosen["docs"] else None
    if listed is not None:
        if len(chosen["docs"]) > 1:
            raise InvalidArgument("`-` reads a list of files from standard input; name no folders")
        chosen["docs"] = (Path.cwd(),)
    options = _chosen(listed=listed, **chosen)
    with ConsoleProgress() as progress:
        if dry_run:
            report: DryRun | BuildReport = estimate(options, progress)
        elif cluster is None:
            report = run(options, progress)
        else:
            with RayCluster(cluster, Share(ray_cpus, ray_gpus, ray_workers)) as site:
                report = run(options, progress, site)
    click.echo(json.dumps(report.as_json()) if as_json else printable(report.as_text()))


@click.command(epilog=_WATCH_EXAMPLES)
@_build_options
def watch(*, as_json: bool, **chosen: Any) -> None:
    """Keep an index up to date with folders until you stop it.

    Builds the index, and builds it again whenever files change. Prints a line for each generation.
    """
    from indexer.build.watch import watch as run  # loads faiss

    for report in run(_chosen(**chosen), note=lambda line: click.echo(on_one_line(line), err=True)):
        click.echo(json.dumps(report.as_json()) if as_json else on_one_line(report.as_line()))
        sys.stdout.flush()


def _chosen(
    *,
    context: str | None,
    text_fields: tuple[str, ...],
    no_ignore: bool,
    encoding: str,
    ocr_languages: tuple[str, ...],
    read_as: tuple[tuple[str, str], ...],
    **chosen: Any,
) -> "BuildOptions":
    """Return the options of the command line."""
    from indexer.build.settings import BuildOptions

    return BuildOptions(
        context=None if context is None else context == "headings",
        text_fields=text_fields or None,
        use_ignore_files=not no_ignore,
        reading=ReadSettings(encoding=encoding, read_as=read_as, ocr_languages=ocr_languages),
        **chosen,
    )
