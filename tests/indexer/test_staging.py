"""Documents are staged right whatever other writers commit in between."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexer import staging
from indexer.staging import Prepared, Put, Slice, Stager, one_by_one, prepare
from retrieval.domain.records import Chunk, Document, RootInfo, Section, SourceFile
from retrieval.encoding.encoder import Embedded
from retrieval.store import Commit, Writer, open_reader, open_writer, verify
from tests.store.test_store import CHUNKING, DIM, MODEL, staged

ROOT = RootInfo("notes")


class Model:
    """Embeds texts as their own hash would have it, and notes which."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.then: Callable[[], None] = lambda: None

    def __call__(self, texts: list[str]) -> Embedded:
        self.seen += texts
        vectors = np.stack([vector_of(text) for text in texts])
        then, self.then = self.then, lambda: None
        then()
        return Embedded(vectors, [1] * len(texts), [text == "long" for text in texts])


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(staging.content_key(text)[:4])
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def note(name: str, *texts: str) -> Prepared:
    made = staged(f"notes/{name}", list(texts), [0] * len(texts))
    chunks = [one.chunk for one in made.chunks]
    return prepare(made.document, made.source, made.sha256, chunks, context=False)


def put_all(*documents: Prepared) -> Callable[[Commit, Put], list[int]]:
    def write(commit: Commit, put: Put) -> list[int]:
        commit.claim_root(ROOT)
        return [put(one) for one in documents]

    return write


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    with open_writer(tmp_path / "index", shared=True) as opened:
        opened.set_model(MODEL, CHUNKING, "en")
        yield opened


def check(folder: Path) -> dict[str, list[str]]:
    """Verify the index and each vector; return the texts of each document."""
    assert list(verify(folder)) == []
    found: dict[str, list[str]] = {}
    with open_reader(folder) as reader:
        for row in reader.documents(100):
            for ordinal in range(row.chunk_count):
                text = reader.passage(row.id, ordinal).text
                found.setdefault(row.uri, []).append(text)
                stored = reader.passage_vector(row.id, ordinal)
                np.testing.assert_allclose(stored, vector_of(text), atol=1e-6)
    return found


def test_only_new_texts_are_embedded(writer: Writer, tmp_path: Path) -> None:
    model, slices = Model(), list[Slice]()
    stager = Stager(writer, one_by_one(model), slices.append)
    one, two = note("a", "x", "y", "x"), note("b", "y", "z")
    assert stager.commit([one, two], put_all(one, two)) == [1, 2]
    assert sorted(model.seen) == ["x", "y", "z"]
    assert sum(done.texts for done in slices) == 3
    assert sum(done.share for done in slices) == pytest.approx(1)
    stager.commit([two], put_all(two))
    assert len(model.seen) == 3
    assert check(tmp_path / "index") == {"notes/a": ["x", "y", "x"], "notes/b": ["y", "z"]}


def test_a_document_without_chunks(writer: Writer) -> None:
    stager = Stager(writer, one_by_one(Model()))
    assert stager.commit([], lambda commit, _: commit.generation) == 1
    one = note("a")
    stager.commit([one], put_all(one))
    assert writer.known_file("notes/a") is not None


def test_texts_that_another_writer_adds_meanwhile(writer: Writer, tmp_path: Path) -> None:
    model = Model()

    def other() -> None:
        with open_writer(tmp_path / "index", shared=True) as another:
            theirs = note("theirs", "y", "z")
            Stager(another, one_by_one(Model())).commit([theirs], put_all(theirs))

    model.then = other
    ours = note("ours", "x", "y")
    Stager(writer, one_by_one(model)).commit([ours], put_all(ours))
    assert check(tmp_path / "index") == {"notes/ours": ["x", "y"], "notes/theirs": ["y", "z"]}
    assert writer.info is not None
    assert writer.info.vectors == 3


def test_texts_that_a_compaction_removes_meanwhile(writer: Writer, tmp_path: Path) -> None:
    model, calls = Model(), list[int]()
    first = note("first", "x", "y")
    stager = Stager(writer, one_by_one(model))
    stager.commit([first], put_all(first))

    def other() -> None:
        with open_writer(tmp_path / "index") as another:
            with another.commit() as commit:
                commit.remove_document("notes/first")
            another.compact()

    model.seen.clear()
    model.then = other
    ours = note("ours", "x", "new")

    def write(commit: Commit, put: Put) -> None:
        calls.append(commit.generation)
        put(ours)

    stager.commit([ours], write)
    assert model.seen == ["new", "x"]
    assert len(calls) == 1, "nothing was written by halves"
    assert check(tmp_path / "index") == {"notes/ours": ["x", "new"]}


def test_vectors_are_saved_ahead_and_taken_away(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: each vector that is saved ahead is compacted away at once."""
    monkeypatch.setattr(staging, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(staging, "SLICE_TOKENS", 1)
    model = Model()

    def compact() -> None:
        with open_writer(tmp_path / "index") as another:
            another.compact()

    def embed(texts: list[str]) -> Embedded:
        compact()
        return model(texts)

    one = note("a", "x", "y", "long")
    Stager(writer, one_by_one(embed)).commit([one], put_all(one))
    assert check(tmp_path / "index") == {"notes/a": ["x", "y", "long"]}
    assert writer.truncated_chunks(1) == writer.truncated_chunks() == 1
    assert len(model.seen) <= 6


def test_an_error_commits_nothing(writer: Writer) -> None:
    one = note("a", "x")

    def write(commit: Commit, put: Put) -> None:
        put(one)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Stager(writer, one_by_one(Model())).commit([one], write)
    assert writer.known_file("notes/a") is None
    assert writer.find_vectors(one.keys) == {}


def test_the_context_is_embedded_too() -> None:
    one = prepare(
        Document("notes/a", "Title", "text", "x", (Section(0, ()),)),
        SourceFile(Path("/x"), "notes/a", "notes", 1, 1),
        "0" * 64,
        [Chunk(0, 0, 1, "x", 1, 1, ("Heading",), 1)],
        context=True,
    )
    (text,) = one.texts
    assert text.startswith("Title")
    assert "Heading" in text
    assert text.endswith("x")
    assert one.keys == [staging.content_key(text)]
