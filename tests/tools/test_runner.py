"""`ToolRun`: turns, events, errors, and how a run is closed."""

import asyncio
import gc
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from cfai import (
    Conversation,
    Function,
    InputError,
    ServerError,
    StreamInterrupted,
    Text,
    TextGeneration,
    Token,
    TokenStream,
    Tool,
    ToolCall,
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
from cfai.resources.fallback import ModelNames
from cfai.testing import FakeWorkersAI, Recorded, Reply
from cfai.tools import Toolbox, ToolEvent
from tests.tools.conftest import ASKED, MODEL, answer_with_calls, get_weather, run, sent


class ScriptedClient:
    """A client whose model is a function."""

    def __init__(self, answer: Callable[[TextGeneration], Awaitable[Text]]) -> None:
        self._answer = answer

    def run(self, model: ModelNames, task: TextGeneration, **_: Any) -> Awaitable[Text]:
        return self._answer(task)

    def stream(self, model: ModelNames, task: TextGeneration, **_: Any) -> TokenStream:
        raise NotImplementedError


def run_scripted(
    answer: Callable[[TextGeneration], Awaitable[Text]], *tools: Any, on_error: Any = "tell"
) -> ToolRun:
    """A run whose model is a function."""
    return ToolRun(
        ScriptedClient(answer),
        MODEL,
        TextGeneration(ASKED),
        Toolbox(tools, secrets=()),
        max_steps=10,
        stream=False,
        on_error=on_error,
        options=None,
        open_call=nullcontext,
    )


def envelope(result: str) -> str:
    return f'{{"result":{result},"success":true,"errors":[],"messages":[]}}'


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
async def test_calls_in_every_form_are_answered(fake: FakeWorkersAI, form: str) -> None:
    """The function runs, and the model gets its result in the one form that all models accept."""
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
async def test_streamed_calls_in_every_form_are_answered(fake: FakeWorkersAI, form: str) -> None:
    """The events come in order, the outcome last."""
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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
async def test_a_forced_call_is_not_forced_again(
    fake: FakeWorkersAI, choice: Any, stream: bool
) -> None:
    """The choice holds for the first turn, or the run would never end."""
    call = {"tool_calls": [{"name": "get_weather", "arguments": {"city": "SF"}}]}
    for answer in (call, call, {"response": "Dry."}):
        fake.streams(answer) if stream else fake.answers(answer)
    task = TextGeneration([user("Hi")], tool_choice=choice, parallel_tool_calls=False)
    await fake.client().run_tools(MODEL, task, tools=[get_weather], stream=stream)
    bodies = [request.json() for request in fake.requests]
    assert [body.get("tool_choice") for body in bodies] == [choice, None, None]
    assert [body["parallel_tool_calls"] for body in bodies] == [False] * 3


async def test_repeated_call_ids_are_replaced(fake: FakeWorkersAI) -> None:
    """Within a turn and across turns: each result has the id of its own call."""
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


async def test_ids_of_earlier_runs_are_not_reused(fake: FakeWorkersAI) -> None:
    """Some models use the same ids in every turn and run."""
    function = {"name": "get_weather", "arguments": '{"city":"a"}'}
    call = {"id": "functions.get_weather:0", "type": "function", "function": function}
    fake.answers({"response": "", "tool_calls": [call]})
    fake.answers({"response": "Dry."})
    before = await run(fake)
    fake.answers({"response": "", "tool_calls": [call]})
    fake.answers({"response": "Still dry."})
    talk = before.messages.user("And now?")
    outcome = await fake.client().run_tools(MODEL, talk, tools=[get_weather])

    named = [one.id for message in outcome.messages for one in message.tool_calls or ()]
    assert [one.tool_call_id for one in outcome.messages if one.role == "tool"] == named
    assert len(set(named)) == 2


async def test_the_fields_of_a_task_are_sent(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "Hello."})
    task = TextGeneration([user("Hi")], max_tokens=7, extra={"tool_choice": "auto"})
    await fake.client().run_tools(MODEL, task, tools=[])

    body = fake.requests[0].json()
    assert (body["max_tokens"], body["tool_choice"]) == (7, "auto")
    assert "tools" not in body


