"""What a program does that has nothing but the client; run by an interpreter of its own.

Usage: python client_alone.py TARGET [CA TOKEN]. With a token it also writes, and knocks without it.
"""

import asyncio
import sys
from array import array
from importlib import import_module
from pathlib import Path
from typing import Any

from retrieval.client import AsyncRetrievalClient, RetrievalClient, Tls
from retrieval.errors import ServiceError, ServiceUnavailable

ABSENT = ("torch", "numpy", "faiss", "transformers", "click", "indexer")
ABSENT_PARTS = ("service", "gateway", "store", "gte", "commands")


def main(target: str, ca: str = "", token: str = "") -> None:
    """Ask a server with the documents of the harness everything that it answers."""
    for module in (*ABSENT, *(f"retrieval.{part}" for part in ABSENT_PARTS)):
        assert is_absent(module), f"{module} is installed"
    tls = Tls(ca=Path(ca)) if ca else None
    with RetrievalClient(target, tls=tls, token=token, timeout=120) as client:
        assert client.health()
        if token:
            write(client)
        read(client)
    asyncio.run(read_asynchronously(target, tls, token))
    if token:
        knock(target, tls)


def is_absent(module: str) -> bool:
    try:
        import_module(module)
    except ModuleNotFoundError:
        return True
    return False


def write(client: RetrievalClient) -> None:
    texts = {
        "bread": "Knead the dough and bake the loaf.",
        "ferry": "The ferry leaves the harbour.",
    }
    for subject, text in texts.items():
        put = client.put(f"{subject}.txt", text=text, metadata={"year": 2024}, wait=True)
        assert put.document.change == "created"
    assert client.delete("ferry.txt", wait=True).uris == ("ferry.txt",)


def read(client: RetrievalClient) -> None:
    found = client.search("dough", k=3, highlight=True)
    assert "bread" in found[0].uri and found[0].text and found.mode == "hybrid"
    one: Any = client.embed("dough", "query")
    several: Any = client.embed(["dough", "loaf"], "passage")
    assert type(one) is array and one.typecode == "f"
    assert [type(vector) for vector in several] == [array, array]
    assert client.search(one, k=1).passages and client.search(list(one), k=1).passages
    assert client.search(found[0], k=1) is not None
    assert next(client.documents()).uri and client.collection().passage_count
    try:
        client.search("dough", filter="year>")
    except ServiceError as error:
        assert (error.status, error.service_reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        assert error.metadata["field"] == "filter" and "the filter is wrong" in error.message
    else:
        raise AssertionError("the server took a malformed filter")


async def read_asynchronously(target: str, tls: Tls | None, token: str) -> None:
    async with AsyncRetrievalClient(target, tls=tls, token=token, timeout=120) as client:
        assert (await client.search("dough", k=1)).passages
        assert len(await client.embed("dough", "query")) == len(
            (await client.embed(["dough"], "query"))[0]
        )


def knock(target: str, tls: Tls | None) -> None:
    """Ask without a token, and without TLS."""
    with RetrievalClient(target, tls=tls, timeout=120) as client:
        try:
            client.search("dough")
        except ServiceError as error:
            assert error.service_reason == "UNAUTHENTICATED"
        else:
            raise AssertionError("the server needs no token")
    with RetrievalClient(target, timeout=30) as client:
        try:
            client.search("dough")
        except ServiceUnavailable as error:
            assert "connect with TLS" in error.message
        else:
            raise AssertionError("the server needs no TLS")


if __name__ == "__main__":
    main(*sys.argv[1:])
