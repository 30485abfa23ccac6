"""The walk of one root: which of its files can be indexed, and why the others are not."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pathspec import GitIgnoreSpec

from indexer.files import sidecar
from indexer.files.ignore import BadIgnoreFile, IgnoreRules, rules_above, rules_in
from indexer.parse.formats import format_of, is_container, unsupported
from indexer.skip import SkipReason
from retrieval.domain.records import Skipped, SourceFile
from retrieval.errors import SourceError


@dataclass(frozen=True, slots=True)
class Patterns:
    """What a person wants in and out."""

    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec | None

    def excluded(self, relative: str, *, folder: bool) -> str:
        """Why the file or folder at a path relative to the root is left out; empty if it isn't."""
        if self.exclude and self.exclude.match_file(relative + "/" if folder else relative):
            return "matches an exclude pattern"
        if self.include and not folder and not self.include.match_file(relative):
            return "matches no include pattern"
        return ""


@dataclass(slots=True)
class Walk:
    """One root's walk: first all real files and folders, then the links, in order of path."""

    root: Path
    patterns: Patterns
    files: list[SourceFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Links met on the way, as paths relative to the root."""
    sidecars: dict[str, SourceFile] = field(default_factory=dict)
    """By URI of the document that each should belong to."""
    seen: set[str] = field(default_factory=set)
    """Real paths of the files and folders listed so far."""
    use_ignore_files: bool = True
    rules: dict[str, IgnoreRules | None] = field(default_factory=dict)
    """By path of the folder, what its ignore files and those above it say."""

    def run(self) -> None:
        """Fill ``files`` and ``skipped``."""
        try:
            status = self.root.lstat()
            if not stat.S_ISDIR(status.st_mode):
                self._visit_file("", str(self.root), status)
                self._visit_sibling("")
                return
            with os.scandir(self.root):
                self._visit_folder("", str(self.root))
        except OSError as error:
            raise SourceError(f"can't read {path_text(self.root)}: {cause(error)}") from error
        self._visit_links()

    def run_listed(self, paths: Iterable[str]) -> None:
        """Fill ``files`` and ``skipped`` with files that were named one by one.

        Being named goes before ignore files and hidden names.

        Args:
            paths: relative to the root.
        """
        for relative in sorted(set(paths), key=os.fsencode):
            real = f"{self.root}/{relative}"
            try:
                status = os.lstat(real)
            except (FileNotFoundError, NotADirectoryError):
                self._skip(relative, SkipReason.MISSING)
            except OSError as error:
                self._skip(relative, SkipReason.UNREADABLE, cause(error))
            else:
                if stat.S_ISLNK(status.st_mode):
                    self.links.append(relative)
                else:
                    self._visit_file(relative, real, status)
                self._visit_sibling(relative)
        self._visit_links()

    def _visit_links(self) -> None:
        while self.links:
            # Following one link may find others: they wait their turn.
            links, self.links = sorted(self.links, key=os.fsencode), []
            for link in links:
                self._visit_link(link)

    def matched(self) -> Iterator[SourceFile]:
        """The files, each with its sidecar; a sidecar that belongs to none of them is skipped."""
        for file in self.files:
            yield replace(file, sidecar=self.sidecars.pop(file.uri, None))
        for lone in self.sidecars.values():
            self.skipped.append(Skipped(lone.uri, lone.root, SkipReason.LONE_SIDECAR))

    def _visit_folder(self, relative: str, real: str) -> None:
        """List a folder at a relative path whose real path may be another, and all in it."""
        pending = [(relative, real)]
        while pending:
            folder, folder_real = pending.pop()
            if folder_real in self.seen:
                self._skip(folder, SkipReason.DUPLICATE_LINK, path_text(folder_real))
                continue
            self.seen.add(folder_real)
            try:
                self.rules[folder] = self._rules_in(folder, folder_real)
                with os.scandir(folder_real) as entries:
                    names = sorted((entry.name for entry in entries), key=os.fsencode)
            except (OSError, BadIgnoreFile) as error:
                self._skip(folder, SkipReason.UNREADABLE, cause(error))
                continue
            for name in names:
                path = f"{folder}/{name}" if folder else name
                if self._visit_entry(path, f"{folder_real}/{name}"):
                    pending.append((path, f"{folder_real}/{name}"))

    def _rules_in(self, folder: str, real: str) -> IgnoreRules | None:
        """What ignore files say of what lies in a folder."""
        if not self.use_ignore_files:
            return None
        if not folder:
            return rules_in(real, "", rules_above(self.root))
        return rules_in(real, folder + "/", self.rules.get(folder.rpartition("/")[0]))

    def _visit_entry(self, relative: str, real: str) -> bool:
        """List or skip what lies in a folder; whether it is a folder to go into."""
        if is_hidden(relative.rpartition("/")[2]):
            self._skip(relative, SkipReason.HIDDEN)
            return False
        try:
            status = os.lstat(real)
        except OSError as error:
            self._skip(relative, SkipReason.UNREADABLE, cause(error))
            return False
        is_folder = stat.S_ISDIR(status.st_mode)
        rules = self.rules.get(relative.rpartition("/")[0])
        if by := rules.ignoring(relative, folder=is_folder) if rules else "":
            self._skip(relative, SkipReason.IGNORED, f"by {path_text(by)}")
        elif stat.S_ISLNK(status.st_mode):
            self.links.append(relative)
        elif not is_folder:
            self._visit_file(relative, real, status)
        elif detail := self.patterns.excluded(relative, folder=True):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        else:
            return True
        return False

    def _visit_file(self, relative: str, real: str, status: os.stat_result) -> None:
        """List or skip one file; ``real`` is no link."""
        name = relative or self.root.name
        if name.endswith(sidecar.SUFFIX) and stat.S_ISREG(status.st_mode):
            found = self._source(relative, real, status)
            self.sidecars[found.uri.removesuffix(sidecar.SUFFIX)] = found
        elif real in self.seen:
            self._skip(relative, SkipReason.DUPLICATE_LINK, path_text(real))
        elif detail := self.patterns.excluded(name, folder=is_container(name)):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        elif problem := _problem(name, status):
            self._skip(relative, *problem)
        else:
            self.seen.add(real)
            self.files.append(self._source(relative, real, status))

    def _visit_sibling(self, relative: str) -> None:
        """Find the sidecar of a file that was named itself."""
        beside = f"{self.root}/{relative}" if relative else str(self.root)
        beside += sidecar.SUFFIX
        with suppress(OSError):
            status = os.lstat(beside)
            uri = self._uri(relative)
            if stat.S_ISREG(status.st_mode) and any(file.uri == uri for file in self.files[-1:]):
                found = self._source(relative, beside, status)
                self.sidecars[uri] = replace(found, uri=uri + sidecar.SUFFIX)

    def _source(self, relative: str, real: str, status: os.stat_result) -> SourceFile:
        return SourceFile(
            path=Path(real),
            uri=self._uri(relative),
            root=path_text(self.root.name),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
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
            self._skip(relative, SkipReason.OUTSIDE_ROOT, path_text(real))
        elif is_folder and Path(folder).is_relative_to(real):
            self._skip(relative, SkipReason.LINK_LOOP, path_text(real))
        elif real in self.seen:
            self._skip(relative, SkipReason.DUPLICATE_LINK, path_text(real))
        elif not is_folder:
            self._visit_file(relative, real, status)
        elif detail := self.patterns.excluded(relative, folder=True):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        else:
            self._visit_folder(relative, real)

    def _skip(self, relative: str, reason: SkipReason, detail: str = "") -> None:
        self.skipped.append(Skipped(self._uri(relative), path_text(self.root.name), reason, detail))

    def _uri(self, relative: str) -> str:
        return path_text(f"{self.root.name}/{relative}" if relative else self.root.name)


def _problem(name: str, status: os.stat_result) -> tuple[SkipReason, str] | None:
    """Why a file of that name and status can't be indexed; None if it can."""
    if not stat.S_ISREG(status.st_mode):
        return SkipReason.NOT_REGULAR, ""
    format_ = format_of(name)
    return unfit(name, status.st_size, format_.max_bytes if format_ else 0)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or a lock file of an office program."""
    return name.startswith((".", "~$"))


def unfit(name: str, size: int, most: int) -> tuple[SkipReason, str] | None:
    """Why a file can't be indexed, nor what is in it; None if it can.

    Args:
        name: its name, or its path.
        size: its bytes.
        most: how many it may have.
    """
    if (detail := unsupported(name)) is not None:
        return SkipReason.UNSUPPORTED, path_text(detail)
    if size == 0:
        return SkipReason.EMPTY, ""
    if size > most:
        return SkipReason.TOO_LARGE, f"{size} bytes, at most {most}"
    return None


def _broken(error: OSError) -> tuple[SkipReason, str]:
    """Why a link can't be followed."""
    if error.errno == errno.ELOOP:
        return SkipReason.LINK_LOOP, ""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SkipReason.BROKEN_LINK, ""
    return SkipReason.UNREADABLE, cause(error)


def cause(error: Exception) -> str:
    """What went wrong, without the path."""
    return getattr(error, "strerror", None) or str(error)


def path_text(path: str | Path) -> str:
    r"""Return a path as text that can be encoded: bytes that are not UTF-8 become ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
