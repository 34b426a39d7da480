"""What the tests of tools share: a tool, a run with tools, and what it sent."""

from typing import Any

from cfai import (
    Conversation,
    ToolRun,
)
from cfai.testing import FakeWorkersAI

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"


ASKED = Conversation().user("What is the weather?")


def get_weather(city: str, days: int = 1) -> str:
    """Say how the weather is.

    Args:
        city: Its name.
        days: How many days ahead.
    """
    return f"{city}: dry for {days}"


def run(fake: FakeWorkersAI, *tools: Any, **options: Any) -> ToolRun:
    return fake.client().run_tools(MODEL, ASKED, tools=tools or [get_weather], **options)


def sent(fake: FakeWorkersAI, number: int = -1) -> list[dict[str, Any]]:
    """The messages of a request."""
    messages: list[dict[str, Any]] = fake.requests[number].json()["messages"]
    return messages


def answer_with_calls(*calls: tuple[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": given} for name, given in calls]}
