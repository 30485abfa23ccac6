"""A cluster whose workers and head are lost as a test says, in the place of Ray.

Workers that end again and again, or all at once, can't be had from Ray quickly. What can is tested
in ``tests/indexer/ray``.
"""

import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.build.build import build
from indexer.build.cluster import pool as pool_module
from indexer.build.cluster.pool import Pool, Share
from indexer.build.cluster.site import RayCluster
from indexer.build.cluster.worker import Loaded, Wanted
from indexer.build.progress import SilentProgress
from indexer.parse.formats import read_with_extras
from retrieval import __version__
from retrieval.errors import ClusterLost, ClusterUnavailable, RetrievalError
from tests.indexer.build.test_build import Workplace
from tests.indexer.ray.nodes import wait_for

WANTED = Wanted("model", "cpu", "float32", "0" * 64)
LOADED = Loaded(32, 128, 100)
SECONDS = 20


class LostError(Exception):
    """As ``ray.exceptions.RayError``."""


class MethodError(LostError):
    """As ``ray.exceptions.RayTaskError``."""

    def __init__(self, message: str, cause: Exception) -> None:
        super().__init__(message)
        self.cause = cause


class Cluster:
    """What a build uses of the module ``ray``."""

    exceptions = SimpleNamespace(RayError=LostError, RayTaskError=MethodError)

    def __init__(self) -> None:
        self.head = socket.create_server(("127.0.0.1", 0))
        self._port = self.head.getsockname()[1]
        self.answers: dict[str, Any] = {
            "hello": (__version__, read_with_extras(), "node"),
            "load": LOADED,
            "embed": "embedded",
        }
        """Answers by method: a value, an error, or a future; or a function of the worker's number
        that gives one."""
        self.cores = 8.0
        self.is_alive = True
        self.started = 0
        self.calls: list[str] = []
        self.shutdowns = 0

    def init(self, **_: object) -> None: ...

    def is_initialized(self) -> bool:
        return False

    def shutdown(self) -> None:
        self.shutdowns += 1

    def kill(self, _: object) -> None: ...

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=f"127.0.0.1:{self._port}")

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": "node",
                "NodeManagerAddress": "10.0.0.7",
                "Alive": self.is_alive,
                "Resources": {"CPU": self.cores},
            }
        ]

    def remote(self, _: type) -> SimpleNamespace:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, _: int) -> "Actor":
        self.started += 1
        return Actor(self, self.started)


