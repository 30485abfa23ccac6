"""Find the files to index under the roots that a person names, and say why the others are not.

Symbolic links are followed within their root only, and never to what is indexed under its own
name anyway. That leaves links to hidden or excluded files and folders, which is how mounted
configuration and versioned releases are often laid out.
"""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from pathspec import GitIgnoreSpec

from indexer.parse import HANDLED_EXTENSIONS
from indexer.skip import SkipReason
from retrieval.errors import InvalidArgument, SourceError
from retrieval.records import Skipped, SourceFile

MAX_FILE_BYTES: Final = 100 * 1024 * 1024
"""Larger files are skipped: parsing holds a file in memory several times over."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found under the roots; the same files give the same answer in the same order."""

    files: tuple[SourceFile, ...]
    """Files to index, sorted by uri; no two have the same."""
    skipped: tuple[Skipped, ...]
    """Everything that is not, sorted by uri; a folder that is not entered is one entry."""
    roots: tuple[tuple[str, Path], ...]
    """Name and real path of each root, in the order given."""


def discover(
    roots: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Discovery:
    """List the files under ``roots`` that can be indexed.

    Files are looked at, not opened. Patterns are those of ``.gitignore``: one without a slash
    matches a name at any depth, one with a slash is relative to the root, ``**`` spans folders,
    and what matches a folder matches all that is in it.

    Args:
        roots: folders and single files; the same one twice counts once.
        include: if any are given, only files that match one of them are listed.
        exclude: what matches one of them is not; this goes before ``include``.

    Raises:
        SourceError: a root is missing or can't be read, two roots have the same name, or one
            lies in another.
        InvalidArgument: a pattern is malformed.
    """
    patterns = _Patterns(_compile(include, "include"), _compile(exclude, "exclude"))
    files: list[SourceFile] = []
    skipped: list[Skipped] = []
    resolved = _resolve_roots(roots)
    for root in resolved:
        walk = _Walk(root, patterns)
        walk.run()
        files += walk.files
        skipped += walk.skipped
    files.sort(key=lambda file: (file.uri, os.fsencode(file.path)))
    unique: dict[str, SourceFile] = {}
    for file in files:
        if unique.setdefault(file.uri, file) is not file:
            detail = "another file's name is written the same way"
            skipped.append(Skipped(file.uri, file.root, SkipReason.DUPLICATE_NAME, detail))
    skipped.sort(key=lambda skip: (skip.uri, skip.reason))
    named = tuple((_text(root.name), root) for root in resolved)
    return Discovery(tuple(unique.values()), tuple(skipped), named)


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
                f"two sources have the same name {_text(root.name)!r}: {_text(other)} and "
                f"{_text(root)}; index a folder that holds both, or rename one"
            )
        by_path[root] = given
        by_name[root.name] = root
    for root in by_path:
        for parent in root.parents:
            if parent in by_path:
                raise SourceError(f"{_text(root)} lies in {_text(parent)}; name only one of them")
    return list(by_path)


def _resolve_root(given: Path) -> Path:
    """Return the real path of one root that a person named."""
    try:
        root = Path(os.path.realpath(given, strict=True))
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"no such file or folder: {_text(given)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SourceError(f"can't read {_text(given)}: {_cause(error)}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise SourceError(f"neither a file nor a folder: {_text(given)}")
    if not root.name:
        raise SourceError("the root of the file system can't be indexed; name a folder in it")
    return root


@dataclass(frozen=True, slots=True)
class _Patterns:
    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec | None

    def excluded(self, relative: str, *, folder: bool) -> str:
        """Why the file or folder at a path relative to the root is left out; empty if it isn't."""
        if self.exclude and self.exclude.match_file(relative + "/" if folder else relative):
            return "matches an exclude pattern"
        if self.include and not folder and not self.include.match_file(relative):
            return "matches no include pattern"
        return ""


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


