"""The OpenAPI document against the gateway: schemathesis draws requests and checks answers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retrieval.service.config import Writing
from tests.gateway.harness import Http, gateway
from tests.service.harness import build_index, running, word_model, write_documents
from tests.tiny_model import make_tiny_reranker

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
    """A gateway to a server on which every example of the document succeeds."""
    write_documents(tmp_path / "notes")
    data = tmp_path / "data"
    indexes = {name: build_index(tmp_path / "notes", data / name) for name in ("default", "guides")}
    reranker = str(make_tiny_reranker(tmp_path / "reranker"))
    models = (str(word_model()),)
    with (
        running(indexes, writing=Writing(data), models=models, reranker=reranker) as server,
        gateway(server.target) as http,
    ):
        put = {"uri": "tickets/4711", "text": "The door squeaks.", "wait": True}
        assert http("POST", "/v1/documents", put).status == 201
        yield http


def test_answers_keep_to_the_document(writable: Http, tmp_path: Path) -> None:
    report = tmp_path / "requests.har"
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
        "--report=har",
        f"--report-har-path={report}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout[-2000:]
    assert int(cases[1]) >= LEAST_CASES
    # What is drawn is mostly refused; the examples are what shows the answers of success.
    document = writable("GET", "/openapi.json").json
    assert set(operations(document)) - answered(report, operations(document)) == set()


def operations(document: Any) -> dict[str, tuple[str, re.Pattern[str]]]:
    """Method, and pattern of the path, of every operation."""
    return {
        operation["operationId"]: (
            method.upper(),
            re.compile(re.sub(r"\{(\w+)\}", _part, path)),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _part(parameter: re.Match[str]) -> str:
    return ".+" if parameter[1] in ("uri", "model") else "[^/]+"


def answered(report: Path, known: dict[str, tuple[str, re.Pattern[str]]]) -> set[str]:
    """The operations with at least one answer of success."""
    found = set()
    for entry in json.loads(report.read_text())["log"]["entries"]:
        if entry["response"]["status"] < 300:
            request = entry["request"]
            path = urlsplit(request["url"]).path
            found |= {
                name
                for name, (method, pattern) in known.items()
                if request["method"] == method and pattern.fullmatch(path)
            }
    return found
