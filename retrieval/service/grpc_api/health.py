"""The standard health service; what it says of a collection only those learn who may see it."""

from typing import Any

from grpc.aio import ServicerContext
from grpc_health.v1 import health, health_pb2

from retrieval.domain.resource_names import parse_collection
from retrieval.errors import PermissionDenied, RetrievalError
from retrieval.service.access.callers import Access, has_token
from retrieval.service.grpc_api.status import abort

_PREFIX = "collections/"

_Context = ServicerContext[Any, Any]


# The stubs of grpcio-health-checking leave out its aio part.
_HealthServicer: Any = health.aio.HealthServicer  # type: ignore[attr-defined]


class HealthServicer(_HealthServicer):  # type: ignore[misc]
    """Answers ``grpc.health.v1.Health``.

    The whole server and its services are open to everyone: what asks for them is often a machine
    that has no token. Whether a collection exists is for those to know whose token is for it, as
    with every other request.
    """

    def __init__(self, access: Access) -> None:
        """Keep who may ask."""
        super().__init__()
        self._access = access

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """Answer the status of one name."""
        await self._let_in(request.service, context)
        response: health_pb2.HealthCheckResponse = await super().Check(request, context)
        return response

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        """Answer the status of one name, now and whenever it changes."""
        await self._let_in(request.service, context)
        await super().Watch(request, context)

    async def List(
        self, _request: health_pb2.HealthListRequest, context: _Context
    ) -> health_pb2.HealthListResponse:
        """Answer the statuses of all names that the caller may ask for.

        Without a token, where the server asks for one, those are the server and its services.
        """
        metadata = tuple(context.invocation_metadata() or ())
        sender = None
        if self._access.is_open or has_token(metadata):
            try:
                sender = self._access.identify(metadata)
            except RetrievalError as error:
                await abort(context, error)
        return health_pb2.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=status)
                for name, status in self._server_status.items()
                if not name.startswith(_PREFIX)
                or (sender is not None and sender.sees(name.removeprefix(_PREFIX)))
            }
        )

    async def _let_in(self, name: str, context: _Context) -> None:
        """End a request for a collection that the caller's token is not for."""
        if self._access.is_open or not name.startswith(_PREFIX):
            return
        try:
            sender = self._access.identify(tuple(context.invocation_metadata() or ()))
            collection = parse_collection(name, field="service")
            if not sender.sees(collection):
                raise PermissionDenied(
                    f"this token is not for collection {collection!r}", collection=collection
                )
        except RetrievalError as error:
            await abort(context, error)
