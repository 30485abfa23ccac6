"""The methods of the asyncio client that change collections."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from retrieval.client.connection import ChangeAttempts, Endpoint, check_timeout
from retrieval.client.filters import FilterLike
from retrieval.client.results import CollectionInfo
from retrieval.client.writing.aio_stream import AsyncPutStream
from retrieval.client.writing.blocking import (
    DEFAULT_MESSAGE_BYTES,
    NOT_TOLD,
    PUT_TIMEOUT,
    SMALL_BYTES,
    is_missing,
)
from retrieval.client.writing.documents import (
    FileOptions,
    PathLike,
    Put,
    PutItem,
    PutOptions,
    check_size,
    put_of_file,
    put_request,
    put_with,
)
from retrieval.client.writing.ledger import NOT_WRITABLE, OnProgress, PutPlan
from retrieval.client.writing.requests import (
    create_collection_request,
    delete_collection_request,
    delete_request,
    delete_where_request,
    settings_message,
    update_collection_request,
)
from retrieval.client.writing.results import DeleteResult, DeleteWhereResult, PutResult
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.errors import ServiceError

if TYPE_CHECKING:
    from retrieval.client.loops import Stubs
    from retrieval.client.results import ServerInfo


class AsyncWritingMethods:
    """The methods of ``AsyncRetrievalClient`` that change collections; see ``WritingMethods``."""

    _endpoint: Endpoint
    _max_message_bytes: int | None = None
    """The server's limit; None if it is not known yet."""

    async def put(
        self,
        uri: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        wait: bool = False,
        timeout: float = PUT_TIMEOUT,
        **options: Unpack[PutOptions],
    ) -> PutResult:
        """Add a document, or replace the one of the same URI."""
        one = put_with(uri, options, method="put")
        return await self._put(one, None, collection=collection, wait=wait, timeout=timeout)

    async def put_file(
        self,
        path: PathLike,
        uri: str | None = None,
        *,
        root: PathLike | None = None,
        collection: str = DEFAULT_COLLECTION,
        wait: bool = False,
        timeout: float = PUT_TIMEOUT,
        **options: Unpack[FileOptions],
    ) -> PutResult:
        """Put a file of any format that ``indexer build`` reads, with its modification time."""
        one = put_of_file(path, uri, options)
        return await self._put(one, root, collection=collection, wait=wait, timeout=timeout)

    def put_many(
        self,
        items: Iterable[PutItem] | AsyncIterable[PutItem],
        *,
        root: PathLike | None = None,
        collection: str = DEFAULT_COLLECTION,
        wait: bool = False,
        on_progress: OnProgress | None = None,
        timeout: float = PUT_TIMEOUT,
    ) -> AsyncPutStream:
        """Put any number of documents over one stream; read the outcomes with ``async for``.

        ``items`` may be an asynchronous iterable too.
        """
        self._endpoint.check_open()
        seconds = check_timeout(timeout)

        async def plan() -> PutPlan:
            limit = await self._message_limit()
            return PutPlan(collection, root, wait, seconds, on_progress, limit)

        return AsyncPutStream(self._endpoint, lambda: self._stubs.ingest.PutDocuments, items, plan)

    async def delete(
        self,
        uri: str,
        *,
        if_sha256: str = "",
        missing_ok: bool = False,
        wait: bool = False,
        collection: str = DEFAULT_COLLECTION,
    ) -> DeleteResult:
        """Delete a document that was put; of an archive or a message, all its documents."""
        request = delete_request(uri, if_sha256=if_sha256, wait=wait, collection=collection)
        try:
            response = await self._change(self._stubs.ingest.DeleteDocument, request)
        except ServiceError as error:
            if missing_ok and is_missing(error):
                return DeleteResult((), 0)
            raise
        return DeleteResult.from_message(response)

    async def delete_where(
        self,
        filter: FilterLike | None = None,
        *,
        prefix: str | None = None,
        dry_run: bool = False,
        wait: bool = False,
        collection: str = DEFAULT_COLLECTION,
        timeout: float = PUT_TIMEOUT,
    ) -> DeleteWhereResult:
        """Delete all documents that were put and match a condition, in one commit."""
        request = delete_where_request(
            filter, prefix, dry_run=dry_run, wait=wait, collection=collection
        )
        method, seconds = self._stubs.ingest.DeleteDocuments, check_timeout(timeout)
        return DeleteWhereResult.from_message(await self._change(method, request, seconds))

    async def create_collection(
        self,
        collection: str,
        *,
        model: str = "",
        chunk_tokens: int | None = None,
        chunk_overlap: int | None = None,
        language: str = "",
        index_type: str = "",
        target_recall: float | None = None,
    ) -> CollectionInfo:
        """Create an empty collection on a server that was started with ``--data``."""
        request = create_collection_request(
            collection,
            model=model,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            settings=settings_message(language, index_type, target_recall),
        )
        response = await self._change(self._stubs.ingest.CreateCollection, request)
        return CollectionInfo.from_message(response.collection)

    async def update_collection(
        self,
        collection: str = DEFAULT_COLLECTION,
        *,
        language: str = "",
        index_type: str = "",
        target_recall: float | None = None,
    ) -> CollectionInfo:
        """Change settings of a collection; the others stay."""
        settings = settings_message(language, index_type, target_recall)
        request = update_collection_request(collection, settings)
        response = await self._change(self._stubs.ingest.UpdateCollection, request)
        return CollectionInfo.from_message(response.collection)

    async def delete_collection(self, collection: str, *, missing_ok: bool = False) -> None:
        """Delete a collection with all its documents, on a server started with ``--data``."""
        request = delete_collection_request(collection)
        try:
            await self._change(self._stubs.ingest.DeleteCollection, request)
        except ServiceError as error:
            if not (missing_ok and error.status == "NOT_FOUND"):
                raise

    async def _put(
        self, put: Put, root: PathLike | None, *, collection: str, wait: bool, timeout: float
    ) -> PutResult:
        """Put one document; see ``put``."""
        seconds = check_timeout(timeout)
        self._endpoint.check_open()
        limit = None if put.path is None else await self._message_limit()
        # In a thread, because it may read a file.
        request = await asyncio.to_thread(
            put_request, put, collection=collection, root=root, wait=wait, max_bytes=limit
        )
        if limit is None and (size := request.ByteSize()) > SMALL_BYTES:
            check_size(size, await self._message_limit())
        response = await self._change(self._stubs.ingest.PutDocument, request, seconds)
        return PutResult.from_message(response)

    async def _change(
        self,
        method: Callable[..., Awaitable[Any]],
        request: object,
        timeout: float | None = None,
    ) -> Any:  # noqa: ANN401  (the response of that method)
        patience = self._endpoint.timeout
        attempts = ChangeAttempts(patience if timeout is None else timeout, patience)
        while True:
            left = attempts.seconds_left
            try:
                return await self._call(method, request, timeout=left, unknown=NOT_WRITABLE)
            except ServiceError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _message_limit(self) -> int:
        """Return the server's limit of a message, in bytes; asks once."""
        if self._max_message_bytes is None:
            try:
                limits = (await self.server_info()).limits
            except ServiceError as error:
                if error.status not in NOT_TOLD:
                    raise
                self._max_message_bytes = DEFAULT_MESSAGE_BYTES
            else:
                self._max_message_bytes = limits.max_message_bytes
        return self._max_message_bytes

    if TYPE_CHECKING:

        @property
        def _stubs(self) -> Stubs: ...

        async def server_info(self) -> ServerInfo:
            """Return the server's version and limits."""
            ...

        async def _call(
            self,
            method: Callable[..., Awaitable[Any]],
            request: object,
            *,
            timeout: float | None = None,
            unknown: str = "",
        ) -> Any: ...  # noqa: ANN401
