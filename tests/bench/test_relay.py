"""The benchmark of relayed streams still runs. No speed is asserted, but that nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_TOP = Path(__file__).parents[2]


def test_every_stream_is_whole_and_nothing_is_left() -> None:
    """Few streams, through the app in its own process."""
    command = [sys.executable, "-m", "tests.bench.relay", "--streams", "20", "--tokens", "5"]
    command += ["--pace", "100", "--questions", "5"]
    done = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, crowd, vanished = (
        next(iter(json.loads(line).items())) for line in done.stdout.split("\n")[:3]
    )
    assert first[0] == "First"
    assert crowd[1]["whole"] == 20
    assert vanished[1]["files_after"] == vanished[1]["files_before"]
