"""A Ray cluster of several nodes on this machine, in a network of its own.

Ray listens on all interfaces, and whoever reaches it can run code. So the nodes run in a network
namespace that has only its loopback interface.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ADDRESS: Final = "127.0.0.1:6390"
"""Of the head, in the namespace."""
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0" * 64,
    "HF_HUB_OFFLINE": "1",
}
_STORE_BYTES: Final = 80 << 20
_PATIENCE_SECONDS: Final = 180.0
"""Time to wait for what happens in seconds where nothing else runs."""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below a process, with their titles."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found = {pid: ""}
    for _ in rows:
        new = {int(row[0]): row[-1] for row in rows if int(row[1]) in found} | found
        if new.keys() == found.keys():
            break
        found = new
    return {one: title for one, title in found.items() if one != pid}


class Node:
    """A node of a cluster."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def titles(self) -> list[str]:
        """What its processes are doing, as Ray has it in their titles."""
        return list(descendants(self.process.pid).values())

    def kill(self) -> None:
        """Kill all of its processes at once, as a machine that loses its power."""
        below = list(descendants(self.process.pid))
        for pid in (self.process.pid, *below):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Network:
    """A network namespace, and the nodes in it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self.folder = folder
        self.nodes: list[Node] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs another one in the namespace."""
        return [
            *("nsenter", "--target", str(self._pid), "--user", "--net"),
            *("--preserve-credentials", "--", *command),
        ]

    def start(self, command: Sequence[str], **options: object) -> "subprocess.Popen[bytes]":
        """Start a command in the namespace; ``stop_started`` ends it."""
        process = subprocess.Popen(
            self.inside(*command), env={**os.environ, **_ENVIRONMENT}, **options
        )
        self._started.append(process)
        return process

    def stop_started(self) -> None:
        """Kill what was started and is not a node."""
        nodes = [node.process for node in self.nodes]
        for process in self._started:
            if process not in nodes and process.poll() is None:
                process.kill()
                process.wait()
        self._started.clear()

    def add_node(self, *, cpus: int = 1) -> Node:
        """Start a node; the first is the head. They have addresses of their own."""
        number = len(self.nodes) + 1
        address = f"127.0.0.{number}"
        role = ["--head", f"--port={ADDRESS.rpartition(':')[2]}", "--include-dashboard=false"]
        log = (self.folder / f"node{number}.log").open("wb")
        process = self.start(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
                *(role if number == 1 else [f"--address={ADDRESS}"]),
                f"--node-ip-address={address}",
                f"--num-cpus={cpus}",
                "--num-gpus=0",
                f"--object-store-memory={_STORE_BYTES}",
                "--disable-usage-stats",
                *([f"--temp-dir={self.folder}"] if number == 1 else []),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        node = Node(process)
        self.nodes.append(node)
        wait_for(
            lambda: (
                process.poll() is not None
                or re.search(rb"Ray runtime started", Path(log.name).read_bytes())
            ),
            "a node",
        )
        assert process.poll() is None, Path(log.name).read_text()
        return node

    def stop(self) -> None:
        """Kill all nodes."""
        for node in reversed(self.nodes):
            if node.process.poll() is None:
                node.kill()
        self.nodes.clear()


def why_impossible() -> str:
    """Return why there can be no network here; empty if there can."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "ps"))):
        return "unshare, nsenter, ip or ps is missing"
    tried = subprocess.run(  # noqa: PLW1510 -- its status is looked at
        ["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True, text=True
    )
    return tried.stderr if tried.returncode else ""


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Make a namespace for as long as the context lasts."""
    holder = subprocess.Popen(
        ["unshare", "-rn", "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    made = Network(holder.pid, folder)
    try:
        yield made
    finally:
        made.stop()
        holder.kill()
        holder.wait()
