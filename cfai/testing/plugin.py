"""The pytest fixture `fake_workers_ai`, for pytest-asyncio in either mode and for anyio.

(anyio's tests and pytest-asyncio's auto mode do not go together, with this fixture or any other.)
It is no entry point, so that it costs nothing where it is not asked for. In the top `conftest.py`:

    pytest_plugins = ["cfai.testing.plugin"]
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI

asyncio_fixture: Any
try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:
    asyncio_fixture = pytest.fixture


async def _open_fake() -> AsyncIterator[FakeWorkersAI]:
    async with FakeWorkersAI() as fake:
        yield fake


# pytest-asyncio in strict mode runs only fixtures made by its own decorator, and anyio only
# those made by pytest's: so there is one of each, and the test decides which of them it needs.
_asyncio_fake = asyncio_fixture(name="_asyncio_fake_workers_ai")(_open_fake)
_anyio_fake = pytest.fixture(name="_anyio_fake_workers_ai")(_open_fake)


@pytest.fixture
def fake_workers_ai(request: pytest.FixtureRequest) -> FakeWorkersAI:
    """A `FakeWorkersAI` that listens while the test runs, on the test's own event loop."""
    library = "anyio" if "anyio_backend" in request.fixturenames else "asyncio"
    fake: FakeWorkersAI = request.getfixturevalue(f"_{library}_fake_workers_ai")
    return fake
