"""Conversations: how they grow, fit, and come back from JSON."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai import Conversation, ImagePart, Message, Text, TextGeneration, ToolCall, assistant, user
from cfai.conversation import sendable_call
from cfai.errors import InputError
from cfai.testing import FakeWorkersAI

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)

CALL = ToolCall("weather", {"city": "Lima"}, "call-1")
TOOLS = (
    Conversation()
    .system("Be brief.")
    .user("Hi")
    .assistant("Hello.")
    .user("Lima?")
    .assistant(tool_calls=[CALL])
    .tool_result({"celsius": 22}, "call-1", name="weather")
    .assistant("22 degrees.")
    .user("Thanks")
)


def roles(talk: Conversation) -> str:
    return " ".join(message.role for message in talk)


def test_adding_returns_a_longer_conversation() -> None:
    """The original does not change."""
    before = Conversation().system("Be brief.")
    asked = before.user("What is snow?")
    answered = asked.add(Text("Frozen rain.", tool_calls=(CALL,)))

    assert (len(before), len(asked), len(answered)) == (1, 2, 3)
    assert roles(answered) == "system user assistant"
    assert answered[-1] == assistant("Frozen rain.", tool_calls=[CALL])
    assert repr(answered) == "<Conversation of 3 messages>"


def test_it_is_a_sequence_of_messages() -> None:
    talk = Conversation([{"role": "user", "content": "a"}, user("b", ImagePart(PNG))])

    assert talk[0] == user("a") == talk.messages[0]
    assert talk[:1] == Conversation([user("a")])
    assert list(reversed(talk))[-1] == user("a")
    assert user("a") in talk
    assert hash(talk[:1]) == hash(Conversation([user("a")]))
    assert pickle.loads(pickle.dumps(talk[:1])) == talk[:1]  # noqa: S301  # made in this very line
    assert not Conversation()


@pytest.mark.parametrize("wrong", ["hi", None, {"role": "user", "content": "x"}, [1], [{}]])
def test_invalid_messages_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        Conversation(wrong)


async def test_it_can_be_the_messages_of_a_task(fake: FakeWorkersAI) -> None:
    """A conversation is the messages of a task, as it is."""
    fake.answers({"response": "Hello."})
    talk = Conversation().system("Be brief.").user("Hi")
    talk = talk.add(await fake.client().run("@cf/a/b", TextGeneration(talk)))

    assert [one["role"] for one in fake.requests[0].json()["messages"]] == ["system", "user"]
    assert talk[-1] == assistant("Hello.")


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, "system user assistant user assistant tool assistant user"),
        ({"messages": 8}, "system user assistant user assistant tool assistant user"),
        ({"messages": 7}, "system user assistant tool assistant user"),
        # A call and its result stay together, and with what was asked.
        ({"messages": 5}, "system user"),
        ({"messages": 2}, "system user"),
        ({"messages": 1}, "system user"),
        ({"characters": 1000}, "system user assistant user assistant tool assistant user"),
        ({"characters": TOOLS.characters - 1}, "system user assistant tool assistant user"),
        ({"characters": 1}, "system user"),
        ({"messages": 7, "characters": 1}, "system user"),
    ],
)
def test_trim_removes_the_oldest_turns(limits: dict[str, int], kept: str) -> None:
    assert roles(TOOLS.trim(**limits)) == kept


def test_instructions_in_the_middle_belong_to_the_next_turn() -> None:
    """They are removed and kept with it."""
    talk = (
        Conversation().system("S").user("a").assistant("b").system("1").system("2").user("c")
    ).assistant("d")
    assert [one.content for one in talk.trim(messages=5)] == ["S", "1", "2", "c", "d"]
    assert [one.content for one in talk.user("e").trim(messages=5)] == ["S", "e"]
    assert [one.content for one in talk.system("3").trim(messages=1)] == list("S12cd3")


@pytest.mark.parametrize(
    "before",
    [Conversation().assistant("hello"), Conversation().tool_result("x"), TOOLS, Conversation()],
)
def test_a_trimmed_conversation_starts_with_the_user(before: Conversation) -> None:
    talk = before.user("a").assistant("b")
    assert talk.trim(messages=99) == talk
    assert roles(talk.trim(messages=2)).removeprefix("system ") == "user assistant"


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_limits_must_be_whole_numbers(limit: Any) -> None:
    with pytest.raises(InputError, match=r"messages must be a whole number, 1 or more"):
        TOOLS.trim(messages=limit)


def test_characters_counts_texts_and_tool_calls() -> None:
    talk = Conversation().user("abc", ImagePart(PNG)).assistant("de", tool_calls=[CALL])
    assert talk.characters == len("abc" + "de" + "weather" + '{"city": "Lima"}')


def test_arguments_without_json_form_count_as_their_repr() -> None:
    """Such a call can't be sent, but it can be counted."""
    circle: dict[str, Any] = {}
    circle["x"] = circle
    talk = Conversation().assistant(tool_calls=[ToolCall("f", circle), ToolCall("f", {(): 1})])
    assert talk.characters == len("f" + "{'x': {...}}" + "f" + "{(): 1}")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
