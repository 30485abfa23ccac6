"""Why a file is not indexed: the reasons, in one place, and the exception that carries one."""

from enum import StrEnum


class SkipReason(StrEnum):
    """The short phrases that skipped files are counted by; the value is what people read."""

    UNSUPPORTED = "unsupported format"
    HIDDEN = "hidden"
    EXCLUDED = "excluded"
    IGNORED = "ignored"
    MISSING = "missing"
    EMPTY = "empty"
    TOO_LARGE = "too large"
    UNREADABLE = "unreadable"
    BROKEN_LINK = "broken symlink"
    LINK_LOOP = "link loop"
    DUPLICATE_LINK = "duplicate link"
    OUTSIDE_ROOT = "outside root"
    NOT_REGULAR = "not a regular file"
    DUPLICATE_NAME = "duplicate name"
    BINARY = "binary"
    NO_TEXT = "no text"
    SCANNED = "scanned, no text"
    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    OVER_LIMIT = "over a limit"
    TIMED_OUT = "took too long"
    CRASHED = "crashed its parser"
    BAD_SIDECAR = "bad sidecar"
    LONE_SIDECAR = "sidecar of nothing"


class SkipDocument(Exception):
    """A file was read, but there is nothing in it to index."""

    def __init__(self, reason: SkipReason, detail: str = "") -> None:
        """Keep why the document is skipped.

        Args:
            reason: what it is counted under.
            detail: what exactly is wrong with this file; may be empty.
        """
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
