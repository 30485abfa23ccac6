"""Operations on a collection: each is checked and carried out inside a commit.

An operation first checks its conditions, which only reads; what it raises there concerns nobody
else. Then it makes its changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from indexer.parse.base.fields import UNREAD
from indexer.skip import SkipReason
from indexer.staging import Prepared, Put
from retrieval.domain.metadata import Metadata
from retrieval.domain.records import ContainerStamp, RootInfo, Skipped, SourceFile
from retrieval.errors import AlreadyExists, Conflict, ForeignRoot, InvalidArgument, NotFound
from retrieval.store import Commit, KnownFile, Lookups
from retrieval.store.filters.language import Filter

Change = Literal["created", "updated", "unchanged"]

MAX_LISTED: Final = 1_000
"""Maximum number of URIs in the answer of ``DeleteDocuments``."""
_PASSING: Final = frozenset({SkipReason.CRASHED, SkipReason.TIMED_OUT})
"""Reasons to skip a member that may not hold another time, on a machine with less to do."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold for an operation on one document."""

    if_absent: bool = False
    if_sha256: str = ""
    """Empty for no condition."""


@dataclass(frozen=True, slots=True)
class PutRow:
    """A document as it was put."""

    document_id: int
    uri: str
    change: Change
    title: str
    format: str
    encoding: str
    passages: int
    truncated: int
    unread: Sequence[str]
    sha256: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a put."""

    documents: Sequence[PutRow]
    skipped: Sequence[Skipped]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted, or would be."""

    uris: Sequence[str]
    """At most ``MAX_LISTED`` if a condition selected them."""
    count: int
    foreign: int = 0
    """Number of documents that match but come from builds."""


class Operation(Protocol):
    """A change of a collection."""

    @property
    def documents(self) -> Sequence[Prepared]:
        """Documents that it may put."""
        ...

    def check(self, commit: Commit) -> None:
        """Check the conditions, without a change.

        Raises:
            UserError: one does not hold.
        """
        ...

    def apply(self, commit: Commit, put: Put) -> object:
        """Make the changes; return what became of the operation."""
        ...


def root_of(uri: str) -> str:
    """Return the name of the root that a URI lies in: its first part, if it has several."""
    root, slash, _ = uri.partition("/")
    return root if slash else ""


@dataclass(frozen=True, slots=True)
class Held:
    """What a collection holds at a URI."""

    sha256: str
    """Empty if there is nothing."""
    members: Sequence[str] = ()
    """URIs of the document, or of the documents of a container."""
    is_container: bool = False
    is_whole: bool = True
    """Whether no document of a container was deleted since, and none may be read another time."""


def held_at(lookups: Lookups, uri: str) -> Held:
    """Return what a collection holds at a URI.

    Raises:
        InvalidArgument: the URI lies in a container that was put.
    """
    known = lookups.known_file(uri)
    container = lookups.pushed_container(uri)
    if container is None:
        return Held(known.sha256, [uri]) if known else Held("")
    holder, stamp = container
    if holder != uri:
        raise InvalidArgument(
            f"{uri} lies in {holder}, which was put as a whole; put or delete {holder}", field="uri"
        )
    members = [*([uri] if known else []), *lookups.pushed_documents(f"{uri}/")]
    is_whole = len(members) == stamp.size and not any(
        skip.reason in _PASSING for skip in lookups.skipped_in(uri)
    )
    return Held(stamp.rules, members, is_container=True, is_whole=is_whole)


