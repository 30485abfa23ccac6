"""Warn about approximate indexes that miss the target recall."""

from collections.abc import Iterator, Sequence
from typing import Final

from retrieval.store.records import SegmentInfo

_WAYS_OUT: Final = "a lower --target-recall, or with another --index-type"


def recall_warnings(segments: Sequence[SegmentInfo], target: float) -> Iterator[str]:
    """Yield a warning for each segment whose approximate index misses the target recall.

    Args:
        segments: segments of an index.
        target: recall@10 against exact search that was asked for.
    """
    for segment in segments:
        if segment.ann and segment.ann.recall < target:
            yield (
                f"{segment.rows} vectors are searched with recall@10 {segment.ann.recall} of "
                f"exact search, not {target}: no setting of their {segment.ann.kind} index reaches "
                f"more; build with --index-type flat for exact search, with {_WAYS_OUT}"
            )
        elif segment.missed and segment.missed.recall < target:
            yield (
                f"{segment.rows} vectors are searched exactly, which is right but slower: with an "
                f"{segment.missed.kind} index recall@10 would be {segment.missed.recall}, not "
                f"{target}; for an approximate index, build with {_WAYS_OUT}"
            )
