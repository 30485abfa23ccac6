"""The methods of the blocking client that change collections."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Unpack

from retrieval.client.connection import ChangeAttempts, Connection, check_timeout
from retrieval.client.filters import FilterLike
from retrieval.client.results import CollectionInfo
from retrieval.client.writing.blocking_stream import PutStream
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
    from retrieval.client.results import ServerInfo
    from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub

PUT_TIMEOUT: Final = 300.0
"""Seconds; to parse and embed a long document takes minutes on a CPU."""

DEFAULT_MESSAGE_BYTES: Final = 64 << 20
"""The server's default limit, for a server that does not tell its own to this token."""
NOT_TOLD: Final = frozenset({"PERMISSION_DENIED", "UNIMPLEMENTED"})
"""Statuses of a server that does not tell its limits, as to a token without the scope ``read``."""
SMALL_BYTES: Final = 64 << 10
"""A single put up to this size is sent without asking for the server's limit."""


class WritingMethods:
    """The methods of ``RetrievalClient`` that change collections.

    The server must have been started with ``--writable`` or ``--data``, and a token needs the scope
    ``write``. A method that returns is committed: the change survives a crash and a power cut.
    """

    _connection: Connection
    _ingest: "IngestServiceStub"
    _max_message_bytes: int | None = None
    """The server's limit; None if it is not known yet."""

    def put(
        self,
        uri: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        wait: bool = False,
        timeout: float = PUT_TIMEOUT,
        **options: Unpack[PutOptions],
    ) -> PutResult:
        """Add a document, or replace the one of the same URI.

        The same content put again changes nothing and embeds nothing. So a put is repeated by
        itself if the connection breaks before the answer. If the first attempt was committed, a
        repeated put with ``if_absent`` or ``if_sha256`` may end with ``ALREADY_EXISTS`` or
        ``CONFLICT``: compare the document with yours before you take that for somebody else's.

        Args:
            uri: the document's name in the collection, such as ``tickets/4711``.
            collection: the collection's own name.
            wait: whether searches are to see the document before this returns; usually they see it
                within a second.
            timeout: in seconds; takes the place of the client's.
            options: the content as ``text``, ``data`` or ``passages``, and ``title``, ``metadata``
                and more: see ``PutOptions``.

        Raises:
            ServiceError: the document was not put. Its ``service_reason`` may be
                ``UNREADABLE_DOCUMENT``, ``ALREADY_EXISTS``, ``CONFLICT``, ``QUOTA_EXCEEDED``, or
                ``FOREIGN_ROOT`` for a URI in a folder that ``indexer build`` keeps up to date.
        """
        one = put_with(uri, options, method="put")
        return self._put(one, None, collection=collection, wait=wait, timeout=timeout)

    def put_file(
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
        """Put a file of any format that ``indexer build`` reads, with its modification time.

        Args:
            path: the file.
            uri: the document's URI; None for the file's path below ``root``, or else its name.
            root: a folder above the file.
            collection: as in ``put``.
            wait: as in ``put``.
            timeout: as in ``put``.
            options: ``title``, ``metadata`` and more: see ``FileOptions``.

        Raises:
            InvalidArgument: the file can't be read, or is larger than the server's messages.
            ServiceError: see ``put``.
        """
        one = put_of_file(path, uri, options)
        return self._put(one, root, collection=collection, wait=wait, timeout=timeout)

    def put_many(
        self,
        items: Iterable[PutItem],
        *,
        root: PathLike | None = None,
        collection: str = DEFAULT_COLLECTION,
        wait: bool = False,
        on_progress: OnProgress | None = None,
        timeout: float = PUT_TIMEOUT,
    ) -> PutStream:
        """Put any number of documents over one stream, in bounded memory.

        Nothing is sent before you read the outcomes: iterate over them, or call ``finish``. They
        arrive in the order in which the documents are committed. A document that can't be put is an
        outcome with an error. Puts of one URI take effect in their order.

        If the connection breaks or the server restarts, what was not answered is sent again.

        Args:
            items: ``Put`` records, dictionaries of their fields, or paths of files; read in this
                thread, about 256 ahead of the answers.
            root: a folder; the URI of a file without one is its path below this folder.
            collection: as in ``put``.
            wait: as in ``put``, for each answer.
            on_progress: is called with ``PutProgress`` after each outcome.
            timeout: seconds for which no answer may come, reconnects included.

        Returns:
            an iterator of outcomes. It raises ``ServiceError`` if the stream itself is refused, or
            can't be opened again; documents whose outcome was read are committed.
        """
        self._connection.check_open()
        seconds = check_timeout(timeout)
        limit = self._message_limit()
        plan = PutPlan(collection, root, wait, seconds, on_progress, limit)
        return PutStream(self._connection, self._ingest, items, plan)

    def delete(
        self,
        uri: str,
        *,
        if_sha256: str = "",
        missing_ok: bool = False,
        wait: bool = False,
        collection: str = DEFAULT_COLLECTION,
    ) -> DeleteResult:
        """Delete a document that was put; of an archive or a message, all its documents.

        Args:
            uri: the document's URI, as it was put.
            if_sha256: the ``sha256`` of the version to delete; empty for any.
            missing_ok: whether a document that does not exist counts as deleted. Otherwise a
                deletion that is repeated because its answer was lost may end with ``NOT_FOUND``.
            wait: whether searches are to find it no longer before this returns.
            collection: the collection's own name.

        Raises:
            ServiceError: with reason ``NOT_FOUND``; ``CONFLICT`` if ``if_sha256`` does not match;
                ``FOREIGN_ROOT`` if ``indexer build`` keeps the document up to date.
        """
        request = delete_request(uri, if_sha256=if_sha256, wait=wait, collection=collection)
        try:
            response = self._change(self._ingest.DeleteDocument, request)
        except ServiceError as error:
            if missing_ok and is_missing(error):
                return DeleteResult((), 0)
            raise
        return DeleteResult.from_message(response)

    def delete_where(
        self,
        filter: FilterLike | None = None,
        *,
        prefix: str | None = None,
        dry_run: bool = False,
        wait: bool = False,
        collection: str = DEFAULT_COLLECTION,
        timeout: float = PUT_TIMEOUT,
    ) -> DeleteWhereResult:
        """Delete all documents that were put and match a condition, in one commit.

        Args:
            filter: a condition as in ``search``, such as ``ticket>4000 AND status=closed``.
            prefix: in its place, the beginning of the URIs, such as ``tickets/``.
            dry_run: whether only to tell what would be deleted.
            wait: as in ``delete``.
            collection: the collection's own name.
            timeout: in seconds; takes the place of the client's.

        Raises:
            InvalidArgument: not exactly one condition, or an empty one.
            ServiceError: the filter is malformed, or the request failed.
        """
        request = delete_where_request(
            filter, prefix, dry_run=dry_run, wait=wait, collection=collection
        )
        response = self._change(self._ingest.DeleteDocuments, request, check_timeout(timeout))
        return DeleteWhereResult.from_message(response)

    def create_collection(
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
        """Create an empty collection on a server that was started with ``--data``.

        Args:
            collection: its own name.
            model: an embedding model that the server has; empty for its default.
            chunk_tokens: maximum number of tokens in a passage, 0 for one passage a document; None
                for the default of ``indexer build``.
            chunk_overlap: maximum number of tokens that a passage repeats; None for the default.
            language: of the texts, for lexical search, such as ``en``; empty for the default.
            index_type: ``auto``, ``flat``, ``ivf`` or ``hnsw``; empty for the default.
            target_recall: for approximate indexes, above 0 and up to 1; None for the default.

        Raises:
            ServiceError: with reason ``ALREADY_EXISTS`` if there is such a collection, also if a
                first attempt created it and its answer was lost.
        """
        request = create_collection_request(
            collection,
            model=model,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            settings=settings_message(language, index_type, target_recall),
        )
        response = self._change(self._ingest.CreateCollection, request)
        return CollectionInfo.from_message(response.collection)

    def update_collection(
        self,
        collection: str = DEFAULT_COLLECTION,
        *,
        language: str = "",
        index_type: str = "",
        target_recall: float | None = None,
    ) -> CollectionInfo:
        """Change settings of a collection; the others stay. See ``create_collection``."""
        settings = settings_message(language, index_type, target_recall)
        request = update_collection_request(collection, settings)
        response = self._change(self._ingest.UpdateCollection, request)
        return CollectionInfo.from_message(response.collection)

    def delete_collection(self, collection: str, *, missing_ok: bool = False) -> None:
        """Delete a collection with all its documents, on a server started with ``--data``.

        Args:
            collection: its own name.
            missing_ok: whether a collection that does not exist counts as deleted.
        """
        request = delete_collection_request(collection)
        try:
            self._change(self._ingest.DeleteCollection, request)
        except ServiceError as error:
            if not (missing_ok and error.status == "NOT_FOUND"):
                raise

    def _put(
        self, put: Put, root: PathLike | None, *, collection: str, wait: bool, timeout: float
    ) -> PutResult:
        """Put one document; see ``put``."""
        seconds = check_timeout(timeout)
        self._connection.check_open()
        limit = None if put.path is None else self._message_limit()
        request = put_request(put, collection=collection, root=root, wait=wait, max_bytes=limit)
        if limit is None and (size := request.ByteSize()) > SMALL_BYTES:
            check_size(size, self._message_limit())
        response = self._change(self._ingest.PutDocument, request, seconds)
        return PutResult.from_message(response)

    def _change(
        self,
        method: Any,  # noqa: ANN401  (of the stub, whose types grpc-stubs has not)
        request: object,
        timeout: float | None = None,
    ) -> Any:  # noqa: ANN401  (the response of that method)
        connection = self._connection
        seconds = connection.timeout if timeout is None else timeout
        attempts = ChangeAttempts(seconds, connection.timeout)
        while True:
            left = attempts.seconds_left
            try:
                return connection.call(method, request, timeout=left, unknown=NOT_WRITABLE)
            except ServiceError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    raise
            time.sleep(pause)

    def _message_limit(self) -> int:
        """Return the server's limit of a message, in bytes; asks once."""
        if self._max_message_bytes is None:
            try:
                self._max_message_bytes = self.server_info().limits.max_message_bytes
            except ServiceError as error:
                if error.status not in NOT_TOLD:
                    raise
                self._max_message_bytes = DEFAULT_MESSAGE_BYTES
        return self._max_message_bytes

    if TYPE_CHECKING:

        def server_info(self) -> ServerInfo:
            """Return the server's version and limits."""
            ...


def is_missing(error: ServiceError) -> bool:
    """Return whether a document does not exist; the error of a missing collection names it."""
    return error.status == "NOT_FOUND" and "collection" not in error.metadata
