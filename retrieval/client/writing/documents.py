"""A document to put: where its content comes from, and the message that carries it."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Final, TypedDict

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from retrieval.client.requests import resource_name
from retrieval.client.values import count, flag, known_options, sendable
from retrieval.client.vectors import is_numpy
from retrieval.domain.arguments import check_text, kind_of, refuse_one_text
from retrieval.domain.metadata import MAX_EXACT_INT
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb

PathLike = str | os.PathLike[str]

_MAX_DEPTH: Final = 16
"""Maximum depth of lists and objects in metadata. The server turns what is deeper than 8 into text,
and protobuf reads messages up to a depth of 100, which are about 30 objects."""

_ENVELOPE_BYTES: Final = 64
"""Bytes by which a message may grow in a stream: a number, a tag and two lengths."""


@dataclass(frozen=True, slots=True)
class PutPassage:
    """A passage of a document that the caller has cut."""

    text: str
    heading_path: Sequence[str] = ()
    """Headings above the passage, outermost first."""
    page: int = 0
    """From 1; 0 for a document without pages."""


class PutOptions(TypedDict, total=False):
    """Keywords of ``put``, beside the URI: one of ``text``, ``data`` and ``passages``, and more."""

    text: str | None
    """The document's text; read as plain text, or as ``file_name`` or ``media_type`` says."""
    data: bytes | None
    """Content of a file of any format that ``indexer build`` reads."""
    passages: Iterable[str | PutPassage] | None
    """The document's text, already cut; each becomes one passage as it is."""
    file_name: str
    """Tells the format by its extension, such as ``report.pdf``."""
    media_type: str
    """The format, such as ``text/markdown``; ``charset`` is the encoding of ``data``."""
    title: str
    """Empty for the title that the content itself has."""
    metadata: Mapping[str, Any] | None
    """Fields for filters and answers: texts, numbers, booleans, dates, lists and objects."""
    language: str
    """BCP 47, such as ``en``; stored as the metadata field ``language``."""
    modified: datetime | None
    """Modification time, with a time zone. None for now, or for that of the file."""
    if_absent: bool
    """Refuse the put if the document exists."""
    if_sha256: str
    """Refuse the put unless this is the ``sha256`` of the document's present version."""


class FileOptions(TypedDict, total=False):
    """Keywords of ``put_file``; see ``PutOptions``."""

    file_name: str
    media_type: str
    title: str
    metadata: Mapping[str, Any] | None
    language: str
    modified: datetime | None
    if_absent: bool
    if_sha256: str


@dataclass(frozen=True, slots=True)
class Put:
    """A document for ``put_many``; the fields are the arguments of ``put``.

    The content is one of ``text``, ``data``, ``passages`` and ``path``.
    """

    uri: str = ""
    """Empty for the name of the file ``path``."""
    _: KW_ONLY
    text: str | None = None
    data: bytes | None = None
    passages: Iterable[str | PutPassage] | None = None
    path: PathLike | None = None
    """File to read when its turn comes."""
    file_name: str = ""
    media_type: str = ""
    title: str = ""
    metadata: Mapping[str, Any] | None = None
    language: str = ""
    modified: datetime | None = None
    if_absent: bool = False
    if_sha256: str = ""


PutItem = Put | Mapping[str, Any] | PathLike
"""What ``put_many`` takes: a ``Put``, its fields as a dictionary, or the path of a file."""

_FIELDS: Final = frozenset(field.name for field in fields(Put))
_TEXTS: Final = ("file_name", "media_type", "title", "language", "if_sha256")
_CONTENTS: Final = ("text", "data", "passages", "path")


def put_of(item: PutItem) -> Put:
    """Return an item of ``put_many`` as a ``Put``.

    Raises:
        InvalidArgument: it is none, or a dictionary has a key that is no field.
    """
    if isinstance(item, Put):
        return item
    if isinstance(item, str | os.PathLike):
        return Put(path=item)
    if isinstance(item, Mapping):
        known_options(item, _FIELDS, method="Put")
        return Put(**item)
    raise InvalidArgument(
        f"an item is {kind_of(item)}; give a Put, a dictionary of its fields, or a path",
        field="items",
    )


