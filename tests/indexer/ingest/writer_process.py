"""A writer process for tests: the real program, over its real socket."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from indexer.ingest.writer.settings import WriterSettings
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from tests.commands.forking import Forked
from tests.service.harness import word_model


class WriterProcess:
    """A running process, and a connection to it."""

    def __init__(
        self, settings: WriterSettings, wrap: Sequence[str] = (), log: Path | None = None
    ) -> None:
        self.settings = settings
        stderr = log.open("w") if log else None
        start = subprocess.Popen if wrap else Forked
        self.process = start(
            [*wrap, sys.executable, "-m", "indexer.ingest.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        if stderr:
            stderr.close()
        assert self.process.stdin is not None
        self.process.stdin.write(settings.to_json().encode() + b"\n")
        self.process.stdin.flush()
        self.channel = grpc.insecure_channel(
            f"unix:{settings.socket}", options=[("grpc.max_reconnect_backoff_ms", 100)]
        )
        grpc.channel_ready_future(self.channel).result(120)
        self.stub: Any = IngestServiceStub(self.channel)

    def put(self, uri: str, collection: str = "notes", **fields: Any) -> pb.PutDocumentResponse:
        request = pb.PutDocumentRequest(collection=f"collections/{collection}", uri=uri, **fields)
        response: pb.PutDocumentResponse = self.stub.PutDocument(request, timeout=120)
        return response

    def delete(self, uri: str, collection: str = "notes", **fields: Any) -> list[str]:
        request = pb.DeleteDocumentRequest(
            collection=f"collections/{collection}", uri=uri, **fields
        )
        return list(self.stub.DeleteDocument(request, timeout=120).uris)

    def readers(self) -> list[int]:
        """Process ids of its readers."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        threads = listed.parents[1].glob("*/children")
        return [int(pid) for thread in threads for pid in thread.read_text().split()]

    def close(self) -> int:
        """End the input, as the server's end does; return the exit status."""
        self.channel.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)


@contextmanager
def writing(
    data: Path, wrap: Sequence[str] = (), log: Path | None = None, **settings: Any
) -> Iterator[WriterProcess]:
    """A writer process over a folder of collections, with the tiny model of tests.

    Args:
        data: the folder.
        wrap: command that runs the process.
        log: file for its standard error.
        settings: others than the defaults.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        writer = WriterProcess(
            WriterSettings(
                socket=Path(folder, "socket"),
                data=data,
                device="cpu",
                **{
                    "collections": {},
                    "models": [str(word_model())],
                    "commit_seconds": 0.0,
                    **settings,
                },
            ),
            wrap,
            log,
        )
        try:
            yield writer
        finally:
            if writer.process.poll() is None:
                writer.close()


def create(writer: WriterProcess, name: str = "notes", **fields: Any) -> Path:
    """Create a collection; return the folder of its index."""
    writer.stub.CreateCollection(pb.CreateCollectionRequest(collection_id=name, **fields))
    assert writer.settings.data is not None
    return writer.settings.data / name


def reason(error: grpc.RpcError) -> tuple[str, str]:
    """The name of an error's status, and the reason in its details."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code().name, info.reason  # type: ignore[attr-defined]
