"""A cluster of this machine: what listens, what is left, and how little is on its way at once."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from indexer.build.cluster import pool as pool_module
from indexer.build.cluster import read_ahead
from indexer.build.cluster.pool import Pool, Share
from indexer.build.cluster.read_ahead import ReadAhead
from indexer.build.cluster.session import connected
from indexer.build.cluster.worker import Wanted
from indexer.build.settings import FoundModel, find_index_model
from indexer.files.discover import discover
from indexer.readers.messages import Job
from indexer.readers.pool import Finished
from retrieval.domain.records import SourceFile
from retrieval.encoding.encoder import Encoder
from retrieval.errors import ClusterUnavailable, InvalidArgument
from tests.indexer.build.test_build import Workplace
from tests.indexer.ray.nodes import descendants, wait_for
from tests.indexer.readers.test_pool import make_setup

if importlib.util.find_spec("ray") is None:
    pytest.skip("make test-ray installs Ray", allow_module_level=True)

PROGRAM = (sys.executable, "-m", "tests.indexer.ray.program", "build")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    made = Workplace(tmp_path_factory.mktemp("place"))
    for number in range(200):
        made.write(f"{number:03}.md", f"# Part {number}\n\nSome words of part {number}.\n")
    return made


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            patched.delenv(name, raising=False)
        with connected("local") as module:
            yield module


@pytest.fixture(scope="module")
def model(place: Workplace) -> FoundModel:
    return find_index_model(place.options(), None, "cpu")


@pytest.fixture(scope="class")
def pool(ray: ModuleType, model: FoundModel) -> Iterator[Pool]:
    wanted = Wanted(model.name, "cpu", model.dtype, model.fingerprint)
    with Pool(ray, wanted, Share(workers=2), lambda _: None) as made:
        made.loaded.result()
        yield made


class TestWithWorkers:
    """Workers that have the whole cluster, until all of these tests are done."""

    def test_results_are_in_order_and_few_calls_are_ahead(
        self, pool: Pool, place: Workplace
    ) -> None:
        drawn = 0
        texts = [[f"text {number}", "another"] for number in range(60)]

        def calls() -> Iterator[tuple[object, ...]]:
            nonlocal drawn
            for some in texts:
                drawn += 1
                yield "embed", some

        expected = Encoder.load(str(place.model), device="cpu")
        for number, (embedded, _) in enumerate(pool.in_order(calls())):
            assert drawn - number <= pool.ahead + 1
            np.testing.assert_allclose(embedded.vectors, expected.encode(texts[number]), atol=1e-6)
        assert drawn == len(texts)

    def test_few_files_are_read_ahead(
        self, pool: Pool, place: Workplace, model: FoundModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(read_ahead, "_BATCH_FILES", 4)
        monkeypatch.setattr(read_ahead, "AHEAD_CHARS", 1)
        files, asked = discover([place.docs]).files, 0

        def job_of(file: SourceFile) -> Job:
            nonlocal asked
            asked += 1
            return Job(file, {})

        finished: list[SourceFile] = []
        with ReadAhead(pool, make_setup(model.folder.path)) as reading:
            for outcome in reading.read(files, job_of):
                if isinstance(outcome, Finished):
                    finished.append(outcome.source)
                # The batches on their way, and the one of which an outcome waits.
                assert asked - len(finished) <= 4 * (pool.ahead + 2)
        assert finished == list(files)
        assert asked == len(files)

    def test_an_early_end_forgets_what_is_on_its_way(
        self, pool: Pool, place: Workplace, model: FoundModel
    ) -> None:
        with ReadAhead(pool, make_setup(model.folder.path)) as reading:
            next(reading.read(discover([place.docs]).files, lambda file: Job(file, {})))
        assert pool.submit("embed", ["still", "works"]).result()[0].vectors.shape[0] == 2

    def test_the_errors_of_a_worker_are_raised(self, pool: Pool) -> None:
        with pytest.raises(InvalidArgument, match="texts"):
            pool.submit("embed", [1]).result()


def test_a_node_with_another_model_or_version_is_named(
    ray: ModuleType, model: FoundModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Wanted(model.name, "cpu", model.dtype, "0" * 64)
    same = Wanted(model.name, "cpu", model.dtype, model.fingerprint)
    with Pool(ray, other, Share(workers=1), lambda _: None) as pool:
        with pytest.raises(ClusterUnavailable, match=r"node 127\.0\.0\.1 .* another model there"):
            pool.loaded.result()
        with pytest.raises(ClusterUnavailable):
            pool.submit("embed", ["late"]).result()
    monkeypatch.setattr(pool_module, "__version__", "9.9")
    said = r"it has gte-retrieval .* this machine 9\.9"
    with (
        Pool(ray, same, Share(workers=1), lambda _: None) as pool,
        pytest.raises(ClusterUnavailable, match=said),
    ):
        pool.loaded.result()


def test_no_node_with_enough(
    ray: ModuleType, model: FoundModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "NO_WORKER_SECONDS", 3.0)
    monkeypatch.setattr(pool_module, "_WAITING_SECONDS", 1.0)
    notes: list[str] = []
    wanted = Wanted(model.name, "cpu", model.dtype, model.fingerprint)
    with (
        Pool(ray, wanted, Share(gpus=1), notes.append) as pool,
        pytest.raises(ClusterUnavailable, match="1 CPU and 1 GPU to spare for 3 s"),
    ):
        pool.loaded.result()
    assert notes == ["waiting for a node of the cluster with 1 CPU and 1 GPU to spare"]


def start(place: Workplace, index: Path) -> "subprocess.Popen[bytes]":
    command = [*PROGRAM, str(place.docs), "--index", str(index), "--model", str(place.model)]
    return subprocess.Popen(
        [*command, "--ray", "local", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_it_listens_on_the_loopback_interface_only(place: Workplace, tmp_path: Path) -> None:
    process = start(place, tmp_path / "index")
    wait_for(lambda: "ray::ClusterWorker" in str(descendants(process.pid)), "a worker")
    own = {process.pid, *descendants(process.pid)}
    listed = subprocess.run(["ss", "-lntup"], capture_output=True, text=True, check=True).stdout
    rows = [
        row for row in listed.splitlines() if own & set(map(int, re.findall(r"pid=(\d+)", row)))
    ]
    assert rows
    assert all(re.search(r"\s(\[::ffff:)?127\.0\.0\.1\]?:\d+\s", row) for row in rows), rows
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert json.loads(stdout)["documents"]["total"] == 200
    assert not any(map(is_alive, own))


def test_nothing_runs_after_programs_that_are_killed(place: Workplace, tmp_path: Path) -> None:
    below: set[int] = set()
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start(place, tmp_path / number.name)
        wait_for(lambda pid=process.pid: "ray::ClusterWorker" in str(descendants(pid)), "a worker")
        below |= set(descendants(process.pid))
        process.send_signal(number)
        process.communicate()
        assert process.returncode == -number  # as without Ray
    wait_for(lambda: not any(map(is_alive, below)), "the end of their processes")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
