"""Reading what is put: whose turn it is at the readers."""

import asyncio

from indexer.ingest.writer.uploads.reading import ReadUpload, UploadReader
from indexer.ingest.writer.uploads.upload import upload_of
from indexer.readers.on_demand import OnDemandReaders
from retrieval.domain.records import ChunkSettings
from retrieval.encoding.encoder import Encoder
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.observability.request_log import request_id

SLOW = b"<p>one two three.\n" * 8_000


def test_requests_take_turns_at_the_readers(encoder: Encoder) -> None:
    async def scenario() -> None:
        order: list[str] = []
        with OnDemandReaders(1, 1) as readers:
            reader = UploadReader(readers, encoder, ChunkSettings(64, 8))

            async def read(uri: str, data: bytes, request: str) -> ReadUpload:
                request_id.set(request)
                done = await reader.read(upload_of(pb.PutDocumentRequest(uri=uri, data=data)))
                order.append(uri)
                return done

            async with asyncio.TaskGroup() as group:
                for number in range(6):
                    group.create_task(read(f"a/{number}.html", SLOW, "stream"))
                group.create_task(read("b/single.txt", b"text", "single"))
        assert order.index("b/single.txt") <= 2

    asyncio.run(scenario())
