"""Uploads: what a client puts, checked, and how it is to be read."""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Final

from google.protobuf import json_format
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from indexer.decoding.labels import codec_of
from indexer.files.media_types import MEDIA_TYPES, UNKNOWN_TYPES
from indexer.files.sidecar import MAX_BYTES, FieldsError, check_fields
from indexer.parse.base.outline import MAX_HEADING_CHARS, one_line, words
from indexer.parse.formats import content_decides, format_of
from retrieval.domain.metadata import from_doubles
from retrieval.domain.records import DEFAULT_READING, ReadSettings
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1.ingest_service_pb2 import PutDocumentRequest

MAX_NAME_CHARS: Final = 255
"""Maximum length of a file name, as on usual disks."""
MAX_LANGUAGE_CHARS: Final = 35
"""Maximum length of a language tag that programs must support (RFC 5646)."""
_LANGUAGE: Final = re.compile("[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
_MAX_SUFFIX_DOTS: Final = 3
"""Dots of the longest extensions, such as ``.rst.txt.gz``."""
_MARK: Final = "\ufeff"
"""As a byte order mark it says that the text is UTF-8, whatever its markup declares."""
_PLAIN: Final = ".text"
"""Extension of plain text. Behind ``.md``, ``.txt`` would mean Markdown."""
_DECLARING: Final = frozenset({"html", "xml"})
"""Formats whose texts may declare an encoding, which no longer holds once they are decoded."""
_WRITTEN: Final = words(
    "asciidoc code config latex man markdown mediawiki org rst subtitles text typst"
)
"""Formats that people write as text. A URI with another extension, such as ``.pdf``, more likely
names where a text was taken from."""


@dataclass(frozen=True, slots=True)
class PassageText:
    """A passage as it was put."""

    text: str
    heading_path: tuple[str, ...]
    page: int
    """0 if the document has no pages."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A document as a client put it."""

    uri: str
    content: bytes | Sequence[PassageText]
    """The bytes of a file, or passages that are already cut."""
    read_as: str
    """The URI, or one that ends in the extension of the format that the client named. The content
    is read under this name."""
    reading: ReadSettings
    is_text: bool
    """Whether the content was text, not bytes."""
    fields: Mapping[str, object]
    """Metadata, which takes precedence over that of the content."""
    title: str
    """Empty for that of the content."""
    mtime_ns: int
    has_time: bool
    """Whether the client named the modification time."""
    sha256: str
    """Hex digest of all of it but the time."""
    size: int
    """Bytes of the content."""


def upload_of(request: PutDocumentRequest) -> Upload:
    """Return what a request puts.

    Raises:
        InvalidArgument: a field is malformed or out of range.
    """
    kind = request.WhichOneof("content")
    if kind is None:
        raise InvalidArgument("a put needs data, text or passages", field="content")
    name, reading = _read_as(request, kind)
    content: bytes | Sequence[PassageText]
    if kind == "passages":
        content = [
            PassageText(one.text, tuple(one.heading_path), one.page)
            for one in request.passages.passages
        ]
        size = sum(len(one.text.encode()) for one in content)
    else:
        format_ = format_of(name)
        declares = kind == "text" and format_ is not None and format_.key in _DECLARING
        text = request.text if not declares else _MARK + request.text
        content = request.data if kind == "data" else text.encode()
        size = len(content)
    fields = _fields_of(request)
    title = one_line(_title(request.title, "title") or str(fields.pop("title", "")))
    if not title and request.title:
        raise InvalidArgument("title is blank; omit it, or give a title", field="title")
    has_time = request.HasField("modify_time")
    mtime_ns = _nanoseconds(request.modify_time) if has_time else time.time_ns()
    told = [kind, name.removeprefix(request.uri), reading.encoding, title, fields]
    return Upload(
        uri=request.uri,
        content=content,
        read_as=name,
        reading=reading,
        is_text=kind == "text",
        fields=fields,
        title=title,
        mtime_ns=mtime_ns,
        has_time=has_time,
        sha256=_digest(told, content),
        size=size,
    )


def _digest(told: Sequence[object], content: bytes | Sequence[PassageText]) -> str:
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(b"\n")
    if isinstance(content, bytes):
        digest.update(content)
    else:
        for one in content:
            row = json.dumps([one.text, one.heading_path, one.page], ensure_ascii=False)
            digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def _nanoseconds(at: Timestamp) -> int:
    try:
        return at.ToNanoseconds()
    except ValueError as error:
        raise InvalidArgument("modify_time is out of range", field="modify_time") from error


def _title(title: str, field: str) -> str:
    if len(title) > MAX_HEADING_CHARS:
        raise InvalidArgument(
            f"{field} has {len(title)} characters; it may have {MAX_HEADING_CHARS}", field=field
        )
    return title


def _fields_of(request: PutDocumentRequest) -> dict[str, object]:
    """Return metadata and language.

    Raises:
        InvalidArgument: they would not be kept whole.
    """
    try:
        values = from_doubles(MessageToDict(request.metadata)) if request.metadata.fields else {}
    except (json_format.Error, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"metadata has a value that JSON has not, such as NaN: {one_line(str(error))}",
            field="metadata",
        ) from error
    fields: dict[str, object] = dict(values) if isinstance(values, Mapping) else {}
    if request.language:
        check_language(request.language)
        for name in [name for name in fields if name.lower() == "language"]:
            del fields[name]
        fields["language"] = request.language
    try:
        check_fields(fields)
    except FieldsError as error:
        raise InvalidArgument(f"metadata {error}", field="metadata") from error
    if len(json.dumps(fields, ensure_ascii=False).encode()) > MAX_BYTES:
        raise InvalidArgument(f"metadata has more than {MAX_BYTES} bytes", field="metadata")
    return fields


def check_language(language: str) -> None:
    """Refuse a text that is no language tag (BCP 47), such as ``en`` or ``pt-BR``.

    Raises:
        InvalidArgument: it is none.
    """
    if len(language) > MAX_LANGUAGE_CHARS or not _LANGUAGE.fullmatch(language):
        raise InvalidArgument(
            f"language is {language[:MAX_LANGUAGE_CHARS]!r}; give a tag such as en or pt-BR",
            field="language",
        )


def _read_as(request: PutDocumentRequest, kind: str) -> tuple[str, ReadSettings]:
    """Return the name to read the content under, and the settings.

    Raises:
        InvalidArgument: the file name or the media type is malformed or unknown.
    """
    uri = request.uri
    media_type, charset = _media_type(request.media_type)
    reading = ReadSettings(charset) if charset else DEFAULT_READING
    file_name = request.file_name.replace("\\", "/").rpartition("/")[2]
    if len(file_name) > MAX_NAME_CHARS:
        raise InvalidArgument(
            f"file_name has {len(file_name)} characters; it may have {MAX_NAME_CHARS}",
            field="file_name",
        )
    if kind == "passages":
        return uri, DEFAULT_READING
    if file_name and not content_decides(file_name):
        return _named(uri, file_name), reading
    if media_type in MEDIA_TYPES:
        return _ending(uri, MEDIA_TYPES[media_type]), reading
    if kind == "text" and not _names_text(uri):
        return f"{uri}{_PLAIN}", reading
    return uri, reading


def _names_text(uri: str) -> bool:
    """Whether the extension of a URI names the format of a text that is put without its bytes."""
    format_ = format_of(uri)
    return "://" not in uri and format_ is not None and format_.key in _WRITTEN


def _media_type(value: str) -> tuple[str, str]:
    """Return the media type in lower case and the codec of its charset; either may be empty.

    Raises:
        InvalidArgument: the value is malformed, or the type or charset unknown.
    """
    if not value:
        return "", ""
    message = Message()
    message["content-type"] = value[:MAX_HEADING_CHARS].replace("\n", " ").replace("\r", " ")
    media_type = message.get_content_type()
    given = value.partition(";")[0].strip().lower()
    if media_type != given or (media_type not in MEDIA_TYPES and media_type not in UNKNOWN_TYPES):
        raise InvalidArgument(
            f"media_type {one_line(given)[:80]!r} is not supported: `indexer formats` lists the "
            f"formats; omit it if file_name tells the format",
            field="media_type",
        )
    label = message.get_content_charset("")
    codec = codec_of(label)
    if label and not codec:
        raise InvalidArgument(
            f"media_type names the charset {one_line(label)[:40]!r}, which is unknown",
            field="media_type",
        )
    return media_type, codec


def _named(uri: str, file_name: str) -> str:
    """Return a URI that is read like a file of some name."""
    format_ = format_of(file_name)
    parts = file_name.split(".")
    for count in range(1, min(len(parts), _MAX_SUFFIX_DOTS + 1)):
        suffix = "." + ".".join(parts[-count:])
        if format_of(f"x{suffix}") is format_:
            return _ending(uri, suffix)
    return f"{uri}/{file_name}"  # such as Makefile


def _ending(uri: str, suffix: str) -> str:
    return uri if uri.lower().endswith(suffix.lower()) else f"{uri}{suffix}"


def read_as(request: PutDocumentRequest) -> str:
    """Return the name that tells how a request's content is read; see ``Upload.read_as``.

    Raises:
        InvalidArgument: the file name or the media type is malformed or unknown.
    """
    name, _reading = _read_as(request, request.WhichOneof("content") or "data")
    return name
