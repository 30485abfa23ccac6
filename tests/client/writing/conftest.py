"""A server that writes into a dictionary, and a client of it."""

from collections.abc import Iterator

import pytest

from retrieval.client import RetrievalClient
from tests.client.writing.dictionary_server import (
    DictionaryServer,
    DictionaryService,
    dictionary_server,
)


@pytest.fixture
def dictionary() -> Iterator[DictionaryServer]:
    with dictionary_server() as server:
        yield server


@pytest.fixture
def service(dictionary: DictionaryServer) -> DictionaryService:
    return dictionary.service


@pytest.fixture
def writer(dictionary: DictionaryServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(dictionary.target, timeout=20) as client:
        yield client
