"""Gateways of several modules: in front of the server of all tests, and of one with tokens."""

from collections.abc import Iterator

import pytest

from retrieval.service.access.token_file import SCOPES, create_token
from retrieval.service.config import Writing
from tests.gateway.harness import Doors, Http, gateway
from tests.service.harness import (
    RunningServer,
    build_index,
    running,
    word_model,
    write_documents,
)


@pytest.fixture(scope="session")
def http(server: RunningServer) -> Iterator[Http]:
    with gateway(server.target) as running:
        yield running


@pytest.fixture(scope="session")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A server that takes documents and wants tokens, a gateway to it, and tokens of every kind."""
    folder = tmp_path_factory.mktemp("doors")
    write_documents(folder / "notes")
    index = build_index(folder / "notes", folder / "data" / "default")
    file = folder / "tokens.json"
    made = {"": "", "wrong": "rt_0123_wrong", "all": create_token(file, "all", scopes=SCOPES)}
    made["other"] = create_token(file, "other", scopes=SCOPES, collections=("other",))
    made["spent"] = create_token(file, "spent", scopes=SCOPES, rate=0.001)
    for scope in SCOPES:
        made[scope] = create_token(file, scope, scopes=(scope,))
        rest = [other for other in SCOPES if other != scope]
        made[f"not {scope}"] = create_token(file, f"not-{scope}", scopes=rest)
    settings = {"writing": Writing(folder / "data"), "models": (str(word_model()),)}
    with (
        running({"default": index}, token_file=file, **settings) as server,
        gateway(server.target) as http,
    ):
        yield Doors(server.target, http.port, made)
