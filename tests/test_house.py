"""What the tests promise of themselves."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PATHS = sorted(TESTS.rglob("*.py"))

SLEEP = re.compile(r"\bsleep\((?!0\))")
"""`sleep(0)` lets others have their turn, and waits for no clock."""


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_sleeps(path: Path) -> None:
    """Tests wait for what happens; where time must pass, the scripted service passes it."""
    text = path.read_text()
    if "import virtual_time" in text:
        return  # Its loop has a clock of its own, which nobody waits for.
    for number, line in enumerate(text.splitlines(), 1):
        assert not SLEEP.search(line), f"{path.name}:{number} sleeps"


@pytest.mark.parametrize(
    ("call", "seconds", "sleeps"),
    [
        ("asyncio.sleep", "0.3", True),
        ("sleep", "delay", True),
        ("asyncio.sleep", "0", False),
        ("asleep", "1", False),
    ],
)
def test_what_counts_as_sleep(call: str, seconds: str, sleeps: bool) -> None:
    """The rule above finds what breaks it."""
    assert bool(SLEEP.search(f"await {call}({seconds})")) == sleeps