CALLS = st.builds(ToolCall, TEXTS, JSON, st.none() | TEXTS)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "odd"]), TEXTS),
    st.builds(user, TEXTS, TEXTS),
    st.builds(assistant, TEXTS, tool_calls=st.lists(CALLS, max_size=2)),
    st.builds(lambda c, i, n: Message("tool", c, tool_call_id=i, name=n), TEXTS, TEXTS, TEXTS),
    st.builds(lambda c, x: Message("user", c, extra={"x": x}), TEXTS, JSON),
)
TALKS = st.builds(Conversation, st.lists(MESSAGES, max_size=8))


@given(TALKS)
def test_json_round_trips(talk: Conversation) -> None:
    assert Conversation.from_json(talk.to_json()) == talk
    assert Conversation.from_json(talk.to_json().encode()) == talk


@given(TALKS, st.integers(1, 10), st.integers(1, 60))
def test_a_trimmed_conversation_fits(talk: Conversation, messages: int, characters: int) -> None:
    """Only the last turn may exceed the limits. The instructions are kept."""
    trimmed = talk.trim(messages=messages, characters=characters)
    head = [one for one in trimmed if one.role == "system"]
    turns = sum(one.role == "user" for one in trimmed)

    assert trimmed[len(trimmed) - 1 :] == talk[len(talk) - 1 :] or not talk
    assert head or not (talk and talk[0].role == "system")
    fits = len(trimmed) <= messages and trimmed.characters <= characters
    assert fits or turns <= 1
    assert trimmed.trim(messages=messages, characters=characters) == trimmed


def test_the_json_of_a_lone_surrogate_can_be_written_to_a_file(tmp_path: Path) -> None:
    talk = Conversation().user("caf\udce9 \\udce9 \U0001f600")
    (tmp_path / "talk.json").write_text(talk.to_json(), encoding="utf-8")
    assert Conversation.from_json((tmp_path / "talk.json").read_bytes()) == talk


