"""The benchmark of relayed streams runs, and loses nothing. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_TOP = Path(__file__).parents[2]


def test_every_stream_is_complete_and_no_file_stays_open() -> None:
    """A few streams through the app in its own process."""
    command = [sys.executable, "-m", "tests.bench.relay", "--streams", "20", "--tokens", "5"]
    command += ["--pace", "100", "--questions", "5"]
    run = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    first, crowd, vanished = (
        next(iter(json.loads(line).items())) for line in run.stdout.split("\n")[:3]
    )
    assert first[0] == "First"
    assert crowd[1]["complete"] == 20
    assert vanished[1]["files_after"] == vanished[1]["files_before"]
