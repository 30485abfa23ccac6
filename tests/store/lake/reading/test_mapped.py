"""Vectors mapped into memory from Lance's files are those that Lance reads."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.store import Location, open_reader, open_writer
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables import mapped
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import read_newest
from retrieval.store.lake.tables.schema import VECTORS
from tests.store.test_store import CHUNKING, MODEL, key, staged

DIM = 96


def unit_vectors(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def put(index: Location, number: int, texts: int, dim: int = DIM) -> None:
    with open_writer(index) as writer:
        writer.set_model(replace(MODEL, dim=dim), CHUNKING)
        with writer.commit() as commit:
            named = [f"text {at} of {number}" for at in range(texts)]
            ids = commit.add_vectors(
                [key(text) for text in named], unit_vectors(texts, number, dim), [False] * texts
            )
            commit.put_document(staged(f"d/{number}", named, ids))


def opened(folder: Path, before: Generation | None = None) -> Generation:
    place = Place.in_folder(folder)
    return Generation(place, read_newest(place), before)


def test_rows_are_those_that_lance_reads_whatever_was_deleted(tmp_path: Path) -> None:
    index, folder = Location("lance", str(tmp_path / "lake")), tmp_path / "lake"
    rng, before = random.Random(3), None
    for number in range(6):
        put(index, number, rng.randrange(1, 200))
        with open_writer(index) as writer:
            if number in (2, 4):
                with writer.commit() as commit:
                    commit.remove_document(f"d/{number - 2}")
            if number in (2, 5):
                writer.compact()  # removes unused rows: the files keep them
        generation = opened(folder, before)
        rows = np.array(rng.sample(range(generation.layout(VECTORS).rows), 30) * 2)
        found = generation.mapped
        assert found is not None
        distinct, at = np.unique(rows, return_inverse=True)
        read = generation.matrix(generation.take(VECTORS, distinct, ["vector"]))[at]
        assert found.take(rows).tobytes() == read.tobytes()
        before = generation


def test_a_later_generation_maps_only_new_files(tmp_path: Path) -> None:
    index, folder = Location("lance", str(tmp_path / "lake")), tmp_path / "lake"
    put(index, 0, 50)
    first = opened(folder)
    assert first.mapped is not None
    put(index, 1, 50)
    first.used  # noqa: B018 -- what is in memory is carried on
    second = opened(folder, first)
    assert second.mapped is not None
    (name,) = first.mapped.files
    assert second.mapped.files[name] is first.mapped.files[name]
    assert len(second.mapped.files) == 2


@pytest.mark.parametrize("how", ["several buffers", "other bytes"])
def test_files_in_another_form_are_read_by_lance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    index, folder = Location("lance", str(tmp_path / "lake")), tmp_path / "lake"
    # Lance packs short vectors into blocks with a header.
    dim = 4 if how == "several buffers" else DIM
    put(index, 0, 50, dim)
    if how == "other bytes":
        shifted = mapped.np.memmap

        def elsewhere(path: Path, kind: str, mode: str, offset: int, shape: Any) -> Any:
            return shifted(path, kind, mode, offset + 4, shape)

        monkeypatch.setattr(mapped.np, "memmap", elsewhere)
    assert opened(folder).mapped is None
    with open_reader(index) as reader:
        vectors = reader.vectors([1, 50, 7])
        np.testing.assert_array_equal(vectors, unit_vectors(50, 0, dim)[[0, 49, 6]])
