"""Every number that a user can give is taken or refused; none is a bug or ends with a traceback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import indexer.commands.cli
import retrieval.commands.cli
import retrieval.service.server
from retrieval.v1 import (
    embedding_service_pb2,
    index_service_pb2,
    search_service_pb2,
    vector_pb2,
)
from tests.service.harness import RunningServer
from tests.tiny_model import DIM

NUMBERS = (
    *(
        "-1",
        "0",
        "1",
        "7",
        "0.5",
        "-0.0",
        "1e-320",
        "1e400",
        "-1e400",
        "1e30",
        "nan",
        "inf",
        "-inf",
    ),
    *(str(2**31 - 1), str(2**31), str(-(2**31)), str(2**63 - 1), str(2**63), str(-(2**63) - 1)),
    *("9" * 400, "9" * 5000, "1_000", "٣", " 5", "0x10", "", "x"),
)

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 7, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2**63 - 1, -(2**63)),
}
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e38, -1e38, 1e-45, float("nan"), float("inf"), float("-inf"))

SEARCH = "/retrieval.v1.SearchService"
INDEX = "/retrieval.v1.IndexService"
EMBEDDING = "/retrieval.v1.EmbeddingService"
VECTOR = vector_pb2.Vector(values=[0.5] * DIM)
DOCUMENT = "collections/default/documents/1"


def search(**fields: Any) -> search_service_pb2.SearchRequest:
    return search_service_pb2.SearchRequest(**fields)


REQUESTS: dict[str, tuple[Message, ...]] = {
    f"{SEARCH}/Search": (
        search(text="bread", group_by_document=True),
        search(text="bread", mode=search_service_pb2.SEARCH_MODE_DENSE, highlight=True),
        search(text="bread", mode=search_service_pb2.SEARCH_MODE_LEXICAL),
        search(vector=VECTOR),
        search(passage=f"{DOCUMENT}/passages/0"),
    ),
    f"{SEARCH}/BatchSearch": (
        search_service_pb2.BatchSearchRequest(requests=[search(text="bread")]),
    ),
    f"{SEARCH}/StreamSearch": (search_service_pb2.StreamSearchRequest(text="bread"),),
    f"{INDEX}/ListCollections": (index_service_pb2.ListCollectionsRequest(),),
    f"{INDEX}/ListDocuments": (
        index_service_pb2.ListDocumentsRequest(parent="collections/default"),
    ),
    f"{INDEX}/ListSkippedFiles": (index_service_pb2.ListSkippedFilesRequest(),),
    f"{INDEX}/ListFieldValues": (index_service_pb2.ListFieldValuesRequest(field="root"),),
    f"{INDEX}/GetPassage": (index_service_pb2.GetPassageRequest(name=f"{DOCUMENT}/passages/0"),),
    f"{EMBEDDING}/BatchEmbed": (
        embedding_service_pb2.BatchEmbedRequest(texts=["bread"], kind="TEXT_KIND_QUERY"),
    ),
}


def number_fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor, Any]]:
    """Every numeric field of a message, those of messages within it, and values for each."""
    for field in message.DESCRIPTOR.fields:
        values: tuple[Any, ...] = INTEGERS.get(field.cpp_type, ())
        if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            values = FLOATS
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            values = (-1, 99, 2**31 - 1)
        for value in values:
            yield message, field, value
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and field.name != "vector":
            inner = getattr(message, field.name)
            for one in (
                inner if field.is_repeated else [inner] if message.HasField(field.name) else []
            ):
                yield from number_fields(one)
        elif field.name == "vector" and message.HasField("vector"):
            yield from number_fields(message.vector)  # type: ignore[attr-defined]


def status_of(channel: grpc.Channel, method: str, request: Message) -> grpc.StatusCode:
    data = request.SerializeToString()
    try:
        if method.endswith("StreamSearch"):
            list(channel.unary_stream(method)(data, timeout=60))
        else:
            channel.unary_unary(method)(data, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


GOOD = (
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)


@pytest.mark.parametrize("method", REQUESTS)
def test_numbers_on_the_wire(server: RunningServer, method: str) -> None:
    with grpc.insecure_channel(server.target) as channel:
        for request in REQUESTS[method]:
            assert status_of(channel, method, request) == grpc.StatusCode.OK, request
            same = type(request).FromString(request.SerializeToString())
            for message, field, value in number_fields(same):
                before = type(message).FromString(message.SerializeToString())
                if field.is_repeated:
                    getattr(message, field.name)[:1] = [value]
                else:
                    setattr(message, field.name, value)
                code = status_of(channel, method, same)
                assert code in GOOD, (field.full_name, value, code)
                message.CopyFrom(before)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "01", str(2**31), str(2**63), "9" * 5000])
def test_numbers_in_names(server: RunningServer, number: str) -> None:
    document = f"collections/default/documents/{number}"
    passages = (f"{document}/passages/0", f"{DOCUMENT}/passages/{number}9")
    requests: list[tuple[str, Message]] = [
        (f"{INDEX}/GetDocument", index_service_pb2.GetDocumentRequest(name=document)),
        *((f"{INDEX}/GetPassage", index_service_pb2.GetPassageRequest(name=p)) for p in passages),
        *((f"{SEARCH}/Search", search(passage=passage)) for passage in passages),
    ]
    with grpc.insecure_channel(server.target) as channel:
        for method, request in requests:
            assert status_of(channel, method, request) in GOOD[1:], request


FILTERS = [
    f"{field}{sign}{value}"
    for field in ("size", "modified", "characters", "chunks", "year")
    for sign in ("=", "<", ">=")
    for value in (
        *("0", "999999999999999g", "1e400", "9" * 400, "-9223372036854775809", "-1", "nan"),
        *("0001-01-01", "9999-12-31T23:59:59.999999999-14:00", "2262-04-12", "1677-09-20"),
    )
]


def test_numbers_and_dates_in_filters(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        for text in FILTERS:
            for mode in (
                search_service_pb2.SEARCH_MODE_LEXICAL,
                search_service_pb2.SEARCH_MODE_DENSE,
            ):
                request = search(text="bread", filter=text, mode=mode)
                assert status_of(channel, f"{SEARCH}/Search", request) in GOOD[:2], text


def number_options(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        numeric = isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
        named = parameter.type.name in ("N|document",)
        if isinstance(parameter, click.Option) and (numeric or named):
            yield parameter


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif any(number_options(command)):
            yield *path, name


def command_of(group: click.Group, path: tuple[str, ...]) -> click.Command:
    command: click.Command = group
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


PROGRAMS = {"indexer": indexer.commands.cli, "retrieval": retrieval.commands.cli}


@pytest.fixture
def no_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop servers that have met no client without the pause before they hang up."""
    monkeypatch.setattr(retrieval.service.server, "_FAREWELL_SECONDS", 0.0)