@dataclass(frozen=True, slots=True)
class PutDocuments:
    """Put a document, or the documents of a container, in place of what is at its URI."""

    uri: str
    sha256: str
    documents: Sequence[Prepared]
    skipped: Sequence[Skipped]
    holds_files: bool
    """Whether the documents are those of a container, or of a message with attachments."""
    mtime_ns: int | None
    """Modification time that the client named; None if it named none."""
    conditions: Conditions

    def check(self, commit: Lookups) -> None:
        """See ``Operation``."""
        held = held_at(commit, self.uri)
        check_conditions(self.uri, held.sha256, self.conditions)
        check_root(commit, self.uri)
        if self.holds_files and not held.is_container and commit.pushed_documents(f"{self.uri}/"):
            raise InvalidArgument(
                f"documents below {self.uri}/ were put one by one, and {self.uri} holds files; "
                "put it under another URI, or delete them",
                field="uri",
            )

    def apply(self, commit: Commit, put: Put) -> PutResult:
        """See ``Operation``."""
        held = held_at(commit, self.uri)
        if held.sha256 == self.sha256 and held.is_whole:
            return PutUnchanged(self.uri, self.sha256, self.mtime_ns, self.conditions).touch(
                commit, held
            )
        root = root_of(self.uri)
        commit.claim_root(RootInfo(root))
        new = {one.document.uri for one in self.documents}
        for uri in held.members:
            if uri not in new:
                commit.remove_document(uri)
        rows = [
            _row(commit, one, put(one), one.document.uri in held.members) for one in self.documents
        ]
        if self.holds_files or held.is_container:
            stamp = ContainerStamp(len(new), self.documents[0].source.mtime_ns, self.sha256)
            kept = stamp if self.holds_files else None
            commit.put_container(self.uri, root, kept, self.skipped)
        return PutResult(rows, self.skipped)


@dataclass(frozen=True, slots=True)
class Late:
    """The collection holds what is put, with another modification time."""


@dataclass(frozen=True, slots=True)
class PutUnchanged:
    """Put what the collection holds already: at most its modification time changes."""

    uri: str
    sha256: str
    mtime_ns: int | None
    """As in ``PutDocuments``."""
    conditions: Conditions
    documents: Sequence[Prepared] = ()

    def find(self, lookups: Lookups) -> "PutResult | Late | None":
        """Return the answer, or that another time has to be recorded first.

        Returns:
            the answer; ``Late`` if only the time differs; None if the collection holds something
            else.

        Raises:
            UserError: a condition does not hold, or the URI is one of other documents.
        """
        held = held_at(lookups, self.uri)
        check_conditions(self.uri, held.sha256, self.conditions)
        check_root(lookups, self.uri)
        if held.sha256 != self.sha256 or not held.is_whole:
            return None
        return Late() if self._late(lookups, held) else self._result(lookups, held)

    def check(self, commit: Lookups) -> None:
        """See ``Operation``."""
        check_conditions(self.uri, held_at(commit, self.uri).sha256, self.conditions)

    def apply(self, commit: Commit, put: Put) -> PutResult | None:
        """Record the modification time, and return the answer.

        None if the collection holds something else by now; nothing is changed then.
        """
        del put
        held = held_at(commit, self.uri)
        is_same = held.sha256 == self.sha256 and held.is_whole
        return self.touch(commit, held) if is_same else None

    def touch(self, commit: Commit, held: Held) -> PutResult:
        """Record the modification time, and return the answer."""
        for known in self._late(commit, held):
            source = SourceFile(Path(), self.uri, root_of(self.uri), 0, self.mtime_ns or 0)
            commit.touch_document(known.document_id, source)
        return self._result(commit, held)

    def _late(self, lookups: Lookups, held: Held) -> list[KnownFile]:
        """Return the documents with another modification time than the client named."""
        if self.mtime_ns is None or held.is_container:  # members have times of their own
            return []
        known = lookups.known_file(self.uri)
        return [known] if known is not None and known.stamp.mtime_ns != self.mtime_ns else []

    def _result(self, lookups: Lookups, held: Held) -> PutResult:
        found = ((lookups.document_row(uri), lookups.known_file(uri)) for uri in held.members)
        rows = [
            PutRow(
                row.id,
                row.uri,
                "unchanged",
                row.title,
                row.format,
                row.encoding,
                row.chunk_count,
                lookups.truncated_chunks(row.id),
                unread_of(row.metadata),
                known.sha256,
            )
            for row, known in found
            if row is not None and known is not None
        ]
        return PutResult(rows, lookups.skipped_in(self.uri) if held.is_container else ())


def _row(commit: Commit, one: Prepared, document_id: int, was_there: bool) -> PutRow:
    document = one.document
    return PutRow(
        document_id,
        document.uri,
        "updated" if was_there else "created",
        document.title,
        document.format,
        document.encoding,
        len(one.chunks),
        commit.truncated_chunks(document_id),
        unread_of(document.metadata),
        one.sha256,
    )


