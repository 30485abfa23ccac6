"""Going over to another generation, another index or another copy, whatever happens on the way."""

import gc
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from weakref import ref

import pytest

from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError, StorageError
from retrieval.service.access.callers import EVERYONE
from retrieval.service.collections import watcher
from retrieval.service.collections.query_cache import QueryCache
from retrieval.service.config import Address
from retrieval.store import Reader, Version, open_writer, read_info, read_version
from tests.service.harness import RunningServer, build_index, running, wait_until
from tests.store.test_store import CHUNKING, MODEL

SOON = 0.05


def build(place: Path, *subjects: str) -> Path:
    """Index documents of three passages, one a subject, and no others."""
    documents = place / "documents"
    shutil.rmtree(documents, ignore_errors=True)
    documents.mkdir(parents=True)
    for subject in subjects:
        for number in range(3):
            (documents / f"{subject}{number}.md").write_text(f"# {subject}\n\n{subject} {number}\n")
    return build_index(documents, place / "index")


@contextmanager
def watched(index: Path, **settings: Any) -> Iterator[tuple[RunningServer, RetrievalClient]]:
    with (
        running({"default": index}, reload_seconds=SOON, **settings) as server,
        RetrievalClient(server.target) as client,
    ):
        yield server, client


def delete(index: Path) -> None:
    """Delete an index while servers look into it: what they make in it would make rmtree fail."""
    removed = index.with_name("removed")
    index.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def finds(client: RetrievalClient, word: str) -> bool:
    return bool(client.search(word, mode="lexical").passages)


def answers_alone(client: RetrievalClient, word: str, other: str) -> Callable[[], bool]:
    return lambda: finds(client, word) and not finds(client, other)


def rebuilt(place: Path) -> None:
    delete(place / "index")
    build(place, "oranges")


def replaced_by_rename(place: Path) -> None:
    build(place / "fresh", "oranges")
    (place / "index").rename(place / "old")
    (place / "fresh" / "index").rename(place / "index")


def linked_elsewhere(place: Path) -> None:
    build(place / "fresh", "oranges")
    (place / "link").symlink_to(place / "fresh" / "index")
    (place / "index").rename(place / "old")
    (place / "link").rename(place / "index")


def restored_and_built_on(place: Path) -> None:
    """A copy of the index's own generation 1 that went on to the same number with other texts."""
    delete(place / "index")
    shutil.copytree(place / "backup", place / "index")
    build(place, "oranges")


@pytest.mark.parametrize(
    "change", [rebuilt, replaced_by_rename, linked_elsewhere, restored_and_built_on]
)
def test_another_index_of_the_same_number_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    if change is restored_and_built_on:
        build(tmp_path, "pears")
        shutil.copytree(tmp_path / "index", tmp_path / "backup")
    index = build(tmp_path, "apples")
    with watched(index) as (_, client):
        before, first = client.collection(), client.search("apples", k=1, mode="lexical")
        change(tmp_path)
        wait_until(answers_alone(client, "oranges", "apples"))
        wait_until(lambda: client.collection().generation == before.generation)
        after = client.collection()
        is_same = change is restored_and_built_on
        assert (after.index_id == before.index_id) == is_same
        if is_same:
            page = client.search("apples", k=1, mode="lexical", page_token=first.next_page_token)
            assert page.passages == ()
            return
        with pytest.raises(ServiceError, match="first page") as caught:
            client.search("apples", k=1, mode="lexical", page_token=first.next_page_token)
        assert caught.value.service_reason == "STALE_GENERATION"


def test_a_copy_in_the_place_of_the_folder_is_gone_over_to(tmp_path: Path) -> None:
    """Its files are others, and may be sound where the old ones were not; its pages go on."""
    index = build(tmp_path, "apples")
    with watched(index) as (server, client):
        served = server.server._collections.look("default")
        first = client.search("apples", k=1, mode="lexical")
        shutil.copytree(index, tmp_path / "copy", symlinks=True)
        delete(index)
        assert finds(client, "apples")
        (tmp_path / "copy").rename(index)
        wait_until(lambda: server.server._collections.look("default") != served)
        assert client.search("apples", k=1, mode="lexical", page_token=first.next_page_token)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == watcher.LOG.name]


