"""The gateway that most tests ask, in front of the server of all tests."""

from collections.abc import Iterator

import pytest

from tests.gateway.harness import Http, gateway
from tests.service.harness import RunningServer


@pytest.fixture(scope="session")
def http(server: RunningServer) -> Iterator[Http]:
    with gateway(server.target) as running:
        yield running
