"""What is tried again: every request can be repeated without harm, and some failures pass.

gRPC does it by itself for requests with one answer. It must not for streams: with retries, a stream
that meets a restarting server may wait for ever, its deadline unheard (grpcio 1.85.3). So a stream
is tried again here, as long as nothing of it has arrived.
"""

import time

import grpc

RETRYABLE = ("UNAVAILABLE", "CANCELLED")
"""Statuses that pass by themselves. The second is what gRPC ends requests with that a server with
too much to do never looked at; what the caller gave up is not tried again, whatever its status."""

MAX_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": f"retrieval.v1.{service}"}
                for service in ("SearchService", "EmbeddingService", "IndexService")
            ],
            "retryPolicy": {
                "maxAttempts": MAX_ATTEMPTS,
                "initialBackoff": f"{_FIRST_PAUSE_SECONDS}s",
                "maxBackoff": f"{_LONGEST_PAUSE_SECONDS}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": RETRYABLE,
            },
        },
        {"name": [{"service": "retrieval.v1.SearchService", "method": "StreamSearch"}]},
    ]
}
"""https://github.com/grpc/grpc/blob/master/doc/service_config.md"""


class StreamAttempts:
    """The attempts at one stream, within one deadline."""

    def __init__(self, timeout: float) -> None:
        """Begin.

        Args:
            timeout: most seconds that all attempts may take.
        """
        self._until = time.monotonic() + timeout
        self._failed = 0

    @property
    def seconds_left(self) -> float:
        """The deadline of the next attempt."""
        return self._until - time.monotonic()

    def pause_after(self, error: grpc.RpcError) -> float | None:
        """Seconds to wait before the next attempt; None: it has failed for good."""
        self._failed += 1
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self._failed - 1), _LONGEST_PAUSE_SECONDS)
        passes = error.code().name in RETRYABLE
        again = passes and self._failed < MAX_ATTEMPTS and pause < self.seconds_left
        return pause if again else None
