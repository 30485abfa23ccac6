"""Callers: who sent a request, by its token, and what the token allows."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from retrieval.errors import PermissionDenied, RateLimited, Unauthenticated
from retrieval.service.access.token_file import (
    ANY_COLLECTION,
    NO_QUOTA,
    NOBODY,
    Quota,
    Scope,
    TokenRecord,
    read_tokens,
    split_token,
)

_BURST_SECONDS = 1.0
"""Seconds' worth of requests that a limited token can spend at once after a pause, at least one
request. Clients that work in bursts of a second don't notice the limit."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what it may do."""

    name: str
    scopes: frozenset[Scope] | None
    """None for all."""
    collections: frozenset[str] | None
    """Own names of the collections that it sees; None for all."""
    allowance: "Bucket | None" = None
    """What is left of its rate; None if there is no limit."""
    quota: Quota = NO_QUOTA
    """What it may put in a day."""

    def charge(self, items: int) -> None:
        """Count a request with several searches or texts as that many against the rate.

        Args:
            items: number of searches or texts; the first was counted when the request was admitted.
        """
        if self.allowance is not None and items > 1:
            self.allowance.charge(items - 1)

    def sees(self, collection: str) -> bool:
        """Return whether the caller may see a collection."""
        return self.collections is None or collection in self.collections

    def check_scope(self, scope: Scope, wanted: str = "") -> None:
        """Refuse a caller whose token lacks a scope.

        Args:
            scope: the scope that the request needs.
            wanted: what the request wants, for the error; empty to name the scope.

        Raises:
            PermissionDenied: the token lacks the scope.
        """
        if self.scopes is not None and scope not in self.scopes:
            raise PermissionDenied(
                f"this token is not for {wanted or scope}: it lacks the scope {scope}"
            )


EVERYONE = Caller("", None, None)
"""The caller of every request to a server without tokens."""


class Bucket:
    """A token's allowance (a token bucket): refills with time, and each request takes one."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        """Start full.

        Args:
            rate: requests a second.
            clock: returns seconds.
        """
        self.rate = rate
        self._clock = clock
        self._size = max(1.0, rate * _BURST_SECONDS)
        self._left = self._size
        self._filled = clock()

    def take(self) -> None:
        """Take one request.

        Raises:
            RateLimited: none is left.
        """
        self._fill()
        if self._left < 1:
            wait = (1 - self._left) / self.rate
            limited = RateLimited(
                f"this token allows {self.rate:g} request{'s' * (self.rate != 1)} a second: "
                f"try again in {wait:.3g} s"
            )
            limited.retry_seconds = wait
            raise limited
        self._left -= 1

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._filled) * self.rate)
        self._filled = now

    def seconds_until_next(self) -> float:
        """Return how long to wait until a request can be taken; 0 if one can be taken now."""
        self._fill()
        return max(0.0, (1 - self._left) / self.rate)

    def charge(self, more: int) -> None:
        """Take more for an admitted request; below zero, later requests wait longer."""
        self._left -= more


class Access:
    """The tokens of a server. Belongs to the event loop: not thread-safe."""

    def __init__(
        self, token_file: Path | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the token file.

        Args:
            token_file: None to let everyone do everything.
            clock: returns seconds.

        Raises:
            InvalidArgument: the file can't be used.
        """
        self._token_file = token_file
        self._clock = clock
        self._tokens: dict[str, TokenRecord] = {}
        self._buckets: dict[str, Bucket] = {}
        self.use(self.read())

    @property
    def is_open(self) -> bool:
        """Whether callers need no token."""
        return self._token_file is None

    def read(self) -> dict[str, TokenRecord]:
        """Read the token file; nothing changes before ``use``.

        Returns:
            the tokens by their ids; empty if callers need none.

        Raises:
            InvalidArgument: the file can't be used.
        """
        if self._token_file is None:
            return {}
        return {token.id: token for token in read_tokens(self._token_file)}

    def use(self, tokens: dict[str, TokenRecord]) -> None:
        """Accept these tokens from now on; a revoked one is refused at its next request."""
        self._tokens = tokens
        self._buckets = {
            identifier: bucket
            for identifier, bucket in self._buckets.items()
            if identifier in tokens and tokens[identifier].rate == bucket.rate
        }

    def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return who sent a request.

        Args:
            metadata: the request's headers.

        Raises:
            Unauthenticated: the token is missing, unknown, revoked or expired.
            RateLimited: the token's allowance is used up.
        """
        if self._token_file is None:
            return EVERYONE
        record = self._known(_bearer(metadata))
        bucket = None
        if record.rate:
            bucket = self._buckets.setdefault(record.id, Bucket(record.rate, self._clock))
            bucket.take()
        every = ANY_COLLECTION in record.collections
        return Caller(
            record.name,
            frozenset(record.scopes),
            None if every else frozenset(record.collections),
            bucket,
            record.quota,
        )

    def _known(self, token: str) -> TokenRecord:
        identifier, secret = split_token(token)
        record = self._tokens.get(identifier, NOBODY)
        # Refusing an unknown token takes as long as refusing a wrong secret.
        if not record.is_secret(secret) or record.has_expired(datetime.now(UTC)):
            raise Unauthenticated(
                "this server needs a token: send it as `authorization: Bearer TOKEN`"
                if not token
                else "the token is unknown, revoked or expired"
            )
        return record


def has_token(metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """Return whether a request comes with a token, valid or not."""
    return bool(_bearer(metadata))


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the token of the ``authorization`` header (RFC 6750); empty if there is none."""
    for key, value in metadata:
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode("utf-8", "replace")
            scheme, _, token = text.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""
