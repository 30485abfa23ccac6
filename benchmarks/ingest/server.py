"""A server that takes writes, as a process that can be killed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from retrieval.v1.index_service_pb2_grpc import IndexServiceStub
from retrieval.v1.search_service_pb2_grpc import SearchServiceStub

BIN = Path(sys.executable).parent
MAX_MESSAGE_BYTES = 64 << 20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)


class WritableServer:
    """``retrieval serve --data`` on a port of its own; a context manager."""

    def __init__(self, data: Path, *options: str | Path, log: Path | None = None) -> None:
        """Start it and wait until it answers.

        Args:
            data: folder of the collections; created if it is missing.
            options: more options of ``retrieval serve``.
            log: where standard error goes, at the end; None for nowhere.
        """
        data.mkdir(exist_ok=True)
        command = [BIN / "retrieval", "serve", "--data", data, "--listen", "127.0.0.1:0", *options]
        with (log or Path(os.devnull)).open("ab") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        match = re.search(r"127\.0\.0\.1:\d+", self.process.stdout.readline())
        if match is None:
            sys.exit(f"the server did not start: {' '.join(map(str, command))}")
        self.address = match.group()
        self.channel = grpc.insecure_channel(self.address, OPTIONS)
        self.ingest = IngestServiceStub(self.channel)
        self.search = SearchServiceStub(self.channel)
        self.index = IndexServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def children(self) -> list[int]:
        """Return the process ids of the writer process and of its readers."""
        found, left = [], [self.process.pid]
        while left:
            parent = left.pop()
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                try:
                    children = [int(pid) for pid in task.read_text().split()]
                except OSError:  # the thread has ended meanwhile
                    continue
                found += children
                left += children
        return found

    def kill(self) -> None:
        """End the server as a crash would; its children notice by themselves."""
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the server in order."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def create(server: WritableServer, collection: str, **fields: object) -> None:
    """Create a collection."""
    server.ingest.CreateCollection(
        pb.CreateCollectionRequest(collection_id=collection, **fields), timeout=120
    )


def complaints(log: Path) -> list[str]:
    """Return the lines of a server's log that are not about ordinary requests."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"level": "INFO"' not in line]


def problems(index: Path) -> list[object]:
    """Return what ``indexer verify`` finds wrong with an index."""
    command = [str(BIN / "indexer"), "verify", "--index", str(index), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout) if done.stdout else {"problems": [done.stderr]}
    found: list[object] = report["problems"]
    return found
