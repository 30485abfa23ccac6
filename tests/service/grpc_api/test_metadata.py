"""Metadata keeps its types from the file to the client, and filters name any field of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import indexer.commands.cli
import retrieval.commands.cli
from retrieval.client import RetrievalClient
from retrieval.store import open_reader
from retrieval.v1 import index_service_pb2_grpc, search_service_pb2_grpc
from retrieval.v1.index_service_pb2 import GetDocumentRequest
from retrieval.v1.search_service_pb2 import SEARCH_MODE_LEXICAL, SearchRequest
from tests.service.harness import RunningServer, build_index, running

FIELDS = {
    "作者": "王",
    "Team Name": "X",
    "1st": "q",
    "size": "XL",
    "year": 2024,
    "ratio": 0.5,
    "open": True,
    "tag": ["a, b", "c", 3],
    "author": {"name": "Smith, John", "born": {"in": 1970}},
    "big": 2**53 + 1,
}
STORED = {**{name.lower(): value for name, value in FIELDS.items()}}
SENT = {**STORED, "big": str(2**53 + 1)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metadata")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "b.txt").write_text("bees and their honey")
    (docs / "b.txt.meta.json").write_text(json.dumps(FIELDS))
    (docs / "c.txt").write_text("bees without a name")
    return build_index(docs, folder / "index")


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[RunningServer]:
    with running({"default": index}) as running_server:
        yield running_server


@pytest.fixture
def client(server: RunningServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(server.target) as connected:
        yield connected


def test_types_arrive(client: RetrievalClient, index: Path) -> None:
    with open_reader(index) as reader:
        assert reader.document_by_uri("docs/b.txt").metadata == STORED
    (passage,) = client.search("bees", filter="year=2024")
    assert passage.metadata == SENT
    assert [type(value) for value in passage.metadata.values()] == [
        type(SENT[name]) for name in passage.metadata
    ]
    assert client.document(passage.name.rpartition("/passages")[0]).metadata == SENT
    (streamed,) = client.stream_search("bees", filter="year=2024")
    (without,) = client.search("bees", filter="year=2024", omit_metadata=True, context_after=1)
    assert streamed.metadata
    assert without.metadata == {}
    assert all(one.metadata == {} for one in without.after)
    assert without._replace(metadata=streamed.metadata, after=()) == streamed
    assert streamed.metadata == SENT
    (bare,) = client.search("bees", filter="NOT year:*")
    assert bare.metadata == {}


def test_older_clients_get_texts(server: RunningServer, client: RetrievalClient) -> None:
    (passage,) = client.search("bees", filter="year=2024")
    texts = {
        "作者": "王",
        "team name": "X",
        "1st": "q",
        "size": "XL",
        "year": "2024",
        "ratio": "0.5",
        "open": "true",
        "tag": "a, b, c, 3",
        "author.name": "Smith, John",
        "author.born.in": "1970",
        "big": str(2**53 + 1),
    }

    with grpc.insecure_channel(server.target) as channel:
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        request = SearchRequest(text="bees", filter="year=2024", mode=SEARCH_MODE_LEXICAL)
        assert dict(search.Search(request).passages[0].document.metadata) == texts
        documents = index_service_pb2_grpc.IndexServiceStub(channel)
        name = passage.name.rpartition("/passages")[0]
        assert dict(documents.GetDocument(GetDocumentRequest(name=name)).document.metadata) == texts


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("作者=王", True),
        ('"Team Name"=X', True),
        ("1st=q", True),
        ("meta.size=XL", True),
        ("size>1", True),
        ('tag="a, b"', True),
        ("tag=b", False),
        ("tag IN (x, c)", True),
        ("tag=3", True),
        ("author.name=John", False),
        ("author.born.in<2000", True),
        ("big=9007199254740993", True),
        ("open=true AND ratio<1", True),
    ],
)
@pytest.mark.parametrize("mode", ["lexical", "dense"])
def test_filters_over_the_wire(
    client: RetrievalClient, condition: str, found: bool, mode: str
) -> None:
    results = client.search("bees honey", filter=f"({condition}) AND path=b.txt", mode=mode)
    assert bool(results) == found
    assert results.warnings == ()


def test_thousands_of_values(client: RetrievalClient) -> None:
    members = ",".join(f"value-{number}" for number in range(10_000))
    assert len(client.search("bees", filter=f"tag IN ({members}, c)")) == 1
    assert len(client.search("bees", filter=f"tag NOT IN ({members})")) == 2


@pytest.mark.parametrize(
    ("condition", "warning"),
    [
        ("pth=b.txt", "'pth', a field that no document has; did you mean 'path'?"),
        ("yer>2000 AND tag=c", "'yer', a field that no document has; did you mean 'year'?"),
        ("NOT zzzzzz=1 AND zzzzzz=2", "'zzzzzz', a field that no document has"),
        ("year=1 OR path=x", ""),
        ("author:*", ""),
        ("meta.size=XXL", ""),
    ],
)
def test_a_field_that_no_document_has_is_a_warning(
    server: RunningServer,
    index: Path,
    condition: str,
    warning: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warnings = [f"the filter asks for {warning}"] if warning else []
    with RetrievalClient(server.target) as client:
        assert list(client.search("bees", filter=condition, mode="lexical").warnings) == warnings
        assert list(client.stream_search("bees", filter=condition).warnings) == warnings
    shown = "".join(f"warning: {warning}\n" for warning in warnings)
    options = ["search", "bees", "--mode", "lexical", "--filter", condition]
    assert retrieval.commands.cli.main([*options, "--target", server.target]) == 0
    assert capsys.readouterr().err == shown
    for more in ([], ["--json"]):
        assert indexer.commands.cli.main([*options, "--index", str(index), *more]) == 0
        out, err = capsys.readouterr()
        assert err == shown
    assert json.loads(out)["warnings"] == warnings
