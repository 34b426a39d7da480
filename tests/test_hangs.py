"""A test that hangs fails the run, and is named, whatever it waits for."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HANGS = {
    "an event": "async def test_it(): await asyncio.Event().wait()",
    "an event, whatever interrupts it": """
        async def test_it():
            while True:
                try:
                    await asyncio.Event().wait()
                except BaseException:
                    pass
        """,
    "a loop in another task": """
        async def test_it():
            async def spin():
                while True:
                    pass
            task = asyncio.create_task(spin())
            await asyncio.Event().wait()
        """,
    "a thread of the executor": """
        async def test_it(): await asyncio.to_thread(threading.Event().wait)
        """,
    "a lock": "def test_it(): threading.Event().wait()",
    "the end of its fixture": """
        @pytest.fixture
        async def endless():
            task = asyncio.create_task(asyncio.Event().wait())
            yield
            await task

        async def test_it(endless): await asyncio.Event().wait()
        """,
}


def run_pytest(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tests of a folder with the options of this project, and a limit of a second."""
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-s"]
    command += ["-p", "tests.conftest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=1"]
    return subprocess.run(
        [*command, str(folder)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=50
    )


@pytest.mark.skipif(sys.platform == "win32", reason="without signals, the test is not named")
@pytest.mark.parametrize("hang", HANGS)
def test_a_test_that_hangs_fails_and_is_named(tmp_path: Path, hang: str) -> None:
    """The run ends with status 1; a later test does not start."""
    (tmp_path / "test_hang.py").write_text(
        "import asyncio, threading, pytest\n\n"
        + textwrap.dedent(HANGS[hang])
        + "\n\ndef test_later(): print('not reached')\n"
    )
    run = run_pytest(tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "test_hang.py::test_it hangs" in run.stderr
    assert "Timeout (0:00:01)!" in run.stderr
    assert "not reached" not in run.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="without signals, the test is not named")
def test_a_test_may_ask_for_more_time(tmp_path: Path) -> None:
    """For what takes long, such as a download; then it hangs, too."""
    (tmp_path / "test_hang.py").write_text(
        "import threading\nfrom tests.limits import extend_limit\n\n"
        "def test_it(pytestconfig):\n"
        "    extend_limit(pytestconfig, 2)\n"
        "    threading.Event().wait(1.2)\n"
        "    print('more than a second')\n"
        "    threading.Event().wait()\n"
    )
    run = run_pytest(tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "more than a second" in run.stdout
    assert "test_hang.py::test_it hangs" in run.stderr
    assert "Timeout (0:00:02)!" in run.stderr


def test_pytest_ends_a_run_that_hangs(pytestconfig: pytest.Config) -> None:
    """In this run, too."""
    assert float(pytestconfig.getini("faulthandler_timeout")) >= 60
    assert pytestconfig.getini("faulthandler_exit_on_timeout")
