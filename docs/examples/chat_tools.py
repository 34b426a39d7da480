"""The tools of the example chats: a clock, and a search in these docs."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

PAGES = Path(__file__).parents[1]
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MAX_SECTIONS = 3
MAX_CHARACTERS = 1200  # of one section


class Section(TypedDict):
    page: str
    title: str
    text: str


def get_time(zone: str = "UTC") -> str:
    """Get the current date and time.

    Args:
        zone: A time zone such as Europe/Zurich.
    """
    return datetime.now(ZoneInfo(zone)).strftime("%A, %d %B %Y, %H:%M (%Z)")


def search_docs(query: str) -> list[Section]:
    """Search the docs of cfai, the Python SDK for Cloudflare Workers AI.

    Args:
        query: A few words to look for.
    """
    words = re.findall(r"\w+", query.lower())

    def score(section: Section) -> int:
        title, text = section["title"].lower(), section["text"].lower()
        return sum(5 * title.count(word) + min(text.count(word), 5) for word in words)

    ranked = sorted(sections(), key=score, reverse=True)
    return [section for section in ranked[:MAX_SECTIONS] if score(section)]


def sections() -> Iterator[Section]:
    """Every section of every page."""
    for path in sorted(PAGES.glob("*.md")):
        _, *parts = HEADING.split(path.read_text(encoding="utf-8"))
        for title, text in zip(parts[::2], parts[1::2], strict=True):
            yield Section(page=path.stem, title=title, text=text.strip()[:MAX_CHARACTERS])


TOOLS: list[Callable[..., Any]] = [get_time, search_docs]
