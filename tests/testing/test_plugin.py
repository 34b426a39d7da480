"""The pytest plugin."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("mode", "marker"),
    [("strict", "asyncio"), ("auto", "asyncio"), ("strict", "anyio")],
)
def test_the_fixture_works_with_every_asyncio_plugin(
    tmp_path: Path, mode: str, marker: str
) -> None:
    """It works with pytest-asyncio in both modes and with anyio."""
    pytest.importorskip(marker if marker == "anyio" else "pytest_asyncio")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cfai.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(f"""
            import asyncio, pytest

            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            @pytest.mark.{marker}
            async def test_it(fake_workers_ai):
                fake_workers_ai.stalls()
                _, writer = await asyncio.open_connection("127.0.0.1", fake_workers_ai.port)
                writer.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
                await fake_workers_ai.until(lambda: fake_workers_ai.requests)
                writer.close()
        """)
    )
    outcome = run_pytest(tmp_path, mode)
    assert "1 passed" in outcome, outcome


SCOPES = ["function", "class", "module", "package", "session"]


@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("fixtures", ["function", "session"])
def test_the_fake_answers_on_every_loop(tmp_path: Path, mode: str, fixtures: str) -> None:
    """Whatever the markers of the test and of a fixture say, which may be on different loops."""
    prepare(tmp_path, write_tests())
    for tests in ("function", "session"):
        outcome = run_pytest(tmp_path, mode, fixtures=fixtures, tests=tests)
        assert f"{(len(SCOPES) + 1) * (len(SCOPES) + 2)} passed" in outcome, outcome


LOOPS = """
import asyncio, threading, pytest, pytest_asyncio

async def ask(fake):
    fake.answers({"response": "Hello"})
    async with fake.client() as ai:
        asking = asyncio.create_task(ai.run("@cf/any/model", "Hi"))
        await fake.until(lambda: fake.requests, within=30)
        text = (await asking).text
    await fake.until(lambda: not fake.connections, within=30)
    return text

def has_thread():
    return any(thread.name == "cfai-fake" for thread in threading.enumerate())

@pytest.fixture
def app(fake_workers_ai):
    return fake_workers_ai

@pytest_asyncio.fixture(loop_scope="session")
async def unrelated():
    pass

@pytest.fixture
def text_none():
    return "Hello"
"""


def write_tests() -> str:
    """For each marker, a test with each fixture: they ask, also through another fixture."""
    lines = [LOOPS]
    for scope in ("", *SCOPES):
        option = f'(loop_scope="{scope}")' if scope else ""
        lines += [
            f"@pytest_asyncio.fixture{option}",
            f"async def text_{scope}(app):",
            "    yield await ask(app)",
            "    assert await ask(app) == 'Hello'",
        ]
    for scope in ("", *SCOPES):
        option = f'(loop_scope="{scope}")' if scope else ""
        lines.append(f"class Test{scope.title()}:")
        for used in ("", "none", *SCOPES):
            lines += [
                f"    @pytest.mark.asyncio{option}",
                f"    async def test_{used}(self, unrelated, text_{used}, fake_workers_ai):",
                f"        assert text_{used} == await ask(fake_workers_ai)",
            ]
            if used == "none" or used == scope != "":
                lines.append("        assert not has_thread()")
    return "\n".join(lines)


def prepare(folder: Path, tests: str) -> None:
    (folder / "conftest.py").write_text('pytest_plugins = ["cfai.testing.plugin"]\n')
    (folder / "__init__.py").write_text("")
    (folder / "test_it.py").write_text(textwrap.dedent(tests))


def run_pytest(
    folder: Path, mode: str = "strict", *, fixtures: str = "function", tests: str = "function"
) -> str:
    """Run the tests of *folder* in a pytest of its own, and return its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    command += ["-o", f"asyncio_mode={mode}", "--rootdir", str(folder)]
    command += ["-o", f"asyncio_default_fixture_loop_scope={fixtures}"]
    command += ["-o", f"asyncio_default_test_loop_scope={tests}"]
    command += ["-o", "faulthandler_timeout=40", "-o", "faulthandler_exit_on_timeout=true"]
    run = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    return run.stdout + run.stderr


def test_the_fixture_has_a_thread_in_tests_without_a_known_loop(tmp_path: Path) -> None:
    """Synchronous ones, also with a marker or with hypothesis, and those with a loop of their own.

    An async test of hypothesis has the loop of its plugin.
    """
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cfai.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import asyncio, unittest
            import pytest
            from hypothesis import HealthCheck, given, settings, strategies

            MODEL = "@cf/any/model"
            relaxed = settings(suppress_health_check=list(HealthCheck), max_examples=2)

            def ask(fake):
                fake.answers({"response": "Hello"})
                assert asyncio.run(fake.client().run(MODEL, "Hi")).text == "Hello"

            @pytest.fixture
            def app(fake_workers_ai):
                return fake_workers_ai

            def test_sync(app, fake_workers_ai):
                assert app is fake_workers_ai
                ask(fake_workers_ai)

            class TestClass:
                def test_method(self, fake_workers_ai):
                    ask(fake_workers_ai)

            @relaxed
            @given(strategies.text())
            def test_given(fake_workers_ai, text):
                ask(fake_workers_ai)

            @pytest.mark.asyncio
            @relaxed
            @given(strategies.text())
            async def test_given_async(fake_workers_ai, text):
                fake_workers_ai.answers({"response": "Hello"})
                assert (await fake_workers_ai.client().run(MODEL, "Hi")).text == "Hello"

            class TestUnittest(unittest.IsolatedAsyncioTestCase):
                @pytest.fixture(autouse=True)
                def use(self, fake_workers_ai):
                    self.fake = fake_workers_ai

                async def test_own_loop(self):
                    self.fake.answers({"response": "Hello"})
                    async with self.fake.client() as ai:
                        assert (await ai.run(MODEL, "Hi")).text == "Hello"
        """)
    )
    outcome = run_pytest(tmp_path, "auto")
    assert "5 passed" in outcome, outcome


def test_cfai_testing_does_not_import_pytest() -> None:
    """Only `cfai.testing.plugin` imports pytest."""
    code = "import sys, cfai.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
