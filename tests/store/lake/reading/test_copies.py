"""Files of tables in the cache folder: room, uses by several processes, and what kills leave."""

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.errors import InvalidArgument
from retrieval.store.lake.local.cache_folder import cache_limit, files_in, folder_size
from retrieval.store.lake.local.copies import Copies, Plan

SIZE = 1000
LIMIT = 4_500
"""Four files of 1,000 bytes, and the small files beside them."""


def plan(number: int, files: int = 1) -> Plan:
    return Plan("chunks", number, "x", {f"data/{number}-{n}": SIZE for n in range(files)})


def fetch(copies: Copies, some: Plan) -> None:
    """Claim the files of a plan, and write them."""
    assert copies.claim(some)
    for name in copies.missing(some):
        part = copies.part()
        part.write_bytes(b"x" * some.files[name])
        copies.put(some, name, part)
    assert copies.missing(some) == []


def use(cache: Path, index: str, some: Plan, at: int) -> None:
    """Fetch the files of a plan and stop using them; the use is so many seconds after 1970."""
    copies = Copies(cache, index, LIMIT)
    fetch(copies, some)
    copies.close()
    os.utime(cache / index / "plans" / f"{some.name}.json", (at, at))


def test_the_least_recently_used_files_make_room(tmp_path: Path) -> None:
    for at, index in enumerate("abd"):
        use(tmp_path, index, plan(1), at)
    use(tmp_path, "a", plan(1), 9)  # again
    copies = Copies(tmp_path, "c", LIMIT)
    fetch(copies, plan(5, files=3))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("?/tables/*/*/*"))
    assert left == [
        "a/tables/chunks.lance/data/1-0",
        *(f"c/tables/chunks.lance/data/5-{n}" for n in range(3)),
    ]
    assert sorted(path.stem for path in tmp_path.glob("?/plans/*")) == ["chunks-1-x", "chunks-5-x"]
    assert folder_size(tmp_path) <= LIMIT


def test_files_in_use_stay_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    first, second = Copies(tmp_path, "a", LIMIT), Copies(tmp_path, "b", LIMIT)
    fetch(first, plan(1, files=3))
    assert not second.claim(plan(2, files=2))
    assert first.missing(plan(1, files=3)) == []
    # A planned file counts before it is there.
    assert second.claim(plan(3))
    assert not first.claim(plan(4))
    second.close()
    assert first.claim(plan(4))


def test_nothing_is_deleted_for_what_does_not_fit_anyway(tmp_path: Path) -> None:
    use(tmp_path, "a", plan(1, files=2), 0)
    copies = Copies(tmp_path, "b", LIMIT)
    assert not copies.claim(plan(2, files=5))
    assert Copies(tmp_path, "a", LIMIT).missing(plan(1, files=2)) == []


def test_files_of_the_next_version_are_shared(tmp_path: Path) -> None:
    copies = Copies(tmp_path, "a", LIMIT)
    fetch(copies, plan(1, files=3))
    following = Plan("chunks", 2, "x", {**plan(1, files=3).files, "data/new": SIZE})
    later = Copies(tmp_path, "a", LIMIT)
    assert later.claim(following)
    assert later.missing(following) == ["data/new"]
    copies.close()
    fetch(later, following)


def test_versions_that_were_not_used_for_an_hour_go(tmp_path: Path) -> None:
    old = Plan("chunks", 1, "x", {"data/both": SIZE, "data/old": SIZE})
    use(tmp_path, "a", old, 0)
    held = Copies(tmp_path, "a", LIMIT)
    fetch(held, plan(2))
    os.utime(tmp_path / "a" / "plans" / "chunks-2-x.json", (0, 0))
    copies = Copies(tmp_path, "a", LIMIT)
    fetch(copies, Plan("chunks", 3, "x", {"data/both": SIZE}))
    assert copies.known("chunks", 1, "x") is None
    left = {path.name for path in (copies.table("chunks") / "data").iterdir()}
    assert left == {"both", "2-0"}


