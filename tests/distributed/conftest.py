"""A service for each test of the distributed embedder."""

from collections.abc import Iterator

import pytest

from cfai.testing import Service
from tests.distributed.service import ThreadedService, served


@pytest.fixture
def service_thread() -> Iterator[ThreadedService]:
    with served(Service()) as running:
        yield running
