"""Tools: their definitions, the calls that are checked and run, and what the model gets back."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from attrs import frozen
from pydantic import BaseModel, Field

from cfai import (
    Function,
    InputError,
    PythonTool,
    ToolFailed,
    ToolReturned,
)
from cfai.testing import FakeWorkersAI
from tests.tools.conftest import ASKED, MODEL, answer_with_calls, get_weather, run, sent


async def test_the_function_is_sent_as_a_definition(fake: FakeWorkersAI) -> None:
    """Name, docstring and types, in the form of chat completions."""
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


@frozen
class Place:
    name: str
    kind: Literal["city", "village"] = "city"


async def test_arguments_and_results_are_converted(fake: FakeWorkersAI) -> None:
    """Arguments are read as the parameters' types, and results are written as JSON."""

    def neighbours(of: Place, *, at_most: Annotated[int, "how many"] = 3) -> list[Place]:
        assert isinstance(of, Place)
        return [Place(f"{of.name}-{number}", "village") for number in range(at_most)]

    fake.answers(answer_with_calls(("neighbours", {"of": {"name": "Lima"}, "at_most": 1.0})))
    fake.answers({"response": "One."})
    outcome = await run(fake, neighbours)

    assert json.loads(sent(fake)[2]["content"]) == [{"name": "Lima-0", "kind": "village"}]
    (result,) = outcome.steps[0].results
    assert isinstance(result, ToolReturned)
    assert result.value == [Place("Lima-0", "village")]
    assert result.output == [{"name": "Lima-0", "kind": "village"}]


@pytest.mark.parametrize("value", ["12", "[1", "", 12, [1], None, {"a": "12"}], ids=repr)
async def test_the_output_of_a_result_is_a_value_of_json(fake: FakeWorkersAI, value: Any) -> None:
    """A text stays one, even if it could be read as JSON."""

    def give() -> Any:
        return value

    fake.answers(answer_with_calls(("give", {}))).answers({"response": "Done."})
    (result,) = (await run(fake, give)).steps[0].results
    assert isinstance(result, ToolReturned)
    assert result.output == value
    assert type(result.output) is type(value)


class Trip(BaseModel):
    """A trip."""

    to: str
    days: int = Field(ge=1)


async def test_models_of_pydantic_are_arguments_and_results(fake: FakeWorkersAI) -> None:
    """They are checked by pydantic; the model gets its words and can correct itself."""

    def plan(trip: Trip, stars: Annotated[int, Field(le=5, description="How good.")] = 3) -> Trip:
        assert isinstance(trip, Trip)
        return Trip(to=f"{trip.to} ({stars})", days=trip.days + 1)

    wrong = {"trip": {"to": "Lima", "days": 0}, "stars": 6}
    fake.answers(answer_with_calls(("plan", wrong)))
    fake.answers(answer_with_calls(("plan", {"trip": {"to": "Lima", "days": 2}})))
    fake.answers({"response": "Three days."})
    outcome = await run(fake, plan)

    parameters = fake.requests[0].json()["tools"][0]["function"]["parameters"]
    assert parameters["properties"] == {
        "trip": Trip.model_json_schema(),
        "stars": {"type": "integer", "maximum": 5, "description": "How good.", "default": 3},
    }
    (failed,), (returned,) = (step.results for step in outcome.steps[:2])
    assert isinstance(failed, ToolFailed)
    assert str(failed.error) == (
        "arguments.trip.days must be greater than or equal to 1, got 0; "
        "arguments.stars must be less than or equal to 5, got 6"
    )
    assert isinstance(returned, ToolReturned)
    assert returned.value == Trip(to="Lima (3)", days=3)
    assert json.loads(returned.content) == {"to": "Lima (3)", "days": 3}


class Fare(BaseModel):
    """A price, whose names in JSON are not those in Python."""

    total: float = Field(alias="totalPrice")
    places: list["Stop"] = Field(default=[], alias="theStops")


class Stop(BaseModel):
    """A place."""

    city: str = Field(alias="cityName")


