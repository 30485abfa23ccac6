"""Options of a single call, which share the client's connection; and the server's health."""

import asyncio
import re
from typing import Any

import pytest

from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.errors import ClientClosed, InvalidArgument, ServiceError, ServiceUnavailable
from retrieval.v1 import index_service_pb2 as pb
from tests.client.test_client import stranger
from tests.service.harness import RunningServer

Seen = tuple[dict[str, str], float]


@pytest.fixture
def seen() -> list[Seen]:
    """Metadata and seconds left of every request to ``stranger``."""
    return []


def test_options_of_one_call(seen: list[Seen]) -> None:
    def behaviour(_: object, context: Any) -> pb.GetServerInfoResponse:
        seen.append((dict(context.invocation_metadata()), context.time_remaining()))
        return pb.GetServerInfoResponse(server_info=pb.ServerInfo(version="7"))

    trace = {"x-request-id": "r-1", "traceparent": "00-1-2-01"}

    async def ask(target: str) -> None:
        async with AsyncRetrievalClient(target, token="rt_a", timeout=20) as client:
            await client.with_options(timeout=5, token="rt_b", metadata=trace).server_info()
            await client.server_info()

    with stranger(behaviour) as target:
        with RetrievalClient(target, token="rt_a", timeout=20) as client:
            client.with_options(timeout=5, token="rt_b", metadata=trace).server_info()
            client.server_info()
            client.with_options(metadata=trace).with_options(token="").server_info()
        asyncio.run(ask(target))
    (one, one_left), (usual, usual_left), (bare, _), (other, other_left), (last, _) = seen
    assert one.items() >= {**trace, "authorization": "Bearer rt_b"}.items()
    assert one_left < 6
    assert usual["authorization"] == "Bearer rt_a"
    assert "traceparent" not in usual
    assert 6 < usual_left < 21
    assert "authorization" not in bare
    assert bare["traceparent"] == "00-1-2-01"
    assert other.items() >= {**trace, "authorization": "Bearer rt_b"}.items()
    assert other_left < 6
    assert last["authorization"] == "Bearer rt_a"


def test_the_connection_is_shared(server: RunningServer) -> None:
    client = RetrievalClient(server.target)
    other = client.with_options(timeout=3)
    assert other.search("bread").passages == client.search("bread").passages
    client.close()
    with pytest.raises(ClientClosed):
        other.search("bread")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"token": "a\n"}, "the token has characters that no token has"),
        ({"token": 3}, "token is of type int"),
        ({"metadata": "x"}, "metadata is of type str; give a dictionary of texts"),
        ({"metadata": {"X-Id": "a"}}, "metadata has the name 'X-Id'; a name has lower-case"),
        ({"metadata": {"grpc-timeout": "a"}}, "neither begins with grpc-"),
        ({"metadata": {"x-bin": "a"}}, "nor ends in -bin"),
        ({"metadata": {"": "a"}}, "metadata has the name ''"),
        ({"metadata": {"authorization": "a"}}, "give the token as token="),
        ({"metadata": {"x-id": "ü"}}, "metadata['x-id'] is 'ü'; it must be printable ASCII"),
        ({"metadata": {"x-id": "a\r\nb: c"}}, "it must be printable ASCII"),
        ({"metadata": {"x-id": 3}}, "metadata['x-id'] is of type int"),
    ],
)
def test_options_that_can_not_be(options: dict[str, Any], message: str) -> None:
    for client in (RetrievalClient(), AsyncRetrievalClient()):
        with pytest.raises(InvalidArgument, match=re.escape(message)):
            client.with_options(**options)
    for kind in (RetrievalClient, AsyncRetrievalClient):
        with pytest.raises(InvalidArgument, match="use TLS"):
            kind("search.example.org:1").with_options(token="rt_a")


def test_health(server: RunningServer) -> None:
    async def ask() -> tuple[bool, bool]:
        async with AsyncRetrievalClient(server.target) as client:
            with pytest.raises(ServiceError):
                await client.health("no-such")
            return await client.health(), await client.health("tea")

    with RetrievalClient(server.target) as client:
        assert client.health()
        assert client.health("tea")
        with pytest.raises(ServiceError) as caught:
            client.health("no-such")
    assert caught.value.status == "NOT_FOUND"
    assert asyncio.run(ask()) == (True, True)
    with RetrievalClient("127.0.0.1:1") as client, pytest.raises(ServiceUnavailable):
        client.health()
