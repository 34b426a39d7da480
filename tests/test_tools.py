"""Tools: the loop of a model that calls Python functions, and what it does when things go wrong."""

import asyncio
import gc
import json
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pytest
from attrs import frozen

from cfai import (
    Conversation,
    Function,
    InputError,
    PythonTool,
    ServerError,
    StreamInterrupted,
    TextGeneration,
    Token,
    Tool,
    ToolFailed,
    ToolLoopExceeded,
    ToolOutcome,
    ToolReturned,
    ToolRun,
    ToolStarted,
    Turn,
    Usage,
    tool_result,
    user,
)
from cfai.testing import FakeWorkersAI, Recorded
from cfai.testing._script import Reply

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


def envelope(result: str) -> str:
    return f'{{"result":{result},"success":true,"errors":[],"messages":[]}}'


def called(*calls: tuple[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": given} for name, given in calls]}


# The forms of a call

# WIRE: the API's schema; Cloudflare's workerd types (llama-4); vLLM's chat completions; Kimi's ids,
# which are the same each turn (github.com/cloudflare/ai, stream-text.test.ts).
CALLS = {
    "flat, arguments a text": (
        '{"response":null,"tool_calls":[{"name":"get_weather","arguments":"{\\"city\\":\\"SF\\"}"}]}'
    ),
    "flat, arguments an object": (
        '{"response":"","tool_calls":[{"name":"get_weather","arguments":{"city":"SF"}}]}'
    ),
    "nested, arguments an object": (
        '{"response":null,"tool_calls":[{"id":"chatcmpl-tool-1","type":"function","function":'
        '{"name":"get_weather","arguments":{"city":"SF"}}}]}'
    ),
    "chat completions": (
        '{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":'
        '"assistant","content":null,"tool_calls":[{"id":"functions.get_weather:0","type":'
        '"function","function":{"name":"get_weather","arguments":"{\\"city\\": \\"SF\\"}"}}]},'
        '"finish_reason":"tool_calls"}]}'
    ),
    "arguments written as JSON twice": (
        '{"response":null,"tool_calls":[{"name":"get_weather","arguments":'
        '"\\"{\\\\\\"city\\\\\\":\\\\\\"SF\\\\\\"}\\""}]}'
    ),
}


@pytest.mark.parametrize("form", CALLS)
async def test_a_call_in_every_form_is_answered(fake: FakeWorkersAI, form: str) -> None:
    """The function is run, and the model told in the one form that all models take."""
    fake.says(envelope(CALLS[form]), content_type="application/json")
    fake.answers({"response": "Dry."})
    outcome = await run(fake)

    assert str(outcome) == "Dry."
    asked, result = sent(fake)[1:]
    named = asked["tool_calls"][0]["id"]
    assert asked == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": named,
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "SF"}'},
            }
        ],
    }
    assert result == {
        "role": "tool",
        "content": "SF: dry for 1",
        "tool_call_id": named,
        "name": "get_weather",
    }
    assert isinstance(named, str)
    assert named


# WIRE 2: 4, 5 with its sentinel of nulls, 6 and 7.
STREAMS = {
    "whole": [
        (
            b'{"tool_calls":[{"id":"call123","type":"function","index":0,"function":'
            b'{"name":"get_weather","arguments":"{\\"city\\": \\"SF\\"}"}}]}'
        ),
        b'{"finish_reason":"tool_calls"}',
    ],
    "in pieces": [
        (
            b'{"tool_calls":[{"id":"call123","type":"function","index":0,"function":'
            b'{"name":"get_weather","arguments":"{\\"ci"}}]}'
        ),
        b'{"tool_calls":[{"index":0,"function":{"arguments":"ty\\": \\""}}]}',
        b'{"tool_calls":[{"index":0,"function":{"arguments":"SF\\"}"}}]}',
        b'{"tool_calls":[{"id":null,"type":null,"function":{"name":null,"arguments":""}}]}',
    ],
    "flat": [b'{"response":"","tool_calls":[{"name":"get_weather","arguments":{"city":"SF"}}]}'],
    "arguments before the name": [
        b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\": \\"SF\\"}"}}]}',
        b'{"tool_calls":[{"index":0,"id":"call123","function":{"name":"get_weather"}}]}',
    ],
}