async def test_results_of_pydantic_have_the_names_of_their_schema(fake: FakeWorkersAI) -> None:
    """Aliases, also of models in models and in lists, as in the arguments."""

    def price(fare: Fare) -> list[Fare]:
        return [fare]

    sent_fare = {"totalPrice": 9.5, "theStops": [{"cityName": "Lima"}]}
    fake.answers(answer_with_calls(("price", {"fare": sent_fare})))
    fake.answers({"response": "9.50"})
    outcome = await run(fake, price)

    parameters = fake.requests[0].json()["tools"][0]["function"]["parameters"]
    assert set(parameters["properties"]["fare"]["properties"]) == set(sent_fare)
    (returned,) = outcome.steps[0].results
    assert isinstance(returned, ToolReturned)
    assert json.loads(returned.content) == [sent_fare]


async def test_an_answer_as_a_result_is_written_as_its_fields(fake: FakeWorkersAI) -> None:
    """A tool may return the answer of another model."""
    client = fake.client()

    async def ask(question: str) -> Any:
        return await client.run(MODEL, {"prompt": question})

    fake.answers(answer_with_calls(("ask", {"question": "?"})))
    fake.answers({"response": "42"})
    fake.answers({"response": "It is 42."})
    await client.run_tools(MODEL, ASKED, tools=[ask])

    assert json.loads(sent(fake)[2]["content"]) == {"value": {"response": "42"}}


async def test_blocking_functions_run_at_the_same_time(fake: FakeWorkersAI) -> None:
    """More of them than asyncio has threads: none ends before the last has begun."""
    calls = 50
    all_began = threading.Barrier(calls)

    def meet(number: int) -> int:
        all_began.wait(timeout=60)
        return number

    fake.answers(answer_with_calls(*(("meet", {"number": number}) for number in range(calls))))
    fake.answers({"response": "Done."})
    await run(fake, meet, on_error="raise")

    assert [one["content"] for one in sent(fake)[2:]] == [str(one) for one in range(calls)]


async def test_a_function_that_hangs_occupies_no_thread_of_asyncio(fake: FakeWorkersAI) -> None:
    """asyncio's own threads resolve host names. The function runs to its end."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    began, release, ended = asyncio.Event(), threading.Event(), asyncio.Event()

    def hang() -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait(60)
        loop.call_soon_threadsafe(ended.set)

    fake.answers(answer_with_calls(("hang", {})))
    async with run(fake, hang) as running:
        await anext(running)
        await anext(running)
        await began.wait()
    try:
        assert await asyncio.wait_for(asyncio.to_thread(str, "free"), 10) == "free"
        assert not ended.is_set()
    finally:
        release.set()
    await ended.wait()


class Counter:
    """Count."""

    async def __call__(self, number: int) -> int:
        """Count on."""
        await asyncio.sleep(0)
        return number + 1


def count_on(number: int) -> Awaitable[int]:
    """Return an awaitable."""
    return Counter()(number)


@pytest.mark.parametrize("tool", [PythonTool(Counter(), name="count_on"), count_on])
async def test_awaitable_results_are_awaited(fake: FakeWorkersAI, tool: Any) -> None:
    """An object with an async call, and a plain function that returns an awaitable."""
    fake.answers(answer_with_calls(("count_on", {"number": 1})))
    fake.answers({"response": "2"})
    await run(fake, tool)

    assert sent(fake)[2]["content"] == "2"


async def test_an_object_with_an_async_call_runs_on_the_loop() -> None:
    class Where:
        async def __call__(self) -> str:
            return threading.current_thread().name

    tool = PythonTool(Where(), name="where")
    with ThreadPoolExecutor(1) as threads:
        threads.shutdown()
        assert await tool.run({}, threads=threads) == threading.current_thread().name


@pytest.mark.parametrize(
    ("name", "given", "content"),
    [
        ("get_weather", {"city": 6}, "error: arguments.city must be a string, got 6"),
        (
            "get_weather",
            {"days": 2.9, "town": "a"},
            (
                "error: arguments.town is not a parameter; arguments.city is missing; "
                "arguments.days must be a whole number, got 2.9"
            ),
        ),
        ("get_weather", {"city": None}, "error: arguments.city must be a string, got null"),
        ("get_weather", '{"city": "', 'error: arguments must be JSON, got \'{"city": "\''),
        ("get_weather", ["a"], "error: arguments must be an object, got ['a']"),
        ("get_wether", {}, "error: there is no tool 'get_wether'; the tools are: get_weather"),
    ],
)
async def test_an_invalid_call_is_reported_to_the_model(
    fake: FakeWorkersAI, name: str, given: Any, content: str
) -> None:
    """With the rule; and the call is sent back with valid arguments."""
    fake.answers(answer_with_calls((name, given)))
    fake.answers(answer_with_calls(("get_weather", {"city": "SF"})))
    fake.answers({"response": "Dry."})
    outcome = await run(fake, on_error="raise")

    assert str(outcome) == "Dry."
    assert sent(fake)[2]["content"] == content
    arguments = json.loads(sent(fake)[1]["tool_calls"][0]["function"]["arguments"])
    assert isinstance(arguments, dict)
    (failed,) = outcome.steps[0].results
    assert isinstance(failed, ToolFailed)
    assert isinstance(failed.error, InputError)


async def test_errors_reported_to_the_model_contain_no_secret(fake: FakeWorkersAI) -> None:
    """The error repeats the client's token."""
    client = fake.client()

    def leaks() -> None:
        raise RuntimeError("401 with fake-api-token, Authorization: Bearer other " + "." * 9000)

    fake.answers(answer_with_calls(("leaks", {})))
    fake.answers({"response": "Sorry."})
    await client.run_tools(MODEL, ASKED, tools=[leaks])

    content = sent(fake)[2]["content"]
    assert content.startswith("error: RuntimeError: 401 with ***, Authorization: Bearer ***")
    assert len(content) == 500


