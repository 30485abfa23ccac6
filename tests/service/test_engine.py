"""The engine, asked without any protocol: domain values, a call, and nothing of gRPC."""

import asyncio
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from retrieval.domain.resource_names import DocumentName, PassageName
from retrieval.errors import (
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    StaleGeneration,
)
from retrieval.search import Query
from retrieval.service.access.callers import Caller
from retrieval.service.collections.open_collections import Collections
from retrieval.service.config import Limits, ServiceConfig
from retrieval.service.engine import MAX_STREAM_LIMIT, Call, Engine, Search, SearchPage
from retrieval.service.observability.metrics import Metrics
from retrieval.service.observability.observer import Observer, Tracer
from retrieval.service.scheduling.batcher import Batcher
from retrieval.service.scheduling.pools import Pools
from retrieval.service.scheduling.threads import SearchThreads
from tests.service.harness import SECTIONS, SUBJECTS

ANYBODY = Call()


async def ignore(_name: str) -> None:
    """Take note of a collection that was opened."""


@asynccontextmanager
async def opened(limits: Limits | None = None, **indexes: Path) -> AsyncIterator[Engine]:
    """An engine over some indexes."""
    metrics = Metrics()
    threads, batcher = SearchThreads(2, metrics=metrics), Batcher(metrics=metrics)
    config = ServiceConfig(indexes, device="cpu")
    collections = Collections(config, batcher, metrics, ignore, ignore)
    await collections.open_all()
    try:
        yield Engine(
            collections,
            limits or Limits(),
            Observer(metrics, Tracer({})),
            Pools(threads, threads, threads),
        )
    finally:
        threads.close()
        batcher.close()
        collections.close()


def with_engine(
    index: Path, ask: Callable[[Engine], Coroutine[Any, Any, None]], limits: Limits | None = None
) -> None:
    """Ask an engine over one index, the collection ``default``."""

    async def main() -> None:
        async with opened(limits, default=index) as engine:
            await ask(engine)

    asyncio.run(main())


def searched(text: str, *, k: int = 3, page_token: str = "", **options: Any) -> Search:
    return Search("default", Query(text=text, k=k, **options), text.encode(), page_token)


def as_it_is(page: SearchPage) -> SearchPage:
    return page


def uris(page: SearchPage) -> list[str]:
    return [passage.uri for passage in page.result.passages]


