"""Builds on a cluster of two nodes: the same index as without, whatever is lost in between."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from retrieval.errors import RetrievalError
from retrieval.store import open_reader, open_writer, verify
from tests.indexer.build.test_build import Workplace, assert_same_content
from tests.indexer.build.test_messy import WANTED
from tests.indexer.ray.nodes import ADDRESS, Network, Node, network, wait_for, why_impossible
from tests.indexer.readers.test_pool import write_xlsx

if importlib.util.find_spec("ray") is None:
    pytest.skip("make test-ray installs Ray", allow_module_level=True)
if reason := why_impossible():
    pytest.skip(f"no network namespace here: {reason}", allow_module_level=True)

PROGRAM = (sys.executable, "-m", "tests.indexer.ray.program", "build")
DOCS = Path(__file__).parents[3] / "docs" / "decisions"
FILES = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Network]:
    """A network for nodes. Paths of their sockets have to be short."""
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, network(Path(folder)) as made:
        yield made


@pytest.fixture
def two_nodes(cluster: Network) -> Iterator[Network]:
    """Both nodes, started again if a test before has killed them."""
    if any(node.process.poll() is not None for node in cluster.nodes):
        cluster.stop()
    while len(cluster.nodes) < 2:
        cluster.add_node()
    yield cluster
    cluster.stop_started()


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def long_place(place: Workplace) -> Workplace:
    """Documents that take a while to embed with the default model."""
    for path in sorted(DOCS.glob("0*.md"))[:FILES]:
        shutil.copy(path, place.docs)
    return place


def is_working(node: Node) -> bool:
    """Whether a worker embeds on a node."""
    return any("ClusterWorker.embed" in title for title in node.titles())


def has_workers(cluster: Network) -> bool:
    """Whether there is any worker on a cluster."""
    return any("ClusterWorker" in title for node in cluster.nodes for title in node.titles())


def on_cluster(cluster: Network, place: Workplace, *options: str) -> "subprocess.Popen[bytes]":
    """Start a build on the cluster."""
    command = [*PROGRAM, str(place.docs), "--index", str(place.index), "--json"]
    return cluster.start(
        [*command, "--ray", ADDRESS, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def report_of(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for the end of a build; return its report."""
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    report: dict[str, Any] = json.loads(stdout)
    return report