@pytest.mark.parametrize("form", STREAMS)
async def test_a_streamed_call_in_every_form_is_answered(fake: FakeWorkersAI, form: str) -> None:
    """The events come in the order in which they happen, and the outcome last."""
    fake.streams(*(b"data: " + data + b"\n\n" for data in STREAMS[form]))
    fake.streams("Dry", ", in", " SF.")
    async with run(fake, stream=True) as running:
        events = [event async for event in running]

    texts = "".join(event.text for event in events if isinstance(event, Token))
    assert texts == "Dry, in SF."
    kinds = [type(event) for event in events if not isinstance(event, Token)]
    assert kinds == [Turn, ToolStarted, ToolReturned, Turn, ToolOutcome]
    assert isinstance(events[-1], ToolOutcome)
    assert events[-1].answer.text == texts
    assert sent(fake)[2]["content"] == "SF: dry for 1"


async def test_ids_that_repeat_are_told_apart(fake: FakeWorkersAI) -> None:
    """Two calls of one turn, and of two turns, have one id: each result still names its own."""
    call = {"id": "functions.get_weather:0", "type": "function"}
    again = {**call, "function": {"name": "get_weather", "arguments": '{"city":"b"}'}}
    call["function"] = {"name": "get_weather", "arguments": '{"city":"a"}'}  # type: ignore[assignment]
    fake.answers({"response": "", "tool_calls": [call, again]})
    fake.answers({"response": "", "tool_calls": [call]})
    fake.answers({"response": "Done."})
    outcome = await run(fake)

    named = [one.id for message in outcome.messages for one in message.tool_calls or ()]
    answered = [message.tool_call_id for message in outcome.messages if message.role == "tool"]
    assert answered == named
    assert len(set(named)) == 3
    assert named[0] == "functions.get_weather:0"


# What is sent, and given


async def test_the_model_is_told_of_the_function(fake: FakeWorkersAI) -> None:
    """Name, docstring and types become a definition in the form of chat completions."""
    fake.answers({"response": "Hello."})
    await run(fake)

    assert fake.requests[0].json()["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Say how the weather is.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string", "description": "Its name."},
                        "days": {
                            "type": "integer",
                            "description": "How many days ahead.",
                            "default": 1,
                        },
                    },
                    "required": ["city"],
                    "additionalProperties": False,
                },
            },
        }
    ]


async def test_the_fields_of_a_task_go_along(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "Hello."})
    task = TextGeneration([user("Hi")], max_tokens=7, extra={"tool_choice": "auto"})
    await fake.client().run_tools(MODEL, task, tools=[])

    body = fake.requests[0].json()
    assert (body["max_tokens"], body["tool_choice"]) == (7, "auto")
    assert "tools" not in body


@frozen
class Place:
    name: str
    kind: Literal["city", "village"] = "city"


async def test_arguments_and_results_are_values(fake: FakeWorkersAI) -> None:
    """The arguments are read into the parameters' types, and what comes back written as JSON."""

    def neighbours(of: Place, *, at_most: Annotated[int, "how many"] = 3) -> list[Place]:
        assert isinstance(of, Place)
        return [Place(f"{of.name}-{number}", "village") for number in range(at_most)]

    fake.answers(called(("neighbours", {"of": {"name": "Lima"}, "at_most": 1.0})))
    fake.answers({"response": "One."})
    outcome = await run(fake, neighbours)

    assert json.loads(sent(fake)[2]["content"]) == [{"name": "Lima-0", "kind": "village"}]
    (result,) = outcome.steps[0].results
    assert isinstance(result, ToolReturned)
    assert result.value == [Place("Lima-0", "village")]


async def test_the_outcome_has_all_that_was_said_and_used(fake: FakeWorkersAI) -> None:
    used = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    fake.answers({**called(("get_weather", {"city": "a"})), "usage": used})
    fake.answers({"response": "Dry.", "usage": {**used, "neurons": 0.5}})
    running = run(fake)
    outcome = await running

    assert outcome.usage == running.usage == Usage(20, 4, 24, neurons=0.5)
    assert [one.role for one in outcome.messages] == ["user", "assistant", "tool", "assistant"]
    assert len(outcome.steps) == 2
    assert await running is outcome
    assert Conversation.from_json(outcome.messages.to_json()) == outcome.messages


