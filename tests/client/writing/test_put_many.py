"""Streams of puts: order, memory, errors as values, and what happens when the stream breaks."""

import asyncio
import gc
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from retrieval.client import (
    AsyncRetrievalClient,
    Put,
    PutOutcome,
    PutProgress,
    RetrievalClient,
)
from retrieval.client.writing.ledger import WINDOW_PUTS
from retrieval.errors import ClientClosed, InvalidArgument, ServiceError, ServiceUnavailable
from tests.client.writing.dictionary_server import DictionaryServer, DictionaryService
from tests.service.harness import RunningServer, wait_until

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
OVERLOADED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
BAD = (grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE_DOCUMENT")


class Clients:
    """``put_many`` of either client, as a blocking call."""

    def __init__(self, target: str, *, is_async: bool) -> None:
        self.target = target
        self.is_async = is_async

    def put_many(
        self, items: Iterable[Any], **options: Any
    ) -> tuple[list[PutOutcome], PutProgress]:
        if not self.is_async:
            with RetrievalClient(self.target) as client:
                stream = client.put_many(items, **options)
                return list(stream), stream.progress

        async def main() -> tuple[list[PutOutcome], PutProgress]:
            async with AsyncRetrievalClient(self.target) as client:
                stream = client.put_many(items, **options)
                return [outcome async for outcome in stream], stream.progress

        return asyncio.run(main())


@pytest.fixture(params=["blocking", "async"])
def clients(request: pytest.FixtureRequest, dictionary: DictionaryServer) -> Clients:
    return Clients(dictionary.target, is_async=request.param == "async")


def texts(count: int) -> Iterator[Put]:
    return (Put(f"t/{number}", text=f"text {number}") for number in range(count))


def test_many(clients: Clients, service: DictionaryService) -> None:
    seen: list[PutProgress] = []
    outcomes, progress = clients.put_many(
        texts(1000), collection="docs", wait=True, on_progress=seen.append
    )
    assert [outcome.uri for outcome in outcomes] == [f"t/{number}" for number in range(1000)]
    assert all(outcome.result and not outcome.error for outcome in outcomes)
    assert len(service.documents) == 1000
    assert service.documents["t/0"].collection == "collections/docs"
    assert service.documents["t/0"].wait_for_visibility
    assert (progress.created, progress.passages, progress.tokens) == (1000, 1000, 3000)
    assert (progress.failed, progress.waiting, progress.reconnects) == (0, 0, 0)
    assert progress.size > 1000 * len("text 0")
    assert [one.created for one in seen] == list(range(1, 1001))
    assert service.streams == 1


def test_nothing(clients: Clients, service: DictionaryService) -> None:
    assert clients.put_many([]) == ([], PutProgress())
    assert service.streams == 0


def test_items_of_all_kinds_and_errors_as_values(
    clients: Clients, service: DictionaryService, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("A")
    service.fail_puts["bad"] = deque([BAD])
    items: list[Any] = [
        Put("p", text="P"),
        {"uri": "d", "text": "D"},
        tmp_path / "a.md",
        str(tmp_path / "a.md"),
        {"uri": "bad", "text": "B"},
        tmp_path / "none.md",
        {"uri": "e", "txt": "E"},
        Put("f"),
        3,
        None,
        Put("last", text="L"),
    ]
    outcomes, progress = clients.put_many(items)
    by_item = {id(outcome.item): outcome for outcome in outcomes}
    assert len(outcomes) == len(items)
    good = [by_item[id(item)] for item in (*items[:4], items[-1])]
    assert [outcome.uri for outcome in good] == ["p", "d", "a.md", "a.md", "last"]
    assert all(outcome.result and outcome.result.documents for outcome in good)
    errors = [by_item[id(item)].error for item in items[4:10]]
    refused = errors[0]
    assert isinstance(refused, ServiceError)
    assert (refused.status, refused.service_reason) == ("INVALID_ARGUMENT", "UNREADABLE_DOCUMENT")
    assert refused.metadata == {"status": "x", "uri": "bad"}
    assert all(isinstance(error, InvalidArgument) for error in errors[1:])
    messages = [str(error) for error in errors[1:]]
    for message, expected in zip(
        messages,
        ("none.md: No such file", "no option 'txt'", "there is none", "type int", "is None"),
        strict=True,
    ):
        assert expected in message
    assert by_item[id(items[5])].uri == "none.md"
    assert (progress.created, progress.unchanged, progress.failed) == (4, 1, 6)


def test_files_below_a_root(clients: Clients, service: DictionaryService, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.md").write_text("A")
    clients.put_many(
        [tmp_path / "x" / "a.md", Put("u", path=tmp_path / "x" / "a.md")], root=tmp_path
    )
    assert set(service.documents) == {"x/a.md", "u"}


def test_streams_that_break(clients: Clients, service: DictionaryService) -> None:
    service.cut_after.extend([0, 5, 0, 100, 7])
    outcomes, progress = clients.put_many(texts(500))
    assert sorted(outcome.uri for outcome in outcomes) == sorted(f"t/{n}" for n in range(500))
    assert not [outcome for outcome in outcomes if outcome.error]
    assert len(service.documents) == 500
    assert progress.reconnects == 5
    assert service.streams == 6
    # What was put before the answer was lost is there already when it is sent again.
    assert 0 < progress.unchanged <= 5


def test_one_uri_keeps_its_order_whatever_breaks(
    clients: Clients, service: DictionaryService
) -> None:
    service.cut_after.extend([3, 1, 4])
    service.fail_puts["same"] = deque([OVERLOADED, UNAVAILABLE, OVERLOADED])
    items = [Put("same", text=str(number)) for number in range(30)]
    items += [Put(f"other/{number}", text="x") for number in range(30)]
    outcomes, progress = clients.put_many(items)
    assert len(outcomes) == 60
    assert progress.failed == 0
    order = [int(text) for uri, text in service.log if uri == "same"]
    assert order == sorted(order)
    assert set(order) == set(range(30))
    assert service.documents["same"].text == "29"


def test_errors_that_pass_are_waited_for(clients: Clients, service: DictionaryService) -> None:
    service.fail_puts["t/1"] = deque([OVERLOADED, UNAVAILABLE])
    service.fail_puts["t/2"] = deque([(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")])
    outcomes, _ = clients.put_many(texts(4))
    errors = {outcome.uri: outcome.error for outcome in outcomes}
    assert errors["t/1"] is None
    assert isinstance(errors["t/2"], ServiceError)
    assert errors["t/2"].service_reason == "QUOTA_EXCEEDED"


def test_errors_that_should_pass_and_do_not(clients: Clients, service: DictionaryService) -> None:
    service.fail_puts["t/1"] = deque([UNAVAILABLE] * 50)
    outcomes, progress = clients.put_many(texts(3), timeout=0.5)
    error = next(outcome.error for outcome in outcomes if outcome.uri == "t/1")
    assert isinstance(error, ServiceUnavailable)
    assert (progress.created, progress.failed) == (2, 1)


def test_a_stream_that_is_refused(clients: Clients, service: DictionaryService) -> None:
    service.refuse_streams = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(ServiceError, match="not you"):
        clients.put_many(texts(10))


def test_nobody_there(clients: Clients, dictionary: DictionaryServer) -> None:
    dictionary.stop()
    with pytest.raises(ServiceUnavailable, match="no server answers"):
        clients.put_many(texts(10))


def test_no_answer(clients: Clients, service: DictionaryService) -> None:
    service.hold.clear()
    with pytest.raises(ServiceError, match=r"no answer from .* within 0\.3 s") as caught:
        clients.put_many(texts(WINDOW_PUTS), timeout=0.3)
    assert caught.value.status == "DEADLINE_EXCEEDED"


def test_an_iterable_that_fails(clients: Clients, service: DictionaryService) -> None:
    def items() -> Iterator[Put]:
        yield from texts(3)
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        clients.put_many(items())


def test_settings_are_checked_at_once(writer: RetrievalClient) -> None:
    with pytest.raises(InvalidArgument, match="timeout is 0"):
        writer.put_many([], timeout=0)
    stream = writer.put_many([Put("a", text="b")], wait="yes")  # type: ignore[arg-type]
    assert "wait is 'yes'" in str(next(stream).error)


def test_no_more_is_read_than_the_window_holds(
    writer: RetrievalClient, service: DictionaryService
) -> None:
    service.hold.clear()
    read = 0

    def items() -> Iterator[Put]:
        nonlocal read
        for put in texts(3 * WINDOW_PUTS):
            read += 1
            yield put

    stream = writer.put_many(items())
    reader = threading.Thread(target=stream.finish)
    reader.start()
    wait_until(lambda: read == WINDOW_PUTS)
    reader.join(0.2)
    assert read == WINDOW_PUTS
    stream.close()
    reader.join(30)
    assert not reader.is_alive()


def test_large_documents_fill_the_window_sooner(
    writer: RetrievalClient, service: DictionaryService
) -> None:
    service.hold.clear()
    read = 0

    def items() -> Iterator[Put]:
        nonlocal read
        for number in range(20):
            read += 1
            yield Put(f"big/{number}", data=bytes(10 << 20))

    with writer.put_many(items()) as stream:
        reader = threading.Thread(target=stream.finish)
        reader.start()
        wait_until(lambda: read == 4)
        reader.join(0.2)
        assert read == 4
    reader.join(30)


def test_a_document_that_is_too_large_costs_only_itself(
    server: RunningServer, writer: RetrievalClient
) -> None:
    limit = server.config.limits.message_bytes
    with RetrievalClient(server.target) as client:
        stream = client.put_many([Put("a", data=bytes(limit))])
        error = next(stream).error
        assert isinstance(error, InvalidArgument)
        assert f"messages of at most {limit}" in error.message


def test_a_server_that_restarts(dictionary: DictionaryServer, service: DictionaryService) -> None:
    answered: list[PutOutcome] = []
    client = RetrievalClient(dictionary.target)

    def put() -> None:
        answered.extend(client.put_many(slowly()))

    def slowly() -> Iterator[Put]:
        for number, one in enumerate(texts(600)):
            if number == 300:
                stop.set()
                assert stopped.wait(60)
            yield one

    stop, stopped = threading.Event(), threading.Event()
    thread = threading.Thread(target=put)
    thread.start()
    assert stop.wait(60)
    dictionary.stop()
    stopped.set()
    thread.join(1.0)  # longer than the attempts at a server that was never there
    dictionary.start()
    thread.join(60)
    client.close()
    assert len(answered) == 600
    assert not [outcome for outcome in answered if outcome.error]
    assert len(service.documents) == 600


def test_a_client_that_is_closed_meanwhile(
    dictionary: DictionaryServer, service: DictionaryService
) -> None:
    service.hold.clear()
    client = RetrievalClient(dictionary.target)
    threading.Timer(0.3, client.close).start()
    with pytest.raises(ClientClosed, match="while this request was under way"):
        client.put_many(texts(10)).finish()
    with pytest.raises(ClientClosed, match="the client is closed"):
        client.put_many(texts(10))

    async def check() -> None:
        other = AsyncRetrievalClient(dictionary.target)
        stream = other.put_many(texts(10))
        task = asyncio.create_task(stream.finish())
        await asyncio.sleep(0.3)
        await other.close()
        with pytest.raises(ClientClosed, match="while this request was under way"):
            await task

    service.hold.clear()
    asyncio.run(check())


def test_a_stream_that_is_dropped_ends(
    writer: RetrievalClient, dictionary: DictionaryServer
) -> None:
    stream = writer.put_many(texts(1000))
    next(stream)
    assert stream._call is not None
    call = stream._call._call
    del stream
    gc.collect()
    wait_until(lambda: not call.is_active())


def test_async_iterables_and_answers_meanwhile(dictionary: DictionaryServer) -> None:
    """An answer is returned while the iterable waits, and the task can be cancelled."""

    async def main() -> None:
        answered = asyncio.Event()

        async def items() -> AsyncIterator[Put]:
            yield Put("a", text="A")
            await asyncio.wait_for(answered.wait(), 30)
            yield Put("b", text="B")
            await asyncio.sleep(3600)

        async with (
            AsyncRetrievalClient(dictionary.target) as client,
            client.put_many(items()) as stream,
        ):
            assert (await anext(stream)).uri == "a"
            answered.set()
            assert (await anext(stream)).uri == "b"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.1)

    asyncio.run(main())
