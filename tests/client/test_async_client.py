"""The async client answers what the other one does, and lets go of what is given up."""

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest

from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.errors import ClientClosed, InvalidArgument, ServiceError, ServiceUnavailable
from tests.service.harness import RunningServer, wait_until

T = TypeVar("T")


def run(server: RunningServer, use: Callable[[AsyncRetrievalClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncRetrievalClient(server.target) as client:
            return await use(client)

    return asyncio.run(main())


def test_it_has_every_method_of_the_other() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(kind).items()
            if not name.startswith("_")
        }

    assert methods(AsyncRetrievalClient) == methods(RetrievalClient)


def test_the_answers_are_the_same(server: RunningServer, client: RetrievalClient) -> None:
    async def ask(other: AsyncRetrievalClient) -> None:
        found = await other.search("bread", k=3, filter="path:bread*")
        expected = client.search("bread", k=3, filter="path:bread*")
        assert found.passages == expected.passages
        assert found.next_page_token == expected.next_page_token
        token = found.next_page_token
        page = await other.search("bread", k=3, filter="path:bread*", page_token=token)
        names = {passage.name for passage in page}
        assert names
        assert not names & {passage.name for passage in found}
        batch = await other.search_batch(["ferry", "violin"], k=2)
        assert [r.passages for r in batch] == [
            r.passages for r in client.search_batch(["ferry", "violin"], k=2)
        ]
        stream = await other.stream_search("bees", limit=25)
        streamed = client.stream_search("bees", limit=25)
        assert stream.generation == streamed.generation
        assert [p async for p in stream] == list(streamed)
        np.testing.assert_array_equal(
            await other.embed(["a", "b"], "passage"), client.embed(["a", "b"], "passage")
        )
        assert await other.count_tokens(["bread and tea"]) == client.count_tokens(["bread and tea"])
        assert [c async for c in other.collections()] == list(client.collections())
        documents = [d async for d in other.documents()]
        assert documents == list(client.documents())
        name = documents[0].name
        assert await other.document(name, with_text=True) == client.document(name, with_text=True)
        passage = found[0].name
        # As text: a passage that was not searched for has no score, and NaN is like nothing.
        context = await other.passage(passage, after=1)
        assert repr(context) == repr(client.passage(passage, after=1))
        assert await other.collection("tea") == client.collection("tea")
        assert (await other.reload("tea")).name == "collections/tea"
        assert (await other.server_info()).limits == client.server_info().limits

    run(server, ask)


def test_errors_are_the_same(server: RunningServer) -> None:
    async def ask(other: AsyncRetrievalClient) -> None:
        with pytest.raises(ServiceError) as caught:
            await other.search("bread", collection="no-such")
        assert (caught.value.status, caught.value.service_reason) == ("NOT_FOUND", "NOT_FOUND")
        with pytest.raises(ServiceError):
            await other.stream_search("bread", collection="no-such")
        with pytest.raises(InvalidArgument):
            await other.search("bread", k=0)

    run(server, ask)

    async def nobody() -> None:
        async with AsyncRetrievalClient("127.0.0.1:1", timeout=1) as other:
            with pytest.raises(ServiceUnavailable):
                await other.search("bread")

    asyncio.run(nobody())
    with pytest.raises(InvalidArgument, match="use TLS"):
        AsyncRetrievalClient("search.example.org:1", token="rt_a_b")


def test_many_at_once_and_some_given_up(server: RunningServer, client: RetrievalClient) -> None:
    expected = client.search("bread").passages

    async def ask(other: AsyncRetrievalClient) -> None:
        def search() -> Coroutine[Any, Any, Any]:
            return other.search("bread")

        tasks = [asyncio.create_task(search()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::5]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if number % 5 == 0:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert result.passages == expected
        stream = await other.stream_search("bees")
        async for _ in stream:
            break

    run(server, ask)
    wait_until(lambda: server.server._admission.under_way == 0)


def test_it_is_made_anywhere_and_used_in_several_loops(server: RunningServer) -> None:
    client = AsyncRetrievalClient(server.target)  # no loop runs

    async def use() -> int:
        info, found = await asyncio.gather(client.server_info(), client.search("bread", k=2))
        assert info.version
        return len(found)

    assert [asyncio.run(use()) for _ in range(3)] == [2, 2, 2]
    assert len(client._loops._stubs) == 1, "channels of closed loops are let go"
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: asyncio.run(use()), range(20))) == [2] * 20


def test_closing_it_closes_it_in_every_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = AsyncRetrievalClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=60)
        with ThreadPoolExecutor(2) as threads:
            waiting = [threads.submit(asyncio.run, client.server_info()) for _ in range(2)]
            wait_until(lambda: len(client._loops._stubs) == 2)
            asyncio.run(client.close())
            for one in waiting:
                with pytest.raises(ClientClosed):
                    one.result(30)
    asyncio.run(client.close())
