"""What waits, the order of operations on one URI, and quotas."""

import asyncio
import json
from collections.abc import Awaitable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.ingest.front.limits.media_types import AllowedTypes
from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.limits.quotas import Quotas
from indexer.ingest.front.turns import Turns
from retrieval.errors import InvalidArgument, Overloaded, QuotaExceeded
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import EVERYONE, Caller
from retrieval.service.access.token_file import Quota

KIB = 1 << 10


async def soon(awaitable: Awaitable[None]) -> bool:
    """Whether something is done without anything else that happens."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(5):
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    return done


def test_room_is_given_in_order_and_one_document_always_fits() -> None:
    async def main() -> None:
        pending = Pending(64 * KIB)
        pending.enter(100 * KIB)
        with pytest.raises(Overloaded) as caught:
            pending.enter(1)
        assert caught.value.metadata == {"limit": "pending_bytes"}
        large = asyncio.create_task(pending.wait(50 * KIB))
        await asyncio.sleep(0)
        assert not await soon(pending.wait(1)), "a small one must not overtake a large one"
        pending.leave(100 * KIB)
        await large
        await pending.wait(1)
        pending.leave(50 * KIB)
        pending.leave(1)
        assert (pending.bytes, pending.documents) == (0, 0)

    asyncio.run(main())


def test_whoever_gives_up_makes_room_for_the_next() -> None:
    async def main() -> None:
        pending = Pending(64 * KIB)
        pending.enter(30 * KIB)
        large = asyncio.create_task(pending.wait(60 * KIB))
        small = asyncio.create_task(pending.wait(10 * KIB))
        await asyncio.sleep(0)
        large.cancel()
        await small
        pending.leave(30 * KIB)
        pending.leave(10 * KIB)
        assert (pending.bytes, pending.documents) == (0, 0)
        # Given room and cancelled in the same moment.
        pending.enter(60 * KIB)
        late = asyncio.create_task(pending.wait(60 * KIB))
        await asyncio.sleep(0)
        pending.leave(60 * KIB)
        late.cancel()
        await asyncio.wait([late])
        assert (pending.bytes, pending.documents) == (0, 0)

    asyncio.run(main())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), max_size=20))
def test_operations_on_a_key_keep_their_order(plan: list[tuple[str, bool, int]]) -> None:
    """Some are cancelled while they wait, or while they run; others take a while."""

    async def main() -> None:
        turns, running, begun = Turns(), set[str](), dict[str, list[int]]()

        async def operate(number: int, key: str, pauses: int) -> None:
            async with turns.taking(key):
                assert key not in running
                running.add(key)
                begun.setdefault(key, []).append(number)
                try:
                    for _ in range(pauses):
                        await asyncio.sleep(0)
                finally:
                    running.discard(key)

        tasks = []
        for number, (key, cancelled, pauses) in enumerate(plan):
            tasks.append(asyncio.create_task(operate(number, key, pauses)))
            await asyncio.sleep(0)
            if cancelled:
                tasks[-1].cancel()
        for task in tasks:
            await asyncio.wait([task])
        assert all(numbers == sorted(numbers) for numbers in begun.values())
        certain = {number for number, (_key, cancelled, _) in enumerate(plan) if not cancelled}
        assert certain <= {number for numbers in begun.values() for number in numbers}
        await asyncio.sleep(0)
        assert len(turns) == 0

    asyncio.run(main())


ANNA = Caller("anna", None, None, quota=Quota(3, 100))


def test_what_is_under_way_counts_and_what_fails_does_not(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path / "quotas.json")
    first, second, third = (quotas.reserve(ANNA, 10) for _ in range(3))
    with pytest.raises(QuotaExceeded, match="3 documents a day") as caught:
        quotas.reserve(ANNA, 1)
    assert caught.value.metadata == {"quota": "documents"}
    assert 0 < (caught.value.retry_seconds or 0) <= 86_400
    first.settle(1)
    second.give_up()
    third.settle(1)
    assert quotas.used("anna") == (2, 20)
    with pytest.raises(QuotaExceeded, match="100 bytes a day, 20 are used"):
        quotas.reserve(ANNA, 81)
    quotas.reserve(ANNA, 80).settle(5)  # an archive of five documents
    assert quotas.used("anna") == (7, 100)
    quotas.reserve(EVERYONE, 10**9).settle(1)
    quotas.reserve(Caller("ben", None, None), 10**9).settle(1)
    assert quotas.used("ben") == (0, 0)


def test_counts_survive_a_restart_and_end_with_the_day(tmp_path: Path) -> None:
    file, day = tmp_path / "quotas.json", date(2024, 5, 1)
    quotas = Quotas(file, day=lambda: day)
    quotas.reserve(ANNA, 10).settle(2)
    asyncio.run(quotas.write())
    assert Quotas(file, day=lambda: day).used("anna") == (2, 10)
    day = date(2024, 5, 2)
    assert Quotas(file, day=lambda: day).used("anna") == (0, 0)
    assert quotas.used("anna") == (0, 0)
    asyncio.run(quotas.write())
    assert json.loads(file.read_text())["documents"] == {}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"day": 1}', "\0", '{"day": "x", "documents": 1}']
)
def test_a_damaged_file_is_said_and_begun_anew(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "quotas.json"
    file.write_text(content)
    quotas = Quotas(file)
    quotas.reserve(ANNA, 10).settle(1)
    asyncio.run(quotas.write())
    assert Quotas(file).used("anna") == (1, 10)


def test_a_file_that_can_not_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quotas = Quotas(tmp_path / "none" / "quotas.json")
    for _ in range(2):
        quotas.reserve(ANNA, 10).settle(1)
        asyncio.run(quotas.write())
    assert quotas.used("anna") == (2, 20)
    assert sum("memory alone" in record.getMessage() for record in caplog.records) == 1


def test_media_types() -> None:
    any_text = AllowedTypes(("text/*",))
    any_text.check(pb.PutDocumentRequest(uri="a", text="x"))
    any_text.check(pb.PutDocumentRequest(uri="a.md", data=b"x"))
    any_text.check(pb.PutDocumentRequest(uri="a", passages=pb.PassageTexts()))
    for request in (
        pb.PutDocumentRequest(uri="a.pdf", data=b"x"),
        pb.PutDocumentRequest(uri="a", data=b"x"),
        pb.PutDocumentRequest(uri="a.md", data=b"x", file_name="a.pdf"),
        pb.PutDocumentRequest(uri="a.md", data=b"x", media_type="application/pdf"),
    ):
        with pytest.raises(InvalidArgument, match=r"of the types text/\*"):
            any_text.check(request)
    AllowedTypes(()).check(pb.PutDocumentRequest(uri="a", data=b"x"))
    with pytest.raises(InvalidArgument, match="not a type that can be read"):
        AllowedTypes(("video/*",))
