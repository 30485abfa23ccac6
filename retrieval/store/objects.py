"""Objects of a bucket, or of a folder, under a common prefix; by obstore."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from retrieval.errors import InvalidArgument, NotFound, StorageError, StorageRefused

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

CLOUD_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "az", "abfs", "abfss"})
"""Schemes of object stores, whose own environment variables hold the credentials."""
SCHEMES: Final = CLOUD_SCHEMES | {"file"}
"""Schemes of addresses that ``Bucket`` opens."""
PUBLISHED: Final = "generations"
"""Folder under an address to which ``indexer publish`` has copied an index."""
CONNECT_SECONDS: Final = 5
REQUEST_SECONDS: Final = 30
"""Time to wait for a connection, and for one request, which is of 8 MiB or less."""
_PARTS_AT_ONCE: Final = 4
"""Parts of one object to send at a time: all share the line, and each has its own time limit."""
RETRIES: Final = 3
RETRY_SECONDS: Final = 20
"""Limits on repeating one request; what calls this tries again later by itself."""
_CHUNK_BYTES: Final = 8 << 20
"""Size of the pieces in which an object is fetched or sent: the smallest that S3 takes is 5 MiB."""
_UNANSWERED: Final = re.compile(
    r"Error performing [A-Z]+ (?P<server>https?://[^/?\s]+)[^\n]*HTTP error", re.DOTALL
)
"""What the engines say if a server can't be connected to, or does not answer in time."""
_STORES: Final = ("aws", "azure", "google")
_CLIENT_OPTIONS: Final = frozenset(
    {
        *("allow_http", "allow_invalid_certificates", "connect_timeout", "timeout"),
        *("proxy_url", "proxy_ca_certificate", "proxy_excludes", "user_agent"),
    }
)
"""Options of connections that obstore would read from the environment if none were given."""
_TRIES: Final = re.compile(r" in [\d.]+\w+(, after \d+ retries.*?retry_timeout: \w+ *)? -")
"""What obstore says of its attempts, between the request and the reason."""
_MAX_DETAIL: Final = 300
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
"""How Amazon's, Azure's and Google's stores say that there is no such bucket."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    name: str
    """Without the folder."""
    modified: datetime
    size: int


class Bucket:
    """The objects under one address; safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: such as ``s3://bucket/prefix`` or ``file:///folder``. Credentials come from the
                environment variables of the store, such as ``AWS_ACCESS_KEY_ID``.

        Raises:
            InvalidArgument: the address is malformed, or obstore is not installed.
        """
        self.url = url
        self._store = _open(url)

    def list(self, prefix: str = "") -> list[Listed]:
        """Return the objects in a folder under the address, in order of their names.

        Raises:
            StorageError: the store can't be reached; StorageRefused if it refuses.
        """
        import obstore

        with self._errors():
            found = [
                Listed(
                    str(one["path"]).removeprefix(f"{prefix}/"), one["last_modified"], one["size"]
                )
                for batch in obstore.list(self._store, prefix)
                for one in batch
            ]
        return sorted(found, key=lambda one: one.name)

    def first(self) -> str | None:
        """Return the name of any object under the address; None if there is none.

        Raises:
            StorageError: see ``list``.
        """
        import obstore

        with self._errors():
            for batch in obstore.list(self._store, chunk_size=1):
                for one in batch:
                    return str(one["path"])
        return None

    def stream(self, name: str) -> Iterator[memoryview]:
        """Yield the content of an object in pieces.

        Raises:
            NotFound: there is no such object.
            StorageError: see ``list``.
        """
        import obstore

        with self._errors():
            for piece in obstore.get(self._store, name).stream(min_chunk_size=_CHUNK_BYTES):
                yield memoryview(piece)

    def read(self, name: str) -> bytes:
        """Return the content of a small object.

        Raises:
            NotFound, StorageError: see ``stream``.
        """
        return b"".join(self.stream(name))

    def write(self, name: str, content: bytes | Path) -> None:
        """Write an object, or replace it.

        Args:
            name: of the object.
            content: bytes, or a file whose content is sent in pieces.

        Raises:
            StorageError: see ``list``.
        """
        import obstore

        with self._errors():
            if isinstance(content, bytes):
                obstore.put(self._store, name, content, use_multipart=False)
            else:
                with content.open("rb") as file:
                    obstore.put(
                        self._store,
                        name,
                        file,
                        chunk_size=_CHUNK_BYTES,
                        max_concurrency=_PARTS_AT_ONCE,
                    )

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one of this name; return whether it was written.

        Raises:
            StorageError: see ``list``.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors():
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are passed over.

        Raises:
            StorageError: see ``list``.
        """
        import obstore

        for name in names:
            with self._errors():
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the store's errors into ours."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"{self.url} has no such object: {detail(error)}") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise refused(self.url, error) from error
        except (BaseError, ValueError, OSError) as error:
            raise failed(self.url, error) from error


def refused(url: str, error: Exception) -> StorageRefused:
    """Return the error for credentials that a store refuses."""
    return StorageRefused(f"{url} refuses the credentials of this environment: {detail(error)}")


def failed(url: str, error: Exception) -> StorageError:
    """Return the error for a store that can't be reached or used."""
    if any(code in str(error) for code in _NO_BUCKET):
        return StorageRefused(f"there is no bucket for {url}; create it, or mend the address")
    text = str(error)
    if "builder error" in text and "http://" in text:
        return StorageRefused(
            f"{url} is at an address without encryption; allow that with AWS_ALLOW_HTTP=true"
        )
    unanswered = _UNANSWERED.search(text)
    if unanswered is not None:
        return StorageError(
            f"can't reach {url}: no answer from {unanswered['server']}; try again when it can be "
            "reached"
        )
    return StorageError(f"can't use {url}: {detail(error)}")


def _open(url: str) -> "ObjectStore":
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.path.strip("/")):
        raise InvalidArgument(
            f"{url} is no address of an object store, such as s3://bucket/prefix", field="url"
        )
    if "@" in parts.netloc and parts.scheme not in ("abfs", "abfss"):
        raise InvalidArgument(
            "the address holds credentials; give them in the environment instead, for example as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            field="url",
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ImportError as error:
        raise InvalidArgument(
            "object stores need the package obstore; install it with: "
            "pip install 'gte-retrieval[replicas]'"
        ) from error
    try:
        if parts.scheme == "file":
            return LocalStore(_folder(url), mkdir=True)
        return from_url(
            url,
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
            client_options=_client_options(),
        )
    except (BaseError, ValueError, OSError) as error:
        raise InvalidArgument(f"{url} can't be opened: {detail(error)}", field="url") from error


def _client_options() -> "ClientConfig":
    """Return limits of time, and the options that the environment sets, as in AWS_ALLOW_HTTP."""
    options: dict[str, object] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    for variable, value in os.environ.items():
        store, _, name = variable.lower().partition("_")
        if store in _STORES and name in _CLIENT_OPTIONS:
            options[name] = value
    return cast("ClientConfig", options)


def _folder(url: str) -> Path:
    """Return the folder of a ``file://`` address."""
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def detail(error: Exception) -> str:
    """Return what an engine says is wrong: the first line of its text, shortened.

    How long it tried is left out, so that a failure that repeats is the same each time.
    """
    first = re.split(r"[\r\n]", str(error).strip(), maxsplit=1)[0]
    first = _TRIES.sub(":", first)
    return first.partition(": <?xml")[0][:_MAX_DETAIL] or type(error).__name__