def test_the_engine_loads_neither_grpc_nor_messages() -> None:
    code = (
        "import sys, retrieval.service.engine; "
        "print([name for name in ('grpc', 'google.protobuf', 'torch') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_search_batch_and_stream_agree(index: Path) -> None:
    async def ask(engine: Engine) -> None:
        first = await engine.searches.page(ANYBODY, searched("bread"), as_it_is)
        assert first.result.passages[0].uri.endswith("bread.md")
        token = first.next_page_token
        second = await engine.searches.page(ANYBODY, searched("bread", page_token=token), as_it_is)
        whole = await engine.searches.page(ANYBODY, searched("bread", k=6), as_it_is)
        assert first.result.passages + second.result.passages == whole.result.passages

        batch = await engine.searches.batch(
            ANYBODY, ["bread", "violin"], lambda text: searched(text, k=6), uris
        )
        assert batch[0] == uris(whole)
        assert batch[1][0].endswith("violin.md")

        parts = engine.searches.stream(ANYBODY, "default", Query(text="bread"), limit=6)
        async with aclosing(parts):
            found = [passage async for part in parts for passage in part.result.passages]
        assert tuple(found) == whole.result.passages

        similar = Search("default", Query(passage=(found[0].document_id, found[0].ordinal)), b"")
        assert (await engine.searches.page(ANYBODY, similar, as_it_is)).result.passages

    with_engine(index, ask)


def test_page_tokens_are_bound_to_the_request(index: Path) -> None:
    async def ask(engine: Engine) -> None:
        token = (await engine.searches.page(ANYBODY, searched("bread"), as_it_is)).next_page_token
        with pytest.raises(InvalidArgument, match="another request"):
            await engine.searches.page(ANYBODY, searched("butter", page_token=token), as_it_is)
        page = await engine.documents.page(ANYBODY, "default", size=3)
        assert [row.uri for row in page.documents] == sorted(row.uri for row in page.documents)
        rest = await engine.documents.page(ANYBODY, "default", 50, page.next_page_token)
        assert len(page.documents) + len(rest.documents) == len(SUBJECTS)
        assert rest.next_page_token == ""
        with pytest.raises(InvalidArgument, match="another request"):
            engine.catalog.page(ANYBODY, 0, page.next_page_token)

    with_engine(index, ask)


def test_documents_passages_and_the_server(index: Path) -> None:
    async def ask(engine: Engine) -> None:
        page = engine.catalog.page(ANYBODY)
        assert [name for name, _ in page.collections] == ["default"]
        info = engine.catalog.get(ANYBODY, "default")
        assert info == page.collections[0][1]
        assert info.documents == len(SUBJECTS)

        listed = await engine.documents.page(ANYBODY, "default")
        assert listed.generation == info.generation
        row = listed.documents[0]
        name = DocumentName("default", row.id)
        found = await engine.documents.get(ANYBODY, name, text=None)
        assert (found.row, found.part) == (row, None)
        whole = (await engine.documents.get(ANYBODY, name, text="whole")).part
        assert whole is not None
        text = whole.text
        assert len(text) == row.char_count

        around = await engine.documents.passage(
            ANYBODY, PassageName("default", row.id, 1), before=1, after=len(SECTIONS)
        )
        assert [one.ordinal for one in around.before] == [0]
        assert around.passage.ordinal == 1
        assert [one.ordinal for one in around.after] == list(range(2, row.chunk_count))

        assert engine.server_info(ANYBODY).limits["max_stream_limit"] == MAX_STREAM_LIMIT
        reloaded = await engine.catalog.reload(ANYBODY, "default")
        assert reloaded.previous_generation == reloaded.info.generation == info.generation

    with_engine(index, ask)


def test_texts_are_embedded_and_counted(index: Path) -> None:
    async def ask(engine: Engine) -> None:
        embedded = await engine.texts.embed(ANYBODY, "default", ["bread", "violin"], "query")
        dim = embedded.model.dim
        assert [one.vector.shape for one in embedded.embeddings] == [(dim,), (dim,)]
        counted = await engine.texts.count_tokens(ANYBODY, "default", ["bread", "bread bread"])
        one, two = counted.counts
        assert two == 2 * one
        assert counted.model == embedded.model

    with_engine(index, ask)


def test_errors_of_a_batch_name_their_place(index: Path) -> None:
    async def ask(engine: Engine) -> None:
        for requests, field in (
            ([searched("a"), searched(" ")], "requests[1].text"),
            ([searched("a"), searched("b", filter="(")], "requests[1].filter"),
            ([], "requests"),
            ([searched("a")] * 3, "requests"),
        ):
            with pytest.raises(InvalidArgument) as caught:
                await engine.searches.batch(ANYBODY, requests, lambda search: search, as_it_is)
            assert caught.value.metadata["field"] == field

    with_engine(index, ask, Limits(batch_size=2))


@pytest.mark.parametrize("scope", ["search", "embed", "read", "reload"])
def test_every_request_needs_its_scope(index: Path, scope: str) -> None:
    """The engine checks by itself: an adapter that forgets to can't open it to everyone."""

    async def ask(engine: Engine) -> None:
        call = Call(Caller("app", frozenset({"search", "embed", "read", "reload"} - {scope}), None))
        name = DocumentName("default", 1)
        asked: dict[str, list[Callable[[], Any]]] = {
            "search": [
                lambda: engine.searches.page(call, searched("bread"), as_it_is),
                lambda: engine.searches.batch(call, [searched("a")], lambda one: one, as_it_is),
                lambda: anext(engine.searches.stream(call, "default", Query(text="bread"), 1)),
            ],
            "embed": [
                lambda: engine.texts.embed(call, "default", ["a"], "query"),
                lambda: engine.texts.count_tokens(call, "default", ["a"]),
            ],
            "read": [
                lambda: engine.documents.get(call, name, text="whole"),
                lambda: engine.documents.page(call, "default"),
                lambda: engine.documents.passage(call, PassageName("default", 1, 0)),
                lambda: asyncio.to_thread(engine.catalog.get, call, "default"),
                lambda: asyncio.to_thread(engine.catalog.page, call),
                lambda: asyncio.to_thread(engine.server_info, call),
            ],
            "reload": [lambda: engine.catalog.reload(call, "default")],
        }
        for needed, requests in asked.items():
            for request in requests:
                if needed == scope:
                    with pytest.raises(PermissionDenied, match=f"lacks the scope {scope}"):
                        await request()
                else:
                    await request()

    with_engine(index, ask)


def test_a_caller_sees_its_collections_alone(index: Path, other_index: Path) -> None:
    async def main() -> None:
        async with opened(default=index, tea=other_index) as engine:
            call = Call(Caller("app", None, frozenset({"tea"})))
            assert [name for name, _ in engine.catalog.page(call).collections] == ["tea"]
            for name in ("default", "missing"):
                with pytest.raises(PermissionDenied):
                    engine.catalog.get(call, name)
            with pytest.raises(NotFound, match="this server has: default, tea"):
                engine.catalog.get(ANYBODY, "missing")
            token = (await engine.searches.page(ANYBODY, searched("a"), as_it_is)).next_page_token
            other = Search("tea", Query(text="a", k=3), b"a", token)
            with pytest.raises(StaleGeneration):
                await engine.searches.page(ANYBODY, other, as_it_is)

    asyncio.run(main())


def test_deadline_and_cancellation_are_handed_in(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(engine: Engine) -> None:
        await engine.searches.page(ANYBODY, searched("warm up"), as_it_is)
        opened = engine.searches._collections._open["default"]
        before = opened._holders
        task = asyncio.create_task(engine.searches.page(ANYBODY, searched("bread"), as_it_is))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            if opened._holders == before:
                break
            await asyncio.sleep(0.01)
        assert opened._holders == before
        # A queue that is known to be slow refuses what would come too late.
        pace = engine.searches._pools.search._pace
        monkeypatch.setattr(engine.searches._pools.search, "_long_queue", 0)
        pace.join(100)
        pace.learn(1, 10.0, side_by_side=1, crowded=True)
        soon = Call(answer_by=time.perf_counter() + 5)
        with pytest.raises(Overloaded):
            await engine.documents.page(soon, "default")
        pace.leave(100)
        patient = Call(answer_by=math.inf)
        assert (await engine.documents.page(patient, "default")).documents

    with_engine(index, ask)


def test_each_search_and_text_counts_against_the_rate(index: Path) -> None:
    class Allowance:
        charged = 0

        def charge(self, more: int) -> None:
            self.charged += more

    async def ask(engine: Engine) -> None:
        allowance: Any = Allowance()
        call = Call(Caller("app", None, None, allowance))
        await engine.searches.page(call, searched("a"), as_it_is)
        assert allowance.charged == 0  # the first of a request was counted when it was let in
        await engine.searches.batch(call, ["a", "b", "c"], searched, as_it_is)
        assert allowance.charged == 2
        await engine.texts.embed(call, "default", ["a", "b"], "query")
        assert allowance.charged == 3

    with_engine(index, ask)
