"""Clients in JavaScript, run by Node."""

import base64
import json
from pathlib import Path

import numpy as np

from retrieval.client import RetrievalClient
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import gateway
from tests.gateway.integrations.conftest import RunScript
from tests.service.harness import running, word_model

SCRIPT = Path(__file__).with_name("openai.mjs")
TEXTS = ["the harbour at night", "bread", "Äpfel and 🍎"]


def test_openai(node: RunScript, index: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    key = create_token(file, "all", scopes=("embed", "read"))
    search = create_token(file, "search", scopes=("search",))
    with (
        running({"default": index}, token_file=file) as server,
        gateway(server.target) as http,
        RetrievalClient(server.target, token=key) as client,
    ):
        address = f"http://127.0.0.1:{http.port}/v1"
        model = word_model().name
        made = node(SCRIPT, address, key, json.dumps(TEXTS), model, search, "sk-nonsense")
        expected = client.embed(TEXTS, "passage")
        query = client.embed(TEXTS[0], "query")
    vectors = made["vectors"]
    # Asked for by name, the client leaves base64 as it is; by default it decodes it itself.
    assert isinstance(vectors["base64"][0], str)
    vectors["base64"] = [np.frombuffer(base64.b64decode(one), "<f4") for one in vectors["base64"]]
    for encoding, found in vectors.items():
        assert (np.array(found, np.float32) == expected).all(), encoding
    assert (np.array(made["query"], np.float32) == query).all()
    assert made["models"] == [model, "default"]
    assert made["failures"] == {
        "wrong": ["AuthenticationError", 401, "UNAUTHENTICATED", None],
        "notAllowed": ["PermissionDeniedError", 403, "PERMISSION_DENIED", None],
        "noModel": ["NotFoundError", 404, "MODEL_NOT_FOUND", "model"],
        "tokens": ["BadRequestError", 400, "INVALID_ARGUMENT", "input"],
    }
