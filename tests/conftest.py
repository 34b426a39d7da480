"""Fixtures of all tests: a scripted service, and checks that no task is left and no test hangs."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress

import pytest
from hypothesis import settings

from cfai.testing import FakeWorkersAI
from tests.limits import warn_later

# The speed of the machine must not fail a test.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ENVIRONMENT = (
    "CLOUDFLARE_ACCOUNT_ID",
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_EMAIL",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_BASE_URL",
    "CLOUDFLARE_GATEWAY_ID",
    "CF_ACCOUNT_ID",
    "CF_API_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
"""The variables that clients read."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeWorkersAI]:
    """A scripted Workers AI on the event loop of the test."""
    async with FakeWorkersAI() as fake:
        yield fake


@pytest.fixture
async def no_task_outlives_the_test() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # An unclosed socket or a coroutine that was never awaited warns when it is collected, and a
    # warning is an error. Collecting the young generations is enough to fail the right test.
    gc.collect(1)
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True)
def the_logger_is_as_before() -> Iterator[None]:
    """`CFAI_LOG` and `cfai -v` set the level of a logger that all tests share."""
    logger = logging.getLogger("cfai")
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> None:
    """Applied to every async test: set up first, so checked last."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("no_task_outlives_the_test")


@pytest.fixture
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the credentials, addresses and proxies of the environment."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Print the name and the tasks of a test that hangs, shortly before pytest ends the run.

    The stacks of the threads that pytest prints (`faulthandler_timeout`) show neither.
    """
    if not hasattr(signal, "setitimer"):  # Windows
        return (yield)

    def describe(*_: object) -> None:
        with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{item.nodeid} hangs", file=sys.stderr)
            with suppress(RuntimeError):  # No event loop is running.
                for task in asyncio.all_tasks():
                    task.print_stack()

    seconds = float(item.config.getini("faulthandler_timeout"))
    before = signal.signal(signal.SIGALRM, describe)
    warn_later(seconds)
    try:
        return (yield)
    finally:
        warn_later(0)
        signal.signal(signal.SIGALRM, before)
