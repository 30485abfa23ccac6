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
from typing import Any, Literal, get_args

from retrieval.domain.resource_names import check_own_name
from retrieval.errors import InvalidArgument, NotFound, StorageError

Scope = Literal["search", "embed", "read", "reload"]
"""What a token may be for: SearchService; EmbeddingService; the reading methods of IndexService;
ReloadCollection."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

ANY_COLLECTION = "*"

_VERSION = 1
_MAX_BYTES = 16 << 20
_PREFIX = "rt"
_ID_BYTES, _SALT_BYTES, _SECRET_BYTES = 6, 16, 32
_PRIVATE = 0o600

MAX_DAYS = 36_500
"""Longest time that a token may be good for: a hundred years."""

LOCK_SECONDS = 10.0
"""For how long to wait for another program that changes the file; that takes milliseconds."""
_LOCK_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as the file keeps it."""

    id: str
    name: str
    """Whose it is; unique in the file."""
    salt: str
    """Hex."""
    sha256: str
    """Hex, of salt and secret."""
    scopes: tuple[Scope, ...]
    collections: tuple[str, ...]
    """Own names; ``("*",)`` = all."""
    rate: float
    """Requests a second, on average; 0 = no limit."""
    created_at: str
    """RFC 3339, UTC."""
    expires_at: str
    """RFC 3339, UTC; empty = never."""

    def is_secret(self, secret: str) -> bool:
        """Whether this is the token's secret; takes the same time whatever is wrong with it."""
        return hmac.compare_digest(_hash(bytes.fromhex(self.salt), secret), self.sha256)

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return bool(self.expires_at) and datetime.fromisoformat(self.expires_at) <= now


NOBODY = TokenRecord("", "", "00", "0" * 64, (), (), 0.0, "", "")
"""What the secret of an unknown token is compared with."""


def split_token(token: str) -> tuple[str, str]:
    """Id and secret of a token; empty ones if it has no such form."""
    prefix, _, rest = token.partition("_")
    identifier, _, secret = rest.partition("_")
    return (identifier, secret) if prefix == _PREFIX else ("", "")


def read_tokens(path: Path) -> list[TokenRecord]:
    """Read a token file.

    Raises:
        InvalidArgument: there is none, or it is not one.
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
    scopes: Sequence[Scope] = SCOPES,
    collections: Sequence[str] = (ANY_COLLECTION,),
    rate: float = 0.0,
    days: float | None = None,
) -> str:
    """Add a token to a file, which is made if there is none.

    Args:
        path: the file.
        name: whose it is.
        scopes: what it is for.
        collections: own names of the collections that it may see.
        rate: requests a second that it allows on average; 0 = any.
        days: until it expires; None = never.

    Returns:
        the token; it can't be read again.

    Raises:
        InvalidArgument: the name is taken or empty, a value is out of range, or the file is not
            a token file.
        StorageError: it can't be written.
    """
    _check_name(name, "name")
    for collection in set(collections) - {ANY_COLLECTION}:
        check_own_name(collection, field="collections")
    if not 0 <= rate < float("inf"):
        raise InvalidArgument(f"rate is {rate}; it must be 0 or more", field="rate")
    if days is not None and not 0 < days <= MAX_DAYS:
        raise InvalidArgument(
            f"days is {days:g}; it must be above 0 and at most {MAX_DAYS}", field="days"
        )
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
    )
    with _locked(path) as file:
        tokens = read_tokens(file) if file.exists() else []
        if any(token.name == name for token in tokens):
            raise InvalidArgument(f"{path} has a token {name!r} already", field="name")
        _write(file, [*tokens, record])
    return f"{_PREFIX}_{record.id}_{secret}"


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of a file, by its name or id.

    Raises:
        NotFound: there is no such token.
        InvalidArgument: the file is not a token file.
        StorageError: it can't be written.
    """
    read_tokens(path)  # so that a mistyped path leaves no lock behind
    with _locked(path) as file:
        tokens = read_tokens(file)
        kept = [token for token in tokens if name not in (token.name, token.id)]
        if len(kept) == len(tokens):
            raise NotFound(f"{path} has no token {name!r}; see: retrieval token list")
        _write(file, kept)


def _check_name(name: str, field: str) -> None:
    """Refuse a name that would be hard to read, or could not be written.

    Raises:
        InvalidArgument: it is empty, or holds control characters or bytes that are no text.
    """
    if not name.strip() or not name.isprintable():
        raise InvalidArgument(
            f"{name!r} can't be used: give a name of printable characters", field=field
        )


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Keep other programs from changing a token file while the block runs.

    The lock is a file beside it, as the token file itself is replaced. The kernel releases it when
    the process ends, however it ends.

    Yields:
        the file itself, where the path is a link.

    Raises:
        StorageError: the lock can't be made, or another program keeps it.
    """
    file = Path(os.path.realpath(path))
    lock = file.with_name(f".{file.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
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
    """What a token file holds.

    Raises:
        ValueError, TypeError, KeyError: it is malformed.
    """
    if content["version"] != _VERSION:
        raise ValueError
    return [_record(entry) for entry in content["tokens"]]


def _record(entry: dict[str, Any]) -> TokenRecord:
    """One entry of the file.

    Raises:
        ValueError, TypeError, KeyError: it is malformed.
    """
    for field in ("scopes", "collections"):
        if not all(isinstance(value, str) for value in entry[field]):
            raise TypeError
        entry[field] = tuple(entry[field])
    record = TokenRecord(**entry)
    texts = (record.id, record.name, record.salt, record.sha256, record.expires_at)
    if not all(isinstance(text, str) for text in texts) or not record.rate >= 0:
        raise TypeError
    if not set(record.scopes) <= set(SCOPES):
        raise ValueError
    # What would fail only when somebody calls.
    record.is_secret("")
    record.has_expired(datetime.now(UTC))
    return record


def _write(path: Path, tokens: Sequence[TokenRecord]) -> None:
    """Replace the file in one step; a new one is for its owner alone.

    A file that is replaced keeps its owner and permissions: the server that reads it may be
    another user than the one who makes tokens.
    """
    content = {"version": _VERSION, "tokens": [asdict(token) for token in tokens]}
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.flush()
            _keep_owner(path, file.fileno())
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give an open file the owner and permissions of the one that it replaces, if there is one.

    Raises:
        OSError: this user may not.
    """
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that the file's new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