async def test_results_sent_to_the_model_contain_no_secret(fake: FakeWorkersAI) -> None:
    """The caller gets the value unchanged."""

    def settings() -> dict[str, str]:
        return {"token": "fake-api-token"}

    fake.answers(answer_with_calls(("settings", {})))
    fake.answers({"response": "Thanks."})
    outcome = await run(fake, settings)

    assert sent(fake)[2]["content"] == '{"token": "***"}'
    (result,) = outcome.steps[0].results
    assert isinstance(result, ToolReturned)
    assert result.value == {"token": "fake-api-token"}
    assert result.output == {"token": "***"}


async def test_lone_surrogates_are_replaced(fake: FakeWorkersAI) -> None:
    """File names may contain them, and requests can't."""

    def name() -> str:
        return "caf\udce9, \ud83d\ude00"

    def names() -> list[str]:
        return ["\ud800"]

    def no_file() -> None:
        raise FileNotFoundError("caf\udce9")

    fake.answers(answer_with_calls(("name", {}), ("names", {}), ("no_file", {})))
    fake.answers({"response": "Thanks."})
    await run(fake, name, names, no_file)

    assert [one["content"] for one in sent(fake)[2:]] == [
        "caf\ufffd, \U0001f600",
        '["\ufffd"]',
        "error: FileNotFoundError: caf\ufffd",
    ]


async def test_an_error_without_a_message_is_reported_by_its_class(fake: FakeWorkersAI) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fails_oddly() -> None:
        raise Mute

    fake.answers(answer_with_calls(("fails_oddly", {})))
    fake.answers({"response": "Sorry."})
    await run(fake, fails_oddly)

    assert sent(fake)[2]["content"] == "error: Mute"


@pytest.mark.parametrize(("length", "content"), [(10, "." * 10), (11, None)])
async def test_max_characters_limits_the_result(
    fake: FakeWorkersAI, length: int, content: str | None
) -> None:
    def dots() -> str:
        return "." * length

    fake.answers(answer_with_calls(("dots", {})))
    fake.answers({"response": "Thanks."})
    await run(fake, PythonTool(dots, max_characters=10))

    too_long = "error: the tool returned 11 characters, the limit is 10"
    assert sent(fake)[2]["content"] == (content or too_long)


@pytest.mark.parametrize(
    ("name", "repeated"), [("x\n\nSystem: é" * 40, "x__System___"), ("", "unnamed")]
)
async def test_an_invalid_tool_name_is_not_sent_back(
    fake: FakeWorkersAI, name: str, repeated: str
) -> None:
    """The service may refuse the whole conversation. The event has the name unchanged."""
    fake.answers({"tool_calls": [{"id": "1", "name": name, "arguments": {}}]})
    fake.answers({"response": "Sorry."})
    outcome = await run(fake)

    asked, result = sent(fake)[1:]
    assert asked["tool_calls"][0]["function"]["name"] == result["name"]
    assert result["name"].startswith(repeated)
    assert len(result["name"]) <= 64
    assert outcome.steps[0].results[0].call.name == name


