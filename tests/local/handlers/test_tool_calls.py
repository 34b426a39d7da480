"""Tool calls: the right tool or none, arguments that follow the schema, in every form."""

from typing import Any

import orjson
import pytest

from cfai import Function, TextGeneration, user
from cfai.local import backends
from cfai.local.backends.roles import GenerationRequest
from cfai.local.handlers.tool_calls import (
    ToolChoice,
    ToolDescription,
    ask_for_arguments,
    read_tool_choice,
)
from tests.local.conftest import LLAMA, Local, client
from tests.local.handlers.test_generation import events
from tests.local.handlers.test_openai import GLM, v1

TEXT = {"type": "string"}


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": schema}


WEATHER = tool("get_weather", "Get the current weather for a city", city=TEXT)
TIMER = tool("set_timer", "Set a timer", minutes={"type": "integer"})
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]


def wrap(description: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": description}


def request(**fields: Any) -> dict[str, Any]:
    return {"messages": PARIS, "tools": [TIMER, WEATHER], "max_tokens": 120, "seed": 1, **fields}


# The forms of a call


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_call_has_the_form_of_the_service(local: Local, *, wrapped: bool) -> None:
    tools = [wrap(t) if wrapped else t for t in (TIMER, WEATHER)]
    result = (await local.post(LLAMA, request(tools=tools))).result
    assert list(result) == ["response", "tool_calls", "usage"]
    assert result["response"] is None
    assert result["tool_calls"] == [{"name": "get_weather", "arguments": {"city": "Paris"}}]


async def test_a_streamed_call_arrives_in_pieces(local: Local) -> None:
    """Source of the form: Cloudflare's workers-ai-provider, its tests of streamed calls."""
    reply = await local.post(LLAMA, request(stream=True))
    first, *pieces, last, done = map(orjson.loads, [*events(reply.body)[:-1], b'"end"'])
    assert done == "end"
    (call,) = first["tool_calls"]
    assert (call["type"], call["index"]) == ("function", 0)
    assert call["function"] == {"name": "get_weather", "arguments": ""}
    arguments = [piece["tool_calls"][0]["function"]["arguments"] for piece in pieces]
    assert orjson.loads("".join(arguments)) == {"city": "Paris"}
    assert last["finish_reason"] == "tool_calls"


async def test_chat_completions_have_the_form_of_openai(local: Local) -> None:
    body = request(model=LLAMA, tools=[wrap(TIMER), wrap(WEATHER)])
    choice = (await v1(local, "chat/completions", body)).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    assert orjson.loads(call["function"]["arguments"]) == {"city": "Paris"}
    reply = await v1(local, "chat/completions", {**body, "stream": True})
    chunks = [orjson.loads(event)["choices"][0] for event in events(reply.body)[:-1]]
    assert chunks[-1]["finish_reason"] == "tool_calls"
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "get_weather"
    pieces = "".join(call["function"]["arguments"] for call in calls)
    assert pieces == call["function"]["arguments"]


@pytest.mark.parametrize("model", [LLAMA, GLM])
async def test_our_client_reads_a_call(local: Local, model: str) -> None:
    weather = Function("get_weather", WEATHER["description"], WEATHER["parameters"])
    task = TextGeneration(
        [user("What is the weather in Paris?")], tools=[weather], max_tokens=120, seed=1
    )
    async with client(local.server) as ai:
        whole = await ai.run(model, task)
        async with ai.stream(model, task) as stream:
            tokens = [token async for token in stream]
    (call,) = whole.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})
    assert tokens


# Which tool


@pytest.mark.parametrize(
    ("choice", "message", "name"),
    [
        ("auto", "Tell me a joke", None),
        ("none", "What is the weather in Paris?", None),
        ("required", "Tell me a joke", "get_weather"),
        ({"type": "function", "function": {"name": "set_timer"}}, "Is it cold?", "set_timer"),
        ({"type": "function", "name": "set_timer"}, "Is it cold?", "set_timer"),
    ],
)
async def test_the_choice_is_followed(
    local: Local, choice: Any, message: str, name: str | None
) -> None:
    tools = [WEATHER] if choice == "required" else [TIMER, WEATHER]
    messages = [{"role": "user", "content": message}]
    body = request(messages=messages, tools=tools, tool_choice=choice)
    result = (await local.post(LLAMA, body)).result
    assert [call["name"] for call in result.get("tool_calls", [])] == ([name] if name else [])
    assert bool(result["response"]) == (name is None)


async def test_the_result_of_a_tool_is_answered_with_text(local: Local) -> None:
    call = {"id": "1", **wrap({"name": "get_weather", "arguments": '{"city":"Paris"}'})}
    messages = [
        *PARIS,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Sunny, 21 degrees"},
    ]
    result = (await local.post(LLAMA, request(messages=messages))).result
    assert result["response"]
    assert "tool_calls" not in result


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"tools": [], "tool_choice": "required"}, 5006, "tool_choice needs tools"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            5006,
            "tool_choice must name one of the tools",
        ),
        ({"tools": [{**WEATHER, "parameters": {"type": "array"}}]}, 5006, "schema of an object"),
        ({"tools": [{"name": "f"}]}, 5006, "tools[0]"),
        ({"max_tokens": 1}, 8006, "max_tokens is too low"),
    ],
)
async def test_invalid_tools_are_refused(
    local: Local, fields: dict[str, Any], code: int, message: str
) -> None:
    status, actual, text = (await local.post(LLAMA, request(**fields))).error
    assert (status, actual) == (400, code)
    assert message in text


