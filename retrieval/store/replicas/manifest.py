"""Manifests: what a published generation consists of."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from retrieval.domain.records import GenerationId
from retrieval.errors import IndexDamaged, IndexVersionError
from retrieval.store.objects import PUBLISHED, Bucket

GENERATIONS: Final = PUBLISHED
FILES: Final = "files"
BLOCKS: Final = "blocks"
"""Folders of a bucket."""
BLOCK_BYTES: Final = 1 << 20
"""Size of a block of the database. A commit touches pages all over it; with larger blocks more is
sent that has not changed, and with smaller ones there are more requests."""

_FORMAT: Final = 1
_DIGITS: Final = 20
"""Of a number in a manifest's name, so that names are in the order of numbers."""
_NAME: Final = re.compile(r"(vectors|ann|lexical)-[0-9a-z]+(\.[0-9a-z]+)+")
"""Names of files: a manifest of a stranger must not name a file in another folder."""
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of vectors or words."""

    name: str
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A generation as it was published."""

    number: int
    """1 for the first that was published at an address; the next one has the next number."""
    generation: GenerationId
    published_at: str
    """RFC 3339, UTC."""
    database_bytes: int
    blocks: tuple[str, ...]
    """SHA-256 of each block of the database, in order. All have ``BLOCK_BYTES`` but the last."""
    files: tuple[PublishedFile, ...]

    @property
    def objects(self) -> frozenset[str]:
        """Names of all objects that the generation needs."""
        return frozenset(
            [f"{FILES}/{file.sha256}" for file in self.files]
            + [f"{BLOCKS}/{digest}" for digest in self.blocks]
        )

    @property
    def size(self) -> int:
        """Bytes of the generation's files and database."""
        return self.database_bytes + sum(file.size for file in self.files)

    def to_json(self) -> bytes:
        """Return the content of the manifest's object."""
        body = json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":"))
        return json.dumps({"sha256": _digest(body), "manifest": body}).encode()

    @classmethod
    def from_json(cls, content: bytes, source: str) -> "Manifest":
        """Read a manifest, and check it.

        Args:
            content: of the object.
            source: shown in errors.

        Raises:
            IndexDamaged: the content is not that of a whole manifest.
            IndexVersionError: a newer version of this program has written it.
        """
        damaged = IndexDamaged(f"{source} is damaged; publish the index again")
        try:
            outer = json.loads(content)
            body = outer["manifest"]
            if _digest(body) != outer["sha256"]:
                raise damaged
            fields = json.loads(body)
            if fields.pop("format") != _FORMAT:
                raise IndexVersionError(
                    f"{source} was written by a newer version of this program; upgrade it"
                )
            made = cls(
                generation=GenerationId(**fields.pop("generation")),
                files=tuple(PublishedFile(**file) for file in fields.pop("files")),
                blocks=tuple(fields.pop("blocks")),
                **fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged from error
        if not made.is_sound():
            raise damaged
        return made

    def is_sound(self) -> bool:
        """Whether sizes, names and hashes are such as this program writes."""
        count = -(-self.database_bytes // BLOCK_BYTES)
        return (
            self.number > 0
            and self.database_bytes > 0
            and len(self.blocks) == count
            and all(_SHA256.fullmatch(digest) for digest in self.blocks)
            and all(
                _NAME.fullmatch(file.name) and _SHA256.fullmatch(file.sha256) and file.size >= 0
                for file in self.files
            )
        )


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def name_of(number: int) -> str:
    """Return the name of a manifest's object."""
    return f"{GENERATIONS}/{number:0{_DIGITS}}.json"


def list_numbers(bucket: Bucket) -> list[int]:
    """Return the numbers of the manifests in a bucket, in order.

    Raises:
        StorageError: see ``Bucket``.
    """
    names = (one.name for one in bucket.list(GENERATIONS))
    return [int(stem) for stem in (name.removesuffix(".json") for name in names) if stem.isdigit()]


def read_manifest(bucket: Bucket, number: int) -> Manifest:
    """Read one manifest.

    Raises:
        NotFound: it was deleted meanwhile.
        IndexDamaged, IndexVersionError, StorageError: it can't be read.
    """
    name = name_of(number)
    manifest = Manifest.from_json(bucket.read(name), f"{bucket.url}/{name}")
    if manifest.number != number:
        raise IndexDamaged(f"{bucket.url}/{name} is that of another generation; publish again")
    return manifest


def read_manifests(bucket: Bucket) -> Mapping[int, Manifest]:
    """Read all manifests of a bucket, by number, the newest last; see ``read_manifest``."""
    return {number: read_manifest(bucket, number) for number in list_numbers(bucket)}
