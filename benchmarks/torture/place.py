"""The folder in which builds are killed: documents that change at random, a model and an index."""

import random
from pathlib import Path
from typing import Self

from tests.tiny_model import make_tiny_model

WORDS = ["segment", "commit", "vector", "index", "flush", "disk", "query", "passage", "model"]
DOCUMENTS = 40


class Lost(AssertionError):
    """A promise was broken."""


class Place:
    """Folder with a model, documents and an index, and the source of randomness."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.docs = folder / "docs"
        self.index = folder / "index"
        make_tiny_model(folder / "model")
        self.docs.mkdir()
        for number in range(DOCUMENTS):
            self._write(self.docs / f"{number}.txt")

    @classmethod
    def opened(cls, folder: Path, chance: random.Random) -> Self:
        """Return a place that was made before."""
        place = cls.__new__(cls)
        place.folder, place.chance = folder, chance
        place.docs, place.index = folder / "docs", folder / "index"
        return place

    def change(self) -> None:
        """Add, change, remove or rename some documents."""
        for _ in range(self.chance.randrange(1, 6)):
            files = sorted(self.docs.iterdir())
            kind = self.chance.choice(["add", "change", "remove", "rename"])
            new = self.docs / f"{self.chance.randrange(10**9)}.txt"
            if kind == "add" or len(files) < DOCUMENTS // 2:
                self._write(new)
            elif kind == "change":
                self._write(self.chance.choice(files))
            elif kind == "remove":
                self.chance.choice(files).unlink()
            else:
                self.chance.choice(files).rename(new)

    def _write(self, path: Path) -> None:
        count = self.chance.randrange(1, 30)
        lines = [" ".join(self.chance.choices(WORDS, k=12)) for _ in range(count)]
        path.write_text("\n\n".join(lines))

    def embedded(self) -> set[str]:
        """Return the keys of the texts embedded since the last call."""
        log = self.folder / "embedded"
        if not log.exists():
            return set()
        keys = {line for line in log.read_text().split() if len(line) == 64}
        log.unlink()
        return keys