def put_with(uri: str, options: Mapping[str, Any], *, method: str) -> Put:
    """Return a ``Put`` of a method's keywords.

    Raises:
        InvalidArgument: a keyword is unknown.
    """
    known_options(options, PutOptions.__optional_keys__, method=method)
    return Put(uri, **options)


def put_of_file(path: PathLike, uri: str | None, options: Mapping[str, Any]) -> Put:
    """Return a ``Put`` of a file.

    Raises:
        InvalidArgument: a keyword is unknown.
    """
    known_options(options, FileOptions.__optional_keys__, method="put_file")
    return Put(uri or "", path=path, **options)


def uri_of(put: Put, root: PathLike | None) -> str:
    """Return the URI of a document: the given one, or the file's path below a root, or its name.

    Raises:
        InvalidArgument: there is neither a URI nor a file, or the file is not below the root.
    """
    if put.uri or put.path is None:
        return sendable(put.uri, field="uri")
    path = _path(put.path)
    if root is None:
        return sendable(path.name, field="uri")
    # Not Path.resolve, which would follow a link out of the root.
    file, folder = os.path.abspath(path), os.path.abspath(root)  # noqa: PTH100
    try:
        below = Path(file).relative_to(folder)
    except ValueError:
        raise InvalidArgument(f"{path} is not below root, {root}", field="path") from None
    return sendable(below.as_posix(), field="uri")


def put_request(
    put: Put,
    *,
    collection: str,
    root: PathLike | None = None,
    wait: bool = False,
    max_bytes: int | None = None,
) -> pb.PutDocumentRequest:
    """Return the request for a document; a file is read.

    Args:
        put: the document.
        collection: the collection's own name.
        root: folder to which the URI of a file is relative.
        wait: whether searches are to see the document before the answer comes.
        max_bytes: limits the request; None for no limit.

    Raises:
        InvalidArgument: a value can't be sent, the file can't be read, or the request is too large.
    """
    request = pb.PutDocumentRequest(
        collection=resource_name(collection),
        uri=uri_of(put, root),
        wait_for_visibility=flag(wait, field="wait"),
        if_absent=flag(put.if_absent, field="if_absent"),
    )
    for name in _TEXTS:
        setattr(request, name, sendable(getattr(put, name), field=name))
    if put.path is not None:
        put = _with_content_of_file(put, max_bytes)
        request.file_name = request.file_name or _path_name(put)
    _set_content(request, put)
    if put.metadata is not None:
        request.metadata.CopyFrom(_struct(put.metadata, "metadata", 0))
    if put.modified is not None:
        request.modify_time.CopyFrom(_timestamp(put.modified))
    if max_bytes is not None:
        check_size(request.ByteSize() + _ENVELOPE_BYTES, max_bytes)
    return request


def check_size(size: int, max_bytes: int) -> None:
    """Refuse a request that the server would not read.

    Raises:
        InvalidArgument: it has more than ``max_bytes``.
    """
    if size > max_bytes:
        raise InvalidArgument(
            f"the document has {size} bytes, and the server takes messages of at most {max_bytes}: "
            "put it in parts, or start the server with a larger --max-message-bytes",
            field="data",
        )