async def test_the_outcome_has_messages_steps_and_usage(fake: FakeWorkersAI) -> None:
    used = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    fake.answers({**answer_with_calls(("get_weather", {"city": "a"})), "usage": used})
    fake.answers({"response": "Dry.", "usage": {**used, "neurons": 0.5}})
    running = run(fake)
    outcome = await running

    assert outcome.usage == running.usage == Usage(20, 4, 24, neurons=0.5)
    assert [one.role for one in outcome.messages] == ["user", "assistant", "tool", "assistant"]
    assert len(outcome.steps) == 2
    assert await running is outcome
    assert Conversation.from_json(outcome.messages.to_json()) == outcome.messages


async def test_usage_is_added_up() -> None:
    """A count that only some turns report is the sum of these."""
    answers = iter(
        [
            Text(tool_calls=(ToolCall("get_weather", {"city": "a"}),), usage=Usage(1, 2, 3)),
            Text(
                tool_calls=(ToolCall("get_weather", {"city": "b"}),),
                usage=Usage(1, 2, 3, cached_tokens=4, reasoning_tokens=5),
            ),
            Text("Dry.", usage=Usage(10, 20, 30, cached_tokens=40, reasoning_tokens=50)),
        ]
    )

    async def ask(_: TextGeneration) -> Text:
        return next(answers)

    outcome = await run_scripted(ask, get_weather)
    assert outcome.usage == Usage(12, 24, 36, cached_tokens=44, reasoning_tokens=55)


# At the same time


async def test_the_calls_of_one_turn_run_at_the_same_time(fake: FakeWorkersAI) -> None:
    """The first can end only after the second; the results keep the order of the calls."""
    fast_ended = asyncio.Event()

    async def slow() -> str:
        await fast_ended.wait()
        return "slow"

    def fast() -> str:
        return threading.current_thread().name

    fake.answers(answer_with_calls(("slow", {}), ("fast", None)))
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


async def test_the_threads_of_a_run_end_with_it(fake: FakeWorkersAI) -> None:
    threads: list[threading.Thread] = []

    def where() -> None:
        threads.append(threading.current_thread())

    fake.answers(answer_with_calls(("where", {})))
    fake.answers({"response": "Done."})
    running = run(fake, where)
    assert isinstance([event async for event in running][-1], ToolOutcome)
    await asyncio.to_thread(threads[0].join, 60)
    assert not threads[0].is_alive()


async def test_the_threads_of_a_failed_run_end_with_it() -> None:
    """Even if the run is kept, to read its messages."""
    threads: list[threading.Thread] = []

    def raises() -> None:
        threads.append(threading.current_thread())
        raise LookupError

    async def ask(_: TextGeneration) -> Text:
        return Text(tool_calls=(ToolCall("raises"),))

    running = run_scripted(ask, raises, on_error="raise")
    with pytest.raises(LookupError):
        await running
    await asyncio.to_thread(threads[0].join, 60)
    assert not threads[0].is_alive()


def fails() -> str:
    raise LookupError("no such city")


async def fails_later() -> str:
    await asyncio.sleep(0)
    raise LookupError("no such city")


@pytest.mark.parametrize("tool", [fails, fails_later])
async def test_an_error_of_a_tool_is_reported_to_the_model(
    fake: FakeWorkersAI, tool: Callable[[], Any]
) -> None:
    fake.answers(answer_with_calls((tool.__name__, {})))
    fake.answers({"response": "Sorry."})
    outcome = await run(fake, tool)

    assert sent(fake)[2]["content"] == "error: LookupError: no such city"
    (failed,) = outcome.steps[0].results
    assert isinstance(failed, ToolFailed)
    assert isinstance(failed.error, LookupError)


def exits() -> None:
    sys.exit(3)


async def exits_later() -> None:
    await asyncio.sleep(0)
    raise SystemExit("wrong arguments")


@pytest.mark.parametrize("on_error", ["tell", "raise"])
@pytest.mark.parametrize(("tool", "code"), [(exits, "3"), (exits_later, "'wrong arguments'")])
async def test_a_tool_that_exits_does_not_end_the_program(
    fake: FakeWorkersAI, tool: Callable[[], Any], code: str, on_error: Any
) -> None:
    """As a command line's parser does for wrong arguments, which come from the model here."""
    fake.answers(answer_with_calls((tool.__name__, {})))
    fake.answers({"response": "Sorry."})
    message = f"the tool called sys.exit({code})"
    if on_error == "raise":
        with pytest.raises(RuntimeError, match=re.escape(message)):
            await run(fake, tool, on_error="raise")
    else:
        await run(fake, tool)
        assert sent(fake)[2]["content"] == f"error: RuntimeError: {message}"


