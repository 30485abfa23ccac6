"""The clients and commands against a real server: what is put is found, whatever restarts."""

import asyncio
import http.server
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from examples import crawl
from indexer.ingest.door import IngestDoor
from retrieval.client import AsyncRetrievalClient, Put, PutOutcome, PutPassage, RetrievalClient
from retrieval.commands.cli import main
from retrieval.errors import ServiceError
from retrieval.service.config import Address, ServiceConfig, Writing, served_indexes
from tests.indexer.parse.pdf.make_pdf import pdf_of
from tests.service.harness import RunningServer, free_port, running, word_model

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/writing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a collection ``default`` that clients write to."""
    data = tmp_path_factory.mktemp("collections")
    with running({}, writing=Writing(data), models=(str(word_model()),)) as server:
        with RetrievalClient(server.target, timeout=120) as client:
            client.create_collection("default", model=str(word_model()))
        yield server


@pytest.fixture(scope="module")
def client(writable: RunningServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(writable.target, timeout=60) as connected:
        yield connected


def writer_of(server: RunningServer) -> int:
    """Process id of the writer."""
    (door,) = server.server._doors
    assert isinstance(door, IngestDoor)
    assert door.writer.process_id is not None
    return door.writer.process_id


def test_put_find_change_and_delete(client: RetrievalClient) -> None:
    put = client.put(
        "one/bread",
        text="# Rye\n\nKnead the dough.",
        media_type="text/markdown",
        metadata={"year": 2024, "tags": ["a", "b"]},
        wait=True,
    )
    assert (put.document.change, put.document.format) == ("created", "markdown")
    (found,) = client.search("dough", filter="year>2000 AND tags=b AND root=one")
    assert (found.uri, found.title) == ("one/bread", "Rye")
    assert found.metadata["year"] == 2024
    assert client.put("one/bread", text="x").document.change == "updated"
    with pytest.raises(ServiceError) as caught:
        client.put("one/bread", text="y", if_sha256=put.document.sha256)
    assert caught.value.service_reason == "CONFLICT"
    assert client.delete("one/bread", wait=True).uris == ("one/bread",)
    assert not client.search("dough", filter="root=one")
    assert client.delete("one/bread", missing_ok=True).uris == ()
    with pytest.raises(ServiceError, match="no collection 'none'"):
        client.delete("one/bread", missing_ok=True, collection="none")


def test_passages_of_ones_own(client: RetrievalClient) -> None:
    passages = [PutPassage("Bees dance.", page=2), PutPassage("Ferries sail.", ["Sea"], page=3)]
    client.put("own/two", passages=passages, title="Two", wait=True)
    found = {passage.text: passage for passage in client.search("bees ferry", filter="root=own")}
    assert set(found) == {"Bees dance.", "Ferries sail."}
    sea = found["Ferries sail."]
    assert (sea.heading_path[-1], sea.page_start) == ("Sea", 3)


def test_a_document_that_can_not_be_read(client: RetrievalClient, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    outcomes = list(client.put_many([tmp_path / "broken.pdf", Put("fine.md", text="Bread")]))
    errors = {outcome.uri: outcome.error for outcome in outcomes}
    assert errors["fine.md"] is None
    broken = errors["broken.pdf"]
    assert isinstance(broken, ServiceError)
    assert broken.service_reason == "UNREADABLE_DOCUMENT"


def test_many_over_a_stream_and_deleted_by_a_filter(writable: RunningServer) -> None:
    async def use() -> None:
        async with AsyncRetrievalClient(writable.target, timeout=60) as client:
            items = ({"uri": f"many/{n}", "text": f"Bread {n}"} for n in range(300))
            stream = client.put_many(items)
            assert (await stream.finish()).created == 300
            again = client.put_many([{"uri": "many/7", "text": "Bread 7"}])
            assert (await again.finish()).unchanged == 1
            would = await client.delete_where("root=many", dry_run=True)
            assert would.document_count == 300
            deleted = await client.delete_where(prefix="many/1", wait=True)
            assert deleted.document_count == 111
            assert (await client.delete_where(prefix="many/")).document_count == 189

    asyncio.run(use())


@pytest.mark.slow
def test_a_writer_that_is_killed_costs_no_document(
    writable: RunningServer, client: RetrievalClient
) -> None:
    first = writer_of(writable)
    answered: list[PutOutcome] = []
    with client.put_many(Put(f"kill/{n}", text=f"Ferry {n}") for n in range(600)) as outcomes:
        for outcome in outcomes:
            answered.append(outcome)
            if len(answered) == 50:
                os.kill(first, signal.SIGKILL)
    assert writer_of(writable) != first
    assert not [outcome.error for outcome in answered if outcome.error]
    assert len({outcome.uri for outcome in answered}) == 600
    assert client.delete_where("root=kill", dry_run=True).document_count == 600


@pytest.mark.slow
def test_a_server_that_restarts_costs_no_document(tmp_path: Path) -> None:
    address, model = Address("127.0.0.1", free_port()), str(word_model())

    def start() -> RunningServer:
        indexes = served_indexes((), tmp_path)
        return RunningServer(
            ServiceConfig(
                indexes, address, device="cpu", models=(model,), writing=Writing(tmp_path)
            )
        )

    server = start()
    answered: list[PutOutcome] = []
    with RetrievalClient(str(address), timeout=60) as client:
        client.create_collection("default", model=model)
        for outcome in client.put_many(Put(f"r/{n}", text=f"Violin {n}") for n in range(300)):
            answered.append(outcome)
            if len(answered) == 20:
                server.stop()
                server = start()
        assert not [outcome.error for outcome in answered if outcome.error]
        assert len({outcome.uri for outcome in answered}) == 300
        assert client.delete_where("root=r", dry_run=True).document_count == 300
    server.stop()


def test_the_commands(
    writable: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--target", writable.target])
        return code, capsys.readouterr().out

    (tmp_path / "a.md").write_text("# Orchard\n\nApples are picked.")
    assert run("collection", "create", "cli", "--model", str(word_model()))[0] == 0
    code, out = run("put", str(tmp_path), "--to", "x", "--collection", "cli", "--wait", "--json")
    assert code == 0
    uri = json.loads(out.splitlines()[0])["uri"]
    assert uri == f"x/{tmp_path.name}/a.md"
    assert "Orchard" in run("search", "apples", "--collection", "cli")[1]
    assert run("delete", uri, "--collection", "cli") == (0, "deleted 1 document\n")
    assert run("put", str(tmp_path), "--collection", "none")[0] == 2
    assert run("collection", "delete", "cli") == (0, "deleted cli\n")


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S))
def test_the_examples_of_the_page(
    code: str, writable: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/2024.pdf").write_bytes(pdf_of([[(72, 700, 12, "Profits rose.")]]))
    exec(compile(code.replace("127.0.0.1:50051", writable.target), "<writing.md>", "exec"), {})


class Site(http.server.BaseHTTPRequestHandler):
    """Three pages that link to one another, one of which goes later."""

    pages: ClassVar = {
        "/robots.txt": "User-agent: *\nDisallow: /site/secret",
        "/site/": "<p>Bees <a href='ferry#x'>f</a> <a href='secret'>s</a> <a href='/out'>o</a>",
        "/site/ferry": "<h1>Ferries</h1><p>They sail. <a href='./'>home</a> <a href='none'>n</a>",
        "/site/secret": "<p>Secret",
        "/out": "<p>Out",
    }

    def do_GET(self) -> None:
        page = self.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_crawler(client: RetrievalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    start = f"http://127.0.0.1:{site.server_port}/site/"
    client.create_collection("site", model=str(word_model()))
    try:
        assert crawl.crawl(client, start, "site", limit=10) == 0
        put = client.put("elsewhere", text="by another", collection="site", wait=True)
        assert put.document.change == "created"
        found = client.delete_where("uri:**", collection="site", dry_run=True)
        assert found.uris == ("elsewhere", start, f"{start}ferry")
        monkeypatch.delitem(Site.pages, "/site/ferry")
        assert crawl.crawl(client, start, "site", limit=10) == 0
        found = client.delete_where("uri:**", collection="site", dry_run=True)
        assert found.uris == ("elsewhere", start)
    finally:
        site.shutdown()
        site.server_close()