async def test_the_name_of_a_definition_is_sent_back_unchanged(fake: FakeWorkersAI) -> None:
    fake.answers(answer_with_calls(("files.list", {})))
    outcome = await run(fake, Function("files.list", "List."))
    assert outcome.messages[-1].payload()["tool_calls"][0]["function"]["name"] == "files.list"


async def test_a_result_that_json_cannot_express_fails(fake: FakeWorkersAI) -> None:
    def picture() -> bytes:
        return b"\x89PNG"

    fake.answers(answer_with_calls(("picture", {})))
    fake.answers({"response": "Sorry."})
    await run(fake, picture)

    content = "error: the tool returned a value of type bytes, which JSON can't express"
    assert sent(fake)[2]["content"] == content


async def test_a_tool_that_raises_stop_iteration_does_not_hang(fake: FakeWorkersAI) -> None:
    """A future can't hold a StopIteration."""

    def first() -> int:
        return next(iter(()))

    async def gives_up() -> None:
        raise asyncio.CancelledError

    fake.answers(answer_with_calls(("first", {}), ("gives_up", {})))
    fake.answers({"response": "Sorry."})
    await run(fake, first, gives_up)

    assert [one["content"] for one in sent(fake)[2:]] == [
        "error: RuntimeError: the tool raised StopIteration",
        "error: RuntimeError: the tool was cancelled",
    ]


def no_type(city) -> str:  # type: ignore[no-untyped-def]
    return str(city)


def complex_type(number: complex) -> str:
    return str(number)


def variadic_tool(*cities: str) -> str:
    return str(cities)


def generator_tool() -> Iterator[int]:
    yield 1


async def async_generator_tool() -> AsyncIterator[int]:
    yield 1


class Yields:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("tools", "options", "says"),
    [
        ([no_type], {}, "no_type: the parameter city must have a type"),
        ([complex_type], {}, "complex_type.number: complex has no JSON form"),
        (
            [variadic_tool],
            {},
            r"variadic_tool: the parameter \*cities: str must be passable by name",
        ),
        ([lambda: 1], {}, "the name of a tool must be 1 to 64 letters"),
        ([generator_tool], {}, "generator_tool: a tool must return its result, not yield it"),
        (
            [partial(async_generator_tool)],
            {},
            "async_generator_tool: a tool must return its result",
        ),
        ([Yields()], {}, "Yields: a tool must return its result"),
        (get_weather, {}, "tools must be a list of functions or definitions, got <function get_we"),
        (None, {}, "tools must be a list of functions or definitions, got None"),
        ("abc", {}, "tools must be a list of functions or definitions, got 'abc'"),
        ({"name": "a"}, {}, "tools must be a list of functions or definitions, got {'name'"),
        ([3], {}, "a tool must be a function or a definition, got 3"),
        ([{"description": "x"}], {}, "a tool must have a name"),
        (
            [get_weather, get_weather],
            {},
            "tools must have different names, got two named get_w",
        ),
        ([get_weather], {"max_steps": 0}, "max_steps must be a whole number, 1 or more, got 0"),
        ([get_weather], {"max_steps": True}, "max_steps must be a whole number, 1 or more"),
        ([get_weather], {"on_error": "ignore"}, "on_error must be 'tell' or 'raise', got 'ignore'"),
    ],
)
async def test_invalid_tools_and_options_are_refused_at_once(
    fake: FakeWorkersAI, tools: Sequence[Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        fake.client().run_tools(MODEL, ASKED, tools=tools, **options)


@pytest.mark.parametrize("limit", [0, True, 1.5])
def test_max_characters_must_be_a_whole_number(limit: Any) -> None:
    with pytest.raises(InputError, match="max_characters must be a whole number, 1 or more, got"):
        PythonTool(get_weather, max_characters=limit)


async def test_a_tool_may_have_another_name(fake: FakeWorkersAI) -> None:
    tool = PythonTool(get_weather, name="weather", description="Weather.")
    fake.answers(answer_with_calls(("weather", {"city": "SF"})))
    fake.answers({"response": "Dry."})
    await run(fake, tool)

    content = fake.requests[0].json()["tools"][0]["function"]
    assert (content["name"], content["description"]) == ("weather", "Weather.")
    assert sent(fake)[2]["content"] == "SF: dry for 1"
