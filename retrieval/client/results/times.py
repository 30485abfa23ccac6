"""Points in time from messages."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def to_datetime(message: Timestamp) -> datetime:
    """Return a point in time in UTC."""
    return message.ToDatetime(tzinfo=UTC)
