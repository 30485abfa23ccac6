"""The token file: who may call the server, for what, and how often.

A token is ``rt_<id>_<secret>``, shown once when it is made. The file holds a salted SHA-256 of the
secret: it is 32 random bytes, which no dictionary has, so a slow hash would protect nothing more.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from retrieval.domain.resource_names import check_own_name
from retrieval.errors import InvalidArgument, NotFound, StorageError
from retrieval.store.durable_files import OWNER_ONLY, replacing, storage_error

Scope = Literal["search", "embed", "read", "reload", "write"]
"""What a token allows: SearchService and RerankService, EmbeddingService, the reading methods of
IndexService, ReloadCollection, or IngestService."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

DEFAULT_SCOPES: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope != "write")
"""Scopes of a token that is made without any. Writing is granted only by name."""

ANY_COLLECTION = "*"

_VERSION = 1
_MAX_BYTES = 16 << 20
"""About 50,000 tokens."""
_PREFIX = "rt"
_ID_BYTES, _SALT_BYTES, _SECRET_BYTES = 6, 16, 32
"""An id only has to be unique in its file; a secret of 256 bits can't be guessed."""

MAX_DAYS = 36_500
"""Longest life of a token: a hundred years; more must be a slip."""

MAX_QUOTA: Final = 2**53
"""Largest quota; more must be a slip."""

LOCK_SECONDS = 10.0
"""How long to wait for another program that changes the file; a change takes milliseconds."""
_LOCK_PAUSE_SECONDS = 0.01
"""Between two attempts to lock."""


class Quota(NamedTuple):
    """What a token may put in a day of UTC; 0 for no limit."""

    documents: int
    bytes: int


NO_QUOTA: Final = Quota(0, 0)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it stands in the file."""

    id: str
    name: str
    """Of its owner; unique in the file."""
    salt: str
    """Hexadecimal."""
    sha256: str
    """Of salt and secret; hexadecimal."""
    scopes: tuple[Scope, ...]
    collections: tuple[str, ...]
    """Own names; ``("*",)`` for all."""
    rate: float
    """Requests a second, on average; 0 for no limit."""
    created_at: str
    """RFC 3339, UTC."""
    expires_at: str
    """RFC 3339, UTC; empty if it never expires."""
    max_documents_per_day: int = 0
    """Documents that it may put in a day of UTC; 0 for no limit."""
    max_bytes_per_day: int = 0
    """Bytes of documents that it may put in a day of UTC; 0 for no limit."""

    @property
    def quota(self) -> Quota:
        """What it may put in a day."""
        return Quota(self.max_documents_per_day, self.max_bytes_per_day)

    def is_secret(self, secret: str) -> bool:
        """Return whether this is the token's secret, in constant time."""
        return hmac.compare_digest(_hash(bytes.fromhex(self.salt), secret), self.sha256)

    def has_expired(self, now: datetime) -> bool:
        """Return whether the token has expired."""
        return bool(self.expires_at) and datetime.fromisoformat(self.expires_at) <= now


NOBODY = TokenRecord("", "", "00", "0" * 64, (), (), 0.0, "", "")
"""Stands in for an unknown token, so that its secret is compared with something."""


def split_token(token: str) -> tuple[str, str]:
    """Return the id and the secret of a token; both empty if it is malformed."""
    prefix, _, rest = token.partition("_")
    identifier, _, secret = rest.partition("_")
    return (identifier, secret) if prefix == _PREFIX else ("", "")


