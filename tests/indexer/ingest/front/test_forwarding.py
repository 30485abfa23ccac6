"""Calls to the writer process that end in other ways than with an answer."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from indexer.ingest.front.forwarding import forward
from retrieval.errors import InvalidArgument, NotServing, RetrievalError
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1 import ingest_service_pb2_grpc as pb_grpc
from retrieval.service.access.callers import EVERYONE
from retrieval.service.grpc_api.status import abort


class Ending(pb_grpc.IngestServiceServicer):
    """Ends a call as its text says; waits for ever if it says nothing."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def PutDocument(
        self, request: pb.PutDocumentRequest, context: Any
    ) -> pb.PutDocumentResponse:
        self.begun.set()
        if request.text == "invalid":
            await abort(context, InvalidArgument("no", field="uri", other="1"))
        if request.text == "bug":
            raise ValueError("a bug")
        await asyncio.Event().wait()
        raise AssertionError


def forwarding(tmp_path: Path, text: str, end: str = "") -> Any:
    """Forward a put; returns what it ends with."""

    async def main() -> None:
        server, servicer = grpc.aio.server(), Ending()
        pb_grpc.add_IngestServiceServicer_to_server(servicer, server)
        server.add_insecure_port(f"unix:{tmp_path}/socket")
        await server.start()
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/socket")
        stub: Any = pb_grpc.IngestServiceStub(channel)
        request = pb.PutDocumentRequest(text=text)
        call = asyncio.create_task(forward(stub.PutDocument, request, EVERYONE))
        await servicer.begun.wait()
        try:
            if end == "close":
                await channel.close(None)
            elif end == "cancel":
                call.cancel()
            elif end == "stop":
                await server.stop(None)
            await call
        finally:
            await channel.close(None)
            await server.stop(None)

    return asyncio.run(main())


@pytest.mark.parametrize("end", ["close", "stop"])
def test_a_process_that_ends_in_between(tmp_path: Path, end: str) -> None:
    with pytest.raises(NotServing, match="send it again"):
        forwarding(tmp_path, "", end)


def test_a_caller_that_cancels_is_cancelled(tmp_path: Path) -> None:
    with pytest.raises(asyncio.CancelledError):
        forwarding(tmp_path, "", "cancel")


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="^no$") as caught:
        forwarding(tmp_path, "invalid")
    assert caught.value.metadata == {"field": "uri", "other": "1"}


def test_a_bug_of_the_process_is_an_internal_error(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError) as caught:
        forwarding(tmp_path, "bug")
    assert type(caught.value) is RetrievalError
