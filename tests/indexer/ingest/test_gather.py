"""When a commit is made: at once for who is alone, together with others that are on the way."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import pytest

from indexer.ingest.writer.commits.gather import Gatherer, Waiting
from indexer.ingest.writer.commits.operations import Conditions, DeleteDocument

HOUR = 3600.0


class Takes:
    """Takes from a gatherer, each in a thread."""

    def __init__(self) -> None:
        self.gatherer = Gatherer(HOUR)
        self._pool = ThreadPoolExecutor(1)
        self.put("first")
        assert self.names(self.start()) == ["first"]

    def put(self, uri: str) -> None:
        self.gatherer.put(DeleteDocument(uri, Conditions()))

    def start(self) -> "Future[object]":
        return self._pool.submit(self.gatherer.take, HOUR)

    def names(self, take: "Future[object]") -> list[str]:
        taken = cast("list[Waiting]", take.result(30))
        return [cast("DeleteDocument", one.operation).uri for one in taken]

    def close(self) -> None:
        self.gatherer.close()
        self._pool.shutdown()


@pytest.fixture
def takes() -> Iterator[Takes]:
    made = Takes()
    yield made
    made.close()


def test_one_that_is_alone_waits_for_nobody(takes: Takes) -> None:
    for uri in "abc":
        with takes.gatherer.coming():
            takes.put(uri)
        assert takes.names(takes.start()) == [uri]


def test_those_that_are_coming_share_a_commit(takes: Takes) -> None:
    take = takes.start()
    with takes.gatherer.coming():
        with takes.gatherer.coming():
            takes.put("a")
        with pytest.raises(TimeoutError):
            take.result(0.1)
        takes.put("b")
    assert takes.names(take) == ["a", "b"]


def test_one_that_fails_on_the_way_holds_up_nobody(takes: Takes) -> None:
    take = takes.start()
    with pytest.raises(ValueError, match="unreadable"), takes.gatherer.coming():
        takes.put("a")
        raise ValueError("unreadable")
    assert takes.names(take) == ["a"]
