"""`cfai demo`."""

import re
from pathlib import Path

from .processes import Cfai


async def test_demo(stranger: Cfai, text_model: Path) -> None:
    """It chats, searches and prints the speed; in a pipe without colours or progress."""
    done = await stranger.run("demo")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.text
    assert done.lines[0] == "A local Workers AI server is running on this machine."
    question = done.lines.index("> What is the capital of France, and what is it known for?")
    assert "Paris" in done.lines[question + 1]
    speed = re.search(
        r"^  \S.*: \d+ tokens, \d+ tokens per second, the first after (\d+\.\d\d) s$",
        done.text,
        re.MULTILINE,
    )
    assert speed is not None
    assert float(speed[1]) > 0
    assert done.lines[-1] == "no account, no requests left this machine"
    # The nearest sentence answers the question, though they share no word.
    at = done.lines.index("> How do I get my money back?")
    assert done.lines[at + 1].endswith("Refunds are paid within five working days.")
    scores = [float(line.split()[0]) for line in done.lines[at + 1 : at + 3]]
    assert 1 > scores[0] > scores[1] > 0
    assert done.lines[at + 3] == "> Should I take an umbrella?"
    assert done.lines[at + 4].endswith("Heavy rain is expected in the mountains tonight.")
    assert re.search(r"^  \S.*: 8 requests at once, \d+\.\d\d s$", done.text, re.MULTILINE)
