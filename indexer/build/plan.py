"""Plan a build: compare the files found with the documents that the index knows."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from indexer.build.settings import choice_as_typed
from indexer.files.discover import Discovery
from indexer.files.sniff import without_binaries
from indexer.parse.formats import (
    CONTAINER_EXTENSIONS,
    DOCUMENT_EXTENSIONS,
    WHOLE_NAMES,
    ReadAs,
    holds_files,
    installed_extras,
)
from indexer.skip import SkipReason
from retrieval import __version__
from retrieval.domain.records import DEFAULT_READING, ContainerStamp, RootInfo, Skipped, SourceFile
from retrieval.domain.wording import counted
from retrieval.errors import SourceError
from retrieval.store import KnownFile, Writer

_SETTLED: Final = frozenset(
    {
        SkipReason.BINARY,
        SkipReason.DAMAGED,
        SkipReason.EMPTY,
        SkipReason.ENCRYPTED,
        SkipReason.NO_TEXT,
        SkipReason.SCANNED,
    }
)
"""Reasons that lie in a file alone: it is not read again before it changes. Of the others, some
pass, such as a limit of time on a busy machine, and some are known without reading."""

_READERS: Final = " ".join(("version", __version__, *installed_extras()))
"""Names the readers that a file was skipped by: others may find text in it."""


@dataclass(slots=True)
class Plan:
    """The work of one build; ``skipped`` and ``gone`` grow while files are read."""

    roots: Sequence[RootInfo]
    """The roots as they are now."""
    warnings: list[str] = field(default_factory=list)
    """Warnings for the user before the build starts, a line each."""
    to_read: list[SourceFile] = field(default_factory=list)
    """Files that are new, or whose size or modification time, or their sidecar's, differs."""
    unchanged: int = 0
    """Number of documents that need no work."""
    known: dict[str, KnownFile] = field(default_factory=dict)
    """URI to the index's record, for every document under the roots."""
    skipped: list[Skipped] = field(default_factory=list)
    touched: list[tuple[int, SourceFile]] = field(default_factory=list)
    """Documents, by id, whose file has a new modification time but the same content."""
    gone: set[str] = field(default_factory=set)
    """URIs of documents to remove from the index."""
    settled: set[str] = field(default_factory=set)
    """URIs of skipped files that would be skipped again as they are."""
    reread: set[str] = field(default_factory=set)
    """Names of the roots whose files are all read, also those that have not changed."""
    kept: set[str] = field(default_factory=set)
    """URIs of documents whose file can't be read now; the version in the index stays."""
    read_as: ReadAs = ()
    """Formats of extensions that the user chose."""
    rules: str = ""
    """As in ``ContainerStamp``."""
    containers: dict[str, ContainerStamp] = field(default_factory=dict)
    """URI to the stamp of what need not be read again while it stays as it is: containers that
    have been read to their end, and files with nothing to index."""
    members: dict[str, dict[str, KnownFile]] = field(default_factory=dict)
    """URI of a container to read, to its documents in the index that were not found in it yet."""

    def skip(self, skip: Skipped) -> None:
        """Record a skipped file, and remove its document from the index if there is one.

        If a file or folder can't be read *now*, its documents stay as they were indexed.
        """
        self.skipped.append(skip)
        if skip.reason in _SETTLED:
            self.settled.add(skip.uri)
        if skip.reason == SkipReason.UNREADABLE:
            inside = skip.uri + "/"
            self.kept |= {uri for uri in self.known if uri == skip.uri or uri.startswith(inside)}
        elif skip.uri in self.known:
            self.gone.add(skip.uri)

    def known_of(self, source: SourceFile) -> dict[str, str]:
        """Return URI to digest of the index's documents that need not be parsed if it is the same.

        Args:
            source: a file, whose document is meant, or a container, whose members are.
        """
        if source.root in self.reread:
            return {}
        known = self.members.get(source.uri, {})
        if source.uri in self.known:
            known = {**known, source.uri: self.known[source.uri]}
        return {uri: file.sha256 for uri, file in known.items()}

    def is_unchanged(self, source: SourceFile) -> bool:
        """Return whether the index has a file as it is now, and it need not be read again."""
        known = self.known.get(source.uri)
        is_same = known is not None and known.stamp == source.stamp
        return is_same and source.root not in self.reread

    def stamp(self, source: SourceFile) -> ContainerStamp:
        """Return the stamp by which an unchanged container or skipped file is recognised."""
        rules = self.rules if holds_files(source.uri, self.read_as) else _READERS
        return ContainerStamp(source.size, source.mtime_ns, rules)

    def turned_up(self, source: SourceFile) -> None:
        """Note that a member of a container is still there."""
        self.members.get(source.container, {}).pop(source.uri, None)

    def finish(self, source: SourceFile, *, complete: bool) -> None:
        """Note that a file has been read: members of a container that were not found are gone."""
        if holds_files(source.uri, self.read_as):
            self.gone |= self.members.pop(source.uri, {}).keys() - self.kept
            if complete:
                self.containers[source.uri] = self.stamp(source)
        elif source.uri in self.settled and source.sidecar is None:
            self.containers[source.uri] = self.stamp(source)