@pytest.mark.usefixtures("no_farewell")
@pytest.mark.parametrize(
    "command",
    [
        (name, *path)
        for name, module in PROGRAMS.items()
        for path in commands(module.cli)
        if path != ("watch",)  # has the options of a build
    ],
    ids=" ".join,
)
def test_numbers_on_the_command_line(
    command: tuple[str, ...],
    server: RunningServer,
    index: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, *path_ = command
    path = tuple(path_)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a file about bees")
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query": "bread", "document": "notes/bread.md"}\n')
    arguments: dict[tuple[str, ...], list[str]] = {
        ("search",): ["bread", "--mode", "lexical"]
        + (["--index", str(index)] if program == "indexer" else ["--target", server.target]),
        # Each ends before it does its work, which would take long: no document is there.
        ("build",): [str(tmp_path / "missing"), "--index", str(tmp_path / "index")],
        ("verify",): ["--index", str(tmp_path / "missing")],
        ("publish",): [(tmp_path / "x").as_uri(), "--index", str(tmp_path / "missing")],
        ("compact",): ["--index", str(tmp_path / "missing")],
        ("serve",): ["--index", str(tmp_path / "missing"), "--listen", "127.0.0.1:0"],
        ("gateway",): ["--tls-cert", str(tmp_path / "missing"), "--listen", "127.0.0.1:0"],
        ("mcp",): ["--tls-cert", str(tmp_path / "missing"), "--http", "127.0.0.1:0"],
        ("eval",): [str(queries), "--index", str(index), "--mode", "lexical"],
        ("collection", "list"): ["--target", server.target],
        ("collection", "create"): ["x", "--target", server.target],
        ("collection", "update"): ["x", "--target", server.target],
        ("collection", "delete"): ["x", "--yes", "--target", server.target],
        ("delete",): ["x", "--target", server.target],
        ("put",): [str(tmp_path / "missing"), "--target", server.target],
        ("token", "create"): ["someone", "--token-file", str(tmp_path / "tokens.json")],
    }
    module = PROGRAMS[program]
    for option in number_options(command_of(module.cli, path)):
        for number in NUMBERS:
            (tmp_path / "tokens.json").unlink(missing_ok=True)
            code = module.main([*path, *arguments[path], option.opts[0], number])
            shown = capsys.readouterr()
            in_time = option.name != "timeout" or code != 1  # a timeout may be too short
            assert code in (0, 2) or not in_time, (option.opts, number, code, shown.err)
            assert code == 0 or "error: " in shown.err.splitlines()[-1]


def test_watching_takes_the_numbers_of_a_build() -> None:
    build, watch = (
        [option.opts for option in number_options(indexer.commands.cli.cli.commands[name])]
        for name in ("build", "watch")
    )
    # A cluster is for builds.
    assert [names for names in build if not names[0].startswith("--ray-")] == watch