def unread_of(metadata: Metadata) -> Sequence[str]:
    """Return the parts of a document that could not be read."""
    unread = metadata.get(UNREAD, ())
    if isinstance(unread, str):
        return [unread]
    if isinstance(unread, Mapping) or not isinstance(unread, Sequence):
        return []
    return [str(part) for part in unread]


def check_conditions(uri: str, sha256: str, conditions: Conditions) -> None:
    """Refuse an operation whose conditions don't hold.

    Args:
        uri: of the document.
        sha256: digest of what the collection holds there; empty if nothing.
        conditions: what must hold.

    Raises:
        AlreadyExists, Conflict: a condition does not hold.
    """
    if conditions.if_absent and sha256:
        raise AlreadyExists(f"{uri} exists; omit if_absent to replace it", uri=uri)
    if conditions.if_sha256 and conditions.if_sha256.lower() != sha256:
        now = f"is {sha256} now" if sha256 else "does not exist"
        raise Conflict(
            f"{uri} {now}, not {conditions.if_sha256[:64]}; read it again and retry", uri=uri
        )


def check_root(lookups: Lookups, uri: str) -> None:
    """Refuse a document of a folder that builds keep up to date.

    Raises:
        ForeignRoot: the URI lies in such a folder.
    """
    root = lookups.root(root_of(uri))
    if root is not None and not root.is_pushed:
        raise ForeignRoot(
            f"documents of {root.name}/ come from a folder that `indexer build` keeps up to date; "
            "put documents under another first part of the URI, and delete files there",
            field="uri",
        )


@dataclass(frozen=True, slots=True)
class DeleteDocument:
    """Delete the document, or the documents of the container, that was put at a URI."""

    uri: str
    conditions: Conditions
    documents: Sequence[Prepared] = ()

    def check(self, commit: Lookups) -> None:
        """See ``Operation``."""
        known = commit.known_file(self.uri)
        container = commit.pushed_container(self.uri)
        own = container is not None and container[0] == self.uri
        if known is None and not own:
            raise NotFound(f"no document {self.uri}", field="uri")
        sha256 = container[1].rules if own and container else known.sha256 if known else ""
        check_conditions(self.uri, sha256, self.conditions)
        check_root(commit, self.uri)

    def apply(self, commit: Commit, put: Put) -> Deleted:
        """See ``Operation``."""
        del put
        container = commit.pushed_container(self.uri)
        uris = [self.uri] if commit.known_file(self.uri) else []
        if container is not None and container[0] == self.uri:
            uris += commit.pushed_documents(f"{self.uri}/")
        commit.remove_documents(uris)
        return Deleted(uris, len(uris))


@dataclass(frozen=True, slots=True)
class DeleteDocuments:
    """Delete all documents that were put and match a condition."""

    prefix: str
    filter: Filter | None
    documents: Sequence[Prepared] = ()

    def check(self, commit: Lookups) -> None:
        """See ``Operation``."""

    def find(self, lookups: Lookups) -> tuple[list[str], int]:
        """Return the URIs of the documents, and how many come from builds."""
        found = lookups.pushed_documents(self.prefix, self.filter)
        return found, lookups.count_built(self.prefix, self.filter)

    def apply(self, commit: Commit, put: Put) -> Deleted:
        """See ``Operation``."""
        del put
        uris, foreign = self.find(commit)
        commit.remove_documents(uris)
        return Deleted(uris[:MAX_LISTED], len(uris), foreign)


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Change settings of a collection; empty and zero values stay."""

    language: str
    index_type: str
    target_recall: float
    documents: Sequence[Prepared] = ()

    def check(self, commit: Lookups) -> None:
        """See ``Operation``."""

    def apply(self, commit: Commit, put: Put | None = None, *, always: bool = False) -> None:
        """See ``Operation``.

        Args:
            commit: the open commit.
            put: not used.
            always: whether to record the settings also if they are what they were.
        """
        del put
        info = commit.info
        if info is None:
            return
        if self.language and self.language != info.language:
            commit.set_language(self.language)
        chosen = (self.index_type or info.index_type, self.target_recall or info.target_recall)
        if always or chosen != (info.index_type, info.target_recall):
            commit.set_index_type(*chosen)
