"""Damaged files of any kind are found, or do no harm; no program ends with a traceback."""

import random
import shutil
from pathlib import Path

import pytest

from retrieval.errors import IndexDamaged, IndexLocked, RetrievalError, StorageError
from retrieval.store import Location, open_reader, open_writer, verify
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.schema import lance_errors
from tests.store.test_store import fill, unit_vectors

ROUNDS = 150


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "lake"
    fill(Location("lance", str(folder)), 30)
    return folder


def damaged(data: bytes, how: str, rng: random.Random) -> bytes:
    """Return the bytes of a file with some damage."""
    at = rng.randrange(len(data))
    if how == "flip":
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if how == "zeros":
        return data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]
    return data[:at] if how == "cut" else b""


def read_all(index: Location) -> None:
    with open_reader(index) as reader:
        reader.search_vectors(unit_vectors(1, 3), 5)
        if reader.has_lexical_index:
            reader.search_lexical("text", 5)
        for document in reader.documents(100):
            reader.document_text(document.id)
            reader.passage(document.id, 0)


def compact(index: Location) -> None:
    with open_writer(index, create=False) as writer:
        writer.compact()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_damage_is_an_error_of_ours_or_does_no_harm(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    files = sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    refused = 0
    for number in range(ROUNDS):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy, symlinks=True)
        path = copy / rng.choice(files).relative_to(whole)
        path.write_bytes(
            damaged(path.read_bytes(), rng.choice(["flip", "zeros", "cut", "all"]), rng)
        )
        index = Location("lance", str(copy))
        for use in (read_all, lambda index: list(verify(index)), compact):
            try:
                use(index)
            except RetrievalError:
                refused += 1
        shutil.rmtree(copy)
    assert refused > ROUNDS / 4  # the damage was where something is read


@pytest.mark.parametrize(
    ("address", "text", "kind"),
    [
        ("s3://b/conflict-db", "Not found: conflict-db/tables/texts.lance/_versions", "damaged"),
        ("s3://b/conflict", "External error: commit conflict for version 3", "locked"),
        ("s3://b/concurrent writers", "bad: http://h/b/concurrent%20writers/tables/x", "damaged"),
        ("s3://b/concurrent writers", "bad: concurrent writers/tables/x is short", "damaged"),
        ("s3://contention", "Generic S3 error: http://h/contention?list-type=2: no", "failed"),
        ("s3://b/accessdenied", "bad: accessdenied/tables/x is short", "damaged"),
        ("s3://b/tables", "Too many concurrent writers at tables/tables/x", "locked"),
        ("lance:///srv/My conflict", "Not found: srv/My conflict/tables/x", "damaged"),
    ],
)
def test_words_of_the_path_are_no_words_of_the_error(address: str, text: str, kind: str) -> None:
    place = Place.of(Location.parse(address))
    kinds = {"damaged": IndexDamaged, "locked": IndexLocked, "failed": StorageError}
    with pytest.raises(kinds[kind]) as caught, lance_errors(place):
        raise OSError(text)
    assert type(caught.value) is kinds[kind]
