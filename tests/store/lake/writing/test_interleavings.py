"""Two writers without locks whose steps are interleaved on purpose: only one of them wins."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import IndexLocked, StorageError
from retrieval.store import Commit, Location, open_reader, open_writer, read_info, verify
from retrieval.store.lake.local.word_files import WrittenWords
from retrieval.store.lake.objects.bucket import BucketObjects
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.schema import TableChange
from retrieval.store.lake.writing import cleaning, maintenance
from retrieval.store.lake.writing import writer as writing
from tests.store.stores import needs_s3, place_in
from tests.store.test_store import fill, key, new_writer, staged, unit_vectors

pytestmark = [needs_s3, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setattr(writing.LakeWriter, "turn", lambda _: nullcontext())
    return place_in("s3", tmp_path)


class Stopped(Exception):
    """A writer that ends in the middle of its commit, as if it were killed."""


@contextmanager
def at_step(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Do something before a numbered step of the next commit; yield the steps that were taken."""
    taken: list[str] = []

    def before(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            taken.append(name)
            if len(taken) == number + 1:
                with pytest.MonkeyPatch.context() as undone:
                    for owner, one, original in reals:
                        undone.setattr(owner, one, original)
                    act()
            return real(*arguments, **named)

        return step

    owners: list[tuple[Any, str]] = [
        *((TableChange, name) for name in ("_begun", "append", "delete_rows", "_check")),
        (WrittenWords, "prepare"),
        (WrittenWords, "publish"),
        (writing, "put_pointer"),
    ]
    reals = [(owner, name, getattr(owner, name)) for owner, name in owners]
    with pytest.MonkeyPatch.context() as patched:
        for owner, name, real in reals:
            patched.setattr(owner, name, before(name, real))
        yield taken


def write(index: Location, name: str, *, seed: int) -> None:
    """Commit a document of its own, and replace the one that all writers replace."""
    with open_writer(index, shared=True) as writer, writer.commit() as commit:
        stage(commit, name, seed)


def stage(commit: Commit, name: str, seed: int) -> None:
    texts = [f"text {at} of {name}" for at in range(2)]
    ids = commit.add_vectors([key(text) for text in texts], unit_vectors(2, seed), [False] * 2)
    commit.put_document(staged(f"d/{name}", texts, ids))
    commit.put_document(staged("d/a.txt", [texts[0]], ids[:1]))


def holds(index: Location, *names: str) -> None:
    """Check that an index holds what some writers have committed, the last one last."""
    with open_reader(index) as reader:
        assert {one.uri for one in reader.documents(999)} == {"d/a.txt", *(f"d/{n}" for n in names)}
        always = reader.document_by_uri("d/a.txt")
        last = f"text 0 of {names[-1]}" if names else "text 0 of d/a.txt"
        assert reader.document_text(always.id) == last
        for name in names:
            own = reader.document_by_uri(f"d/{name}")
            assert reader.document_text(own.id) == f"text 0 of {name}\ntext 1 of {name}"
        assert len(reader.search_lexical("text", 999).scores) == 2 * len(names) + 1
    assert list(verify(index)) == []


def steps_of(index: Location) -> int:
    """Return the number of steps of a commit."""
    with at_step(1 << 30, lambda: None) as taken:
        write(index, "zero", seed=9)
    assert taken[-1] == "put_pointer"
    return len(taken)


def test_one_of_two_commits_wins_at_each_step(index: Location) -> None:
    fill(index, 1)
    steps, names = steps_of(index), ["zero"]
    assert steps > 15
    for number in range(steps):
        with (
            at_step(number, lambda: write(index, f"b{number}", seed=2 * number)),  # noqa: B023
            pytest.raises(IndexLocked, match="nothing was changed"),
        ):
            write(index, f"a{number}", seed=2 * number + 1)
        names.append(f"b{number}")
        holds(index, *names)
    write(index, "last", seed=99)
    holds(index, *names, "last")


def test_a_commit_that_stops_inside_of_another(index: Location) -> None:
    """What the stopped one has undone or left is never in what the other one publishes."""
    fill(index, 1)
    steps, names = steps_of(index), ["zero"]
    for number in range(0, steps, 3):
        for inner in range(1, steps, 5):

            def stop() -> None:
                raise Stopped

            def begin_and_stop() -> None:
                with at_step(inner, stop), pytest.raises(Stopped):  # noqa: B023
                    write(index, "lost", seed=number)  # noqa: B023

            name = f"a{number}-{inner}"
            try:
                with at_step(number, begin_and_stop):
                    write(index, name, seed=number)
            except IndexLocked:
                pass
            else:
                names.append(name)
        holds(index, *names)


def test_the_first_commits_of_two_writers(index: Location) -> None:
    """Both create the tables."""
    for number in (0, 3, 5, 8, 10):
        place = Location(index.scheme, f"{index.path}/{number}")
        with new_writer(place):
            pass
        with (
            at_step(number, lambda: write(place, "kept", seed=3)),  # noqa: B023
            pytest.raises(IndexLocked, match="nothing was changed"),
        ):
            write(place, "lost", seed=4)
        with open_reader(place) as reader:
            assert (reader.info.generation, reader.info.documents, reader.info.vectors) == (1, 2, 2)
            assert len(reader.search_lexical("text", 99).scores) == 3
        assert list(verify(place)) == []


def test_cleaning_and_joining_while_another_commits(
    index: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MANY_FILES", 2)
    fill(index, 1)
    steps, names = steps_of(index), ["zero"]

    def maintain() -> None:
        with open_writer(index, shared=True) as other:
            other.maintain()
            cleaning.clean(Place.of(index))

    for number in range(0, steps, 3):
        name = f"a{number}"
        try:
            with at_step(number, maintain):
                write(index, name, seed=number)
        except IndexLocked:
            pass
        else:
            names.append(name)
        holds(index, *names)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_pointer_whose_answer_is_lost(
    index: Location, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    fill(index, 1)
    real = BucketObjects.create

    def create(self: BucketObjects, name: str, content: bytes) -> bool:
        if name.startswith("commits/"):
            monkeypatch.setattr(BucketObjects, "create", real)
            if arrives:
                real(self, name, content)
                if json.loads(content)["commit"]["generation"] % 2:
                    return real(self, name, content)  # as the client that asks again is told
            raise StorageError("no answer")
        return real(self, name, content)

    for name in ("one", "two") if arrives else ("one",):
        with open_writer(index, shared=True) as writer:
            monkeypatch.setattr(BucketObjects, "create", create)
            if arrives:
                with writer.commit() as commit:
                    stage(commit, name, 5)
            else:
                with pytest.raises(StorageError), writer.commit() as commit:
                    stage(commit, name, 5)
            monkeypatch.setattr(BucketObjects, "create", real)
    assert read_info(index).generation == (3 if arrives else 1)
    holds(index, *(["one", "two"] if arrives else []))


def test_a_commit_that_takes_too_long_is_given_up(
    index: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index, 1)
    monkeypatch.setattr(writing, "WRITE_SECONDS", 0.0)
    with pytest.raises(StorageError, match="nothing was changed"):
        write(index, "late", seed=1)
    holds(index)
