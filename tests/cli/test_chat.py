"""`cfai chat` with pipes and at a terminal: requests, printed tokens, exit codes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cfai.profiles import TASKS, profile
from cfai.testing import FakeWorkersAI

from .conftest import TOKEN, needs_terminals
from .processes import Cfai


async def test_tokens_are_printed_as_they_arrive(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The first token is printed while the service still holds back the rest."""
    rest = asyncio.Event()
    fake.streams("Hel", rest, "lo")

    async with cfai.running("chat", "hi") as running:
        await running.reads(b"Hel")
        rest.set()
        done = await running.done()

    assert (done.code, done.out, done.err) == (0, b"lo\n", "")


async def test_options_are_sent(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Prompt and options are sent unchanged; omitted options are not sent."""
    fake.streams("x")
    await cfai.run(
        *("chat", "Why?", "-m", "@cf/a/b", "-s", "Be brief.", "--max-tokens", "7"),
        *("--temperature", "0.5", "--seed", "3"),
    )
    (request,) = fake.requests
    assert request.path.endswith("/ai/run/@cf/a/b")
    assert request.json() == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
        ],
        "max_tokens": 7,
        "seed": 3,
        "temperature": 0.5,
        "stream": True,
    }


@pytest.mark.parametrize(("option", "thinks"), [("--no-thinking", False), ("--thinking", True)])
async def test_thinking_is_turned_on_or_off(
    cfai: Cfai, fake: FakeWorkersAI, option: str, thinks: bool
) -> None:
    """In the way of the model. A model without a known way is a usage error."""
    fake.streams("x")
    await cfai.run("chat", "Why?", "-m", "@cf/google/gemma-4-26b-a4b-it", option)
    assert fake.requests[0].json()["chat_template_kwargs"] == {"enable_thinking": thinks}
    done = await cfai.run("chat", "Why?", option)
    assert done.code == 2
    assert f"{option} can't be used with" in done.err
    assert "`cfai run`" in done.err
    assert len(fake.requests) == 1


@pytest.mark.parametrize("arguments", [("chat",), ("chat", "-")])
async def test_a_prompt_can_be_piped_in(
    cfai: Cfai, fake: FakeWorkersAI, arguments: tuple[str, ...]
) -> None:
    """Without a prompt, or with "-", standard input is the prompt."""
    fake.streams("ja")
    done = await cfai.run(*arguments, stdin="Grüße\n".encode())
    assert done.text == "ja\n"
    assert fake.requests[0].json()["messages"] == [{"role": "user", "content": "Grüße\n"}]


PIPED = {
    "a prompt": (["Summarize"], "note\n\nSummarize"),
    "a file": (["@question.txt"], "note\n\nWhy?\n"),
    "a dash": (["-"], "note\n"),
    "nothing": ([], "note\n"),
}


@pytest.mark.parametrize("name", PIPED)
async def test_a_prompt_follows_what_is_piped_in(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str
) -> None:
    """`cat note.txt | cfai chat "Summarize"`: both are the message."""
    (tmp_path / "question.txt").write_text("Why?\n")
    arguments, message = PIPED[name]
    fake.streams("x")
    given = [argument.replace("@", f"@{tmp_path}/") for argument in arguments]
    done = await cfai.run("chat", *given, stdin=b"note\n")
    assert (done.code, done.err) == (0, "")
    assert messages(fake, 0) == [("user", message)]


async def test_files_are_arguments(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """`@FILE` is the same for the prompt and for --system; a missing file is a usage error."""
    file = tmp_path / "it.txt"
    file.write_text("Be brief.")
    fake.streams("x")
    await cfai.run("chat", f"@{file}", "--system", f"@{file}")
    assert messages(fake, 0) == [("system", "Be brief."), ("user", "Be brief.")]
    for arguments in (["@missing.txt"], ["Hi", "-s", "@missing.txt"]):
        done = await cfai.run("chat", *arguments)
        assert done.code == 2
        assert "can't read missing.txt: No such file" in done.err
        assert "hint: @ names a file" in done.err


async def test_json_prints_a_line_per_token_and_answer(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """--json prints one line per token and one for the answer."""
    fake.streams("Hel", "lo", {"response": "", "usage": {"prompt_tokens": 2, "total_tokens": 4}})
    done = await cfai.run("chat", "--json", "hi")
    *tokens, answer = [json.loads(line) for line in done.lines]
    assert [token["token"] for token in tokens[:2]] == ["Hel", "lo"]
    assert answer["answer"]["text"] == "Hello"
    assert answer["answer"]["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--temperature", "5.1", "temperature must be between 0 and 5, got 5.1"),
        ("--temperature", "nan", "temperature must be between 0 and 5, got nan"),
        ("--seed", "0", "seed must be between 1 and 9999999999, got 0"),
    ],
)
async def test_options_out_of_bounds_are_usage_errors(
    cfai: Cfai, fake: FakeWorkersAI, option: str, value: str, message: str
) -> None:
    """The exit code is 2, and nothing is sent."""
    done = await cfai.run("chat", option, value, "hi")
    assert (done.code, done.err) == (2, f"error: {message}\n")
    assert not fake.requests


@pytest.mark.parametrize("stdin", [b"", b" \n", b"\xff\0\1"])
async def test_an_empty_prompt_is_a_usage_error(
    cfai: Cfai, fake: FakeWorkersAI, stdin: bytes
) -> None:
    """A prompt that is empty or no text is refused before the request."""
    done = await cfai.run("chat", stdin=stdin)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert not fake.requests


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "message"),
    [
        (400, 5007, 1, "No such model"),
        (401, 10000, 1, "Authentication error"),
        (429, 4006, 3, "daily free allocation"),
        (429, 3040, 4, "Capacity temporarily exceeded"),
        (429, 10429, 4, "Too many requests"),
    ],
)
async def test_exit_codes(
    cfai: Cfai, fake: FakeWorkersAI, status: int, code: int, exit_code: int, message: str
) -> None:
    """Quota, rate limit and other refusals have different exit codes."""
    # Longer than the client waits, so that it does not try again.
    fake.always.fails(status, code, message, retry_after=3600)
    done = await cfai.run("chat", "hi")
    first, *more = done.err.splitlines()
    assert done.code == exit_code
    assert done.out == b""
    assert first.startswith(f"error: {status} (code {code}): {message}")
    assert all(line.startswith("hint: ") for line in more)
    assert TOKEN not in done.err


async def test_a_lost_connection_keeps_the_text_and_fails(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The text that arrived is printed, and the exit code is 5."""
    fake.streams("Hel", then_hangs_up=True)
    done = await cfai.run("chat", "hi")
    assert done.code == 5
    assert done.out == b"Hel\n"
    assert done.err.startswith("error: ")


async def test_json_prints_no_answer_for_a_cut_stream(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A stream that was cut has lines of tokens but none of an answer."""
    fake.streams("Hel", then_hangs_up=True)
    done = await cfai.run("chat", "--json", "hi")
    assert [json.loads(line) for line in done.lines] == [{"token": "Hel"}]
    assert done.code == 5


async def test_without_an_account_the_variables_are_named(stranger: Cfai) -> None:
    """The error names the variables, the hint --local."""
    done = await stranger.run("chat", "hi")
    assert done.code == 2
    assert "CLOUDFLARE_" in done.err
    assert "hint: --local" in done.err


async def test_ctrl_c_exits_with_130(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Ctrl-C during an answer exits at once and cancels the request."""
    fake.streams("Hel", asyncio.Event())
    async with cfai.running("chat", "hi") as running:
        await running.reads(b"Hel")
        running.interrupt()
        done = await running.done()
    assert (done.code, done.out, done.err) == (130, b"\n", "")
    async with asyncio.timeout(10):
        await fake.requests[0].gone.wait()


async def test_a_closed_pipe_exits_with_141(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """If the reader closes the pipe, command and request end without an error."""
    more = asyncio.Event()
    fake.streams("Hel", more, "lo", asyncio.Event())
    reader, writer = os.pipe()
    async with cfai.running("chat", "hi", stdout=writer) as running:
        os.close(writer)
        assert await asyncio.to_thread(os.read, reader, 100) == b"Hel"
        os.close(reader)
        more.set()
        done = await running.done()
    assert (done.code, done.err) == (141, "")


async def test_pipes_get_control_characters(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Control characters are removed only at a terminal."""
    words: dict[str, Any] = {"response": "\x1b[31mred"}
    fake.streams(words)
    assert (await cfai.run("chat", "hi")).out == b"\x1b[31mred\n"


# Conversations at a terminal


def messages(fake: FakeWorkersAI, number: int) -> list[tuple[str, str]]:
    body: list[dict[str, Any]] = fake.requests[number].json()["messages"]
    return [(message["role"], message["content"]) for message in body]


@needs_terminals
async def test_a_conversation_without_an_account_ends_before_the_prompt(stranger: Cfai) -> None:
    """Nobody types a message in vain."""
    async with stranger.at_a_terminal("chat") as terminal:
        await terminal.shows("error: no credentials: ")
        await terminal.shows("hint: --local")
        assert await terminal.ended() == 2
    assert ">" not in terminal.screen


@needs_terminals
async def test_a_conversation_can_be_left_at_once(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """While the client is still being imported."""
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows(">")
        terminal.types("\x04")
        assert await terminal.ended() == 0
    assert "Traceback" not in terminal.screen
    assert not fake.requests


@needs_terminals
async def test_each_turn_includes_the_earlier_ones(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Each request has the earlier messages; /exit exits with 0."""
    fake.streams("I am ", "well.")
    fake.streams("Paris.")
    async with cfai.at_a_terminal("chat", "--system", "Be brief.") as terminal:
        await terminal.shows(">")
        terminal.types("How are you?\n")
        await terminal.shows("I am well.\r\n")
        await terminal.shows(">")
        terminal.types("And where?\n")
        await terminal.shows("Paris.\r\n")
        await terminal.shows(">")
        terminal.types("/exit\n")
        assert await terminal.ended() == 0

    assert messages(fake, 1) == [
        ("system", "Be brief."),
        ("user", "How are you?"),
        ("assistant", "I am well."),
        ("user", "And where?"),
    ]


@needs_terminals
async def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    cfai: Cfai, fake: FakeWorkersAI
) -> None:
    """The text that arrived stays in the conversation, which continues."""
    fake.streams("Once upon", asyncio.Event())
    fake.streams("As you wish.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows(">")
        terminal.types("Tell me a story.\n")
        await terminal.shows("Once upon")
        terminal.types("\x03")
        await terminal.shows("(stopped)")
        await terminal.shows(">")
        terminal.types("A short one.\n")
        await terminal.shows("As you wish.")
        await terminal.shows(">")
        terminal.types("\x04")
        assert await terminal.ended() == 0

    assert fake.requests[0].gone.is_set()
    assert messages(fake, 1) == [
        ("user", "Tell me a story."),
        ("assistant", "Once upon"),
        ("user", "A short one."),
    ]


@needs_terminals
async def test_ctrl_c_at_the_prompt_clears_the_line(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Ctrl-C at the prompt prints how to leave."""
    fake.streams("Yes.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows(">")
        terminal.types("half a line\x03")
        await terminal.shows("Ctrl-D or /exit leaves)")
        await terminal.shows(">")
        terminal.types("Still there?\n")
        await terminal.shows("Yes.")
        await terminal.shows(">")
        terminal.types("\x04")
        assert await terminal.ended() == 0


@needs_terminals
async def test_pasted_lines_are_one_message(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A terminal marks what is pasted; Alt-Enter begins a new line, too."""
    fake.streams("One.")
    fake.streams("Two.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows("\x1b[?2004h")
        await terminal.shows(">")
        terminal.types("\x1b[200~first\nsecond\nthird\x1b[201~\n")
        await terminal.shows("One.")
        await terminal.shows(">")
        terminal.types("a\x1b\rb\n")
        await terminal.shows("Two.")
        for command in ("/clear", "/exit", "/help", "/sing"):
            fake.streams(f"To {command}.")
            await terminal.shows(">")
            terminal.types(f"\x1b[200~{command}\nkeep this\x1b[201~\n")
            await terminal.shows(f"To {command}.")
        await terminal.shows(">")
        terminal.types("\x04")
        assert await terminal.ended() == 0
    assert messages(fake, 0) == [("user", "first\nsecond\nthird")]
    assert messages(fake, 1)[-1] == ("user", "a\nb")
    assert [messages(fake, index)[-1] for index in (2, 3, 4, 5)] == [
        ("user", f"{command}\nkeep this") for command in ("/clear", "/exit", "/help", "/sing")
    ]


@needs_terminals
async def test_commands_of_a_conversation(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """They change the conversation, send nothing, and an unknown one is explained."""
    for answer in ("One.", "Two.", "Three.", "Four.", "Five."):
        fake.streams(answer)
    async with cfai.at_a_terminal("chat", "-s", "Be brief.") as terminal:
        for line, shown in (
            ("first", "One."),
            ("/help", "/clear  "),
            *(
                (line, f"there is no command {line.split()[0]}; /help lists them")
                for line in ("/sing", "/foo-bar", "/foo_bar x", "/", "/?", "/2", "/HELP!")
            ),
            *(
                (f"/{name} now", f"/{name} takes no text, so nothing was done")
                for name in ("clear", "exit", "quit", "help")
            ),
            ("/system Be kind.", ""),
            ("second", "Two."),
            ("/clear", ""),
            ("/system", ""),
            ("/etc/hosts?", "Three."),
            ("/* a comment */", "Four."),
            ("/.bashrc", "Five."),
        ):
            await terminal.shows(">")
            terminal.types(f"{line}\n")
            await terminal.shows(shown)
        await terminal.shows(">")
        terminal.types("/quit\n")
        assert await terminal.ended() == 0
    assert messages(fake, 1) == [
        ("system", "Be kind."),
        ("user", "first"),
        ("assistant", "One."),
        ("user", "second"),
    ]
    assert messages(fake, 2) == [("user", "/etc/hosts?")]


@needs_terminals
async def test_instructions_are_read_from_a_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """`/system @FILE`, as on the command line; an unreadable file changes nothing."""
    (tmp_path / "note.txt").write_text("Be brief.")
    fake.always.streams("x")
    async with cfai.at_a_terminal("chat", TERM="dumb") as terminal:
        await terminal.shows("> ")
        terminal.types(f"/system @{tmp_path}/note.txt\r")
        await terminal.shows("> ")
        terminal.types("/system @missing.txt\r")
        await terminal.shows("can't read missing.txt")
        await terminal.shows("> ")
        terminal.types("Hi\r")
        await terminal.shows("x")
        terminal.types("/exit\r")
        await terminal.ended()
    assert messages(fake, 0) == [("system", "Be brief."), ("user", "Hi")]


@needs_terminals
async def test_a_failed_turn_is_not_remembered(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The refusal is one line, and the next request does not include the failed message."""
    fake.fails(400, 5006, "Bad input")
    fake.streams("Better.")
    async with cfai.at_a_terminal("chat") as terminal:
        await terminal.shows(">")
        terminal.types("one\n")
        await terminal.shows("error: 400 (code 5006): Bad input")
        await terminal.shows(">")
        terminal.types("two\n")
        await terminal.shows("Better.")
        await terminal.shows(">")
        terminal.types("\x04")
        assert await terminal.ended() == 0
    assert messages(fake, 1) == [("user", "two")]


@needs_terminals
async def test_terminals_get_no_control_characters(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Control characters in an answer are removed."""
    fake.streams("a\x1b]0;title\x07b\tc\nd")
    async with cfai.at_a_terminal("chat", "hi") as terminal:
        assert await terminal.ended() == 0
        assert "a]0;titleb\tc\r\nd" in terminal.screen


@needs_terminals
@pytest.mark.parametrize(
    ("events", "notice"),
    [
        (
            [{"choices": [{"delta": {"reasoning": "Let"}, "finish_reason": "length"}]}],
            "or turn it off with --no-thinking",
        ),
        (
            [{"response": "", "usage": {"prompt_tokens": 9, "completion_tokens": 40}}],
            "the model generated 40 tokens, but sent no text",
        ),
        (
            [{"choices": [{"delta": {"content": "So"}, "finish_reason": "length"}]}],
            "cut at the maximum length",
        ),
    ],
)
async def test_a_missing_text_is_explained(
    cfai: Cfai, fake: FakeWorkersAI, events: list[Any], notice: str
) -> None:
    fake.streams(*events)
    async with cfai.at_a_terminal("chat", "Why?") as terminal:
        await terminal.shows(notice)
        assert await terminal.ended() == 0


async def test_json_has_the_reasoning_of_a_token(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Only of a token that has some; at a pipe without --json, only the text is printed."""
    for _ in range(2):
        fake.streams(
            {"choices": [{"delta": {"reasoning": "Let me see."}}]},
            {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]},
        )
    done = await cfai.run("chat", "--json", "hi")
    *tokens, answer = [json.loads(line) for line in done.lines]
    assert tokens[:2] == [{"token": "", "reasoning": "Let me see."}, {"token": "Yes."}]
    assert answer["answer"]["reasoning"] == "Let me see."
    done = await cfai.run("chat", "hi")
    assert (done.code, done.text, done.err) == (0, "Yes.\n", "")


@pytest.mark.parametrize(("text", "printed"), [("a\n", "a\n"), ("a\n\n", "a\n\n"), ("a", "a\n")])
async def test_an_answer_ends_with_a_new_line(
    cfai: Cfai, fake: FakeWorkersAI, text: str, printed: str
) -> None:
    """One is added only if the text has none; with --json, lines stay as they are."""
    fake.always.streams(text)
    assert (await cfai.run("chat", "hi")).text == printed
    assert (await cfai.run("chat", "hi", "--json")).text.count("\n") == 2


async def test_a_model_that_always_thinks_can_be_told_so(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """`--no-thinking` is an error then, and nothing is sent."""
    fake.always.streams("x")
    model = next(name for name in TASKS if profile(name).always_thinks)
    assert (await cfai.run("chat", "Why?", "-m", model, "--thinking")).code == 0
    done = await cfai.run("chat", "Why?", "-m", model, "--no-thinking")
    assert (done.code, done.out) == (2, b"")
    assert len(fake.requests) == 1


# What is at the other ends of a conversation


@needs_terminals
async def test_files_go_with_the_first_message_that_is_answered(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """A message that failed does not use them up, and a later one does not repeat them."""
    (tmp_path / "a.txt").write_text("Hello")
    fake.fails(400, 5006, "Bad input")
    fake.streams("One.").streams("Two.")
    async with cfai.at_a_terminal("chat", "-a", str(tmp_path / "a.txt"), TERM="dumb") as terminal:
        for line, shown in (("", ""), ("a", "Bad input"), ("b", "One."), ("c", "Two.")):
            await terminal.shows("> ")
            terminal.types(f"{line}\r")
            await terminal.shows(shown)
        await terminal.shows("> ")
        terminal.types("/exit\r")
        assert await terminal.ended() == 0
    assert [messages(fake, index)[-1][1] for index in range(3)] == [
        "a.txt:\n\nHello\n\na",
        "a.txt:\n\nHello\n\nb",
        "c",
    ]
    assert messages(fake, 2)[0] == ("user", "a.txt:\n\nHello\n\nb")


@needs_terminals
async def test_a_conversation_with_a_schema_keeps_its_answers(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("Hello")
    fake.answers({"response": {"age": 1}}).answers({"response": {"age": 2}})
    arguments = ("chat", "--schema", "age:int", "-a", str(tmp_path / "a.txt"))
    async with cfai.at_a_terminal(*arguments, TERM="dumb") as terminal:
        for line, shown in (("a", '"age": 1'), ("b", '"age": 2')):
            await terminal.shows("> ")
            terminal.types(f"{line}\r")
            await terminal.shows(shown)
        await terminal.shows("> ")
        terminal.types("/exit\r")
        assert await terminal.ended() == 0
    first, answer, last = messages(fake, 1)
    assert first == ("user", "a.txt:\n\nHello\n\na")
    assert (answer[0], json.loads(answer[1]), last) == ("assistant", {"age": 1}, ("user", "b"))


async def test_a_schema_with_json_prints_the_whole_answer(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """And not the value once more."""
    fake.answers({"response": {"age": 1}, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    done = await cfai.run("chat", "Who?", "--schema", "age:int", "--json")
    (line,) = done.lines
    assert (done.code, json.loads(json.loads(line)["answer"]["text"])) == (0, {"age": 1})


@needs_terminals
async def test_a_conversation_whose_answers_go_to_a_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The prompt is on standard error, and the file has the answers only."""
    fake.streams("One.").streams("Two.")
    target = tmp_path / "answers.txt"
    command = f'exec "$@" > {target}'
    async with cfai.at_a_terminal("chat", shell=command) as terminal:
        for line in ("a", "b"):
            await terminal.shows("> ")
            terminal.types(f"{line}\r")
        await terminal.shows("> ")
        terminal.types("\x04")
        assert await terminal.ended() == 0
    assert target.read_text() == "One.\nTwo.\n"
    assert messages(fake, 1) == [("user", "a"), ("assistant", "One."), ("user", "b")]
