"""The CI command without a browser."""

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"


@pytest.mark.parametrize(("ci", "goes_on"), [("1", False), ("", True)])
def test_a_missing_browser_fails_in_ci_only(tmp_path: Path, ci: str, goes_on: bool) -> None:
    """In CI, skipped browser tests would go unnoticed; on a developer's machine, it continues."""
    for name in ("bash", "dirname", "id", "env"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / name).symlink_to(program)
    python = tmp_path / "python3"  # Stops here: the rest takes minutes.
    python.write_text("#!/usr/bin/env bash\necho it goes on\nexit 3\n")
    python.chmod(0o755)
    run = subprocess.run(
        [RUN], env={"PATH": str(tmp_path), "CI": ci}, capture_output=True, text=True, check=False
    )
    assert "Chromium is missing" in run.stderr
    assert ("it goes on" in run.stdout) is goes_on
    assert run.returncode == (3 if goes_on else 1)
