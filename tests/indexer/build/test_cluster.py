"""Builds with ``--ray`` where Ray is not needed, not installed or out of reach.

What needs a cluster is tested in ``tests/indexer/ray``.
"""

import sys
from pathlib import Path

import pytest

from indexer.build.build import build
from indexer.build.cluster.pool import Share
from indexer.build.cluster.session import connected
from indexer.build.cluster.site import RayCluster
from indexer.build.cluster.worker import ClusterWorker, Refused, Wanted
from indexer.build.progress import SilentProgress
from retrieval.errors import ClusterUnavailable, InvalidArgument
from tests.indexer.build.test_build import Workplace, counts
from tests.indexer.commands.test_cli import assert_user_error, indexer

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(tmp_path)
    made.write("a.md", "# Alpha\n\nSome words.\n")
    return made


def test_a_build_without_changes_does_not_start_ray(place: Workplace) -> None:
    place.build()
    with RayCluster(NOWHERE, Share()) as site:
        assert counts(build(place.options(), SilentProgress(), site)) == (0, 0, 0, 1)
        (place.docs / "a.md").unlink()
        place.write("b.bin.exe", "no")
        place.write("c.md", "# New\n\nwords\n")
        with pytest.raises(ClusterUnavailable, match=f"no Ray cluster at {NOWHERE}: "):
            build(place.options(), SilentProgress(), site)
    assert place.uris() == ["docs/a.md"]


def test_mistakes_are_one_line(place: Workplace) -> None:
    arguments = ("build", place.docs, "--index", place.index, "--model", place.model)
    wrong = {
        NOWHERE: "no Ray cluster at 127.0.0.1:1: ",
        "no.such.host.invalid:1": "no Ray cluster at no.such.host.invalid:1: ",
        "localhost:70000": "no Ray cluster at localhost:70000: ",
        "localhost": "give local, auto, or the address of the cluster's head",
        "ray://localhost:10001": "give local, auto, or the address of the cluster's head",
    }
    for address, message in wrong.items():
        assert_user_error(indexer(*arguments, "--ray", address), message)
    assert not place.index.exists()
    assert_user_error(indexer(*arguments, "--ray", "local", "--dry-run"), "omit --ray")
    assert_user_error(
        indexer(*arguments, "--ray", "local", "--device", "cuda"), "workers have GPUs with"
    )
    assert_user_error(
        indexer(*arguments, "--ray", "local", "--ray-gpus", "1", "--device", "cpu"),
        "workers have GPUs with",
    )


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "0")
    advice = r"pip install 'gte-retrieval\[ray\]'"
    with pytest.raises(InvalidArgument, match=advice), connected("local"):
        pass


def test_how_many_workers_a_node_has_room_for() -> None:
    assert Share().fits({"CPU": 4.0}) == 4
    assert Share(cpus=3).fits({"CPU": 8.0}) == 2
    assert Share(gpus=1).fits({"CPU": 8.0}) == 0
    assert Share(cpus=2, gpus=1).fits({"CPU": 8.0, "GPU": 8.0}) == 4
    assert Share(gpus=0.1).fits({"CPU": 64.0, "GPU": 1.0}) == 10
    assert Share().fits({}) == 0
    assert str(Share(2, 0.5)) == "2 CPUs and 0.5 GPU"


def test_a_worker_refuses_another_model(place: Workplace) -> None:
    worker = ClusterWorker(1)
    other = worker.load(Wanted(str(place.model), "cpu", "float32", "0" * 64))
    assert other == Refused(f"{place.model} is another model there than on this machine")
    missing = worker.load(Wanted(str(place.folder / "none"), "cpu", "float32", "0" * 64))
    assert isinstance(missing, Refused)
    assert "no model folder" in missing.message