@pytest.mark.parametrize("tool", [fails, fails_later])
async def test_on_error_raise_raises_the_error_of_a_tool(
    fake: FakeWorkersAI, tool: Callable[[], Any]
) -> None:
    """After the event; the other tools are cancelled, and earlier messages are kept."""
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    fake.answers(answer_with_calls(("waits", {}), (tool.__name__, {})))
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


async def test_a_turn_runs_at_most_100_calls(fake: FakeWorkersAI) -> None:
    """Further calls fail. Invalid calls don't count."""
    count = 0

    async def counts() -> None:
        nonlocal count
        count += 1

    fake.answers(answer_with_calls(("nothing", {}), *[("counts", {})] * 101))
    fake.answers({"response": "Done."})
    await run(fake, counts, on_error="raise")

    assert count == 100
    contents = [one["content"] for one in sent(fake)[2:]]
    assert contents[100:] == ["null", "error: not run: a turn runs at most 100 calls"]


@pytest.mark.parametrize("form", ["no ids", "one id", "ids that look like ours"])
async def test_the_work_grows_with_the_number_of_calls(fake: FakeWorkersAI, form: str) -> None:
    """A model can make any number of calls in one turn. All but 100 fail."""

    async def add(a: int, b: int) -> int:
        return a + b

    def call(number: int, count: int) -> dict[str, Any]:
        ids = {"no ids": None, "one id": "a"}
        taken = f"call{number + count // 2:05d}" if number < count // 2 else None
        return {"id": ids.get(form, taken), "name": "add", "arguments": {"a": 1, "b": 2}}

    async def work(count: int) -> int:
        calls = 0

        def profile(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        fake.answers({"response": "", "tool_calls": [call(n, count) for n in range(count)]})
        fake.answers({"response": "done"})
        sys.setprofile(profile)
        try:
            outcome = await fake.client().run_tools(MODEL, [user("x")], tools=[add])
        finally:
            sys.setprofile(None)
        assert len(outcome.messages) == count + 3
        assert len({call.id for call in outcome.messages[1].tool_calls}) == count
        return calls

    await work(10)
    assert await work(1600) < 5 * await work(400)


async def test_too_many_steps_raise_tool_loop_exceeded(fake: FakeWorkersAI) -> None:
    """The error has the messages up to the last step; its calls are not run."""
    fake.always.answers(
        {"response": "Again.", "tool_calls": answer_with_calls(("count", {}))["tool_calls"]}
    )
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


async def test_an_error_of_the_service_keeps_the_messages(fake: FakeWorkersAI) -> None:
    fake.answers(answer_with_calls(("get_weather", {"city": "SF"})))
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
async def test_calls_of_definitions_without_function_are_the_callers(
    fake: FakeWorkersAI, definition: Any
) -> None:
    """Functions of the same turn run first; the outcome has the open calls."""
    fake.answers(answer_with_calls(("look", {"url": "a"}), ("get_weather", {"city": "SF"})))
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
        self.began, self.may_end, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait."""
        self.began.set()
        try:
            await self.may_end.wait()
        finally:
            self.ended.set()


async def test_cancelling_cancels_the_tools(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(answer_with_calls(("wait", {})))
    running = run(fake, tool.wait)
    task = asyncio.ensure_future(running)
    await tool.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tool.ended.is_set()
    with pytest.raises(StreamInterrupted, match="was cancelled"):
        await running


@pytest.mark.parametrize("end", ["cancel", "aclose", "answer"])
async def test_the_threads_of_tools_end_with_the_run(fake: FakeWorkersAI, end: str) -> None:
    """Also if somebody keeps the run: each thread ends after its current call."""
    loop, may_end = asyncio.get_running_loop(), threading.Event()
    began: asyncio.Future[threading.Thread] = loop.create_future()

    def wait() -> str:
        loop.call_soon_threadsafe(began.set_result, threading.current_thread())
        may_end.wait()
        return "done"

    fake.answers(answer_with_calls(("wait", {})))
    fake.answers({"response": "Dry."})
    running = run(fake, wait)
    waiting = asyncio.ensure_future(running)
    thread = await began
    if end == "cancel":
        running.cancel()
    elif end == "aclose":
        await running.aclose()
    may_end.set()
    await asyncio.wait([waiting])
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert waiting.cancelled() or waiting.exception() is None or end == "aclose"


async def test_the_threads_of_tools_end_with_a_run_that_nobody_reads_on(
    fake: FakeWorkersAI,
) -> None:
    loop, may_end = asyncio.get_running_loop(), threading.Event()
    began: asyncio.Future[threading.Thread] = loop.create_future()

    def wait() -> None:
        loop.call_soon_threadsafe(began.set_result, threading.current_thread())
        may_end.wait()

    fake.answers(answer_with_calls(("wait", {})))
    running = run(fake, wait)
    async for event in running:
        if isinstance(event, ToolStarted):
            break
    thread = await began
    running.cancel()
    may_end.set()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    await running.aclose()


async def test_leaving_async_with_cancels_the_tools(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(answer_with_calls(("wait", {})))
    async with run(fake, tool.wait) as running:
        async for event in running:
            if isinstance(event, ToolStarted):
                await tool.began.wait()
                break
    assert tool.ended.is_set()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await running


async def test_dropping_cancels_the_tools(fake: FakeWorkersAI) -> None:
    """Even if nobody closed the run."""
    tool = Patient()
    fake.answers(answer_with_calls(("wait", {})))
    async for event in run(fake, tool.wait):
        if isinstance(event, ToolStarted):
            await tool.began.wait()
            break
    gc.collect()
    await tool.ended.wait()


async def test_closing_from_another_task_ends_the_wait(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(answer_with_calls(("wait", {})))
    running = run(fake, tool.wait)
    task = asyncio.ensure_future(running)
    await tool.began.wait()
    with pytest.raises(InputError, match="one reader"):
        await anext(running)
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    assert tool.ended.is_set()


async def test_closing_ends_the_wait_for_the_model(fake: FakeWorkersAI) -> None:
    """The waiting task ends at once, and so does the request."""
    arrived = asyncio.Event()

    def never(_: Recorded) -> Reply:
        arrived.set()
        return Reply((asyncio.Event(),))

    fake.answers_by(never)
    running = run(fake)
    task = asyncio.ensure_future(running)
    await arrived.wait()
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    await fake.requests[0].gone.wait()


async def test_a_second_reader_is_refused_and_changes_nothing(fake: FakeWorkersAI) -> None:
    tool = Patient()
    fake.answers(answer_with_calls(("wait", {})))
    fake.answers({"response": "Done."})
    running = run(fake, tool.wait)
    task = asyncio.ensure_future(running)
    await tool.began.wait()
    with pytest.raises(InputError, match="one reader"):
        await running
    tool.may_end.set()
    assert str(await task) == "Done."


async def read_events(running: ToolRun, events: list[ToolEvent]) -> None:
    """Collect the events, also those before an error."""
    async for event in running:
        events.append(event)  # noqa: PERF401


async def test_an_answer_that_arrives_while_closing_starts_nothing() -> None:
    """The answer is there, but was not read yet."""
    answered: asyncio.Future[Text] = asyncio.get_running_loop().create_future()
    tool = Patient()
    running = run_scripted(lambda _: answered, tool.wait)
    events: list[ToolEvent] = []
    task = asyncio.create_task(read_events(running, events))
    await asyncio.sleep(0)
    answered.set_result(Text(tool_calls=(ToolCall("wait"),)))
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    assert not events
    assert not tool.began.is_set()
    assert len(asyncio.all_tasks()) == 1


async def test_a_result_that_arrives_while_closing_is_not_an_end() -> None:
    async def ask(_: TextGeneration) -> Text:
        return Text(tool_calls=(ToolCall("wait"),))

    tool = Patient()
    running = run_scripted(ask, tool.wait)
    events: list[ToolEvent] = []
    task = asyncio.create_task(read_events(running, events))
    await tool.began.wait()
    tool.may_end.set()
    await tool.ended.wait()
    await running.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    assert [type(event) for event in events] == [Turn, ToolStarted]
    assert running.messages == ASKED


def test_dropping_a_run_after_its_loop_was_closed_does_nothing() -> None:
    """The loop was closed, and its tasks with it."""

    async def ask(_: TextGeneration) -> Text:
        return Text(tool_calls=(ToolCall("wait"),))

    async def begins() -> ToolRun:
        tool = Patient()
        running = run_scripted(ask, tool.wait)
        await anext(running)
        await anext(running)
        await tool.began.wait()
        return running

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context["message"]))
    errors: list[str] = []
    running = loop.run_until_complete(begins())
    loop.close()
    del running
    gc.collect()
    assert errors == ["Task was destroyed but it is pending!"]


@pytest.mark.parametrize("ends", ["done", "failed"])
def test_a_run_that_ended_can_be_closed_in_another_loop(ends: str) -> None:
    """Nothing of its own loop is left in it."""

    async def ask(_: TextGeneration) -> Text:
        if ends == "failed":
            raise ServerError("broken", status=500)
        return Text("Dry.")

    async def begin() -> ToolRun:
        running = run_scripted(ask, get_weather)
        await asyncio.gather(running, return_exceptions=True)
        return running

    running = asyncio.run(begin())
    for _ in range(2):
        asyncio.run(running.aclose())
    assert [message.role for message in running.messages][1:] == ["assistant"] * (ends == "done")


async def test_cancelling_closes_the_stream(fake: FakeWorkersAI) -> None:
    """The service sees the disconnect at once."""
    fake.streams("Dry", asyncio.Event())
    task: asyncio.Task[Any]
    running = run(fake, stream=True)
    assert str(await anext(running)) == "Dry"
    task = asyncio.ensure_future(running)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake.requests[0].gone.wait()


# `cancel`: an end without an error


async def read_after_cancel(running: ToolRun, task: asyncio.Task[Any]) -> ToolOutcome:
    """What the reader, and everybody after it, gets of a cancelled run."""
    running.cancel()
    running.cancel()
    await task
    assert running.cancelled
    assert [event async for event in running] == []
    return await running


async def test_cancel_ends_the_tools(fake: FakeWorkersAI) -> None:
    """Complete steps are kept; the step that was cut is not."""
    tool = Patient()
    fake.answers(answer_with_calls(("get_weather", {"city": "SF"})))
    fake.answers({"response": "And now?", **answer_with_calls(("wait", {}))})
    running = run(fake, tool.wait, get_weather)
    task = asyncio.create_task(read_events(running, []))
    await tool.began.wait()
    outcome = await read_after_cancel(running, task)
    assert tool.ended.is_set()
    assert len(outcome.steps) == len(running.steps) == 1
    assert outcome.messages == running.messages
    assert len(outcome.messages) == 3
    assert outcome.answer.text == "And now?"


async def test_cancel_ends_the_stream(fake: FakeWorkersAI) -> None:
    """What had arrived is the answer."""
    fake.streams("Dry", asyncio.Event())
    running = run(fake, stream=True)
    assert str(await anext(running)) == "Dry"
    task = asyncio.create_task(read_events(running, []))
    await asyncio.sleep(0)
    outcome = await read_after_cancel(running, task)
    assert str(outcome) == "Dry"
    await fake.requests[0].gone.wait()


async def test_cancel_ends_the_wait_for_the_model(fake: FakeWorkersAI) -> None:
    fake.stalls()
    running = run(fake)
    task = asyncio.create_task(read_events(running, []))
    await fake.until(lambda: fake.requests)
    assert str(await read_after_cancel(running, task)) == ""
    await fake.requests[0].gone.wait()


async def test_cancel_before_the_first_read_sends_nothing(fake: FakeWorkersAI) -> None:
    running = run(fake)
    running.cancel()
    assert await running == await running
    assert fake.requests == []


async def test_cancel_after_the_end_changes_nothing(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "Dry."})
    running = run(fake)
    outcome = await running
    running.cancel()
    assert not running.cancelled
    assert await running is outcome


async def test_a_relay_of_a_run_that_ended_is_not_cancelled(fake: FakeWorkersAI) -> None:
    """It has nothing more to send than its end."""
    fake.answers({"response": "Done.", "finish_reason": "stop"})
    run = fake.client().run_tools(MODEL, "Hi", tools=[])
    await run
    assert [frame async for frame in run.ndjson()] == [b'{"type":"done","finish_reason":"stop"}\n']


async def test_cancelling_the_reader_of_a_cancelled_run_is_not_swallowed() -> None:
    answered: asyncio.Future[Text] = asyncio.get_running_loop().create_future()
    running = run_scripted(lambda _: answered)
    task = asyncio.create_task(read_events(running, []))
    await asyncio.sleep(0)
    running.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_sent_before_the_first_read(fake: FakeWorkersAI) -> None:
    async with run(fake):
        pass
    run(fake)
    assert not fake.requests


async def test_a_task_with_tools_is_refused(fake: FakeWorkersAI) -> None:
    task = TextGeneration([user("Hi")], tools=[DEFINITIONS[0]])
    with pytest.raises(InputError, match="must not have tools: pass them to run_tools"):
        fake.client().run_tools(MODEL, task, tools=[get_weather])
