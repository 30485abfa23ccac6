"""The media types of documents that a server takes."""

from collections.abc import Sequence
from typing import Final

from indexer.files.media_types import MEDIA_TYPES
from indexer.ingest.writer.uploads.upload import read_as
from indexer.parse.formats import format_of
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb

_ANY: Final = "/*"
_PLAIN: Final = "text/plain"


class AllowedTypes:
    """Refuses documents of other types. Types of the same format count as one."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Take these types.

        Args:
            allowed: such as ``application/pdf`` or ``text/*``; empty for all.

        Raises:
            InvalidArgument: one that no document has.
        """
        self._shown = ", ".join(allowed)
        self._formats: set[str] = set()
        for pattern in allowed:
            formats = {
                _format_of(MEDIA_TYPES[name]) for name in MEDIA_TYPES if _fits(name, pattern)
            }
            if not formats:
                raise InvalidArgument(
                    f"--media-type {pattern} is not a type that can be read: `indexer formats` "
                    "lists the formats",
                    field="media_type",
                )
            self._formats |= formats

    def check(self, request: pb.PutDocumentRequest) -> None:
        """Refuse a document of a type that the server doesn't take, or of no known type.

        Raises:
            InvalidArgument: the message names the types that it takes.
        """
        if not self._formats:
            return
        cut = request.WhichOneof("content") == "passages"
        name = MEDIA_TYPES[_PLAIN] if cut else read_as(request)
        if _format_of(name) not in self._formats:
            raise InvalidArgument(
                f"this server takes documents of the types {self._shown}; media_type, file_name "
                "or the URI's extension must name one of them",
                field="media_type",
            )


def _fits(media_type: str, pattern: str) -> bool:
    if pattern.endswith(_ANY):
        return media_type.startswith(pattern.removesuffix("*"))
    return media_type == pattern


def _format_of(name: str) -> str:
    """Return the key of the format that a file's name tells; empty if it tells none."""
    found = format_of(f"x{name}" if name.startswith(".") else name)
    return found.key if found is not None else ""
