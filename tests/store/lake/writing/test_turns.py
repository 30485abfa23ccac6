"""Turns of writers on an object store: who waits, who is refused, and what a killed one leaves."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from retrieval.errors import IndexLocked
from retrieval.store import open_writer, read_info
from retrieval.store.lake.place import Place
from retrieval.store.lake.writing import turns
from tests.store.stores import needs_s3, place_in
from tests.store.test_store import fill, new_writer

pytestmark = [needs_s3, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: object) -> Iterator[Place]:
    del tmp_path
    yield Place.of(place_in("s3", None))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(turns, "STALE_SECONDS", 1.0)


def foreign(place: Place, name: str) -> dict[str, object]:
    """A turn of a process of another machine."""
    other = {"host": "other", "ids": "other", "pid": 7, "started": "1", "turn": "t", "renewed": 0}
    place.bucket.write(f"turns/{name}.json", json.dumps(other).encode())
    return other


def test_a_turn_that_is_not_renewed_is_taken_over(place: Place) -> None:
    for name, take in (("commit", turns.commit_turn), ("build", turns.build_turn)):
        foreign(place, name)
        with take(place):
            assert json.loads(place.objects.read(f"turns/{name}.json"))["pid"] == os.getpid()
        assert place.objects.list("turns") == []


def test_a_turn_that_is_renewed_is_another_s(place: Place) -> None:
    other, ended = foreign(place, "build"), threading.Event()

    def renew() -> None:
        number = 0
        while not ended.wait(0.1):
            number += 1
            renewed = {**other, "renewed": number}
            place.bucket.write("turns/build.json", json.dumps(renewed).encode())
            place.bucket.write("turns/commit.json", json.dumps(renewed).encode())

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(IndexLocked, match="by process 7 on other"), turns.build_turn(place):
            pass
        with (
            pytest.raises(IndexLocked, match="by process 7 on other"),
            turns.commit_turn(place, 2.0),
        ):
            pass
    finally:
        ended.set()
        renewing.join()


def test_a_long_turn_is_renewed(place: Place) -> None:
    with turns.build_turn(place):
        first = place.objects.read("turns/build.json")
        with pytest.raises(IndexLocked, match=f"process {os.getpid()}"), turns.build_turn(place):
            pass
        while place.objects.read("turns/build.json") == first:
            pass
    assert place.objects.list("turns") == []


def test_commits_wait_for_each_other(place: Place) -> None:
    holding, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        with turns.commit_turn(place):
            holding.set()
            waiting.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    threading.Timer(0.3, waiting.set).start()
    with turns.commit_turn(place):
        assert waiting.is_set()
    holder.join()


def test_a_killed_writer_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "STALE_SECONDS", 600.0)
    index = place_in("s3", None)  # type: ignore[arg-type]
    fill(index, 1)
    code = (
        "import os, sys\nfrom retrieval.store import open_writer\n"
        "with open_writer(sys.argv[1]) as writer, writer.commit():\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(index)], check=False)
    place = Place.of(index)
    assert len(place.objects.list("turns")) == 2
    with new_writer(index) as writer, pytest.raises(IndexLocked):
        open_writer(index)
        del writer
    fill(index, 2)
    assert read_info(index).chunks == 2
    assert place.objects.list("turns") == []