def test_images_are_written_as_they_are_sent(tmp_path: Path) -> None:
    """Bytes and files become the `data:` URI that the service gets."""
    (tmp_path / "a.png").write_bytes(PNG)
    talk = Conversation().user("What is it?", ImagePart(tmp_path / "a.png"))
    back = Conversation.from_json(talk.to_json())

    assert TextGeneration(back).payload() == TextGeneration(talk).payload()
    assert Conversation.from_json(back.to_json()) == back


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be JSON"),
        ("NaN", "NaN is not JSON"),
        ("[" * 100_000, "must be JSON"),
        (b"\xff", "must be JSON"),
        (None, "must be JSON"),
        (
            (
                '{"version":1,"messages":[{"role":"assistant","content":"",'
                '"tool_calls":[{"name":"f","id":7}]}]}'
            ),
            r"messages\[0\]: the id of a tool call must be a string, got 7",
        ),
        ("[]", "must have version and messages"),
        ('{"messages":[]}', "must have version and messages"),
        ('{"version":1,"messages":{}}', "must have version and messages"),
        ('{"version":1,"messages":[],"more":1}', "must have version and messages"),
        ('{"version":2,"messages":[],"more":1}', "must have version 1, got 2"),
        ('{"version":true,"messages":[]}', "must have version 1, got True"),
        ('{"version":1,"messages":["hi"]}', r"messages\[0\] must be a message"),
        (
            '{"version":1,"messages":[{"role":"user"}]}',
            r"messages\[0\]: a message must have a content",
        ),
        ('{"version":1,"messages":[{"role":"user","content":"a","x":1}]}', r"messages\[0\] must"),
        ('{"version":1,"messages":[{"role":"user","content":null}]}', "must not be null"),
    ],
)
def test_other_json_is_refused(text: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Conversation.from_json(text)


def test_the_json_starts_with_its_version() -> None:
    """Later versions can then decide how to read the rest."""
    document = json.loads(Conversation().user("é").to_json())
    assert document == {"version": 1, "messages": [{"role": "user", "content": "é"}]}


def test_values_without_json_form_are_refused() -> None:
    with pytest.raises(InputError, match="can't be written as JSON"):
        Conversation().assistant(tool_calls=[ToolCall("f", {"x": object()})]).to_json()


# Messages of the AI SDK

# What `useChat` of npm's @ai-sdk/react 3.0 posts: the message that `readUIMessageStream` built.
POSTED: list[Any] = [
    {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Weather in Lima and X?"}]},
    {
        "id": "2",
        "role": "assistant",
        "metadata": {"usage": {"prompt_tokens": 4}},
        "parts": [
            {"type": "step-start"},
            {"type": "reasoning", "id": "1", "text": "Hm", "state": "done"},
            {"type": "text", "text": "Let me ", "state": "done"},
            {"type": "text", "text": "see.", "state": "done"},
            {
                "type": "tool-get_weather",
                "toolCallId": "a",
                "state": "output-available",
                "input": {"city": "Lima"},
                "output": {"dry": True, "note": "Grüezi"},
            },
            {
                "type": "dynamic-tool",
                "toolName": "get_weather",
                "toolCallId": "b",
                "state": "output-error",
                "rawInput": {"town": "X"},
                "errorText": "error: arguments.city is missing",
            },
            {
                "type": "tool-get_weather",
                "toolCallId": "c",
                "state": "input-available",
                "input": {"city": "never answered"},
            },
            {"type": "data-note", "data": 1},
            {"type": "source-url", "sourceId": "1", "url": "https://example.com"},
            {"type": "step-start"},
            {"type": "text", "text": "Dry.", "state": "streaming"},
        ],
    },
    {
        "id": "3",
        "role": "user",
        "parts": [
            {"type": "text", "text": "And this?"},
            {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
            {"type": "data-place", "data": {}},
        ],
    },
]


def test_messages_of_the_ai_sdk_are_read() -> None:
    """Each step is a message with its calls, and the results follow."""

    def function(arguments: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}

    assert [message.payload() for message in Conversation.from_ai_sdk(POSTED)] == [
        {"role": "user", "content": "Weather in Lima and X?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", **function('{"city": "Lima"}')},
                {"id": "b", **function('{"town": "X"}')},
            ],
        },
        {
            "role": "tool",
            "content": '{"dry": true, "note": "Grüezi"}',
            "tool_call_id": "a",
            "name": "get_weather",
        },
        {
            "role": "tool",
            "content": "error: arguments.city is missing",
            "tool_call_id": "b",
            "name": "get_weather",
        },
        {"role": "assistant", "content": "Dry."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ({"state": "output-available", "output": "as is"}, "as is"),
        ({"state": "output-available", "output": None}, "null"),
        ({"state": "output-available", "output": [1]}, "[1]"),
        ({"state": "output-error", "errorText": "get_weather failed"}, "error: get_weather failed"),
        ({"state": "output-denied"}, "error: the user did not allow this call"),
    ],
)
def test_results_of_tools_are_read_from_the_ai_sdk(part: Any, content: str) -> None:
    parts = [{"type": "tool-f", "toolCallId": "a", "input": {}, **part}]
    messages = Conversation.from_ai_sdk([{"role": "assistant", "parts": parts}])
    assert [message.role for message in messages] == ["assistant", "tool"]
    assert messages[1].content == content


@pytest.mark.parametrize(
    ("name", "arguments", "sent"),
    [
        ("f", '{"tz": "x"', ("f", "{}")),
        ("f", "[1]", ("f", "{}")),
        ("f", [1], ("f", "{}")),
        ("f", 7, ("f", "{}")),
        ("f", None, ("f", "{}")),
        ("f", '{"tz": "x"}', ("f", '{"tz": "x"}')),
        ("get time!", {}, ("get_time_", "{}")),
        ("ü" * 99, {}, ("_" * 64, "{}")),
    ],
)
def test_invalid_calls_in_the_ai_sdk_are_sent_as_valid_ones(
    name: str, arguments: Any, sent: tuple[str, str]
) -> None:
    """A service refuses others, and with them every later question of the chat."""
    part = {"toolCallId": "a", "state": "output-error", "errorText": "no", "rawInput": arguments}
    for kind in ({"type": f"tool-{name}"}, {"type": "dynamic-tool", "toolName": name}):
        messages = Conversation.from_ai_sdk([{"role": "assistant", "parts": [{**kind, **part}]}])
        call, result = (message.payload() for message in messages)
        function = call["tool_calls"][0]["function"]
        assert (function["name"], function["arguments"]) == sent
        assert result["name"] == sent[0]


def test_messages_of_only_data_parts_are_left_out() -> None:
    data = {"type": "data-choice", "data": 1}
    posted = [
        {"role": "user", "parts": [data]},
        {"role": "user", "parts": [data, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "parts": [data, {"type": "reasoning", "text": "Hm"}]},
    ]
    (message,) = Conversation.from_ai_sdk(posted)
    assert message.payload() == {"role": "user", "content": "Hi"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("output", [nested(100_000), 10**5000], ids=["deep", "long"])
def test_outputs_that_are_no_json_are_input_errors(output: Any) -> None:
    part = {"type": "tool-f", "toolCallId": "a", "state": "output-available", "output": output}
    with pytest.raises(InputError, match="the output of a tool can't be written as JSON"):
        Conversation.from_ai_sdk([{"role": "assistant", "parts": [part]}])


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("part", ["abc", None, 1, {}, {"type": None}, {"type": "text", "text": 5}])
def test_malformed_parts_of_the_ai_sdk_are_named(role: str, part: Any) -> None:
    with pytest.raises(InputError, match=r"messages\[0\]\.parts\[0\] must "):
        Conversation.from_ai_sdk([{"role": role, "parts": [part]}])


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ({"messages": []}, r"messages must be a list, got \{'messages'"),
        (["hi"], r"messages\[0\] must have a role and parts, got 'hi'"),
        ([{"role": "user", "content": "hi"}], r"messages\[0\] must have a role and parts"),
        ([{"role": "system", "parts": []}], r"messages\[0\] must not have the role system: add"),
        ([{"role": "tool", "parts": []}], r"messages\[0\] must have a role and parts"),
        ([{"role": "user", "parts": []}], r"messages\[0\]\.parts must not be empty"),
        *(
            (
                [
                    {
                        "role": "assistant",
                        "parts": [{**kind, "toolCallId": "a", "state": "output-denied"}],
                    }
                ],
                r"messages\[0\]\.parts\[0\] must have toolCallId and a name",
            )
            for kind in ({"type": "dynamic-tool"}, {"type": "dynamic-tool", "toolName": 5})
        ),
        (
            [{"role": "user", "parts": [{"type": "text", "text": 1}]}],
            r"messages\[0\]\.parts\[0\] must be a text or a file",
        ),
        (
            [
                {
                    "role": "user",
                    "parts": [{"type": "file", "mediaType": "text/plain", "url": "data:,a"}],
                }
            ],
            r"messages\[0\]\.parts\[0\] must be an image, got text/plain",
        ),
        (
            [
                {
                    "role": "user",
                    "parts": [{"type": "file", "mediaType": "image/png", "url": "file:///etc"}],
                }
            ],
            r"parts\[0\]\.url must be a data: or https: URL, got 'file:///etc'",
        ),
        (
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "tool-f", "state": "output-available", "output": 1}],
                }
            ],
            r"messages\[0\]\.parts\[0\] must have toolCallId and a name",
        ),
    ],
)
def test_wrong_messages_of_the_ai_sdk_are_refused(messages: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Conversation.from_ai_sdk(messages)


def wrong_calls() -> list[tuple[str, Any]]:
    """Names and arguments as models get them wrong."""
    values = ['{"tz": "x"', "", "x", "[1]", "5", "null", [1], 5, True, None, '"{\\"a\\": 1"']
    return [*(("f", value) for value in values), ("get time!", {"a": 1}), ("", {}), ("é" * 80, {})]


@pytest.mark.parametrize(("name", "arguments"), wrong_calls())
async def test_wrong_calls_come_back_from_the_ai_sdk_as_the_run_itself_sent_them(
    fake: FakeWorkersAI, name: str, arguments: Any
) -> None:
    """The model's next turn and the browser's next question repeat the same call and result."""

    def f(a: int) -> int:
        return a

    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "call00001", "function": {"name": name, "arguments": written}}
    fake.answers({"response": "", "tool_calls": [call]})
    fake.answers({"response": "Sorry."})
    async with fake.client() as ai:
        outcome = await ai.run_tools("@cf/any/model", "Hi", tools=[f])
    parts = [
        {
            "type": f"tool-{name}",
            "toolCallId": "call00001",
            "state": "output-error",
            "rawInput": arguments,
            "errorText": outcome.steps[0].results[0].content,
        },
        {"type": "step-start"},
        {"type": "text", "text": "Sorry."},
    ]
    posted = [
        {"role": "user", "parts": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "parts": parts},
    ]
    assert [message.payload() for message in Conversation.from_ai_sdk(posted)] == [
        message.payload() for message in outcome.messages
    ]


@pytest.mark.parametrize("arguments", ['{"tz": "x"', "[1]", [1], 5, None, "x"])
def test_wrong_arguments_of_an_answer_are_not_sent_back(arguments: Any) -> None:
    """Templates of models decode the arguments of earlier calls, and refuse all but objects."""
    talk = Conversation().user("Hi").add(Text(tool_calls=(ToolCall("f", arguments, "1"),)))
    assert talk[-1].payload()["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a" * 64, "a" * 64),
        ("a" * 65, "a" * 64),
        ("a b!", "a_b_"),
        ("ä", "_"),
        ("", "unnamed"),
        ("A-z_09", "A-z_09"),
    ],
)
def test_the_name_of_a_call_is_sent_as_the_service_takes_it(name: str, sent: str) -> None:
    """Up to 64 letters, digits, _ and -; but the name of a tool is left alone."""
    assert sendable_call(ToolCall(name, {}, "1")).name == sent
    assert sendable_call(ToolCall(name, {}, "1"), names=[name]).name == name