async def test_an_answer_of_ours_is_told_as_what_it_holds(fake: FakeWorkersAI) -> None:
    """A tool that asks another model may hand on what it answered."""
    client = fake.client()

    async def ask(question: str) -> Any:
        return await client.run(MODEL, {"prompt": question})

    fake.answers(called(("ask", {"question": "?"})))
    fake.answers({"response": "42"})
    fake.answers({"response": "It is 42."})
    await client.run_tools(MODEL, ASKED, tools=[ask])

    assert json.loads(sent(fake)[2]["content"]) == {"value": {"response": "42"}}


# At the same time


async def test_the_calls_of_one_turn_run_at_the_same_time(fake: FakeWorkersAI) -> None:
    """The first can end only after the second; the results still come in the calls' order."""
    fast_ended = asyncio.Event()

    async def slow() -> str:
        await fast_ended.wait()
        return "slow"

    def fast() -> str:
        return threading.current_thread().name

    fake.answers(called(("slow", {}), ("fast", None)))
    fake.answers({"response": "Done."})
    ended = []
    async with run(fake, slow, fast) as running:
        async for event in running:
            if isinstance(event, ToolReturned):
                ended.append(event.call.name)
                fast_ended.set()

    assert ended == ["fast", "slow"]
    first, other = sent(fake)[2:]
    assert first["content"] == "slow"
    assert other["content"] != threading.current_thread().name


# What goes wrong


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("get_weather", {"city": 6}, "error: arguments.city must be a text, got 6"),
        (
            "get_weather",
            {"days": 2.9, "town": "a"},
            (
                "error: arguments.town is no parameter; arguments.city is missing; "
                "arguments.days must be a whole number, got 2.9"
            ),
        ),
        ("get_weather", {"city": None}, "error: arguments.city must be a text, got null"),
        ("get_weather", '{"city": "', 'error: arguments must be JSON, got \'{"city": "\''),
        ("get_weather", ["a"], "error: arguments must be an object, got ['a']"),
        ("get_wether", {}, "error: there is no tool 'get_wether'; there are: get_weather"),
    ],
)
async def test_a_call_that_does_not_fit_is_told_to_the_model(
    fake: FakeWorkersAI, name: str, given: Any, told: str
) -> None:
    """With the rule, so that it can do better; and with arguments that a service takes back."""
    fake.answers(called((name, given)))
    fake.answers(called(("get_weather", {"city": "SF"})))
    fake.answers({"response": "Dry."})
    outcome = await run(fake, on_error="raise")

    assert str(outcome) == "Dry."
    assert sent(fake)[2]["content"] == told
    arguments = json.loads(sent(fake)[1]["tool_calls"][0]["function"]["arguments"])
    assert isinstance(arguments, dict)
    (failed,) = outcome.steps[0].results
    assert isinstance(failed, ToolFailed)
    assert isinstance(failed.error, InputError)


def fails() -> str:
    raise LookupError("no such city")


async def fails_later() -> str:
    await asyncio.sleep(0)
    raise LookupError("no such city")


@pytest.mark.parametrize("tool", [fails, fails_later])
async def test_a_tool_that_raises_is_told_to_the_model(
    fake: FakeWorkersAI, tool: Callable[[], Any]
) -> None:
    fake.answers(called((tool.__name__, {})))
    fake.answers({"response": "Sorry."})
    outcome = await run(fake, tool)

    assert sent(fake)[2]["content"] == "error: LookupError: no such city"
    (failed,) = outcome.steps[0].results
    assert isinstance(failed, ToolFailed)
    assert isinstance(failed.error, LookupError)


@pytest.mark.parametrize("tool", [fails, fails_later])
async def test_a_tool_that_raises_may_raise_here(
    fake: FakeWorkersAI, tool: Callable[[], Any]
) -> None:
    """The event comes first, the other tools are cancelled, and what was said before is kept."""
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    fake.answers(called(("waits", {}), (tool.__name__, {})))
    running = run(fake, tool, waits, on_error="raise")
    events = []
    with pytest.raises(LookupError, match="no such city") as caught:
        async for event in running:
            events.append(event)  # noqa: PERF401  # those before the error, too
    assert isinstance(events[-1], ToolFailed)
    assert f"while the tool {tool.__name__} was run" in caught.value.__notes__
    assert cancelled.is_set()
    assert running.messages == ASKED
    with pytest.raises(LookupError):
        await running