class Actor:
    """A worker: each method has an answer at once, or when the answer's future has it."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._cluster = cluster
        self._number = number

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_: self._call(method))

    def _call(self, method: str) -> SimpleNamespace:
        self._cluster.calls.append(method)
        answer = self._cluster.answers[method]
        if callable(answer):
            answer = answer(self._number)
        if not isinstance(answer, Future):
            given, answer = answer, Future()
            if isinstance(given, Exception):
                answer.set_exception(given)
            else:
                answer.set_result(given)
        return SimpleNamespace(future=lambda: answer)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(pool_module, "_LOOK_SECONDS", 0.02)
    made = Cluster()
    with made.head:
        yield made


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def start(cluster: Cluster, notes: list[str]) -> Iterator[Callable[[int | None], Pool]]:
    with ExitStack() as opened:
        yield lambda workers: opened.enter_context(
            Pool(cluster, WANTED, Share(workers=workers), notes.append)  # type: ignore[arg-type]
        )


Start = Callable[[int | None], Pool]


def test_work_that_ends_its_workers_fails_and_all_that_waits_with_it(
    cluster: Cluster, start: Start, notes: list[str]
) -> None:
    cluster.answers["embed"] = LostError("out of memory")
    pool = start(1)
    futures = [pool.submit("embed", number) for number in range(5)]
    for future in futures:
        error = future.exception(SECONDS)
        assert isinstance(error, ClusterLost)
        assert "lost one after the other over the same files or texts: give them more" in str(error)
        assert "(out of memory)" in str(error)
    with pytest.raises(ClusterLost):
        pool.submit("embed", "late").result(SECONDS)
    assert len(notes) == pool_module._MAX_LOSSES + 1


def test_many_workers_that_are_lost_at_once(
    cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_MAX_LOSSES", 0)
    cluster.answers["embed"] = lambda _: Future()
    pool = start(4)
    futures = [pool.submit("embed", number) for number in range(20)]
    wait_for(lambda: cluster.calls.count("embed") == 8, "work")
    cluster.is_alive = False
    for future in (*futures, pool.submit("embed", "late")):
        assert isinstance(future.exception(SECONDS), ClusterLost)


@pytest.mark.parametrize("method", ["hello", "load"])
def test_workers_that_are_lost_before_they_are_ready(
    method: str, cluster: Cluster, start: Start, notes: list[str]
) -> None:
    cluster.answers[method] = LostError("The actor died.\n\tsomewhere")
    with pytest.raises(
        ClusterUnavailable, match=r"6 workers .* while starting: give them more memory, .*died"
    ):
        start(2).loaded.result(SECONDS)
    assert set(notes) == {"lost a worker before it had the model: The actor died."}
    assert len(notes) > pool_module._MAX_LOSSES


def test_workers_that_are_lost_together_while_they_load_are_one_loss(
    cluster: Cluster, start: Start
) -> None:
    first = 3 * pool_module._MAX_LOSSES
    cluster.answers["load"] = lambda number: LostError("gone") if number <= first else LOADED
    pool = start(first)
    assert pool.submit("embed").result(SECONDS) == "embedded"


def test_later_workers_that_do_not_get_ready_end_the_build(cluster: Cluster, start: Start) -> None:
    cluster.answers["load"] = lambda number: LostError("gone") if number > 1 else LOADED
    cluster.answers["embed"] = lambda _: Future()
    pool = start(2)
    assert pool.loaded.result(SECONDS) == LOADED
    assert isinstance(pool.submit("embed").exception(SECONDS), ClusterLost)


def test_a_node_with_other_extras_is_named(cluster: Cluster, start: Start) -> None:
    here = read_with_extras()
    there = {pair for pair in here if pair[0] != "code"} | {("other", ".x")}
    cluster.answers["hello"] = (__version__, frozenset(there), "node")
    said = r"node 10\.0\.0\.7 .*: it has other extras: it lacks code, this machine lacks other; "
    with pytest.raises(ClusterUnavailable, match=said):
        start(1).loaded.result(SECONDS)


def test_the_reason_of_a_worker_that_fails_is_told_without_a_traceback(
    cluster: Cluster, start: Start
) -> None:
    told = "\x1b[36mray::ClusterWorker.load()\x1b[39m (pid=1)\n  File x\nKeyError"
    cluster.answers["load"] = MethodError(told, OSError("\x1b[31mno space\x1b[0m left"))
    with pytest.raises(ClusterUnavailable, match=r"can't start: no space left$"):
        start(1).loaded.result(SECONDS)


def test_workers_that_have_no_room_wait_for_nodes(
    cluster: Cluster, start: Start, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a cluster that grows by itself sees how many are wanted."""
    monkeypatch.setattr(pool_module, "NO_WORKER_SECONDS", 0.1)
    ready = cluster.answers["hello"]
    cluster.cores = 1.0
    cluster.answers["hello"] = lambda number: ready if number == 1 else Future()
    pool = start(4)
    for _ in range(20):
        assert pool.submit("embed").result(SECONDS) == "embedded"
    wait_for(lambda: cluster.started == 4, "workers")
    assert pool.count == 1
    assert notes == []


@pytest.mark.parametrize("lost", ["head", "workers"])
def test_nothing_is_left_of_a_cluster_that_is_lost(
    lost: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: int) -> object:
        if lost == "head":
            cluster.head.close()
            return Future()
        return LostError("gone")

    place = Workplace(tmp_path / "place")
    place.write("a.md", "# Alpha\n\nwords\n")
    folder = tmp_path / "temporary"
    folder.mkdir()
    cluster.answers["read"] = read
    monkeypatch.setattr(pool_module, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setitem(sys.modules, "ray", cluster)  # type: ignore[arg-type]
    with pytest.raises(RetrievalError) as raised, RayCluster("local", Share(workers=1)) as site:
        build(place.options(), SilentProgress(), site)
    assert isinstance(raised.value, ClusterLost)
    assert lost in str(raised.value)
    assert cluster.shutdowns == 1
    assert not list(folder.glob("gte-ray-*"))