@pytest.mark.parametrize(
    ("schema", "limited"),
    [
        ({"type": "string"}, True),
        ({"type": "string", "description": "d", "title": "t"}, True),
        ({"type": "string", "maxLength": 500}, False),
        ({"type": "string", "enum": ["a"]}, False),
        ({"type": "integer"}, False),
        ({"description": "d"}, False),
        (True, False),
    ],
)
def test_texts_without_a_limit_have_at_most_200_characters(schema: Any, *, limited: bool) -> None:
    """A small model may not find their ends."""
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    request = ask_for_arguments(
        GenerationRequest("Hi", max_tokens=5, stop=("x",), seed=3),
        ToolDescription("f", "Does it", parameters),
        "Now",
    )
    expected = {**schema, "maxLength": 200} if limited else schema
    assert request.schema == {**parameters, "properties": {"a": expected}}
    assert (request.stop, request.max_tokens, request.seed) == ((), 5, 3)
    system, message = list(request.prompt)
    assert message == {"role": "user", "content": "Now"}
    assert isinstance(system, dict)
    assert system["content"].startswith("You call the function f: Does it. Write its arguments")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": ["on", 5]}, "a (on or 5)"),
        ({"type": "string", "description": "The city"}, "a (The city)"),
        ({"type": "integer"}, "a (integer)"),
        ({}, "a (any)"),
        (True, "a (any)"),
        ({"enum": 5}, "a (any)"),
    ],
)
def test_the_model_reads_what_each_argument_is(schema: Any, words: str) -> None:
    tool = ToolDescription("f", "d", {"type": "object", "properties": {"a": schema}})
    request = GenerationRequest("Hi", max_tokens=5)
    system, _ = list(ask_for_arguments(request, tool, "Now").prompt)
    assert isinstance(system, dict)
    assert words in system["content"]
    none = ToolDescription("f", "d", {"type": "object", "properties": {}})
    system, _ = list(ask_for_arguments(request, none, "Now").prompt)
    assert system == {"role": "system", "content": "You call the function f: d."}


@pytest.mark.parametrize(
    ("body", "last", "forced", "names"),
    [
        ({}, "user", None, None),
        ({"tools": []}, "user", None, None),
        ({"tools": [TIMER], "tool_choice": "none"}, "user", None, None),
        ({"tools": [TIMER]}, "tool", None, None),
        ({"tools": [TIMER], "tool_choice": "required"}, "tool", True, ["set_timer"]),
        ({"tools": [TIMER, WEATHER]}, "user", False, ["set_timer", "get_weather"]),
        ({"tools": [TIMER], "tool_choice": "auto"}, "user", False, ["set_timer"]),
        (
            {"tools": [TIMER, WEATHER], "tool_choice": {"name": "get_weather"}},
            "user",
            True,
            ["get_weather"],
        ),
    ],
)
def test_which_tools_can_be_called(
    body: dict[str, Any], last: str, forced: bool | None, names: list[str] | None
) -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "third"},
        *([{"role": "tool", "content": "fourth"}] if last == "tool" else []),
    ]
    choice = read_tool_choice(body, messages)
    if names is None:
        assert choice is None
    else:
        assert choice is not None
        assert (choice.forced, choice.message) == (forced, "second")
        assert [tool.name for tool in choice.tools] == names
    alone = read_tool_choice({"tools": [TIMER]}, [{"role": "system", "content": "only"}])
    assert alone is not None
    assert alone.message == "only"


@pytest.mark.parametrize(
    "fields", [{"tools": "x"}, {"tools": [5]}, {"tools": [TIMER], "tool_choice": 5}]
)
async def test_the_tools_of_a_prompt_are_checked(local: Local, fields: dict[str, Any]) -> None:
    status, code, message = (await local.post(LLAMA, {"prompt": "Hi", **fields})).error
    assert (status, code) == (400, 5006)
    assert "tool" in message


async def test_a_tool_without_parameters_is_called(local: Local) -> None:
    ping = {"name": "ping", "description": "Ping the server", "parameters": {}}
    result = (await local.post(LLAMA, request(tools=[ping], tool_choice="required"))).result
    assert result["tool_calls"] == [{"name": "ping", "arguments": {}}]


# Quality: labelled requests, with the accuracy that docs/local-server.md states