@pytest.mark.parametrize(
    "failure",
    [
        PermissionError(13, "Permission denied"),
        OSError(116, "Stale file handle"),
        StorageError("can't look into the folder"),
        KeyError("a bug"),
    ],
    ids=repr,
)
def test_looks_go_on_after_any_failure(
    tmp_path: Path,
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    index = build(tmp_path, "apples")
    failing: list[Exception] = []

    def look_or_fail(folder: Path) -> Version:
        if failing:
            looks.append(1)
            raise failing[0]
        return read_version(folder)

    looks: list[int] = []
    monkeypatch.setattr(watcher, "read_version", look_or_fail)
    with watched(index) as (_, client):
        failing.append(failure)
        wait_until(lambda: len(looks) > 3)
        (complaint,) = lines(caplog)
        assert "default can't be reloaded" in complaint
        failing.clear()
        wait_until(lambda: len(lines(caplog)) == 2)
        assert lines(caplog)[1] == "default can be reloaded again"
        build(tmp_path, "oranges")
        wait_until(answers_alone(client, "oranges", "apples"))


def test_a_folder_that_can_not_be_looked_into(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the disk says it: what a look raises is one of our errors, which says why."""
    index = build(tmp_path, "apples")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(StorageError, match="Too many levels of symbolic links"):
        read_version(loop)
    caplog.set_level(logging.INFO)
    with watched(index) as (_, client):
        away = index.rename(tmp_path / "away")
        index.symlink_to(loop)
        wait_until(lambda: lines(caplog))
        assert "symbolic links; trying again" in lines(caplog)[0]
        index.unlink()
        away.rename(index)
        wait_until(lambda: "default can be reloaded again" in lines(caplog))
        build(tmp_path, "oranges")
        wait_until(answers_alone(client, "oranges", "apples"))


def test_an_index_that_is_begun_anew_is_not_served_before_its_first_commit(tmp_path: Path) -> None:
    index = build(tmp_path, "apples")
    with watched(index) as (_, client):
        delete(index)
        with open_writer(index) as writer:
            writer.set_model(MODEL, CHUNKING)
        time.sleep(10 * SOON)
        assert finds(client, "apples")


def numbers(server: RunningServer) -> dict[str, float]:
    assert server.server._metrics_server is not None
    port = server.server._metrics_server.server_port
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_metrics_show_the_age_and_failures(tmp_path: Path) -> None:
    index = build(tmp_path, "apples")
    failed = 'retrieval_index_failed_reloads_total{collection="default"}'
    age = 'retrieval_index_generation_age_seconds{collection="default"}'
    with watched(index, metrics=Address("127.0.0.1", 0)) as (server, client):
        assert numbers(server)[failed] == 0
        assert 0 <= numbers(server)[age] < 60
        away = index.rename(tmp_path / "away")
        wait_until(lambda: numbers(server)[failed] >= 2)
        with pytest.raises(ServiceError, match="holds no index"):
            client.reload()
        away.rename(index)
        wait_until(lambda: numbers(server)[age] > 1.5)
        build(tmp_path, "oranges")
        wait_until(answers_alone(client, "oranges", "apples"))
        assert numbers(server)[age] < 60


def test_a_generation_is_gone_with_its_last_request(tmp_path: Path) -> None:
    """Without the collector of cycles: what a generation holds can be many gigabytes."""
    index = build(tmp_path, "apples")
    gc.collect()
    gc.disable()
    try:
        with (
            running({"default": index}) as server,
            RetrievalClient(server.target) as client,
        ):
            generations: list[ref[Reader]] = []
            for subject in ("pears", "plums", "peaches"):
                with server.server._collections.use("default", EVERYONE) as collection:
                    generations.append(ref(collection.reader))
                del collection
                assert client.search("apples pears").passages
                build(tmp_path, "apples", subject)
                client.reload()
                wait_until(lambda: generations[-1]() is None)
            assert finds(client, "peaches")
            assert not finds(client, "plums")
    finally:
        gc.enable()


def test_a_reload_keeps_what_it_knows_of_queries(tmp_path: Path) -> None:
    index = build(tmp_path, "apples")
    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        collections = server.server._collections

        def known() -> QueryCache:
            with collections.use("default", EVERYONE) as collection:
                return collection.embed_queries

        client.search("apples", mode="dense")
        before = known()
        build(tmp_path, "apples", "pears")
        client.reload()
        assert known() is before
        assert client.search("pears", mode="dense").passages


def test_pages_go_on_beside_a_writer(tmp_path: Path) -> None:
    """Each page may be of a later generation; nothing is missing and nothing comes twice."""
    index = build(tmp_path, "apples", "pears")
    documents = tmp_path / "documents"
    with watched(index) as (_, client):
        page = client.search("apples and pears", k=2)
        found, generations = [one.name for one in page], {page.generation}
        for number in range(2):
            (documents / f"more{number}.md").write_text("# apples\n\npears and apples\n")
            (documents / f"apples{number}.md").write_text("# plums\n\nplums, no apples\n")
            wanted = read_info(build_index(documents, index)).generation
            wait_until(lambda wanted=wanted: client.collection().generation == wanted)
            page = client.search("apples and pears", k=2, page_token=page.next_page_token)
            found += [one.name for one in page]
            generations.add(page.generation)
        while page.next_page_token:
            page = client.search("apples and pears", k=2, page_token=page.next_page_token)
            found += [one.name for one in page]
        assert len(generations) == 3
        assert len(found) == len(set(found))
        assert set(found) == {one.name for one in client.stream_search("apples and pears")}
