"""Reflection: v1, which tools ask for first, and v1alpha beside it."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from retrieval.service.server import SERVICE_NAMES
from tests.service.harness import RunningServer

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def ask(server: RunningServer, service: str, messages: Any, **request: str) -> Any:
    """What a client with ``messages`` of a version is answered."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            messages.ServerReflectionRequest.SerializeToString,
            messages.ServerReflectionResponse.FromString,
        )
        (answer,) = call(iter([messages.ServerReflectionRequest(**request)]), timeout=60)
        return answer


def files_of(answer: Any) -> dict[str, FileDescriptorProto]:
    serialized = answer.file_descriptor_response.file_descriptor_proto
    files = map(FileDescriptorProto.FromString, serialized)
    return {file.name: file for file in files}


@pytest.fixture(scope="module")
def v1(server: RunningServer) -> Any:
    """The messages of v1, as the server describes them."""
    answer = ask(server, NAMES[0], reflection_pb2, file_containing_symbol=NAMES[0])
    pool = DescriptorPool()
    for file in files_of(answer).values():
        pool.Add(file)
    classes = GetMessageClassesForFiles([*files_of(answer)], pool)

    class Messages:
        ServerReflectionRequest = classes["grpc.reflection.v1.ServerReflectionRequest"]
        ServerReflectionResponse = classes["grpc.reflection.v1.ServerReflectionResponse"]

    return Messages


def test_a_client_of_v1_lists_and_describes_the_services(server: RunningServer, v1: Any) -> None:
    listed = ask(server, NAMES[0], v1, list_services="").list_services_response.service
    names = [service.name for service in listed]
    assert {*SERVICE_NAMES, *NAMES, "grpc.health.v1.Health"} == set(names)
    for name in names:
        answer = ask(server, NAMES[0], v1, file_containing_symbol=name)
        declared = [
            f"{file.package}.{service.name}"
            for file in files_of(answer).values()
            for service in file.service
        ]
        assert name in declared
    path = "grpc/reflection/v1/reflection.proto"
    assert path in files_of(ask(server, NAMES[0], v1, file_by_filename=path))


@pytest.mark.parametrize("service", NAMES)
def test_what_is_unknown_is_not_found(server: RunningServer, v1: Any, service: str) -> None:
    for request in (
        {"file_containing_symbol": "grpc.reflection.v1.Nothing"},
        {"file_containing_symbol": "retrieval.v1.Nothing"},
        {"file_by_filename": "nothing.proto"},
    ):
        answer = ask(server, service, v1, **request)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_v1alpha_describes_the_methods(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICE_NAMES) < set(database.get_services())
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("retrieval.v1.SearchService")
        assert [method.name for method in service.methods] == [
            "Search",
            "BatchSearch",
            "StreamSearch",
        ]
