"""How large a request may be: bounds that several kinds of requests share, and all by name."""

from typing import Final

from retrieval.domain.search_options import MAX_OFFSET, OPTIONS
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument
from retrieval.search import MAX_QUERY_CHARS
from retrieval.service.config import Limits, Writing

MAX_STREAM_LIMIT = MAX_OFFSET
"""Largest number of passages in a streamed search: pages go no further, either."""

DEFAULT_PAGE_SIZE = 50
"""Collections or documents on a page; a page of 50 documents is about 20 kB on the wire."""

_OPTION_LIMITS: Final = {
    option.server_limit: int(option.maximum)
    for option in OPTIONS.values()
    if option.server_limit and option.maximum is not None
}
"""Field of ``ServerLimits`` → the largest value of the options that it is about."""


def check_batch_size(count: int, maximum: int, *, field: str) -> None:
    """Refuse a batch that is empty or too large.

    Raises:
        InvalidArgument: no item, or more than ``maximum``.
    """
    if not 1 <= count <= maximum:
        raise InvalidArgument(
            f"{field} has {counted(count, 'item')}; it must have from 1 to {maximum}", field=field
        )


def server_limits(limits: Limits, writing: Writing | None) -> dict[str, int]:
    """Return all bounds of a server, by their fields in the contract's ``ServerLimits``.

    Args:
        limits: of requests.
        writing: how the server takes documents; None if it doesn't.
    """
    named = {
        "max_stream_limit": MAX_STREAM_LIMIT,
        "max_query_chars": MAX_QUERY_CHARS,
        "max_batch_size": limits.batch_size,
        "max_text_chars": limits.text_chars,
        "max_neighbours": limits.neighbours,
        "max_message_bytes": limits.message_bytes,
        "max_batch_passages": limits.batch_passages,
        "max_range_chars": limits.range_chars,
        **_OPTION_LIMITS,
    }
    if writing is not None:
        named["max_document_bytes"] = writing.document_bytes
    return named
