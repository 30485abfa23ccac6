"""Ignore files: ``.gitignore`` and ``.indexerignore``, of a folder and the folders above it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

IGNORE_FILES: Final = (".gitignore", ".indexerignore")
"""Names of ignore files; a later one takes precedence."""

_FOLDER_MARK: Final = "ps_d"
"""Group of pathspec's expressions that matches a folder's ``/``."""
_MAX_BYTES: Final = 1 << 20
"""Larger files are refused: an ignore file has a few kilobytes, and its patterns are compiled."""


class BadIgnoreFile(Exception):
    """Raised for an ignore file that is too large."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Rules of an ignore file, linked to those that it takes precedence over."""

    base: str
    """Path of the file's folder relative to the root, with a final ``/``; empty for the root."""
    name: str
    """Name of the file, for people."""
    spec: GitIgnoreSpec
    above: "IgnoreRules | None"
    inside: str = ""
    """For a file above the root, path of the root relative to the file's folder, with a final
    ``/``."""

    def ignoring(self, relative: str, *, folder: bool) -> str:
        """Return the name of the file that ignores a path; empty if none does.

        Args:
            relative: the path, relative to the root.
            folder: whether it is a folder.
        """
        rules: IgnoreRules | None = self
        while rules is not None:
            path = rules.inside + relative.removeprefix(rules.base)
            ignored = _verdict(rules.spec, path + "/" if folder else path)
            if ignored is not None:
                return rules.name if ignored else ""
            rules = rules.above
        return ""


def rules_in(
    folder: str | Path, base: str, above: IgnoreRules | None, inside: str = ""
) -> IgnoreRules | None:
    """Return the rules that hold in a folder: those of its ignore files, then those above.

    Args:
        folder: the folder.
        base: as in ``IgnoreRules``.
        above: rules that hold in the folder above.
        inside: as in ``IgnoreRules``.

    Raises:
        OSError: a file can't be read.
        BadIgnoreFile: a file is too large.
    """
    for name in IGNORE_FILES:
        lines = _read_lines(Path(folder) / name)
        if lines:
            shown = f"{base or (inside and '../' * inside.count('/'))}{name}"
            above = IgnoreRules(base, shown, _compile(lines), above, inside)
    return above


def rules_above(root: Path) -> IgnoreRules | None:
    """Return the rules of the folders above a root, up to the top of its repository.

    Raises:
        OSError: a file can't be read.
        BadIgnoreFile: a file is too large.
    """
    repository = next((above for above in root.parents if (above / ".git").exists()), None)
    if repository is None or (root / ".git").exists():
        return None
    rules = None
    for folder in reversed(root.parents):
        if folder.is_relative_to(repository):
            rules = rules_in(folder, "", rules, f"{root.relative_to(folder).as_posix()}/")
    return rules


def _verdict(spec: GitIgnoreSpec, path: str) -> bool | None:
    """Whether a path is ignored; None if no pattern matches it.

    The last pattern that matches decides. Unlike in ``spec.match_file``, a pattern that matches a
    folder above the path does not count: that folder was checked before it was entered, and in git
    ``!*/`` brings back folders but not the files in them.
    """
    for pattern in reversed(spec.patterns):
        regex = pattern.regex
        if regex is not None and _matches(regex, path):
            return pattern.include
    return None


def _matches(regex: "re.Pattern[str]", path: str) -> bool:
    """Whether a pattern's regular expression matches the path itself."""
    if _FOLDER_MARK not in regex.groupindex:  # everything in a folder: "a/**"
        match = regex.search(path)
        return match is not None and match.end() < len(path)
    if not regex.pattern.startswith("^"):  # every folder: "*/"
        return path.endswith("/")
    return regex.fullmatch(path) is not None


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        return []
    if len(data) > _MAX_BYTES:
        raise BadIgnoreFile(f"{path.name} has more than {_MAX_BYTES} bytes")
    return os.fsdecode(data).splitlines()


def _compile(lines: list[str]) -> GitIgnoreSpec:
    """Compile patterns; malformed patterns match nothing, as in git."""
    return GitIgnoreSpec.from_lines(list(_well_formed(lines)))


def _well_formed(lines: list[str]) -> Iterator[str]:
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        yield line