def read_tokens(path: Path) -> list[TokenRecord]:
    """Read a token file.

    Raises:
        InvalidArgument: the file is missing, or is not a token file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(
            f"can't read the token file {path}: {error.strerror}; "
            f"make one with: retrieval token create NAME --token-file {path}"
        ) from error
    try:
        return _records(json.loads(data) if len(data) <= _MAX_BYTES else {})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"{path} is not a token file of this version") from error


def create_token(
    path: Path,
    name: str,
    *,
    scopes: Sequence[Scope] = DEFAULT_SCOPES,
    collections: Sequence[str] = (ANY_COLLECTION,),
    rate: float = 0.0,
    days: float | None = None,
    quota: Quota = NO_QUOTA,
) -> str:
    """Add a token to a file; create the file if it is missing.

    Args:
        path: the file.
        name: of the token's owner.
        scopes: what the token allows.
        collections: own names of the collections that it may see.
        rate: requests a second that it allows on average; 0 for any number.
        days: until it expires; None for never.
        quota: what it may put in a day.

    Returns:
        the token, which can't be read from the file again.

    Raises:
        InvalidArgument: the name is taken or empty, a value is out of range, or the file is not
            a token file.
        StorageError: the file can't be written.
    """
    _check_name(name, "name")
    for collection in set(collections) - {ANY_COLLECTION}:
        check_own_name(collection, field="collections")
    _check_bounds(rate, days, quota)
    salt, secret = secrets.token_bytes(_SALT_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    now = datetime.now(UTC)
    record = TokenRecord(
        id=secrets.token_hex(_ID_BYTES),
        name=name,
        salt=salt.hex(),
        sha256=_hash(salt, secret),
        scopes=tuple(scopes),
        collections=tuple(collections),
        rate=rate,
        created_at=now.isoformat(timespec="seconds"),
        expires_at="" if days is None else (now + timedelta(days=days)).isoformat(),
        max_documents_per_day=quota.documents,
        max_bytes_per_day=quota.bytes,
    )
    with _locked(path) as file:
        tokens = read_tokens(file) if file.exists() else []
        if any(token.name == name for token in tokens):
            raise InvalidArgument(f"{path} has a token {name!r} already", field="name")
        _write(file, [*tokens, record])
    return f"{_PREFIX}_{record.id}_{secret}"


def _check_bounds(rate: float, days: float | None, quota: Quota) -> None:
    """Refuse numbers out of range; see ``create_token``.

    Raises:
        InvalidArgument: naming the number.
    """
    if not 0 <= rate < float("inf"):
        raise InvalidArgument(f"rate is {rate}; it must be 0 or more", field="rate")
    if days is not None and not 0 < days <= MAX_DAYS:
        raise InvalidArgument(
            f"days is {days:g}; it must be above 0 and at most {MAX_DAYS}", field="days"
        )
    for field, most in quota._asdict().items():
        if not 0 <= most <= MAX_QUOTA:
            raise InvalidArgument(
                f"the quota of {field} is {most}; it must be from 0 to {MAX_QUOTA}", field=field
            )


def revoke_token(path: Path, name: str) -> None:
    """Remove a token from a file, by its name or id.

    Raises:
        NotFound: there is no such token.
        InvalidArgument: the file is not a token file.
        StorageError: the file can't be written.
    """
    read_tokens(path)  # a mistyped path must not leave a lock behind
    with _locked(path) as file:
        tokens = read_tokens(file)
        kept = [token for token in tokens if name not in (token.name, token.id)]
        if len(kept) == len(tokens):
            raise NotFound(f"{path} has no token {name!r}; see: retrieval token list")
        _write(file, kept)


def _check_name(name: str, field: str) -> None:
    """Refuse a name that is hard to read or can't be written.

    Raises:
        InvalidArgument: the name is empty, or has control characters or bytes that are not text.
    """
    if not name.strip() or not name.isprintable():
        raise InvalidArgument(
            f"{name!r} can't be used: give a name of printable characters", field=field
        )


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Keep other programs from changing a token file while the block runs.

    The lock is a file beside the token file, because that one is replaced. The kernel releases the
    lock when the process ends, however it ends.

    Yields:
        the path with links resolved.

    Raises:
        StorageError: the lock can't be made, or another program holds it.
    """
    file = Path(os.path.realpath(path))
    lock = file.with_name(f".{file.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        raise StorageError(f"can't write {lock}: {error.strerror}") from error
    try:
        _wait_for(descriptor, path)
        yield file
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StorageError(f"{path} is being changed by another program") from error
            time.sleep(_LOCK_PAUSE_SECONDS)
        except OSError as error:
            raise StorageError(f"can't lock {path}: {error.strerror}") from error
        else:
            return


def _hash(salt: bytes, secret: str) -> str:
    return hashlib.sha256(salt + secret.encode("utf-8", "surrogateescape")).hexdigest()


def _records(content: dict[str, Any]) -> list[TokenRecord]:
    """Return the tokens in a file's content.

    Raises:
        ValueError, TypeError, KeyError: the content is malformed.
    """
    if content["version"] != _VERSION:
        raise ValueError
    return [_record(entry) for entry in content["tokens"]]


def _record(entry: dict[str, Any]) -> TokenRecord:
    """Return the token of one entry.

    Raises:
        ValueError, TypeError, KeyError: the entry is malformed.
    """
    for field in ("scopes", "collections"):
        if not all(isinstance(value, str) for value in entry[field]):
            raise TypeError
        entry[field] = tuple(entry[field])
    record = TokenRecord(**entry)
    texts = (record.id, record.name, record.salt, record.sha256, record.expires_at)
    if not all(isinstance(text, str) for text in texts) or not record.rate >= 0:
        raise TypeError
    if not all(isinstance(most, int) and most >= 0 for most in record.quota):
        raise TypeError
    if not set(record.scopes) <= set(SCOPES):
        raise ValueError
    # Fail now rather than when the token is used.
    record.is_secret("")
    record.has_expired(datetime.now(UTC))
    return record


def _entry(token: TokenRecord) -> dict[str, Any]:
    """Return a token as it is written. Older versions can read one without a quota."""
    entry = asdict(token)
    for field in ("max_documents_per_day", "max_bytes_per_day"):
        if not entry[field]:
            del entry[field]
    return entry


def _write(path: Path, tokens: Sequence[TokenRecord]) -> None:
    """Replace the file in one step; only its owner may read a new file.

    A replaced file keeps its owner and permissions, because the server that reads it may run as
    another user.
    """
    content = {"version": _VERSION, "tokens": [_entry(token) for token in tokens]}
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with replacing(path, fresh, mode=OWNER_ONLY) as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
            _keep_owner(path, file.fileno())
    except OSError as error:
        raise storage_error(f"can't write {path}: {error.strerror}", error) from error


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give an open file the owner and permissions of the file that it replaces, if any.

    Raises:
        OSError: this user isn't allowed to.
    """
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