def _path(path: PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgument(f"path is {kind_of(path)}; give a file's path", field="path")
    return Path(path)


def _path_name(put: Put) -> str:
    # A name that is not Unicode still tells the format by its extension.
    name = Path(put.path or "").name
    return name.encode("utf-8", "replace").decode("utf-8")


def _with_content_of_file(put: Put, max_bytes: int | None) -> Put:
    """Return a document with its file's bytes in place of the path's, and the file's time.

    Raises:
        InvalidArgument: the file can't be read, or has more than ``max_bytes``.
    """
    _only_one_content(put)
    path = _path(put.path or "")
    try:
        status = path.stat()
        if S_ISDIR(status.st_mode):
            raise InvalidArgument(
                f"{path} is a folder; put its files, as `retrieval put` does", field="path"
            )
        if not S_ISREG(status.st_mode):
            raise InvalidArgument(f"{path} is not a regular file", field="path")
        if max_bytes is not None:
            check_size(status.st_size, max_bytes)
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidArgument(f"can't read {path}: {reason}", field="path") from error
    except ValueError as error:  # a null character
        raise InvalidArgument(f"can't read {str(path)!r}: {error}", field="path") from error
    modified = put.modified or datetime.fromtimestamp(status.st_mtime, UTC)
    return replace(put, data=data, modified=modified)


def _only_one_content(put: Put) -> None:
    given = [name for name in _CONTENTS if getattr(put, name) is not None]
    if len(given) != 1:
        found = f"there are {' and '.join(given)}" if given else "there is none"
        raise InvalidArgument(
            f"{found}; give the content as one of {', '.join(_CONTENTS)}", field="content"
        )


def _set_content(request: pb.PutDocumentRequest, put: Put) -> None:
    if put.path is None:
        _only_one_content(put)
    if put.text is not None:
        request.text = sendable(put.text, field="text")
    elif put.passages is not None:
        request.passages.passages.extend(_passages(put.passages))
    elif isinstance(put.data, bytes | bytearray | memoryview):
        request.data = bytes(put.data)
    else:
        hint = "; give a text as text=" if isinstance(put.data, str) else ""
        raise InvalidArgument(f"data is {kind_of(put.data)}, not bytes{hint}", field="data")


def _passages(passages: Iterable[str | PutPassage]) -> Iterator[pb.PassageText]:
    refuse_one_text(passages, field="passages")
    if not isinstance(passages, Iterable) or isinstance(passages, bytes | Mapping | set):
        raise InvalidArgument(
            f"passages is {kind_of(passages)}; give a list of texts or PutPassages",
            field="passages",
        )
    for place, passage in enumerate(passages):
        field = f"passages[{place}]"
        one = PutPassage(passage) if isinstance(passage, str) else passage
        if not isinstance(one, PutPassage):
            raise InvalidArgument(
                f"{field} is {kind_of(passage)}; give a text or a PutPassage", field=field
            )
        refuse_one_text(one.heading_path, field=f"{field}.heading_path")
        yield pb.PassageText(
            text=sendable(one.text, field=f"{field}.text"),
            heading_path=[
                sendable(heading, field=f"{field}.heading_path") for heading in one.heading_path
            ],
            page=count(one.page, field=f"{field}.page", minimum=0),
        )


def _struct(values: Mapping[str, Any], field: str, depth: int) -> Struct:
    """Return metadata as a message; fields whose value is None are left out.

    Raises:
        InvalidArgument: a name or a value is nothing that metadata can have.
    """
    if not isinstance(values, Mapping):
        raise InvalidArgument(
            f"{field} is {kind_of(values)}; give a dictionary of fields", field=field
        )
    struct = Struct()
    for name, value in values.items():
        check_text(name, field=f"a name in {field}")
        if value is not None:
            struct[name] = _plain(value, f"{field}.{name}", depth)
    return struct


def _plain(value: Any, field: str, depth: int) -> Any:  # noqa: ANN401  (anything else is refused)
    """Return a value as one that a ``Struct`` takes; see ``_struct``."""
    if isinstance(value, Mapping | list | tuple):
        if depth >= _MAX_DEPTH:
            raise InvalidArgument(f"{field} is nested too deeply", field=field)
        if isinstance(value, Mapping):
            return _struct(value, field, depth + 1)
        parts = ((f"{field}[{place}]", part) for place, part in enumerate(value))
        return [_plain(part, place, depth + 1) for place, part in parts if part is not None]
    if is_numpy(value, "generic"):
        value = value.item()
    if isinstance(value, str):
        return sendable(value, field=field)
    if isinstance(value, int) and abs(value) > MAX_EXACT_INT:
        return str(value)  # it would not be exact as a double
    if isinstance(value, date):  # or a time, which is a date in Python
        return value.isoformat()
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    shown = repr(value) if isinstance(value, float) else kind_of(value)
    raise InvalidArgument(
        f"{field} is {shown}; give a text, number, boolean, date, list or object", field=field
    )


def _timestamp(modified: datetime) -> Timestamp:
    if not isinstance(modified, datetime):
        raise InvalidArgument(f"modified is {kind_of(modified)}, not a datetime", field="modified")
    if modified.tzinfo is None:
        raise InvalidArgument(
            "modified has no time zone: give one, such as datetime.now(UTC)", field="modified"
        )
    stamp = Timestamp()
    stamp.FromDatetime(modified)
    return stamp