CHOICES = [
    tool("play_music", "Play a song or an artist"),
    tool("book_table", "Book a table in a restaurant"),
    tool("translate_text", "Translate a text into another language"),
    tool("stock_price", "Look up the price of a company's shares"),
    tool("create_event", "Add an appointment to the calendar"),
]
CHOSEN = [
    ("Play some jazz by Miles Davis", "play_music"),
    ("I want to hear the Beatles", "play_music"),
    ("Put on a relaxing song", "play_music"),
    ("Reserve a table for two tonight", "book_table"),
    ("Book us dinner at an Italian restaurant", "book_table"),
    ("Find a place to eat for four people at 8", "book_table"),
    ("Translate good morning into Spanish", "translate_text"),
    ("How do you say thank you in Japanese?", "translate_text"),
    ("What is this sentence in German: I am tired", "translate_text"),
    ("What is the share price of Apple?", "stock_price"),
    ("How much is one Tesla stock?", "stock_price"),
    ("Are the shares of Nvidia up today?", "stock_price"),
    ("Add a meeting with Tom on Friday", "create_event"),
    ("Put the dentist on my calendar for 3 pm", "create_event"),
    ("Schedule a call with Ana next Monday", "create_event"),
    ("Why is the sky blue?", None),
    ("Who painted the Mona Lisa?", None),
    ("What is seven times eight?", None),
    ("Write a short story about a dragon", None),
    ("Explain how a bicycle works", None),
    ("How tall is Mount Everest?", None),
    ("Give me advice on sleeping better", None),
    ("What is a prime number?", None),
    ("Hello there", None),
]


def test_the_right_tool_or_none_is_chosen_at_least_21_times_in_24() -> None:
    right = 0
    for message, name in CHOSEN:
        messages = [{"role": "user", "content": message}]
        choice = read_tool_choice({"tools": CHOICES}, messages)
        assert isinstance(choice, ToolChoice)
        chosen = choice.choose(backends.embedder())
        right += (chosen.name if chosen else None) == name
    print(f"{right} of {len(CHOSEN)} right")
    assert right >= 21


NUMBER = {"type": "number"}
CURRENCY = tool(
    "convert_currency",
    "Convert an amount of money from one currency to another",
    amount=NUMBER,
    source={**TEXT, "description": "ISO code of the currency to convert from"},
    target={**TEXT, "description": "ISO code of the currency to convert to"},
)
ADD = tool("add", "Add two numbers", a=NUMBER, b=NUMBER)
FLIGHTS = tool(
    "search_flights",
    "Search for flights",
    origin={**TEXT, "description": "The city of departure"},
    destination={**TEXT, "description": "The city of arrival"},
)
LIGHT = tool("set_light", "Switch a light", room=TEXT, state={"enum": ["on", "off"]})
CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("What is the weather in Paris?", WEATHER, {"city": "Paris"}),
    ("Is it raining in Berlin right now?", WEATHER, {"city": "Berlin"}),
    ("How cold is it in Oslo today?", WEATHER, {"city": "Oslo"}),
    ("Weather for New York please", WEATHER, {"city": "New York"}),
    ("Convert 100 GBP to JPY", CURRENCY, {"amount": 100, "source": "GBP", "target": "JPY"}),
    ("How much is 50 USD in EUR?", CURRENCY, {"amount": 50, "source": "USD", "target": "EUR"}),
    ("Change 20 EUR into CHF", CURRENCY, {"amount": 20, "source": "EUR", "target": "CHF"}),
    ("Set a timer for 5 minutes", TIMER, {"minutes": 5}),
    ("Wake me in 20 minutes", TIMER, {"minutes": 20}),
    ("Remind me in 45 minutes", TIMER, {"minutes": 45}),
    ("What is 2 plus 3?", ADD, {"a": 2, "b": 3}),
    ("Add 17 and 25", ADD, {"a": 17, "b": 25}),
    ("Sum 4 and 9", ADD, {"a": 4, "b": 9}),
    ("Find a flight from Rome to Madrid", FLIGHTS, {"origin": "Rome", "destination": "Madrid"}),
    ("I want to fly from Paris to Tokyo", FLIGHTS, {"origin": "Paris", "destination": "Tokyo"}),
    ("Flights London to Dublin", FLIGHTS, {"origin": "London", "destination": "Dublin"}),
    ("Turn on the light in the kitchen", LIGHT, {"room": "kitchen", "state": "on"}),
    ("Switch off the bedroom light", LIGHT, {"room": "bedroom", "state": "off"}),
    ("Lights off in the office", LIGHT, {"room": "office", "state": "off"}),
    ("Light on in the bathroom, please", LIGHT, {"room": "bathroom", "state": "on"}),
]


@pytest.mark.parametrize("part", range(4))
async def test_the_arguments_are_right_at_least_3_times_in_5(local: Local, part: int) -> None:
    """They follow the schema always."""
    right = 0
    calls = CALLS[part::4]
    for message, description, expected in calls:
        messages = [{"role": "user", "content": message}]
        body = request(messages=messages, tools=[description], tool_choice="required")
        reply = await local.post(LLAMA, {**body, "temperature": 0})
        (call,) = reply.result["tool_calls"]
        assert call["arguments"].keys() == expected.keys()
        right += call["arguments"] == expected
    print(f"{right} of {len(calls)} right")
    assert right >= 3
