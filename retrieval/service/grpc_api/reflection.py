"""Server reflection, under its present name and under the one before.

grpcio-reflection has only ``grpc.reflection.v1alpha``. Tools ask for ``grpc.reflection.v1`` first,
and some for nothing else. Its messages differ in their package's name alone, so their bytes are the
same, and one servicer answers both.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

SERVICE_NAME: Final = "grpc.reflection.v1.ServerReflection"
"""Full name of the service."""

_PACKAGE: Final = "grpc.reflection.v1"
_OLD_PACKAGE: Final = "grpc.reflection.v1alpha"
_FILE: Final = "grpc/reflection/v1/reflection.proto"


def add_reflection(service_names: Iterable[str], server: grpc.aio.Server) -> None:
    """Let a server describe services, and its reflection itself.

    Args:
        service_names: full names of the services.
        server: answers the requests.
    """
    names = (*service_names, SERVICE_NAME, reflection.SERVICE_NAME)
    # The stubs leave out its aio part.
    servicer: Any = reflection.aio.ReflectionServicer(names, pool=_Pool())  # type: ignore[attr-defined]
    add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(SERVICE_NAME, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


class _Pool:
    """The descriptors of this process, and that of reflection v1.

    A pool of its own has the latter: the default pool would refuse the file of another package
    that has it, too.
    """

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()
        self._own = descriptor_pool.DescriptorPool()
        self._own.Add(_description())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (a method of a descriptor pool)
        return getattr(self._default, name)

    def FindFileByName(self, name: str) -> FileDescriptor:
        """Return a file.

        Raises:
            KeyError: there is no such file.
        """
        return (
            self._own.FindFileByName(name) if name == _FILE else self._default.FindFileByName(name)
        )

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Return the file that declares a service, method, message or field.

        Raises:
            KeyError: no file does.
        """
        own = symbol == _PACKAGE or symbol.startswith(f"{_PACKAGE}.")
        return (self._own if own else self._default).FindFileContainingSymbol(symbol)


def _description() -> FileDescriptorProto:
    """Return the description of ``grpc.reflection.v1``, made from that of ``v1alpha``."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = _FILE, _PACKAGE
    for message in file.message_type:
        _rename_types(message)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type)
            method.output_type = _renamed(method.output_type)
    return file


def _rename_types(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name:  # empty for numbers and texts
            field.type_name = _renamed(field.type_name)
    for nested in message.nested_type:
        _rename_types(nested)


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{_OLD_PACKAGE}.", f".{_PACKAGE}.", 1)
