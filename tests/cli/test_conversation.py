"""`cfai chat` at a terminal: many turns, and what Ctrl-C and Ctrl-D do there."""

import asyncio
from typing import Any

from cfai.testing import FakeWorkersAI

from .conftest import needs_terminals
from .processes import Cfai

pytestmark = needs_terminals


def messages(fake: FakeWorkersAI, number: int) -> list[tuple[str, str]]:
    found: list[dict[str, Any]] = fake.requests[number].json()["messages"]
    return [(message["role"], message["content"]) for message in found]


async def test_turns(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Each turn knows those before it; /exit ends the conversation well."""
    fake.streams("I am ", "well.")
    fake.streams("Paris.")
    async with cfai.at_a_terminal("chat", "--system", "Be brief.") as terminal:
        await terminal.shows("> ")
        terminal.types("How are you?\n")
        await terminal.shows("I am well.\r\n")
        await terminal.shows("> ")
        terminal.types("And where?\n")
        await terminal.shows("Paris.\r\n")
        await terminal.shows("> ")
        terminal.types("/exit\n")
        assert await terminal.ended() == 0

    assert messages(fake, 1) == [
        ("system", "Be brief."),
        ("user", "How are you?"),
        ("assistant", "I am well."),
        ("user", "And where?"),
    ]


async def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    cfai: Cfai, fake: FakeWorkersAI
) -> None:
    """What had come of a stopped answer stays in the conversation, which goes on."""
    fake.streams("Once upon", asyncio.Event())
    fake.streams("As you wish.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows("> ")
        terminal.types("Tell me a story.\n")
        await terminal.shows("Once upon")
        terminal.types("\x03")
        await terminal.shows("(stopped)")
        await terminal.shows("> ")
        terminal.types("A short one.\n")
        await terminal.shows("As you wish.")
        await terminal.shows("> ")
        terminal.types("\x04")
        assert await terminal.ended() == 0

    assert fake.requests[0].gone.is_set()
    assert messages(fake, 1) == [
        ("user", "Tell me a story."),
        ("assistant", "Once upon"),
        ("user", "A short one."),
    ]


async def test_ctrl_c_at_the_prompt_only_clears_the_line(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Nothing is under way at the prompt, so Ctrl-C says how to leave."""
    fake.streams("Yes.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows("> ")
        # Python hears of a signal right behind the prompt only with the next key.
        terminal.types("\x03\n")
        await terminal.shows("Ctrl-D or /exit leaves)")
        await terminal.shows("> ")
        terminal.types("Still there?\n")
        await terminal.shows("Yes.")
        await terminal.shows("> ")
        terminal.types("\x04")
        assert await terminal.ended() == 0


async def test_a_failed_turn_is_forgotten(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The service's refusal is one line, and the next turn starts from before it."""
    fake.fails(400, 5006, "Bad input")
    fake.streams("Better.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows("> ")
        terminal.types("one\n")
        await terminal.shows("error: 400 (code 5006): Bad input")
        await terminal.shows("> ")
        terminal.types("two\n")
        await terminal.shows("Better.")
        await terminal.shows("> ")
        terminal.types("\x04")
        assert await terminal.ended() == 0
    assert messages(fake, 1) == [("user", "two")]


async def test_a_model_does_not_control_the_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Control characters in an answer do not reach a terminal."""
    fake.streams("a\x1b]0;title\x07b\tc\nd")
    async with cfai.at_a_terminal("chat", "hi") as terminal:
        assert await terminal.ended() == 0
        assert "a]0;titleb\tc\r\nd" in terminal.screen
