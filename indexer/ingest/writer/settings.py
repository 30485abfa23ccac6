"""Settings of the writer process, which the server sends it as one line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from indexer.decoding.decompress import MAX_FILE_BYTES
from retrieval.service.observability.request_log import LogFormat
from retrieval.store import Location

DEFAULT_COMMIT_SECONDS: Final = 0.2
"""Five generations a second at most: searches see a put within a second, and opening a generation
for them takes some milliseconds."""
MAX_REQUEST_OVERHEAD: Final = 1 << 20
"""Bytes of a request beside the content: names, metadata and the frames of its fields."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """What a writer process is told when it starts."""

    socket: Path
    """Unix socket to listen on, in a folder that only this user can enter."""
    collections: Mapping[str, Location]
    """Collection → location of its index, for the indexes named on the command line."""
    data: Path | None = None
    """Folder of further collections: each is a folder of its name. None if there is none, and no
    collection can be created or deleted."""
    models: tuple[str, ...] = ()
    """Names or folders to find the models of indexes among. New collections have the first one."""
    device: str = "auto"
    """As for ``Encoder.load``."""
    commit_seconds: float = DEFAULT_COMMIT_SECONDS
    """Minimum time between the commits of a collection."""
    max_document_bytes: int = MAX_FILE_BYTES
    """Maximum size of a document that is put."""
    log_format: LogFormat = "text"
    log_level: str = "info"

    def to_json(self) -> str:
        """Return the settings as JSON without line ends."""
        named = {name: str(place) for name, place in self.collections.items()}
        return json.dumps({**asdict(self), "collections": named}, default=str)

    @classmethod
    def from_json(cls, line: str) -> "WriterSettings":
        """Return the settings that ``to_json`` made."""
        raw = json.loads(line)
        raw["socket"] = Path(raw["socket"])
        raw["collections"] = {
            name: Location.parse(place) for name, place in raw["collections"].items()
        }
        raw["data"] = Path(raw["data"]) if raw["data"] is not None else None
        raw["models"] = tuple(raw["models"])
        return cls(**raw)
