"""The standard health service, which hides collections from callers that may not see them."""

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

    The health of the server and its services is open to everyone, because load balancers and
    probes often have no token. Only callers whose token is for a collection learn whether it
    exists, as with every other request.
    """

    def __init__(self, access: Access) -> None:
        """Identify callers by this."""
        super().__init__()
        self._access = access

    async def forget(self, name: str) -> None:
        """Answer as for an unknown name from now on."""
        await self.set(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)  # tells who watches it
        if not self._gracefully_shutting_down:  # it goes through all of them then
            self._server_status.pop(name, None)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """Answer the status of one name."""
        await self._check_visible(request.service, context)
        response: health_pb2.HealthCheckResponse = await super().Check(request, context)
        return response

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        """Answer the status of one name, now and whenever it changes."""
        await self._check_visible(request.service, context)
        await super().Watch(request, context)

    async def List(
        self, _request: health_pb2.HealthListRequest, context: _Context
    ) -> health_pb2.HealthListResponse:
        """Answer the statuses of all names that the caller may ask for.

        If the server needs a token and the caller has none, those are the server and its services.
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

    async def _check_visible(self, name: str, context: _Context) -> None:
        """End the request if it is about a collection that the caller may not see."""
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