@dataclass(slots=True)
class _Walk:
    """One root's walk: first all real files and folders, then the links, in order of path."""

    root: Path
    patterns: _Patterns
    files: list[SourceFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Links met on the way, as paths relative to the root."""
    seen: set[str] = field(default_factory=set)
    """Real paths of the files and folders listed so far."""

    def run(self) -> None:
        """Fill ``files`` and ``skipped``."""
        try:
            status = self.root.lstat()
            if not stat.S_ISDIR(status.st_mode):
                self._visit_file("", str(self.root), status)
                return
            with os.scandir(self.root):
                self._visit_folder("", str(self.root))
        except OSError as error:
            raise SourceError(f"can't read {_text(self.root)}: {_cause(error)}") from error
        while self.links:
            # Following one link may find others: they wait their turn.
            links, self.links = sorted(self.links, key=os.fsencode), []
            for link in links:
                self._visit_link(link)

    def _visit_folder(self, relative: str, real: str) -> None:
        """List a folder at a relative path whose real path may be another, and all in it."""
        pending = [(relative, real)]
        while pending:
            folder, folder_real = pending.pop()
            if folder_real in self.seen:
                self._skip(folder, SkipReason.DUPLICATE_LINK, _text(folder_real))
                continue
            self.seen.add(folder_real)
            try:
                with os.scandir(folder_real) as entries:
                    names = sorted((entry.name for entry in entries), key=os.fsencode)
            except OSError as error:
                self._skip(folder, SkipReason.UNREADABLE, _cause(error))
                continue
            for name in names:
                path = f"{folder}/{name}" if folder else name
                if self._visit_entry(path, f"{folder_real}/{name}"):
                    pending.append((path, f"{folder_real}/{name}"))

    def _visit_entry(self, relative: str, real: str) -> bool:
        """List or skip what lies in a folder; whether it is a folder to go into."""
        if relative.rpartition("/")[2].startswith("."):
            self._skip(relative, SkipReason.HIDDEN)
            return False
        try:
            status = os.lstat(real)
        except OSError as error:
            self._skip(relative, SkipReason.UNREADABLE, _cause(error))
            return False
        if stat.S_ISLNK(status.st_mode):
            self.links.append(relative)
            return False
        if not stat.S_ISDIR(status.st_mode):
            self._visit_file(relative, real, status)
            return False
        if detail := self.patterns.excluded(relative, folder=True):
            self._skip(relative, SkipReason.EXCLUDED, detail)
            return False
        return True

    def _visit_file(self, relative: str, real: str, status: os.stat_result) -> None:
        """List or skip one file; ``real`` is no link."""
        name = relative or self.root.name
        if real in self.seen:
            self._skip(relative, SkipReason.DUPLICATE_LINK, _text(real))
        elif detail := self.patterns.excluded(name, folder=False):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        elif unfit := _unfit(name, status):
            self._skip(relative, *unfit)
        else:
            self.seen.add(real)
            self.files.append(
                SourceFile(
                    path=Path(real),
                    uri=self._uri(relative),
                    root=_text(self.root.name),
                    size=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                )
            )

    def _visit_link(self, relative: str) -> None:
        """List what a link leads to, unless that is listed already or is outside the root."""
        try:
            real = os.path.realpath(self.root / relative, strict=True)
            folder = os.path.realpath((self.root / relative).parent, strict=True)
            status = os.lstat(real)
        except OSError as error:
            self._skip(relative, *_broken(error))
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if not Path(real).is_relative_to(self.root):
            self._skip(relative, SkipReason.OUTSIDE_ROOT, _text(real))
        elif is_folder and Path(folder).is_relative_to(real):
            self._skip(relative, SkipReason.LINK_LOOP, _text(real))
        elif real in self.seen:
            self._skip(relative, SkipReason.DUPLICATE_LINK, _text(real))
        elif not is_folder:
            self._visit_file(relative, real, status)
        elif detail := self.patterns.excluded(relative, folder=True):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        else:
            self._visit_folder(relative, real)

    def _skip(self, relative: str, reason: SkipReason, detail: str = "") -> None:
        self.skipped.append(Skipped(self._uri(relative), _text(self.root.name), reason, detail))

    def _uri(self, relative: str) -> str:
        return _text(f"{self.root.name}/{relative}" if relative else self.root.name)


def _unfit(name: str, status: os.stat_result) -> tuple[SkipReason, str] | None:
    """Why a file of that name and status can't be indexed; None if it can."""
    if not stat.S_ISREG(status.st_mode):
        return SkipReason.NOT_REGULAR, ""
    extension = PurePosixPath(name).suffix.lower()
    if extension not in HANDLED_EXTENSIONS:
        return SkipReason.UNSUPPORTED, _text(extension)
    if status.st_size == 0:
        return SkipReason.EMPTY, ""
    if status.st_size > MAX_FILE_BYTES:
        return SkipReason.TOO_LARGE, f"{status.st_size} bytes, at most {MAX_FILE_BYTES}"
    return None


def _broken(error: OSError) -> tuple[SkipReason, str]:
    """Why a link can't be followed."""
    if error.errno == errno.ELOOP:
        return SkipReason.LINK_LOOP, ""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SkipReason.BROKEN_LINK, ""
    return SkipReason.UNREADABLE, _cause(error)


def _cause(error: OSError | ValueError) -> str:
    """What went wrong, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _text(path: str | Path) -> str:
    r"""Return a path as text that can be encoded: bytes that are not UTF-8 become ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
