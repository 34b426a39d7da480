"""The one command that checks everything, where a part of it can't be had."""

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"


@pytest.mark.parametrize(("ci", "goes_on"), [("1", False), ("", True)])
def test_without_a_browser_a_checking_machine_says_so(
    tmp_path: Path, ci: str, goes_on: bool
) -> None:
    """And fails: its green would mean less than it says. A reader's own machine goes on."""
    for name in ("bash", "dirname", "id", "env"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    python = tmp_path / "python3"  # Goes no further: what comes next takes minutes.
    python.write_text("#!/usr/bin/env bash\necho it goes on\nexit 3\n")
    python.chmod(0o755)
    done = subprocess.run(
        [RUN], env={"PATH": str(tmp_path), "CI": ci}, capture_output=True, text=True, check=False
    )
    assert "There is no Chromium" in done.stderr
    assert ("it goes on" in done.stdout) is goes_on
    assert done.returncode == (3 if goes_on else 1)
