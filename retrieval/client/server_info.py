"""What a server says of itself."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.v1 import index_service_pb2


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The largest requests; the fields are those of ``retrieval.v1.ServerLimits``."""

    max_page_size: int
    max_offset: int
    max_stream_limit: int
    max_query_chars: int
    max_batch_size: int
    max_text_chars: int
    max_neighbours: int
    max_message_bytes: int
    max_batch_passages: int
    max_section_chars: int
    max_group_size: int
    max_rerank_top: int
    max_context: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server."""

    version: str
    started_at: datetime
    limits: ServerLimits

    @classmethod
    def from_message(cls, message: index_service_pb2.ServerInfo) -> "ServerInfo":
        """Take a message over."""
        limits = {
            field: getattr(message.limits, field) for field in ServerLimits.__dataclass_fields__
        }
        return cls(message.version, to_datetime(message.start_time), ServerLimits(**limits))


def to_datetime(message: Timestamp) -> datetime:
    """A point in time, in UTC."""
    return message.ToDatetime(tzinfo=UTC)
