"""Filters in the service: evaluated beside other searches, and no longer than they are wanted."""

import threading
import time
from typing import Any

import pytest

from retrieval.client import RetrievalClient
from retrieval.domain.deadline import is_over
from retrieval.errors import DeadlinePassed, ServiceError
from retrieval.store import Reader
from retrieval.store.disk.filtering.evaluation import FilterEvaluator
from retrieval.v1 import search_service_pb2 as pb
from tests.service.harness import RunningServer, wait_until


def test_a_filter_without_end_ends_at_the_deadline_and_nobody_waits_for_it(
    server: RunningServer, client: RetrievalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def without_end(_self: FilterEvaluator, _condition: object) -> Any:
        while not is_over():
            time.sleep(0.01)
        ended.append(True)
        raise DeadlinePassed("nobody waits")

    monkeypatch.setattr(FilterEvaluator, "passages", without_end)
    client.search("beans", mode="lexical")

    def ask(number: int) -> None:
        with RetrievalClient(server.target, timeout=3.0) as impatient:
            with pytest.raises(ServiceError) as caught:
                impatient.search("beans", mode="lexical", filter=f"endless={number}")
            assert caught.value.status == "DEADLINE_EXCEEDED"

    threads = [threading.Thread(target=ask, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    answered = 0
    while all(thread.is_alive() for thread in threads):
        client.search("beans", mode="lexical")
        answered += 1
    assert answered > 2  # or each would have taken the three seconds
    for thread in threads:
        thread.join()
    wait_until(lambda: ended)


def test_a_filter_ends_when_its_client_goes_away(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def until_unwanted(_self: FilterEvaluator, _condition: object) -> Any:
        begun.set()
        while not is_over():
            time.sleep(0.01)
        ended.set()
        raise DeadlinePassed("nobody waits")

    monkeypatch.setattr(FilterEvaluator, "passages", until_unwanted)
    with RetrievalClient(server.target, timeout=600) as client:
        request = pb.SearchRequest(text="beans", mode=pb.SEARCH_MODE_LEXICAL, filter="leaves=1")
        under_way = client._search.Search.future(request, timeout=600)
        assert begun.wait(60)
        assert not ended.is_set()
        under_way.cancel()
        assert ended.wait(60)


def test_a_filter_is_evaluated_once_and_beside_the_searches(
    client: RetrievalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    evaluate = FilterEvaluator.passages

    def evaluated(self: FilterEvaluator, condition: Any) -> Any:
        names.append(threading.current_thread().name)
        return evaluate(self, condition)

    monkeypatch.setattr(FilterEvaluator, "passages", evaluated)
    for query in ("beans", "tea"):
        client.search(query, mode="lexical", filter="size>1 AND title:*evaluated*")
    assert [name.partition("_")[0] for name in names] == ["filter"]


def test_a_filter_that_is_wrong_is_named_with_its_place_in_the_batch(
    client: RetrievalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "search_lexical", None)  # nothing is searched
    request = pb.BatchSearchRequest(
        requests=[
            pb.SearchRequest(text="beans", mode=pb.SEARCH_MODE_LEXICAL),
            pb.SearchRequest(text="beans", mode=pb.SEARCH_MODE_LEXICAL, filter="size>big"),
        ]
    )
    with pytest.raises(ServiceError, match="character 6") as caught:
        client._connection.call(client._search.BatchSearch, request)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == "requests[1].filter"
