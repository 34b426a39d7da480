"""What every test stands on: a scripted server, and a check that nothing is left running."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from cfai.testing import FakeWorkersAI

# How fast a machine is, is no property of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
async def fake() -> AsyncIterator[FakeWorkersAI]:
    """A scripted Workers AI on the test's own event loop."""
    async with FakeWorkersAI() as fake:
        yield fake


@pytest.fixture
async def no_task_outlives_the_test() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # An unclosed socket or a coroutine never awaited warns when it is collected, and a warning is
    # an error: the young generations are enough to blame the test that made it.
    gc.collect(1)
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> None:
    """For every async test, set up first and so checked last."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("no_task_outlives_the_test")
