"""The OpenAPI document against the gateway: schemathesis draws requests and checks answers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.service.config import Writing
from tests.gateway.harness import Http, gateway
from tests.service.harness import build_index, running, word_model, write_documents

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "40"))
"""Requests that are drawn for each operation, beside those that cover its schema."""
LEAST_CASES = 1000


def test_every_operation_has_a_name_and_a_description(http: Http) -> None:
    document = http("GET", "/openapi.json").json
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    for one in operations:
        assert one["description"], one["operationId"]
        assert one["tags"], one["operationId"]


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[Http]:
    write_documents(tmp_path / "notes")
    index = build_index(tmp_path / "notes", tmp_path / "data" / "default")
    settings = {"writing": Writing(tmp_path / "data"), "models": (str(word_model()),)}
    with running({"default": index}, **settings) as server, gateway(server.target) as http:
        yield http


def test_answers_keep_to_the_document(writable: Http, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{writable.port}/openapi.json",
        f"--max-examples={EXAMPLES}",
        "--checks=all",
        # A schema can't say what a filter or the name of a model may be.
        "--exclude-checks=positive_data_acceptance",
        "--suppress-health-check=all",
        "--phases=examples,coverage,fuzzing",
        "--seed=1",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout[-2000:]
    assert int(cases[1]) >= LEAST_CASES