def build_here(place: Workplace, *options: str) -> dict[str, Any]:
    """Build the same without Ray, in a process of its own."""
    command = [*PROGRAM, str(place.docs), "--index", str(place.index), "--json", *options]
    return report_of(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says of the index, and not of the time or of single commits."""
    left_out = {"index", "generation", "maintenance", "seconds", "model_seconds", "load_seconds"}
    kept = {key: value for key, value in report.items() if key not in left_out}
    return kept | {"tokens": {**report["tokens"], "per_second": 0}}


def twin(place: Workplace) -> Workplace:
    """Return a place for another index of the same documents with the same model."""
    other = Workplace(place.folder / "twin")
    other.docs, other.model = place.docs, place.model
    return other


def skips(place: Workplace) -> list[Any]:
    with open_writer(place.index) as writer:
        return [*writer.skipped("docs"), sorted(writer.containers("docs").items())]


def write_everything(place: Workplace) -> None:
    """Files of all formats, archives and mailboxes among them, and some that harm their reader."""
    for name, data in WANTED.items():
        (place.docs / name).write_bytes(data)
    for number in range(12):
        place.write(
            f"many/{number}.md", f"# Same\n\nEqual words.\n\n# Part {number}\n\nOwn {number}."
        )
    place.write("empty.md", "")
    place.write("big.md", "# Large\n\n" + "Sentences without an end, so it seems. " * 4000)
    (place.docs / "binary.txt").write_bytes(b"\0\1\2")
    (place.docs / "broken.pdf").write_bytes(b"%PDF-1.7\n\xff\xff")
    place.write("deep.json", "[" * 100_000)
    place.write("page.html", "<title>T</title><h1>Head</h1><p>body</p>")
    place.write("page.html.meta.json", '{"team": "search"}')
    write_xlsx(place.docs / "crash.xlsx", strings=9_999_999)


def test_the_index_is_the_same_as_without(two_nodes: Network, place: Workplace) -> None:
    write_everything(place)
    options = ("--model", str(place.model), "--chunk-tokens", "40")
    here = twin(place)
    expected = build_here(here, *options)
    assert expected["skipped_by_reason"]["crashed its parser"] == 1
    assert expected["chunks"]["reused"] > 0
    built = report_of(on_cluster(two_nodes, place, *options))
    assert without_times(built) == without_times(expected)
    assert_same_content(place, here)
    assert skips(place) == skips(here)
    with open_reader(place.index) as one, open_reader(here.index) as other:
        ids = [[(row.id, row.uri) for row in reader.documents(1000)] for reader in (one, other)]
        assert ids[0] == ids[1]
    # An update reads what has changed, and drops what is gone.
    place.write("many/3.md", "# Changed\n\nOther words.")
    (place.docs / "notes.txt").unlink()
    assert without_times(report_of(on_cluster(two_nodes, place))) == without_times(build_here(here))
    assert_same_content(place, here)


def test_a_node_that_is_killed_costs_its_unfinished_work_only(
    two_nodes: Network, long_place: Workplace
) -> None:
    here = twin(long_place)
    expected = build_here(here)
    process = on_cluster(two_nodes, long_place)
    node = two_nodes.nodes[-1]
    wait_for(lambda: is_working(node), "work")
    node.kill()
    two_nodes.nodes.pop()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert b"lost a worker" in stderr
    assert without_times(json.loads(stdout)) == without_times(expected)
    assert_same_content(long_place, here)
    assert list(verify(long_place.index)) == []


def test_a_program_that_is_killed_is_run_again(two_nodes: Network, long_place: Workplace) -> None:
    here = twin(long_place)
    build_here(here)
    process = on_cluster(two_nodes, long_place)
    wait_for(lambda: has_documents(long_place), "a commit")
    process.kill()
    process.communicate()
    wait_for(lambda: not has_workers(two_nodes), "the end of its workers")
    report = report_of(on_cluster(two_nodes, long_place))
    assert report["documents"]["total"] == FILES
    assert report["documents"]["added"] < FILES
    assert_same_content(long_place, here)


def has_documents(place: Workplace) -> bool:
    with suppress(RetrievalError), open_reader(place.index) as reader:
        return reader.info.documents > 0
    return False


def test_ctrl_c(two_nodes: Network, long_place: Workplace) -> None:
    process = on_cluster(two_nodes, long_place)
    wait_for(lambda: is_working(two_nodes.nodes[-1]), "work")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert b"interrupted; committed work is kept" in stderr
    wait_for(lambda: not has_workers(two_nodes), "the end of its workers")


def test_a_cluster_whose_head_is_lost(two_nodes: Network, long_place: Workplace) -> None:
    process = on_cluster(two_nodes, long_place)
    wait_for(lambda: is_working(two_nodes.nodes[-1]), "work")
    two_nodes.nodes[0].kill()
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 1, stderr.decode()
    assert b"error: the head of the Ray cluster is lost: " in stderr
    assert b"Traceback" not in stderr


def test_a_cluster_that_loses_all_workers(two_nodes: Network, long_place: Workplace) -> None:
    """The head has no cores; the only other node is lost, and comes back for another build."""
    two_nodes.stop()
    two_nodes.add_node(cpus=0)
    node = two_nodes.add_node()
    process = on_cluster(two_nodes, long_place)
    wait_for(lambda: is_working(node), "work")
    node.kill()
    two_nodes.nodes.pop()
    _, stderr = process.communicate()
    assert process.returncode == 1, stderr.decode()
    assert b"error: no node of the Ray cluster has had 1 CPU to spare for 20 s" in stderr
    two_nodes.add_node()
    assert report_of(on_cluster(two_nodes, long_place))["documents"]["total"] == FILES
    two_nodes.stop()
