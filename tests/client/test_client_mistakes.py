"""What a program may get wrong with the client: options, values, texts, a client that is closed."""

import asyncio
import inspect
import re
import socket
import threading
from typing import Any

import numpy as np
import pytest

from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.errors import ClientClosed, InvalidArgument, ServiceError
from tests.service.harness import RunningServer
from tests.tiny_model import DIM


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colection": "tea"}, "search has no option 'colection'; did you mean 'collection'?"),
        ({"limit": 3}, "search has no option 'limit'; did you mean 'k'?"),
        ({"top_k": 3}, "search has no option 'top_k'; did you mean 'k'?"),
        ({"where": "tag=a"}, "search has no option 'where'; did you mean 'filter'?"),
        ({"zzz": 1}, "search has no option 'zzz': it has collapse, collection, "),
        ({"mode": "hybird"}, "not 'hybird'; did you mean 'hybrid'?"),
        ({"mode": None}, "mode must be one of auto, dense, lexical, hybrid, not None"),
        ({"mode": ["dense"]}, "mode must be one of"),
        ({"fusion": "rff"}, "not 'rff'; did you mean 'rrf'?"),
        ({"k": "3"}, "k is '3'; it must be a whole number"),
        ({"k": 3.0}, "k is 3.0; it must be a whole number"),
        ({"k": None}, "k is None; it must be a whole number"),
        ({"k": True}, "k is True; it must be a whole number"),
        ({"k": float("nan")}, "k is nan"),
        ({"group_size": "2"}, "group_size is '2'"),
        ({"filter": None}, "filter is None; it must be a text"),
        (
            {"filter": {"tag": "a"}},
            "filter is of type dict; translate it with filter_from_dict(",
        ),
        ({"min_score": "0.3"}, "min_score is '0.3'; it must be a number"),
        ({"dense_weight": []}, "dense_weight is []"),
        ({"collapse": "1"}, "collapse is '1'"),
        ({"mmr": True}, "mmr is True"),
        ({"exact": "false"}, "exact is 'false'; it must be True or False"),
        ({"highlight": 1}, "highlight is 1"),
        ({"collection": None}, "collection is None"),
        ({"page_token": b"x"}, "page_token is of type bytes"),
    ],
)
def test_an_option_that_can_not_be(
    client: RetrievalClient, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        client.search("bread", **options)


def test_options_are_checked_by_every_search(client: RetrievalClient) -> None:
    wrong: dict[str, Any] = {"highlights": True}
    with pytest.raises(InvalidArgument, match=r"search_batch has no option 'highlights'; did you"):
        client.search_batch([], **wrong)
    with pytest.raises(InvalidArgument, match=r"stream_search has no option 'highlights'; did"):
        client.stream_search("bread", **wrong)

    async def check(target: str) -> None:
        async with AsyncRetrievalClient(target) as connected:
            with pytest.raises(InvalidArgument, match=r"search has no option 'highlights'"):
                await connected.search("bread", **wrong)
            with pytest.raises(InvalidArgument, match="stream_search has no option"):
                await connected.stream_search("bread", **wrong)

    asyncio.run(check("127.0.0.1:1"))


@pytest.mark.parametrize(
    "query",
    [
        *(None, 3, True, b"bread", ["bread"], {"text": "bread"}, {1.0}, object()),
        *([None] * 3, [10**400], np.array("x"), np.ones(3, dtype=complex), np.ones(3, dtype=bool)),
        *(iter([1.0]), [[1.0], [1.0, 2.0]]),
    ],
)
def test_what_is_no_query(client: RetrievalClient, query: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a text, a passage, or a vector of numbers"):
        client.search(query)


def test_numbers_of_numpy_are_numbers(client: RetrievalClient) -> None:
    found = client.search("bread", k=np.int64(2), min_score=np.float32(0.0), exact=np.bool_(True))
    assert len(found) == 2


def test_a_batch_is_a_list(client: RetrievalClient) -> None:
    assert len(client.search_batch(text for text in ("bread", "ferry"))) == 2
    for queries in ("bread", b"bread", None, 3, {"a": "b"}):
        wrong: Any = queries
        with pytest.raises(InvalidArgument, match="queries is .*; give a list of queries"):
            client.search_batch(wrong)
    with pytest.raises(InvalidArgument, match="queries is of type Passage"):
        client.search_batch(client.search("bread", k=1)[0])  # type: ignore[arg-type]


def test_one_text_is_one_text(server: RunningServer, client: RetrievalClient) -> None:
    one = client.embed("bread", "query")
    assert one.shape == (DIM,)
    np.testing.assert_array_equal(one, client.embed(["bread"], "query")[0])

    async def embed() -> np.ndarray:
        async with AsyncRetrievalClient(server.target) as connected:
            return await connected.embed("bread", "query")

    np.testing.assert_allclose(asyncio.run(embed()), one, atol=1e-5)
    for method in (client.embed_detailed, client.count_tokens):
        arguments: dict[str, Any] = {"kind": "query"} if method == client.embed_detailed else {}
        with pytest.raises(InvalidArgument, match=r"texts is one text; give a list of texts"):
            method("bread", **arguments)


def test_texts_from_a_generator(client: RetrievalClient) -> None:
    texts = [f"text {n}" for n in range(70)]  # more than one request takes
    vectors = client.embed((text for text in texts), "passage")
    np.testing.assert_array_equal(vectors, client.embed(texts, "passage"))
    assert client.count_tokens(iter(texts)) == client.count_tokens(texts)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts is None"),
        (b"bread", "texts is of type bytes"),
        ({"a": "b"}, "texts is of type dict"),
        ({"a", "b"}, "texts is of type set"),
        (["a", 3], "texts[1] is of type int"),
        ([["a"]], "texts[0] is of type list"),
        (["a", None], "texts[1] is None"),
        (["a\udcff"], "texts[0] is not valid Unicode"),
    ],
)
def test_what_is_no_text(client: RetrievalClient, texts: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        client.embed(texts, "query")
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        client.count_tokens(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": "3"}, "timeout is '3'; it must be a number"),
        ({"timeout": None}, "timeout is None"),
        ({"timeout": float("nan")}, "timeout is nan; it must be above 0"),
        ({"timeout": float("inf")}, "timeout is inf; it must be above 0 and at most"),
        ({"timeout": -1}, "timeout is -1"),
        ({"token": None}, "token is None"),
        ({"tls": True}, "tls is of type bool; give a retrieval.client.Tls"),
        ({"tls": "ca.pem"}, "tls is of type str"),
    ],
)
def test_settings_that_can_not_be(options: dict[str, Any], message: str) -> None:
    for kind in (RetrievalClient, AsyncRetrievalClient):
        with pytest.raises(InvalidArgument, match=re.escape(message)):
            kind("127.0.0.1:50051", **options)


