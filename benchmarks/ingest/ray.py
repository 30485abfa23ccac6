"""Builds on a Ray cluster: two nodes of one core each against one, and kills at random moments.

    python -m benchmarks.ingest.ray [FOLDER] [--files 40] [--kills 20]

The speed is that of all Markdown files of the folder (docs), so that the start of the second worker
matters little; a kill is in a build of some of them.

Needs Ray (`make test-ray` makes an environment with it) and user namespaces: the nodes run in a
network of their own. The time of a build counts from when its first worker is ready. Workers use
one thread each.

Each kill ends the second node at a random moment of the embedding with SIGKILL, and compares the
index with the one of a build without Ray: the same texts, vectors to 1e-6.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.store import open_reader
from tests.indexer.ray.nodes import ADDRESS, Network, network, wait_for

PROGRAM = (sys.executable, "-m", "tests.indexer.ray.program", "build")


def command(docs: Path, index: Path, *options: str) -> list[str]:
    """Return the command of a build."""
    return [*PROGRAM, str(docs), "--index", str(index), "--json", *options]


def finish(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for a build; return its report."""
    stdout, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(stderr.decode())
    report: dict[str, Any] = json.loads(stdout)
    return report


def content(index: Path) -> tuple[list[tuple[object, ...]], np.ndarray]:
    """Return the texts and the vectors of an index."""
    texts, vectors = [], []
    with open_reader(index) as reader:
        for document in reader.documents(100_000):
            for ordinal in range(document.chunk_count):
                passage = reader.passage(document.id, ordinal)
                texts.append((document.uri, passage.char_start, passage.text))
                vectors.append(reader.passage_vector(document.id, ordinal))
    return texts, np.stack(vectors)


def build(net: Network, docs: Path, index: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start a build on the cluster."""
    return net.start(
        command(docs, index, "--ray", ADDRESS, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def embedding_seconds(report: dict[str, Any]) -> float:
    """Return the time of a build without the start of its workers."""
    return float(report["seconds"] - report["load_seconds"])


def measure(net: Network, docs: Path, folder: Path) -> None:
    """Print the time with one worker and with two."""
    times = {}
    for workers in (1, 2):
        index = folder / f"speed{workers}"
        shutil.rmtree(index, ignore_errors=True)
        report = finish(build(net, docs, index, "--ray-workers", str(workers)))
        seconds = embedding_seconds(report)
        times[workers] = seconds
        print(
            f"{workers} workers: {seconds:.1f} s, {report['tokens']['embedded']} tokens", flush=True
        )
    print(f"two nodes of one core each: {times[1] / times[2]:.2f} x one")


def kill(net: Network, docs: Path, folder: Path, kills: int, expected: Any) -> None:
    """Kill the second node at random moments; print how many indexes are the same."""
    same = lost = 0
    for number in range(kills):
        index = folder / "killed"
        shutil.rmtree(index, ignore_errors=True)
        if len(net.nodes) == 1:
            net.add_node()
        node = net.nodes[-1]
        process = build(net, docs, index)
        wait_for(lambda node=node: any("ClusterWorker.embed" in t for t in node.titles()), "work")
        time.sleep(random.Random(number).uniform(0, 3))
        if process.poll() is None:
            node.kill()
            net.nodes.pop()
            lost += 1
        finish(process)
        texts, vectors = content(index)
        same += texts == expected[0] and bool(np.allclose(vectors, expected[1], rtol=0, atol=1e-6))
        print(f"kill {number + 1}: {same} of {number + 1} the same", flush=True)
    print(f"{kills} builds, {lost} with a node killed in the middle: {same} indexes are the same")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs"))
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    files = sorted(options.folder.rglob("*.md"))
    every, docs = folder / "all", folder / "docs"
    for target, chosen in ((every, files), (docs, files[: options.files])):
        target.mkdir()
        for path in chosen:
            shutil.copy(path, target)
    try:
        finish(subprocess.Popen(command(docs, folder / "here"), stdout=-1, stderr=-1))
        with network(folder) as net:
            net.add_node()
            net.add_node()
            measure(net, every, folder)
            kill(net, docs, folder, options.kills, content(folder / "here"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
