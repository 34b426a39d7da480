"""What a call and a token cost in function calls, which are the same on any machine.

A limit is what is needed today and a little more: who adds to a hot path notices it here. Lower it
after an improvement.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .loopback import loopback

_TOP = Path(__file__).parents[2]


def _fewest_calls(row: str, contender: str, origin: str, times: int) -> float:
    """The fewest of three runs: an answer that comes late costs a wake-up, about 15 calls."""
    return min(_calls(row, contender, origin, times) for _ in range(3))


def _calls(row: str, contender: str, origin: str, times: int) -> float:
    command = [sys.executable, "-m", "tests.bench.instructions", row, "--profiled"]
    run = subprocess.run(
        [*command, "--child", contender, origin, str(times)],
        cwd=_TOP,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout.removeprefix("Calls : "))


@pytest.mark.parametrize(
    ("row", "scenario", "times", "limit"),
    [("run", "run", 100, 175), ("chat", "run", 100, 210), ("run-64", "run-20ms", 640, 170)],
)
def test_a_call_makes_few_function_calls(row: str, scenario: str, times: int, limit: int) -> None:
    """How many more than aiohttp and orjson alone, which make 280 to 320."""
    with loopback(None) as origins:
        ours = _fewest_calls(row, "cfai", origins[scenario], times)
        floor = _fewest_calls(row, "aiohttp + orjson", origins[scenario], times)
    assert 0 < ours - floor < limit


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("burst", 6.0),
        ("blocks", 5.0),
        ("burst-chat", 8.7),
        ("burst-usage", 21.3),
        ("burst-reasoning", 22.7),
        ("burst-calls", 40.3),
    ],
)
def test_a_token_makes_few_function_calls(row: str, limit: float) -> None:
    """How many more than aiohttp and orjson alone, which make 19 in bursts and 2 in blocks."""
    with loopback(None) as origins:
        ours = _calls(row, "cfai", origins[row], 1)
        floor = _calls(row, "aiohttp + orjson", origins[row], 1)
    assert 0 < ours - floor < limit
