"""A writer process that keeps documents in memory, and does what their texts say.

``slow N`` takes N seconds, ``die`` ends the process, ``bad`` can't be read; anything else is kept.
"""

import asyncio
import hashlib
import os
import sys
import threading
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from indexer.ingest.writer.settings import WriterSettings
from retrieval.errors import AlreadyExists, Conflict, NotFound, RetrievalError, UnreadableDocument
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1 import ingest_service_pb2_grpc as pb_grpc
from retrieval.service.grpc_api.status import abort


class SmallWriter(pb_grpc.IngestServiceServicer):
    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self.under_way: set[tuple[str, str]] = set()

    async def PutDocument(
        self, request: pb.PutDocumentRequest, context: Any
    ) -> pb.PutDocumentResponse:
        try:
            return await self.put(request)
        except RetrievalError as error:
            await abort(context, error)

    async def put(self, request: pb.PutDocumentRequest) -> pb.PutDocumentResponse:
        key = request.collection, request.uri
        assert key not in self.under_way, "two operations on one URI"
        self.under_way.add(key)
        try:
            word, _, rest = request.text.partition(" ")
            if word == "slow":
                await asyncio.sleep(float(rest))
            elif word == "die":
                os._exit(9)
            elif word == "bad":
                raise UnreadableDocument("the file is damaged at byte 7", field="text")
            before = self.texts.get(key)
            if request.if_absent and before is not None:
                raise AlreadyExists("there is one")
            if request.if_sha256 and request.if_sha256 != digest(before or ""):
                raise Conflict("it is another one")
            self.texts[key] = request.text
        finally:
            self.under_way.discard(key)
        change = pb.CHANGE_UPDATED if before is not None else pb.CHANGE_CREATED
        document = pb.PutDocument(uri=request.uri, change=change, sha256=digest(request.text))
        return pb.PutDocumentResponse(documents=[document])

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: Any
    ) -> pb.DeleteDocumentResponse:
        if self.texts.pop((request.collection, request.uri), None) is None:
            await abort(context, NotFound(f"no document {request.uri!r}"))
        return pb.DeleteDocumentResponse(uris=[request.uri])

    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: Any
    ) -> pb.DeleteDocumentsResponse:
        found = [key for key in self.texts if key[1].startswith(request.uri_prefix)]
        for key in () if request.dry_run else found:
            del self.texts[key]
        return pb.DeleteDocumentsResponse(
            document_count=len(found), uris=[uri for _collection, uri in sorted(found)]
        )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def main() -> None:
    settings = WriterSettings.from_json(sys.stdin.readline())
    threading.Thread(target=end_with_the_server, daemon=True).start()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 128 << 20)])
    pb_grpc.add_IngestServiceServicer_to_server(SmallWriter(), server)
    add_HealthServicer_to_server(health.aio.HealthServicer(), server)  # type: ignore[attr-defined]
    server.add_insecure_port(f"unix:{settings.socket}")
    await server.start()
    await server.wait_for_termination()


def end_with_the_server() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
