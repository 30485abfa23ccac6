"""The TypeScript SDK, both generations of it: most assistants are built with one of them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retrieval.client import RetrievalClient
from retrieval.service.access.token_file import create_token
from tests.gateway.integrations.conftest import RunScript
from tests.service.harness import RunningServer, running

SCRIPT = Path(__file__).with_name("typescript.mjs")
TOOLS = ["search", "fetch", "list_documents", "list_collections"]
GENERATIONS = [("1", "legacy"), ("2", "legacy"), ("2", "auto")]
"""Of the SDK; and with which protocol it begins."""


@pytest.fixture(scope="module")
def guarded(
    index: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, str]]:
    """A server that wants a token, and a token for it."""
    file = tmp_path_factory.mktemp("typescript") / "tokens.json"
    token = create_token(file, "assistant", scopes=("search", "read"))
    with running({"default": index}, token_file=file) as server:
        yield server, token


@contextmanager
def over_http(target: str) -> Iterator[str]:
    """`retrieval mcp --http` as a program; yields its address."""
    command = [*(sys.executable, "-m", "retrieval", "mcp"), "--target", target]
    process = subprocess.Popen(
        [*command, "--http", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.removeprefix("listening on ").partition(" ")[0]
    finally:
        process.terminate()
        process.wait(30)


def check(made: Any, target: str, token: str = "") -> None:
    """What a script saw is what the server has."""
    assert made["tools"] == TOOLS
    assert made["readOnly"]
    with RetrievalClient(target, token=token) as client:
        passages = client.search("harbour", k=3)
        documents = list(client.documents())
        (best,) = [one for one in documents if one.uri == passages[0].uri]
        text = client.document(best.name, with_text=True).text
    results = made["found"]["results"]
    assert [one["id"].partition("#")[0] for one in results] == [
        f"retrieval://default/{one.uri}" for one in passages
    ]
    assert {"id", "title", "url", "text"} <= results[0].keys()
    assert made["fetched"]["text"] == text
    assert "top_k" in made["refused"]["error"]
    assert "missing.md" in made["missing"]["error"]
    uris = [uri for uri, _ in made["resources"] if uri.startswith("retrieval://default/")]
    assert uris == [f"retrieval://default/{one.uri}" for one in documents]
    assert made["read"]["uri"] == uris[0]
    assert made["templates"] == ["retrieval://{collection}/{+uri}"]


@pytest.mark.parametrize(("generation", "negotiation"), GENERATIONS)
def test_over_http(
    node: RunScript, guarded: tuple[RunningServer, str], generation: str, negotiation: str
) -> None:
    server, token = guarded
    with over_http(server.target) as address:
        made = node(SCRIPT, generation, negotiation, address, token)
    check(made, server.target, token)
    assert "401" in made["stranger"]


@pytest.mark.parametrize(("generation", "negotiation"), GENERATIONS)
def test_over_stdio(
    node: RunScript, server: RunningServer, generation: str, negotiation: str
) -> None:
    command = [sys.executable, "-m", "retrieval", "mcp", "--target", server.target]
    check(node(SCRIPT, generation, negotiation, *command), server.target)
