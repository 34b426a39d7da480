"""A scripted Cohere API for each test."""

from collections.abc import AsyncIterator

import pytest

from cfai.testing import FakeCohere


@pytest.fixture
async def fake() -> AsyncIterator[FakeCohere]:
    async with FakeCohere() as fake:
        yield fake
