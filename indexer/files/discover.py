"""Find the files to index under the roots that a person names, and say why the others are not.

Symbolic links are followed within their root only, and never to what is indexed under its own
name anyway. That leaves links to hidden or excluded files and folders, which is how mounted
configuration and versioned releases are often laid out.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from indexer.files.walk import Patterns, Walk, cause, path_text
from indexer.skip import SkipReason
from retrieval.domain.records import FileChoice, Skipped, SourceFile
from retrieval.errors import InvalidArgument, SourceError


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found under the roots; the same files give the same answer in the same order."""

    files: tuple[SourceFile, ...]
    """Files to index, sorted by uri; no two have the same."""
    skipped: tuple[Skipped, ...]
    """Everything that is not, sorted by uri; a folder that is not entered is one entry."""
    roots: tuple[tuple[str, Path], ...]
    """Name and real path of each root, in the order given."""
    choice: FileChoice
    """How they were chosen."""


def discover(
    roots: Sequence[Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    use_ignore_files: bool = True,
    listed: Sequence[str] | None = None,
) -> Discovery:
    """List the files under ``roots`` that can be indexed.

    Files are looked at, not opened. Patterns are those of ``.gitignore``: one without a slash
    matches a name at any depth, one with a slash is relative to the root, ``**`` spans folders,
    and what matches a folder matches all that is in it.

    Args:
        roots: folders and single files; the same one twice counts once.
        include: if any are given, only files that match one of them are listed.
        exclude: what matches one of them is not; this goes before ``include``.
        use_ignore_files: whether ``.gitignore`` and ``.indexerignore`` files are followed.
        listed: paths of the files to list, in the only root or relative to it, and no others.

    Raises:
        SourceError: a root is missing or can't be read, two roots have the same name, or one
            lies in another.
        InvalidArgument: a pattern is malformed, or a listed path leads out of the root.
    """
    patterns = compile_patterns(include, exclude)
    files: list[SourceFile] = []
    skipped: list[Skipped] = []
    resolved = _resolve_roots(roots)
    for root in resolved:
        walk = Walk(root, patterns, use_ignore_files=use_ignore_files)
        if listed is None:
            walk.run()
        else:
            walk.run_listed(_relative(path, root) for path in listed)
        files += walk.matched()
        skipped += walk.skipped
    files.sort(key=lambda file: (file.uri, os.fsencode(file.path)))
    unique: dict[str, SourceFile] = {}
    for file in files:
        if unique.setdefault(file.uri, file) is not file:
            detail = "another file's name is written the same way"
            skipped.append(Skipped(file.uri, file.root, SkipReason.DUPLICATE_NAME, detail))
    skipped.sort(key=lambda skip: (skip.uri, skip.reason))
    named = tuple((path_text(root.name), root) for root in resolved)
    choice = FileChoice(tuple(include), tuple(exclude), use_ignore_files, listed is not None)
    return Discovery(tuple(unique.values()), tuple(skipped), named, choice)


def _relative(path: str, root: Path) -> str:
    """A listed path, relative to the root; ``..`` and ``.`` are taken out as text."""
    relative = os.path.relpath(os.path.join(root, path), root)  # noqa: PTH118 -- not resolved
    if relative == "." or relative.split("/", 1)[0] == "..":
        raise InvalidArgument(
            f"{path_text(path)} is no file in {path_text(root)}; only files in the present folder "
            f"can be listed",
            field="docs",
        )
    return relative


def _resolve_roots(roots: Sequence[Path]) -> list[Path]:
    """Resolve the roots to real paths, each once, and check them against each other."""
    by_path: dict[Path, Path] = {}
    by_name: dict[str, Path] = {}
    for given in roots:
        root = _resolve_root(given)
        if root in by_path:
            continue
        if other := by_name.get(root.name):
            raise SourceError(
                f"two sources have the same name {path_text(root.name)!r}: {path_text(other)} and "
                f"{path_text(root)}; index a folder that holds both, or rename one"
            )
        by_path[root] = given
        by_name[root.name] = root
    for root in by_path:
        for parent in root.parents:
            if parent in by_path:
                raise SourceError(
                    f"{path_text(root)} lies in {path_text(parent)}; name only one of them"
                )
    return list(by_path)


def _resolve_root(given: Path) -> Path:
    """Return the real path of one root that a person named."""
    try:
        root = Path(os.path.realpath(given, strict=True))
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"no such file or folder: {path_text(given)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SourceError(f"can't read {path_text(given)}: {cause(error)}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise SourceError(f"neither a file nor a folder: {path_text(given)}")
    if not root.name:
        raise SourceError("the root of the file system can't be indexed; name a folder in it")
    return root


def compile_patterns(include: Sequence[str], exclude: Sequence[str]) -> Patterns:
    """Make patterns ready to match paths.

    Raises:
        InvalidArgument: one is malformed.
    """
    return Patterns(_compile(include, "include"), _compile(exclude, "exclude"))


def _compile(patterns: Sequence[str], option: str) -> GitIgnoreSpec | None:
    """Compile globs; None if there are none."""
    for pattern in patterns:
        if not pattern.strip():
            raise InvalidArgument(f"an {option} pattern is empty", field=option)
    # A "#" would make the pattern a comment, and it would match nothing.
    lines = ["\\" + pattern if pattern.startswith("#") else pattern for pattern in patterns]
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except ValueError as error:
        raise InvalidArgument(f"bad {option} pattern: {error}", field=option) from error
