"""What a build has to do: the files found against the documents that the index knows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexer.discover import Discovery
from indexer.parse import HANDLED_EXTENSIONS
from indexer.skip import SkipReason
from retrieval.errors import SourceError
from retrieval.records import Skipped, SourceFile
from retrieval.store import IndexWriter, KnownFile


@dataclass(slots=True)
class Plan:
    """The work of one build; ``skipped`` and ``gone`` grow while files are read."""

    roots: Sequence[tuple[str, Path]]
    to_read: list[SourceFile] = field(default_factory=list)
    """New files, and those whose size or modification time differs, or their sidecar's."""
    unchanged: int = 0
    known: dict[str, KnownFile] = field(default_factory=dict)
    """URI → what the index remembers, for every document under the roots."""
    skipped: list[Skipped] = field(default_factory=list)
    touched: list[tuple[int, SourceFile]] = field(default_factory=list)
    """Documents (by id) whose file has a new modification time but the same content."""
    gone: list[str] = field(default_factory=list)
    """URIs to take out of the index."""
    kept: set[str] = field(default_factory=set)
    """URIs of documents whose file can't be read now and whose old version stays."""

    def skip(self, skip: Skipped) -> None:
        """Count a file as skipped; the document it was, if any, leaves the index.

        A file or folder that can't be read *now* is no reason to lose what was indexed of it.
        """
        self.skipped.append(skip)
        if skip.reason == SkipReason.UNREADABLE:
            inside = skip.uri + "/"
            self.kept |= {uri for uri in self.known if uri == skip.uri or uri.startswith(inside)}
        elif skip.uri in self.known:
            self.gone.append(skip.uri)


def plan_build(writer: IndexWriter, discovery: Discovery) -> Plan:
    """Compare files and index by size and modification time.

    Raises:
        SourceError: a root holds no documents at all, though the index has some of it, or
            another folder of the same name is indexed already.
    """
    plan = Plan(discovery.roots)
    recorded = writer.roots()
    for name, path in discovery.roots:
        _check_root(name, path, recorded.get(name))
        plan.known |= writer.known_files(name)
    check_not_empty(discovery, plan.known)
    for skip in discovery.skipped:
        plan.skip(skip)
    for source in discovery.files:
        known = plan.known.get(source.uri)
        if known and known.stamp == source.stamp:
            plan.unchanged += 1
        else:
            plan.to_read.append(source)
    seen = {source.uri for source in discovery.files} | {skip.uri for skip in discovery.skipped}
    plan.gone += sorted(plan.known.keys() - seen - plan.kept)
    return plan


def check_not_empty(discovery: Discovery, known: Iterable[str] = ()) -> None:
    """Refuse roots with nothing to index: a wrong path or an unmounted disk, most likely.

    Args:
        discovery: what was found.
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
        kept = "; what the index holds of it was left as it is" if name in had else ""
        raise SourceError(
            f"no documents in {path} ({skipped} files skipped; "
            f"handled: {' '.join(HANDLED_EXTENSIONS)}){kept}"
        )


def _check_root(name: str, path: Path, recorded: str | None) -> None:
    """Two folders of one name would be taken for one; one that has moved is fine."""
    if recorded and recorded != str(path) and Path(recorded).exists():
        raise SourceError(
            f"the index already has a root named {name!r}, {recorded}; {path} can't go by the same "
            f"name: rename it, or build it into another index"
        )
