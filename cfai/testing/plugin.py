"""The pytest fixture `fake_workers_ai`, for pytest-asyncio in both modes and for anyio.

(anyio's tests do not work with pytest-asyncio's auto mode, with this fixture or any other.)
The plugin is not an entry point, so it costs nothing unless enabled in the top `conftest.py`:

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


# pytest-asyncio in strict mode runs only fixtures created by its own decorator, and anyio only
# those created by pytest's. There is one of each; the test's event loop plugin decides.
_asyncio_fake = asyncio_fixture(name="_asyncio_fake_workers_ai")(_open_fake)
_anyio_fake = pytest.fixture(name="_anyio_fake_workers_ai")(_open_fake)


@pytest.fixture
def fake_workers_ai(request: pytest.FixtureRequest) -> FakeWorkersAI:
    """A `FakeWorkersAI` that listens during the test, on the test's event loop."""
    library = "anyio" if "anyio_backend" in request.fixturenames else "asyncio"
    fake: FakeWorkersAI = request.getfixturevalue(f"_{library}_fake_workers_ai")
    return fake
