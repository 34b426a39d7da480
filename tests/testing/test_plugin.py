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
    loops = "asyncio_default_fixture_loop_scope=function"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    command += ["-o", f"asyncio_mode={mode}", "-o", loops, "--rootdir", str(tmp_path)]
    run = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_cfai_testing_does_not_import_pytest() -> None:
    """Only `cfai.testing.plugin` imports pytest."""
    code = "import sys, cfai.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