async def test_no_secret_is_told(fake: FakeWorkersAI) -> None:
    """An error that repeats the client's token does not carry it into the conversation."""
    client = fake.client()

    def leaks() -> None:
        raise RuntimeError("401 with fake-api-token, Authorization: Bearer other " + "." * 9000)

    fake.answers(called(("leaks", {})))
    fake.answers({"response": "Sorry."})
    await client.run_tools(MODEL, ASKED, tools=[leaks])

    told = sent(fake)[2]["content"]
    assert told.startswith("error: RuntimeError: 401 with ***, Authorization: Bearer ***")
    assert len(told) == 500


async def test_what_json_has_no_form_for_is_an_error(fake: FakeWorkersAI) -> None:
    def picture() -> bytes:
        return b"\x89PNG"

    fake.answers(called(("picture", {})))
    fake.answers({"response": "Sorry."})
    await run(fake, picture)

    told = "error: the tool gave back a bytes, which JSON has no form for"
    assert sent(fake)[2]["content"] == told


async def test_a_tool_that_ends_an_iteration_does_not_hang(fake: FakeWorkersAI) -> None:
    """A future can't hold a StopIteration; it must not be lost in the thread."""

    def first() -> int:
        return next(iter(()))

    async def gives_up() -> None:
        raise asyncio.CancelledError

    fake.answers(called(("first", {}), ("gives_up", {})))
    fake.answers({"response": "Sorry."})
    await run(fake, first, gives_up)

    assert [one["content"] for one in sent(fake)[2:]] == [
        "error: RuntimeError: the tool raised StopIteration",
        "error: RuntimeError: the tool was cancelled",
    ]


async def test_a_loop_without_end_is_an_error(fake: FakeWorkersAI) -> None:
    """It has what was said up to the last step, to go on from; the last calls are not run."""
    fake.always.answers({"response": "Again.", "tool_calls": called(("count", {}))["tool_calls"]})
    runs = 0

    def count() -> int:
        nonlocal runs
        runs += 1
        return runs

    with pytest.raises(ToolLoopExceeded, match="step 3, the last") as caught:
        await run(fake, count, max_steps=3)
    assert (runs, len(fake.requests)) == (2, 3)
    error = caught.value
    assert (error.limit, error.answer.text) == (3, "Again.")
    assert [one.role for one in error.messages] == ["user"] + 2 * ["assistant", "tool"]


async def test_an_error_of_the_service_keeps_what_was_said(fake: FakeWorkersAI) -> None:
    fake.answers(called(("get_weather", {"city": "SF"})))
    fake.fails(501, 1, "broken")
    running = run(fake)
    with pytest.raises(ServerError):
        await running

    assert [one.role for one in running.messages] == ["user", "assistant", "tool"]
    assert len(running.steps) == 1
    with pytest.raises(ServerError):
        await anext(running)


# Definitions without a function

