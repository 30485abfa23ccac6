"""Find the files to index under the roots that the user names, and say why others are skipped.

Symbolic links are followed within their root only, and never to a file that is indexed under its
own name anyway. That leaves links to hidden or excluded files and folders, which is how mounted
configuration and versioned releases are often laid out.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pathspec import GitIgnoreSpec

from indexer.files import sidecar
from indexer.files.generated import folder_by_name, generated_file, generated_folder
from indexer.files.ignore import BadIgnoreFile, IgnoreRules, rules_above, rules_in
from indexer.parse.formats import (
    ReadAs,
    content_decides,
    extension_of,
    is_container,
    max_bytes,
    unsupported,
)
from indexer.skip import SkipReason
from retrieval.domain.records import DEFAULT_READING, FileChoice, ReadSettings, Skipped, SourceFile
from retrieval.errors import InvalidArgument, SourceError


@dataclass(frozen=True, slots=True)
class Patterns:
    """Compiled ``--include`` and ``--exclude`` patterns."""

    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec | None

    def excluded(self, relative: str, *, folder: bool) -> str:
        """Return why a file or folder is left out; empty if it isn't.

        Args:
            relative: its path, relative to the root.
            folder: whether it is a folder.
        """
        if self.exclude and self.exclude.match_file(relative + "/" if folder else relative):
            return "matches an exclude pattern"
        if self.include and not folder and not self.include.match_file(relative):
            return "matches no include pattern"
        return ""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Files found under the roots; the same files give the same result in the same order."""

    files: tuple[SourceFile, ...]
    """Files to index, sorted by URI; no two have the same URI."""
    skipped: tuple[Skipped, ...]
    """Files that are skipped, sorted by URI; a folder that is not entered is one entry."""
    roots: tuple[tuple[str, Path], ...]
    """Name and real path of each root, in the order given."""
    choice: FileChoice
    """Patterns and switches that chose the files."""
    unsure: frozenset[str] = frozenset()
    """URIs of files whose name tells no format; see ``indexer.files.sniff``."""


