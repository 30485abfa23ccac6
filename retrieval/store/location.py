"""Location of an index: a folder on a disk, or an address in another store."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

_ADDRESS: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<path>.*)", re.DOTALL)

_LOCAL: Final = ("", "lance")
"""Schemes of stores whose indexes are in folders of this machine's disks."""
_ONLY_IN: Final = {"": "index.db", "lance": "commits"}
"""Scheme of such a store → a name that only its indexes have in their folder."""


@dataclass(frozen=True, slots=True)
class Location:
    """Location of an index. Equal locations name the same place; ``str`` gives the typed text."""

    scheme: str
    """Name of the store, such as ``lake`` in ``lake://…``; empty for a folder."""
    path: str
    """The folder, or the part after ``://``."""

    @classmethod
    def parse(cls, place: "LocationLike") -> "Location":
        """Parse a location: ``scheme://…`` is an address, and anything else is a folder.

        A ``pathlib`` path is always a folder, and so is a text that begins with ``./``.
        """
        if isinstance(place, Location):
            return place
        text = os.fspath(place)
        match = None if isinstance(place, PurePath) else _ADDRESS.fullmatch(text)
        return cls(match["scheme"], match["path"]) if match else cls("", text)

    @property
    def folder(self) -> Path:
        """The folder of a location without a scheme."""
        if self.scheme:
            raise ValueError(f"{self} is not a folder")
        return Path(self.path)

    @property
    def on_disk(self) -> Path | None:
        """The folder that holds the index's files; None if it is not on a disk of this machine."""
        return Path(self.path) if self.scheme in _LOCAL else None

    def absolute(self) -> "Location":
        """Return a location that means the same in any working folder."""
        local = self.on_disk
        return Location(self.scheme, str(local.absolute())) if local else self

    def __str__(self) -> str:
        """Return the location in the form that messages show."""
        return f"{self.scheme}://{self.path}" if self.scheme else str(Path(self.path))


def index_in(folder: Path) -> Location | None:
    """Return the location of the index that a folder holds, of any store; None if there is none.

    It tells those who give a folder to the wrong store what they have.
    """
    for scheme, name in _ONLY_IN.items():
        if (folder / name).exists():
            return Location(scheme, str(folder))
    return None


LocationLike = Location | str | os.PathLike[str]
"""Types that ``Location.parse`` accepts."""