def test_what_a_killed_process_used_can_be_deleted(tmp_path: Path) -> None:
    script = f"""
import sys, pathlib
from tests.store.lake.reading.test_copies import Copies, LIMIT, fetch, plan
copies = Copies(pathlib.Path({str(tmp_path)!r}), "a", LIMIT)
fetch(copies, plan(1, files=3))
copies.part().write_bytes(b"x" * 1000)
print("ready", flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        copies = Copies(tmp_path, "b", LIMIT)
        assert not copies.claim(plan(2, files=2))
        process.send_signal(signal.SIGKILL)
    fetch(copies, plan(2, files=4))
    assert list(tmp_path.glob("a/uses/*")) == []
    assert list(tmp_path.glob("a/parts/*")) == []
    assert folder_size(tmp_path) <= LIMIT


def test_many_users_keep_to_the_limit_and_to_each_others_files(tmp_path: Path) -> None:
    """Each use is a lock on a file of its own, so that threads are to each other as processes."""
    limit, kept = 8 * SIZE, []

    def work(seed: int) -> int:
        draw, fetched = random.Random(seed), 0
        for _ in range(20):
            copies = Copies(tmp_path, draw.choice("ab"), limit)
            number = draw.randrange(5)
            some = plan(number, files=1 + number % 3)  # a version always has the same files
            if copies.claim(some):
                fetch(copies, some)
                with copies._locked():  # so that nothing is deleted meanwhile
                    files = dict(files_in(tmp_path))
                kept.append(sum(size for path, size in files.items() if "data" in path.parts))
                assert copies.missing(some) == []
                fetched += 1
            copies.close()
        return fetched

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))
    assert max(kept) <= limit


def test_words_count_and_stay_while_their_index_is_used(tmp_path: Path) -> None:
    reading = Copies(tmp_path, "a", LIMIT)
    words = tmp_path / "a" / "words" / "segment"
    words.parent.mkdir()
    words.write_bytes(b"x" * 3 * SIZE)
    os.utime(words, (0, 0))
    other = Copies(tmp_path, "b", LIMIT)
    assert not other.claim(plan(1, files=2))
    assert words.exists()
    reading.close()
    assert other.claim(plan(1, files=2))
    assert not words.exists()


def test_a_file_of_another_size_or_content_is_missing(tmp_path: Path) -> None:
    copies = Copies(tmp_path, "a", LIMIT)
    fetch(copies, plan(1, files=2))
    (copies.table("chunks") / "data/1-1").write_bytes(b"x" * (SIZE - 1))
    assert copies.missing(plan(1, files=2)) == ["data/1-1"]
    assert copies.known("chunks", 1, "x") == plan(1, files=2)
    fetch(copies, plan(1, files=2))
    whole = copies.completed(plan(1, files=2))
    assert copies.known("chunks", 1, "x") == whole
    assert copies.missing(whole) == []
    (copies.table("chunks") / "data/1-0").write_bytes(b"y" * SIZE)
    assert copies.missing(whole) == ["data/1-0"]
    copies.drop(plan(1, files=2))
    assert copies.known("chunks", 1, "x") is None
    assert copies.missing(plan(1, files=2)) == list(plan(1, files=2).files)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("20GB", 20 * 10**9),
        ("1.5 kb", 1500),
        ("2GiB", 2 << 30),
        ("3m", 3_000_000),
    ],
)
def test_the_limit_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", text)
    assert cache_limit() == size


def test_the_limit_has_a_default_and_refuses_what_is_no_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETRIEVAL_CACHE_DIR", str(tmp_path / "not" / "there"))
    monkeypatch.delenv("RETRIEVAL_CACHE_SIZE", raising=False)
    assert cache_limit() > 0
    for text in ("many", "-1", "10 PB", "1GB2"):
        monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", text)
        with pytest.raises(InvalidArgument, match="must be a size such as 20GB"):
            cache_limit()