def plan_build(writer: Writer, discovery: Discovery, *, reread: bool = False) -> Plan:
    """Compare files and index by size and modification time.

    Args:
        writer: the index.
        discovery: the files found.
        reread: whether to read all files; those of a root that was read with other settings are
            read in any case.

    Raises:
        SourceError: a root has no documents now but has some in the index, or another folder of
            the same name is indexed already.
    """
    roots = [RootInfo(name, str(path), discovery.choice) for name, path in discovery.roots]
    plan = Plan(roots, read_as=discovery.choice.reading.read_as, rules=_rules(discovery))
    recorded = writer.roots()
    plan.reread = {
        root.name for root in roots if reread or _is_read_differently(root, recorded.get(root.name))
    }
    for name, path in discovery.roots:
        _check_root(path, recorded.get(name))
        plan.known |= writer.known_files(name)
    discovery = without_binaries(discovery, plan.is_unchanged)
    check_not_empty(discovery, plan.known)
    for skip in discovery.skipped:
        plan.skip(skip)
    seen = {source.uri for source in discovery.files} | {skip.uri for skip in discovery.skipped}
    seen |= _plan_containers(plan, writer, discovery)
    for source in discovery.files:
        holds = holds_files(source.uri, plan.read_as)
        is_read = source.uri in plan.containers
        if plan.is_unchanged(source) and (is_read or not holds):
            plan.unchanged += 1
        elif not is_read or (holds and source.uri in plan.known):
            plan.to_read.append(source)
    plan.gone |= plan.known.keys() - seen - plan.kept
    plan.warnings += _choice_warnings(plan, recorded)
    return plan


def _is_read_differently(root: RootInfo, recorded: RootInfo | None) -> bool:
    """Whether the last build read the files of a root with other settings."""
    if recorded is None or root.choice is None:
        return False
    before = recorded.choice.reading if recorded.choice else DEFAULT_READING
    return before != root.choice.reading


def _choice_warnings(plan: Plan, recorded: Mapping[str, RootInfo]) -> Iterator[str]:
    """Yield a line for each root whose files the last build chose by other options."""
    for root in plan.roots:
        before = recorded[root.name].choice if root.name in recorded else None
        if before is None or root.choice is None or before == root.choice:
            continue
        yield (
            f"the last build chose the files of {root.name} with {choice_as_typed(before)}, this "
            f"build uses {choice_as_typed(root.choice)}; "
            + (
                "all files are read again, and "
                if _is_read_differently(root, recorded[root.name])
                else ""
            )
            + "documents that are no longer chosen leave the index"
        )


def _plan_containers(plan: Plan, writer: Writer, discovery: Discovery) -> set[str]:
    """Find what need not be read again; return the documents in all containers."""
    found = {file.uri: file for file in discovery.files if holds_files(file.uri, plan.read_as)}
    files = {**found, **{file.uri: file for file in discovery.files if file.sidecar is None}}
    for uri, file in plan.known.items() if found else ():
        # The outermost container counts: an inner one is read with it.
        outer = next((path for path in _folders(uri) if path in found), None)
        if outer:
            plan.members.setdefault(outer, {})[uri] = file
    members = {uri for known in plan.members.values() for uri in known}
    for name, _ in discovery.roots:
        for uri, stamp in writer.containers(name).items():
            if name not in plan.reread and uri in files and plan.stamp(files[uri]) == stamp:
                plan.containers[uri] = stamp
                plan.unchanged += len(plan.members.pop(uri, {}))
        plan.skipped += [
            skip
            for skip in writer.skipped(name)
            if skip.uri in plan.containers
            or any(path in plan.containers for path in _folders(skip.uri))
        ]
    return members


def _rules(discovery: Discovery) -> str:
    """Return a digest of the rules that choose the members of containers."""
    handled = (*DOCUMENT_EXTENSIONS, *WHOLE_NAMES, *CONTAINER_EXTENSIONS)
    choice = discovery.choice
    rules = json.dumps([choice.include, choice.exclude, choice.generated, handled])
    return hashlib.sha256(rules.encode("utf-8", "surrogatepass")).hexdigest()


def _folders(uri: str) -> Iterator[str]:
    """Yield the folders and containers that a URI lies in, outermost first."""
    end = uri.find("/")
    while end >= 0:
        yield uri[:end]
        end = uri.find("/", end + 1)


def check_not_empty(discovery: Discovery, known: Iterable[str] = ()) -> None:
    """Refuse roots with nothing to index: most likely a wrong path or an unmounted disk.

    Args:
        discovery: the files found.
        known: URIs of the documents that the index has under these roots.

    Raises:
        SourceError: nothing was found at all, or nothing under a root that had documents.
    """
    found = {source.root for source in discovery.files}
    had = {uri.partition("/")[0] for uri in known}
    for name, path in discovery.roots:
        if name in found or (found and name not in had):
            continue
        skipped = sum(skip.root == name for skip in discovery.skipped)
        kept = "; the index keeps the documents that it has of it" if name in had else ""
        raise SourceError(
            f"no documents in {path} ({counted(skipped, 'file')} skipped; "
            f"`indexer formats` lists the supported formats){kept}"
        )


def _check_root(path: Path, recorded: RootInfo | None) -> None:
    """Refuse a second root of the same name, but not a folder that has moved.

    Raises:
        SourceError: documents of this root are written over the API, or the index has a folder of
            this name that still exists.
    """
    if recorded is None:
        return
    if recorded.is_pushed:
        raise SourceError(
            f"documents of {recorded.name}/ are written over the API; rename {path}, or build it "
            f"into another index with --index"
        )
    if recorded.path != str(path) and Path(recorded.path).exists():
        raise SourceError(
            f"the index already has a root named {recorded.name!r}, {recorded.path}; rename "
            f"{path}, or build it into another index with --index"
        )
