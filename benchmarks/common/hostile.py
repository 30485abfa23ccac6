"""Hostile client input: messages to gRPC's methods, and bytes to the bare port."""

import random
from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from benchmarks.common.connections import PREFACE, frame
from retrieval.v1 import embedding_service_pb2, index_service_pb2, search_service_pb2

NASTY_TEXTS = (
    "",
    " ",
    "\0",
    "a" * 70_000,
    "' OR 1=1 --",
    '") ; DROP TABLE documents; --',
    "%s%n%x",
    "../../../etc/passwd",
    "\u202e\ufeff\ud7ff",
    "💥" * 500,
    "path:" + "*" * 1000,
    "(" * 5000,
    "NOT " * 3000 + "a:b",
    "size>" + "9" * 400,
    "modified>=9999-99-99",
    "collections/../default",
    "collections/default/documents/" + "9" * 40,
    "collections/default/documents/1/passages/-1",
    "collections//documents/1",
)
NASTY_INTEGERS = (0, 1, -1, 2**31 - 1, -(2**31), 1000, 1001)
NASTY_FLOATS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 3.4e38, 1e-45)


class Fuzzer:
    """Makes hostile messages of every method."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        files = (search_service_pb2, embedding_service_pb2, index_service_pb2)
        self._methods = [
            (f"/{service.full_name}/{method.name}", method)
            for file in files
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        ]
        self._modules = {module.DESCRIPTOR.name: module for module in files}

    def next(self) -> tuple[str, bytes, bool]:
        """Return a method, the bytes to send, and whether it answers with a stream."""
        path, method = self._random.choice(self._methods)
        kind = self._random.random()
        if kind < 0.2:
            data = self._random.randbytes(self._random.choice((0, 1, 7, 100, 5000)))
        else:
            module = self._modules[method.input_type.file.name]
            message = getattr(module, method.input_type.name)()
            self._fill(message, 0)
            data = message.SerializeToString()
            if kind < 0.6:
                data = self._break(data)
        return path, data, method.server_streaming

    def _fill(self, message: Message, depth: int) -> None:
        """Set some fields to hostile values."""
        pick = self._random
        for field in message.DESCRIPTOR.fields:
            if pick.random() < 0.4:
                continue
            count = pick.choice((1, 2, 300)) if field.is_repeated else 1
            values = getattr(message, field.name)
            if field.message_type is not None:
                if depth < 3:
                    for _ in range(min(count, 3)):
                        self._fill(values.add() if field.is_repeated else values, depth + 1)
                continue
            if field.cpp_type == field.CPPTYPE_STRING:
                made: list[object] = [self._text() for _ in range(count)]
            elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
                size = pick.choice((0, 1, 383, 384, 385)) if field.is_repeated else 1
                made = [pick.choice(NASTY_FLOATS) for _ in range(size)]
            elif field.cpp_type == field.CPPTYPE_BOOL:
                made = [pick.random() < 0.5]
            elif field.cpp_type == field.CPPTYPE_ENUM:
                made = [pick.choice((0, 1, 2, 99, -5))]
            else:
                made = [self._integer(field) for _ in range(count)]
            if field.is_repeated:
                values.extend(made)
            elif made:
                setattr(message, field.name, made[0])

    def _text(self) -> str:
        pick = self._random
        if pick.random() < 0.5:
            return pick.choice(("", "default", "collections/default", pick.choice(NASTY_TEXTS)))
        return "".join(chr(pick.choice((*range(1, 128), 0x3B1, 0x4E2D))) for _ in range(20))

    def _integer(self, field: object) -> int:
        unsigned = getattr(field, "type", None) in (4, 6, 7, 13)
        value = self._random.choice(NASTY_INTEGERS)
        return abs(value) if unsigned else value

    def _break(self, data: bytes) -> bytes:
        """Change, cut off or repeat some of the bytes."""
        pick, broken = self._random, bytearray(data)
        for _ in range(pick.choice((1, 3, 20))):
            if not broken:
                break
            at = pick.randrange(len(broken))
            match pick.randrange(4):
                case 0:
                    broken[at] ^= 1 << pick.randrange(8)
                case 1:
                    del broken[at:]
                case 2:
                    broken[at:at] = pick.randbytes(pick.choice((1, 8)))
                case _:
                    broken += broken[at : at + 50]
        return bytes(broken)


def attacks(pick: random.Random) -> Sequence[Callable[[], bytes]]:
    """Yield the bytes to send on bare connections."""
    settings = PREFACE + frame(4, 0, 0, b"")
    return (
        lambda: pick.randbytes(pick.choice((1, 100, 10_000))),
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: b"\x16\x03\x01\x02\x00" + pick.randbytes(512),
        lambda: PREFACE[: pick.randrange(len(PREFACE))],
        lambda: PREFACE + pick.randbytes(200),
        lambda: settings + frame(pick.randrange(256), pick.randrange(256), 1, pick.randbytes(30)),
        lambda: settings + frame(0, 0, 1, b"x", length=2**24 - 1),
        lambda: settings + b"".join(frame(4, 0, 0, b"\0\3\0\0\0\1") for _ in range(500)),
        lambda: settings + b"".join(frame(6, 0, 0, pick.randbytes(8)) for _ in range(500)),
        lambda: settings + b"".join(frame(3, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(500)),
        lambda: settings + frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\0" * 16_000) * 20,
        lambda: settings + frame(1, 4, 1, b"\x82\x86\x84" + pick.randbytes(60)),
        lambda: settings + frame(8, 0, 0, b"\x7f\xff\xff\xff"),
        lambda: settings + frame(1, 5, 0, b"\x82"),
        lambda: b"",
    )