def test_names_that_are_none(client: RetrievalClient) -> None:
    wrong: Any = None
    for call in (client.collection, client.document, client.passage, client.reload):
        with pytest.raises(InvalidArgument, match="is None; it must be a text"):
            call(wrong)


def test_a_collections_name_in_capitals(client: RetrievalClient) -> None:
    with pytest.raises(ServiceError, match="did you mean 'collections/tea'") as caught:
        client.search("bread", collection="Tea")
    assert "lower-case letters" in caught.value.message
    assert caught.value.exit_code == 2


def test_a_client_shows_where_it_is_connected(server: RunningServer) -> None:
    client = RetrievalClient(server.target, token="rt_secret")
    assert repr(client) == f"RetrievalClient('{server.target}', no TLS, open)"
    client.close()
    assert repr(client) == f"RetrievalClient('{server.target}', no TLS, closed)"


def test_a_client_that_is_closed(server: RunningServer) -> None:
    client = RetrievalClient(server.target)
    stream, documents = client.stream_search("bread"), client.documents()
    assert next(documents)
    client.close()
    client.close()
    calls = (
        lambda: client.search("bread"),
        lambda: client.search_batch(["bread"]),
        lambda: client.stream_search("bread"),
        lambda: client.embed(["bread"], "query"),
        lambda: next(client.documents()),
        lambda: next(client.collections()),
        client.server_info,
        client.__enter__,
    )
    for call in calls:
        with pytest.raises(ClientClosed, match="the client is closed: make a new one") as caught:
            call()
        assert caught.value.exit_code == 2
    with pytest.raises(ClientClosed, match="while this request was under way"):
        list(stream)


def test_a_client_closed_while_a_thread_waits() -> None:
    """A server that takes the connection and says nothing: the request waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = RetrievalClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=30)
        threading.Timer(0.3, client.close).start()
        with pytest.raises(ClientClosed, match="while this request was under way"):
            client.server_info()


async def check_async_clients(target: str, silent: str) -> None:
    client = AsyncRetrievalClient(target)
    await client.close()
    assert repr(client) == f"AsyncRetrievalClient('{target}', no TLS, closed)"
    for call in (client.search("bread"), client.stream_search("bread"), client.server_info()):
        with pytest.raises(ClientClosed, match="the client is closed"):
            await call
    with pytest.raises(ClientClosed, match="the client is closed"):
        await anext(client.documents())
    with pytest.raises(ClientClosed, match="the client is closed"):
        await client.__aenter__()
    # Closing ends what is under way as an error of ours, not as a cancellation of the task.
    waiting = AsyncRetrievalClient(silent, timeout=30)
    tasks = [asyncio.create_task(waiting.server_info())]
    tasks += [asyncio.create_task(waiting.stream_search("x"))]  # type: ignore[list-item]
    await asyncio.sleep(0.3)
    await waiting.close()
    for task in tasks:
        with pytest.raises(ClientClosed, match="while this request was under way"):
            await task
    # A task that is cancelled is cancelled.
    waiting = AsyncRetrievalClient(silent, timeout=30)
    cancelled = asyncio.create_task(waiting.server_info())
    await asyncio.sleep(0.1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await waiting.close()


def test_an_async_client_that_is_closed(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(check_async_clients(server.target, f"127.0.0.1:{silent.getsockname()[1]}"))


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in found
            if not name.startswith("_")
        }

    assert methods(RetrievalClient) == methods(AsyncRetrievalClient)