def discover(
    roots: Sequence[Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    use_ignore_files: bool = True,
    generated: bool = False,
    listed: Sequence[str] | None = None,
    reading: ReadSettings = DEFAULT_READING,
    index: Path | None = None,
) -> Discovery:
    """List the files under ``roots`` that can be indexed.

    Files are not opened. Patterns follow the rules of ``.gitignore``: a pattern without a slash
    matches a name at any depth, a pattern with a slash is relative to the root, ``**`` spans
    folders, and a pattern that matches a folder matches everything in it.

    Args:
        roots: folders and single files; a root given twice counts once.
        include: if there are any, only files that match one of these patterns are listed.
        exclude: files that match one of these patterns are skipped, even if they are included.
        use_ignore_files: whether to follow ``.gitignore`` and ``.indexerignore`` files.
        generated: whether to list what programs generate; see ``indexer.files.generated``.
        listed: list these files only; paths in the only root, absolute or relative to it.
        reading: how the files are to be read.
        index: folder of the index, which is passed over if it lies under a root.

    Raises:
        SourceError: a root is missing or can't be read, two roots have the same name, or one root
            lies in another.
        InvalidArgument: a pattern is malformed, or a listed path leads out of the root.
    """
    patterns = compile_patterns(include, exclude)
    files: list[SourceFile] = []
    skipped: list[Skipped] = []
    resolved = _resolve_roots(roots)
    own = os.path.realpath(index) if index else ""
    for root in resolved:
        walk = _Walk(root, patterns, use_ignore_files, generated, reading.read_as, own)
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
            detail = "another file has the same name once it is written as UTF-8"
            skipped.append(Skipped(file.uri, file.root, SkipReason.DUPLICATE_NAME, detail))
    skipped.sort(key=lambda skip: (skip.uri, skip.reason))
    named = tuple((path_text(root.name), root) for root in resolved)
    choice = FileChoice(
        include=tuple(include),
        exclude=tuple(exclude),
        ignore_files=use_ignore_files,
        listed=listed is not None,
        generated=generated,
        reading=reading,
    )
    unsure = frozenset(uri for uri in unique if content_decides(uri, reading.read_as))
    return Discovery(tuple(unique.values()), tuple(skipped), named, choice, unsure)


def _relative(path: str, root: Path) -> str:
    """Return a listed path relative to the root, ``..`` and ``.`` resolved without the disk."""
    relative = os.path.relpath(os.path.join(root, path), root)  # noqa: PTH118 -- not resolved
    if relative == "." or relative.split("/", 1)[0] == "..":
        raise InvalidArgument(
            f"{path_text(path)} is not a file in {path_text(root)}; list only files in the current "
            f"folder",
            field="docs",
        )
    return relative


def _resolve_roots(roots: Sequence[Path]) -> list[Path]:
    """Return the real path of each root, after checking that none is in another."""
    by_path: dict[Path, Path] = {}
    by_name: dict[str, Path] = {}
    for given in roots:
        root = _resolve_root(given)
        if root in by_path:
            continue
        if other := by_name.get(root.name):
            raise SourceError(
                f"two sources have the same name {path_text(root.name)!r}: {path_text(other)} and "
                f"{path_text(root)}; index a folder that contains both, or rename one"
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
    """Return the real path of a root that the user named."""
    try:
        root = Path(os.path.realpath(given, strict=True))
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"no such file or folder: {path_text(given)}") from None
    except (OSError, ValueError) as error:  # ValueError if the path has a NUL
        raise SourceError(f"can't read {path_text(given)}: {cause(error)}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise SourceError(f"neither a file nor a folder: {path_text(given)}")
    if not root.name:
        raise SourceError("the root of the file system can't be indexed; name a folder in it")
    return root


def compile_patterns(include: Sequence[str], exclude: Sequence[str]) -> Patterns:
    """Compile patterns.

    Raises:
        InvalidArgument: a pattern is malformed.
    """
    return Patterns(_compile(include, "include"), _compile(exclude, "exclude"))


def _compile(patterns: Sequence[str], option: str) -> GitIgnoreSpec | None:
    """Compile the patterns of an option; return None if there are none."""
    for pattern in patterns:
        if not pattern.strip():
            raise InvalidArgument(f"an {option} pattern is empty", field=option)
    # A "#" would make the pattern a comment that matches nothing.
    lines = ["\\" + pattern if pattern.startswith("#") else pattern for pattern in patterns]
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except ValueError as error:
        raise InvalidArgument(f"bad {option} pattern: {error}", field=option) from error


@dataclass(slots=True)
class _Walk:
    """Walk over one root: first its real files and folders, then its links, in order of path."""

    root: Path
    patterns: Patterns
    use_ignore_files: bool
    generated: bool
    """Whether to list what programs generate."""
    read_as: ReadAs
    own: str
    """Real path of the index's folder, which is passed over; empty for none."""
    files: list[SourceFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Links that are still to be followed, as paths relative to the root."""
    sidecars: dict[str, SourceFile] = field(default_factory=dict)
    """URI of a document to the sidecar found for it."""
    seen: set[str] = field(default_factory=set)
    """Real paths of the files and folders listed so far."""
    rules: dict[str, IgnoreRules | None] = field(default_factory=dict)
    """Path of a folder to the rules of its ignore files and of those above it."""

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

        Such a file is listed even if it is hidden or an ignore file names it.

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
            # Following a link may find more links, for the next round.
            links, self.links = sorted(self.links, key=os.fsencode), []
            for link in links:
                self._visit_link(link)

    def matched(self) -> Iterator[SourceFile]:
        """Yield the files, each with its sidecar; skip sidecars without a file."""
        for file in self.files:
            yield replace(file, sidecar=self.sidecars.pop(file.uri, None))
        for lone in self.sidecars.values():
            self.skipped.append(Skipped(lone.uri, lone.root, SkipReason.LONE_SIDECAR))

    def _visit_folder(self, relative: str, real: str) -> None:
        """List a folder and everything in it; behind a link its real path differs."""
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
            beside = frozenset(names)
            for name in names:
                path = f"{folder}/{name}" if folder else name
                if self._visit_entry(path, f"{folder_real}/{name}", beside):
                    pending.append((path, f"{folder_real}/{name}"))

    def _rules_in(self, folder: str, real: str) -> IgnoreRules | None:
        """Return the ignore rules for the entries of a folder."""
        if not self.use_ignore_files:
            return None
        if not folder:
            return rules_in(real, "", rules_above(self.root))
        return rules_in(real, folder + "/", self.rules.get(folder.rpartition("/")[0]))

    def _visit_entry(self, relative: str, real: str, beside: frozenset[str]) -> bool:
        """List or skip an entry of a folder; return whether it is a folder to enter.

        Args:
            relative: path of the entry, relative to the root.
            real: its path without links.
            beside: names of all entries of the folder.
        """
        if real == self.own:
            return False
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
        elif detail := self._generated(relative, real, is_folder, beside):
            self._skip(relative, SkipReason.GENERATED, path_text(detail))
        elif stat.S_ISLNK(status.st_mode):
            self.links.append(relative)
        elif not is_folder:
            self._visit_file(relative, real, status)
        elif detail := self.patterns.excluded(relative, folder=True):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        else:
            return True
        return False

    def _generated(self, relative: str, real: str, is_folder: bool, beside: frozenset[str]) -> str:
        """Return which program generates an entry; empty if it is to be listed."""
        name = relative.rpartition("/")[2]
        if self.generated:
            return ""
        return generated_folder(name, beside, real) if is_folder else generated_file(name)

    def _visit_file(self, relative: str, real: str, status: os.stat_result) -> None:
        """List or skip one file; ``real`` is its path without links."""
        name = relative or self.root.name
        if name.endswith(sidecar.SUFFIX) and stat.S_ISREG(status.st_mode):
            found = self._source(relative, real, status)
            self.sidecars[found.uri.removesuffix(sidecar.SUFFIX)] = found
        elif real in self.seen:
            self._skip(relative, SkipReason.DUPLICATE_LINK, path_text(real))
        elif detail := self.patterns.excluded(name, folder=is_container(name, self.read_as)):
            self._skip(relative, SkipReason.EXCLUDED, detail)
        elif problem := _problem(name, status, self.read_as):
            self._skip(relative, *problem)
        else:
            self.seen.add(real)
            self.files.append(self._source(relative, real, status))

    def _visit_sibling(self, relative: str) -> None:
        """Find the sidecar of a file that was named by the user."""
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
        """List the target of a link, unless it is listed already or lies outside the root."""
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


def _problem(name: str, status: os.stat_result, read_as: ReadAs) -> tuple[SkipReason, str] | None:
    """Return why a file can't be indexed; None if it can."""
    if not stat.S_ISREG(status.st_mode):
        return SkipReason.NOT_REGULAR, ""
    return why_skipped(name, status.st_size, max_bytes(name, read_as), read_as)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a lock file of an office program."""
    return name.startswith((".", "~$"))


def generated_member(parts: Sequence[str]) -> str:
    """Return which program generates a member of a container, by its path; empty for none."""
    *folders, name = parts
    return next(filter(None, map(folder_by_name, folders)), "") or generated_file(name)


def why_skipped(name: str, size: int, most: int, read_as: ReadAs) -> tuple[SkipReason, str] | None:
    """Return why a file can't be indexed, by its name and size; None if it can.

    Args:
        name: name or path of the file.
        size: its size in bytes.
        most: maximum size.
        read_as: formats of extensions that the user chose.
    """
    if (detail := unsupported(name, read_as)) is not None:
        return SkipReason.UNSUPPORTED, path_text(detail)
    if size == 0:
        return SkipReason.EMPTY, ""
    if size > most and content_decides(name, read_as):
        return SkipReason.UNSUPPORTED, f"{path_text(extension_of(name))}, and too large for text"
    if size > most:
        return SkipReason.TOO_LARGE, f"{size} bytes, at most {most}"
    return None


def _broken(error: OSError) -> tuple[SkipReason, str]:
    """Return why a link can't be followed."""
    if error.errno == errno.ELOOP:
        return SkipReason.LINK_LOOP, ""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SkipReason.BROKEN_LINK, ""
    return SkipReason.UNREADABLE, cause(error)


def cause(error: Exception) -> str:
    """Return the message of an error, without the path."""
    return getattr(error, "strerror", None) or str(error)


def path_text(path: str | Path) -> str:
    r"""Return a path as text that can be encoded: bytes that are not UTF-8 become ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
