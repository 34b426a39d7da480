"""The pytest fixture `fake_workers_ai`, for synchronous tests, pytest-asyncio and anyio.

(anyio's tests do not work with pytest-asyncio's auto mode, with this fixture or any other.)
The plugin is not an entry point, so it costs nothing unless enabled in the top `conftest.py`:

    pytest_plugins = ["cfai.testing.plugin"]
"""

import inspect
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI

asyncio_fixture: Any
try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:
    asyncio_fixture = pytest.fixture
_HAS_LOOP_SCOPES = asyncio_fixture is not pytest.fixture


def _define_fake(define: Any, name: str, **options: Any) -> Any:
    async def open_fake() -> AsyncIterator[FakeWorkersAI]:
        async with FakeWorkersAI() as fake:
            yield fake

    return define(name=f"_{name}_fake_workers_ai", **options)(open_fake)


# pytest-asyncio in strict mode runs only fixtures created by its own decorator, and anyio only
# those created by pytest's. There is one of each; the test's event loop plugin decides.
_anyio_fake = _define_fake(pytest.fixture, "anyio")

# And one for each loop of pytest-asyncio: a fake on a loop that does not run would never answer.
_function_fake, _class_fake, _module_fake, _package_fake, _session_fake = (
    _define_fake(asyncio_fixture, scope, **({"loop_scope": scope} if _HAS_LOOP_SCOPES else {}))
    for scope in ("function", "class", "module", "package", "session")
)


@pytest.fixture(name="_sync_fake_workers_ai")
def _sync_fake() -> Iterator[FakeWorkersAI]:
    with FakeWorkersAI() as fake:
        yield fake


@pytest.fixture
def fake_workers_ai(request: pytest.FixtureRequest) -> FakeWorkersAI:
    """A `FakeWorkersAI` that listens during the test.

    On the event loop of an async test and of its fixtures, or else in a thread of its own.
    """
    fake: FakeWorkersAI = request.getfixturevalue(f"_{_library(request)}_fake_workers_ai")
    return fake


def _library(request: pytest.FixtureRequest) -> str:
    """What runs the test: a loop of pytest-asyncio, by its scope, anyio, or neither (sync)."""
    function = getattr(request.node, "obj", None)
    # Hypothesis runs an async test from a function that is not.
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", None)
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inner)):
        return "sync"
    if "anyio_backend" in request.fixturenames:
        return "anyio"
    # Other runners of async tests have a loop that this plugin does not know.
    marker = request.node.get_closest_marker("asyncio")
    if marker is None:
        return "sync"
    chosen = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
    scope = str(chosen or request.config.getini("asyncio_default_test_loop_scope"))
    # A fixture that awaits an answer would wait forever for a fake on a loop that does not run.
    return scope if _loop_scopes_of_fixtures(request) <= {scope} else "sync"


def _loop_scopes_of_fixtures(request: pytest.FixtureRequest) -> set[str]:
    """The loops of pytest-asyncio that run the fixtures which use the fake, also through others."""
    default = request.config.getini("asyncio_default_fixture_loop_scope")
    default = "" if default == "fixture-scope" else default
    # As pytest-asyncio finds them: neither has a public name for it.
    definitions = chain.from_iterable(request.node._fixtureinfo.name2fixturedefs.values())
    others, users, scopes = list(definitions), {"fake_workers_ai"}, set()
    while dependents := [other for other in others if users.intersection(other.argnames)]:
        others = [other for other in others if other not in dependents]
        for definition in dependents:
            users.add(definition.argname)
            function = definition.func
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                scope = getattr(function, "_loop_scope", None) or default or definition.scope
                scopes.add(str(scope))
    return scopes