DEFINITIONS: list[Any] = [
    Tool("look", "Look at a page.", {"url": {"type": "string"}}),
    Function("look", "Look at a page.", {"url": {"type": "string"}}),
    {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
    {
        "type": "function",
        "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}},
    },
]


@pytest.mark.parametrize("definition", DEFINITIONS)
async def test_the_calls_of_a_bare_definition_are_the_callers(
    fake: FakeWorkersAI, definition: Any
) -> None:
    """The functions beside it are run; then the outcome hands the rest over, to be gone on from."""
    fake.answers(called(("look", {"url": "a"}), ("get_weather", {"city": "SF"})))
    outcome = await run(fake, definition, get_weather)
    (call,) = outcome.open_calls
    assert (call.name, call.arguments) == ("look", {"url": "a"})

    fake.answers({"response": "Dry."})
    client = fake.client()
    talk = outcome.messages.add(tool_result("a page", call.id))
    await client.run_tools(MODEL, talk, tools=[definition, get_weather])
    assert [one.get("content") for one in sent(fake)[2:]] == ["SF: dry for 1", "a page"]


# Closing, cancelling, dropping


class Patient:
    """A tool that waits, and remembers what happened to it."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_cancelling_cancels_the_tools(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(called(("wait", {})))
    task = asyncio.create_task(run(fake, tool.wait)._to_its_end())
    await tool.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tool.ended.is_set()


async def test_leaving_cancels_the_tools(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(called(("wait", {})))
    async with run(fake, tool.wait) as running:
        async for event in running:
            if isinstance(event, ToolStarted):
                await tool.began.wait()
                break
    assert tool.ended.is_set()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await running


async def test_dropping_cancels_the_tools(fake: FakeWorkersAI) -> None:
    """Also where nobody closed it."""
    tool = Patient()
    fake.answers(called(("wait", {})))
    async for event in run(fake, tool.wait):
        if isinstance(event, ToolStarted):
            await tool.began.wait()
            break
    gc.collect()
    await tool.ended.wait()


async def test_closing_from_another_task_ends_the_wait(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(called(("wait", {})))
    running = run(fake, tool.wait)
    task = asyncio.create_task(running._to_its_end())
    await tool.began.wait()
    with pytest.raises(InputError, match="one reader"):
        await anext(running)
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    assert tool.ended.is_set()


async def test_closing_ends_the_wait_for_the_model(fake: FakeWorkersAI) -> None:
    """Whoever waits for its turn hears of it at once, and so does the service."""
    arrived = asyncio.Event()

    def never(_: Recorded) -> Reply:
        arrived.set()
        return Reply((asyncio.Event(),))

    fake.answers_by(never)
    running = run(fake)
    task = asyncio.create_task(running._to_its_end())
    await arrived.wait()
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    await fake.requests[0].gone.wait()


async def test_cancelling_closes_the_stream(fake: FakeWorkersAI) -> None:
    """The service sees at once that nobody reads any more."""
    fake.streams("Dry", asyncio.Event())
    task: asyncio.Task[Any]
    running = run(fake, stream=True)
    assert str(await anext(running)) == "Dry"
    task = asyncio.create_task(running._to_its_end())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake.requests[0].gone.wait()


async def test_nothing_is_sent_before_it_is_asked_for(fake: FakeWorkersAI) -> None:
    async with run(fake):
        pass
    run(fake)
    assert not fake.requests


# What is refused


def no_type(city) -> str:  # type: ignore[no-untyped-def]
    return str(city)


def complex_type(number: complex) -> str:
    return str(number)


def many(*cities: str) -> str:
    return str(cities)


@pytest.mark.parametrize(
    ("tools", "options", "says"),
    [
        ([no_type], {}, "no_type: the parameter city must have a type"),
        ([complex_type], {}, "complex_type.number: there is no JSON for complex"),
        ([many], {}, r"many: the parameter \*cities: str must be one that is given by its name"),
        ([lambda: 1], {}, "the name of a tool must be 1 to 64 letters"),
        ([3], {}, "a tool must be a function or a definition, got 3"),
        ([{"description": "x"}], {}, "a tool must have a name"),
        ([get_weather, get_weather], {}, "two tools must not have the name get_weather"),
        ([get_weather], {"max_steps": 0}, "max_steps must be a whole number above 0, got 0"),
        ([get_weather], {"max_steps": True}, "max_steps must be a whole number above 0"),
        ([get_weather], {"on_error": "ignore"}, "on_error must be tell or raise, got 'ignore'"),
    ],
)
async def test_what_cannot_work_is_refused_at_once(
    fake: FakeWorkersAI, tools: Sequence[Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        fake.client().run_tools(MODEL, ASKED, tools=tools, **options)


async def test_tools_are_given_once(fake: FakeWorkersAI) -> None:
    task = TextGeneration([user("Hi")], tools=[DEFINITIONS[0]])
    with pytest.raises(InputError, match="must be given to run_tools"):
        fake.client().run_tools(MODEL, task, tools=[get_weather])


async def test_a_tool_may_have_another_name(fake: FakeWorkersAI) -> None:
    tool = PythonTool(get_weather, name="weather", description="Weather.")
    fake.answers(called(("weather", {"city": "SF"})))
    fake.answers({"response": "Dry."})
    await run(fake, tool)

    told = fake.requests[0].json()["tools"][0]["function"]
    assert (told["name"], told["description"]) == ("weather", "Weather.")
    assert sent(fake)[2]["content"] == "SF: dry for 1"
