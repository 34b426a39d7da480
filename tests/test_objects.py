"""Structured output: schemas, the forms of answers that are read, and errors."""

import asyncio
import copy
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from time import process_time
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from attrs import frozen
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field, RootModel

from cfai import (
    BadRequest,
    DecodeError,
    InputError,
    ParseError,
    Prompt,
    StreamInterrupted,
    Text,
    TextGeneration,
    WorkersAI,
    objects,
    system,
    user,
)
from cfai.local import Server
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"


@frozen
class Recipe:
    """A dish."""

    title: str
    minutes: int
    steps: list[str]


class Country(TypedDict):
    name: str
    capital: str


@dataclass
class Tree:
    name: str
    children: "list[Tree]"


@dataclass
class Settings:
    a: int = 0
    b: str = ""


PIE = Recipe("Pie", 40, ["Bake."])
PIE_JSON = '{"title": "Pie", "minutes": 40, "steps": ["Bake."]}'
ASKED = TextGeneration([user("A recipe for pie.")], max_tokens=100)


async def parse(fake: FakeWorkersAI, into: Any = Recipe, **options: Any) -> Any:
    return await fake.client().parse(MODEL, ASKED, into=into, **options)


async def test_the_schema_of_the_type_is_sent(fake: FakeWorkersAI) -> None:
    """Without a wrapper around it, as the service expects, and not as a stream."""
    fake.answers({"response": PIE_JSON})
    assert await parse(fake) == PIE

    body = fake.requests[0].json()
    assert body["max_tokens"] == 100
    assert not body.get("stream")
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "minutes": {"type": "integer"},
                "steps": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["title", "minutes", "steps"],
            "additionalProperties": False,
            "description": "A dish.",
        },
    }


# WIRE: the docs of JSON mode have an object under `response`; pydantic-ai's Cloudflare provider
# knows an object as `content`, and text in a fence.
@pytest.mark.parametrize(
    "result",
    [
        b'{"response":{"name":"India","capital":"New Delhi"},"tool_calls":[]}',
        b'{"response":"{\\"name\\": \\"India\\", \\"capital\\": \\"New Delhi\\"}"}',
        b'{"response":"```json\\n{\\"name\\": \\"India\\", \\"capital\\": \\"New Delhi\\"}\\n```"}',
        (
            b'{"response":"Sure {here}! ```json\\n{\\"name\\":\\"India\\",\\"capital\\":'
            b'\\"New Delhi\\"}\\n``` [1]"}'
        ),
        b'{"choices":[{"message":{"content":{"name":"India","capital":"New Delhi"}}}]}',
        (
            b'{"choices":[{"message":{"role":"assistant","content":"{\\"name\\":\\"India\\",'
            b'\\"capital\\":\\"New Delhi\\"}"},"finish_reason":"stop"}]}'
        ),
        (
            b'{"response":"\\"{\\\\\\"name\\\\\\":\\\\\\"India\\\\\\",\\\\\\"capital\\\\\\":'
            b'\\\\\\"New Delhi\\\\\\"}\\""}'
        ),
    ],
)
async def test_objects_in_every_form_are_read(fake: FakeWorkersAI, result: bytes) -> None:
    fake.says(b'{"result":' + result + b',"success":true,"errors":[],"messages":[]}')
    assert await parse(fake, Country) == {"name": "India", "capital": "New Delhi"}


@pytest.mark.parametrize(
    ("into", "text", "value"),
    [
        (list[int], {"value": [1, 2]}, [1, 2]),
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "Here: [1, 2], as asked", [1, 2]),
        (int, {"value": 3}, 3),
        (int, 3, 3),
        (str, {"value": "a"}, "a"),
        (Literal["good", "bad"], {"value": "bad"}, "bad"),
        (date, {"value": "2026-01-31"}, date(2026, 1, 31)),
        (Recipe | None, {"value": None}, None),
        (Recipe | None, "null", None),
        (Recipe | None, PIE_JSON, PIE),
        (dict[str, int], {"value": 1}, {"value": 1}),
        (list[Recipe], "[" + PIE_JSON + "]", [PIE]),
    ],
)
async def test_non_object_types_are_wrapped_in_an_object(
    fake: FakeWorkersAI, into: Any, text: Any, value: Any
) -> None:
    """Models write only objects in JSON mode. The bare value is accepted, too."""
    fake.answers({"response": text})
    assert await parse(fake, into) == value

    schema = fake.requests[0].json()["response_format"]["json_schema"]
    assert schema["type"] == "object"


def test_definitions_are_at_the_top_of_the_schema() -> None:
    @dataclass
    class Pair:
        one: Recipe
        other: Recipe

    made = objects.schema(list[Pair])
    assert list(made) == ["type", "properties", "required", "additionalProperties", "$defs"]
    assert list(made["$defs"]) == ["Recipe"]


@pytest.mark.parametrize(
    ("text", "finish", "problem"),
    [
        ("I can't.", "stop", "there is no JSON in its text"),
        ("", None, "there is no JSON in its text"),
        (
            '{"title": "P',
            "length",
            "a JSON value in its text is not complete (the answer was cut off at its maximum",
        ),
        (PIE_JSON.replace("40", "4.5"), "stop", "Recipe.minutes must be a whole number, got 4.5"),
        (PIE_JSON.replace('"Pie"', "null"), "stop", "Recipe.title must be a string, got null"),
        ('{"steps": []}', "stop", "Recipe.title is missing; Recipe.minutes is missing"),
        ("[]", "stop", "Recipe must be an object, got []"),
        ("NaN", "stop", "there is no JSON in its text"),
        ("1e400", "stop", "there is no JSON in its text"),
        ('{"minutes": 1e400}', "stop", "there is no JSON in its text"),
        ("[" * 5000, "stop", "a JSON value in its text is not complete"),
        ("{" * 5000, "stop", "a JSON value in its text is not complete"),
        ("[" * 5000 + "]" * 5000, "stop", "there is no JSON in its text"),
        ("[1] " * 5001, "stop", "there are more than 5000 JSON values in its text"),
    ],
)
async def test_a_wrong_answer_raises_parse_error_with_its_text(
    fake: FakeWorkersAI, text: str, finish: str | None, problem: str
) -> None:
    """The message says what is wrong."""
    fake.answers({"response": text, "finish_reason": finish, "usage": {"total_tokens": 9}})
    with pytest.raises(ParseError) as caught:
        await parse(fake)

    assert str(caught.value).startswith(f"the model wrote no Recipe: {problem}")
    assert caught.value.text == text
    assert caught.value.answer.usage.total_tokens == 9
    assert isinstance(caught.value, DecodeError)
    assert len(fake.requests) == 1


async def test_a_wrong_answer_is_repaired_once(fake: FakeWorkersAI) -> None:
    """The model gets its answer, the problem, and the schema again."""
    fake.answers({"response": "Pie!"}).answers({"response": PIE_JSON})
    assert await parse(fake, repair=1) == PIE

    asked, text, complaint = fake.requests[1].json()["messages"]
    assert asked == {"role": "user", "content": "A recipe for pie."}
    assert text == {"role": "assistant", "content": "Pie!"}
    assert "there is no JSON in its text. Answer again" in complaint["content"]
    assert '"minutes": {"type": "integer"}' in complaint["content"]
    first, second = (request.json() for request in fake.requests)
    assert first["response_format"] == second["response_format"]
    assert second["max_tokens"] == 100

    fake.answers({"response": "Pie!"}).answers({"response": "Apple pie!"})
    with pytest.raises(ParseError) as caught:
        await parse(fake, repair=1)
    assert caught.value.text == "Apple pie!"
    assert len(fake.requests) == 4


async def test_a_prompt_is_repaired_as_a_conversation(fake: FakeWorkersAI) -> None:
    """With its other fields. A raw prompt stays a prompt, because it has no messages."""
    fake.answers({"response": "Pie!"}).answers({"response": PIE_JSON})
    task = Prompt("A recipe.", lora="cook", seed=3)
    assert await fake.client().parse(MODEL, task, into=Recipe, repair=1) == PIE
    body = fake.requests[1].json()
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    assert (body["lora"], body["seed"]) == ("cook", 3)

    fake.answers({"response": "Pie!"}).answers({"response": PIE_JSON})
    task = Prompt("<s>A recipe.</s>", raw=True)
    assert await fake.client().parse(MODEL, task, into=Recipe, repair=1) == PIE
    assert fake.requests[3].json()["prompt"].startswith("<s>A recipe.</s>\nPie!\nThat is not")


async def test_an_error_of_the_service_is_not_repaired(fake: FakeWorkersAI) -> None:
    """There is no text to repair."""
    fake.fails(400, 5006, "JSON Mode couldn't be met")
    with pytest.raises(BadRequest, match="couldn't be met"):
        await parse(fake, repair=1)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        ({"prompt": "x"}, {}, "task must be a Prompt or a TextGeneration, got dict"),
        (Prompt("x", response_format="json_object"), {}, "must not have a response_format"),
        (ASKED, {"repair": 2}, "repair must be 0 or 1, got 2"),
        (ASKED, {"repair": True}, "repair must be 0 or 1, got True"),
        (ASKED, {"into": bytes}, "bytes has no JSON form"),
    ],
)
async def test_invalid_tasks_and_options_are_refused(
    fake: FakeWorkersAI, task: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        await fake.client().parse(MODEL, task, **{"into": Recipe, **options})
    assert not fake.requests


class Step(BaseModel):
    """A step of a plan."""

    explanation: str
    minutes: int = Field(ge=1)


class Row(msgspec.Struct):
    minutes: int


@pytest.mark.parametrize(
    ("into", "answer", "value"),
    [
        (Step, {"explanation": "x", "minutes": 5}, Step(explanation="x", minutes=5)),
        (
            list[Step],
            {"value": [{"explanation": "x", "minutes": 5}]},
            [Step(explanation="x", minutes=5)],
        ),
        (Step | None, {"value": None}, None),
        (Annotated[int, Field(ge=1)], {"value": 5}, 5),
        (RootModel[list[int]], {"value": [5]}, RootModel[list[int]]([5])),
        (Row, {"minutes": 5}, Row(5)),
        (list[Row], {"value": [{"minutes": 5}]}, [Row(5)]),
    ],
)
async def test_models_of_other_libraries_are_parsed(
    fake: FakeWorkersAI, into: Any, answer: Any, value: Any
) -> None:
    """The schema is the library's own; what is no object is wrapped, as always."""
    text = f"Here it is: ```json\n{json.dumps(answer)}\n```"
    fake.answers({"response": answer}).answers({"response": text})
    for _ in range(2):
        assert await fake.client().parse(MODEL, "x", into=into) == value
    sent = fake.requests[0].json()["response_format"]["json_schema"]
    assert sent["type"] == "object"
    assert sent == objects.schema(into)
    if into is Step:
        assert sent == Step.model_json_schema()


async def test_the_model_is_told_what_pydantic_says(fake: FakeWorkersAI) -> None:
    fake.answers({"response": {"explanation": "x", "minutes": 0}})
    fake.answers({"response": {"explanation": "x", "minutes": 1}})
    step = await fake.client().parse(MODEL, "x", into=Step, repair=1)
    assert step == Step(explanation="x", minutes=1)
    complaint = fake.requests[1].json()["messages"][-1]["content"]
    assert "Step.minutes must be greater than or equal to 1, got 0" in complaint


# Streams

PLAN = [
    "Sure: ```json\n{",
    '"explanation": "Boil',
    ' it.", "min',
    'utes": 5',
    "}\n``` Done.",
]


async def test_an_object_is_shown_as_it_is_written(fake: FakeWorkersAI) -> None:
    """Each item is what is there so far, and the last one is the checked value."""
    fake.streams(*PLAN)
    stream = fake.client().parse_stream(MODEL, "How do I make tea?", into=Step)
    assert not stream.value
    seen = [copy.copy(partial) async for partial in stream]
    assert seen == [
        {},
        {"explanation": "Boil"},
        {"explanation": "Boil it."},
        {"explanation": "Boil it.", "minutes": 5},
        Step(explanation="Boil it.", minutes=5),
    ]
    assert stream.value == seen[-1]
    assert stream.answer.text == "".join(PLAN)
    assert stream.meta.status == 200
    assert [partial async for partial in stream] == []
    assert await stream.collect() == seen[-1]


async def test_a_partial_object_grows_in_place(fake: FakeWorkersAI) -> None:
    """So a long answer costs no copies."""
    fake.streams(*PLAN)
    async with fake.client().parse_stream(MODEL, "x", into=Step) as stream:
        *partials, value = [partial async for partial in stream]
    assert all(partial is partials[0] for partial in partials)
    assert partials[0] == {"explanation": "Boil it.", "minutes": 5}
    assert value is stream.value


@pytest.mark.parametrize(
    ("into", "pieces", "items"),
    [
        (list[Step], ['{"value": [{"expl', 'anation": "x", "minutes": 1}', "]}"], 3),
        # Without the object around it.
        (list[Step], ['[{"expl', 'anation": "x", "minutes": 1}', "]"], 3),
        (dict[str, int], ['{"a": 1', ', "b": 2', "}"], 4),
        # No object and no list: only the value itself is shown.
        (int, ['{"value": 1', "2}"], 1),
        (str, ['{"value": "a', 'b"}'], 1),
        (Literal["a", "b"], ['{"value": "b"}'], 1),
        (Recipe, [PIE_JSON], 2),
        (Row, ['{"minutes": 5', "}"], 3),
        (Recipe | None, ['{"value": null}'], 1),
    ],
)
async def test_every_type_can_be_streamed(
    fake: FakeWorkersAI, into: Any, pieces: list[str], items: int
) -> None:
    fake.streams(*pieces).answers({"response": "".join(pieces)})
    client = fake.client()
    seen = [partial async for partial in client.parse_stream(MODEL, "x", into=into)]
    assert len(seen) == items
    assert seen[-1] == await client.parse(MODEL, "x", into=into)


async def test_the_schema_is_an_instruction(fake: FakeWorkersAI) -> None:
    """JSON mode does not stream (code 5023)."""
    rule = f"Answer with nothing but JSON that fits this schema: {json.dumps(objects.schema(Step))}"
    fake.always.streams('{"explanation": "x", "minutes": 1}')
    client = fake.client()
    chat = [user("Tea?")]
    await client.parse_stream(MODEL, "Tea?", into=Step).collect()
    await client.parse_stream(MODEL, chat, into=Step).collect()
    await client.parse_stream(MODEL, [system("Be brief."), *chat], into=Step).collect()
    await client.parse_stream(MODEL, Prompt("Tea?", max_tokens=9, raw=True), into=Step).collect()
    sent = [request.json() for request in fake.requests]
    asked = {"role": "user", "content": "Tea?"}
    assert sent[0] == {"prompt": f"Tea?\n\n{rule}", "stream": True}
    assert sent[1]["messages"] == [{"role": "system", "content": rule}, asked]
    assert sent[2]["messages"][0]["content"] == f"Be brief.\n\n{rule}"
    assert sent[2]["messages"][1:] == [asked]
    assert sent[3] == {"prompt": f"Tea?\n\n{rule}", "max_tokens": 9, "raw": True, "stream": True}


@pytest.mark.parametrize("model", ["openai/gpt-4.1", ["openai/gpt-4.1", "dynamic/support"]])
async def test_other_providers_get_the_schema_itself(fake: FakeWorkersAI, model: Any) -> None:
    fake.streams('{"explanation": "x", "minutes": 1}')
    await fake.client().parse_stream(model, "Tea?", into=Step).collect()
    sent = fake.requests[0].json()
    assert sent["messages"] == [{"role": "user", "content": "Tea?"}]
    assert sent["response_format"]["type"] == "json_schema"


async def test_the_end_of_a_stream_is_checked(fake: FakeWorkersAI) -> None:
    """A wrong or a truncated value raises what `parse` raises, after what was there."""
    seen: Any = None
    fake.streams('{"explanation": "x", "minutes": 0}')
    stream = fake.client().parse_stream(MODEL, "x", into=Step)
    with pytest.raises(ParseError, match=r"Step.minutes must be greater than or equal to 1, got 0"):
        async for partial in stream:
            seen = partial
    assert seen == {"explanation": "x", "minutes": 0}
    assert stream.value is None
    fake.streams('{"explanation": "x"', then_hangs_up=True)
    with pytest.raises(StreamInterrupted) as caught:
        await fake.client().parse_stream(MODEL, "x", into=Step).collect()
    assert caught.value.answer.text == '{"explanation": "x"'
    fake.streams("Tea is hot.")
    with pytest.raises(ParseError, match="there is no JSON in its text"):
        await fake.client().parse_stream(MODEL, "x", into=Step).collect()


async def test_a_cancelled_stream_has_no_value(fake: FakeWorkersAI) -> None:
    fake.says('data: {"response": "{\\"explanation\\": 1,"}\n\n', asyncio.Event(),
              content_type="text/event-stream")  # fmt: skip
    stream = fake.client().parse_stream(MODEL, "x", into=Step)
    async for partial in stream:
        assert partial == {"explanation": 1}
        stream.cancel()
    assert stream.value is None
    with pytest.raises(InputError, match="cancelled before its end"):
        await stream.collect()
    await fake.until(lambda: fake.connections == 0)


async def test_a_stream_that_is_left_closes_its_connection(fake: FakeWorkersAI) -> None:
    for leave in ("break", "close"):
        fake.says('data: {"response": "{"}\n\n', asyncio.Event(), content_type="text/event-stream")
        stream = fake.client().parse_stream(MODEL, "x", into=Step)
        if leave == "break":
            async with stream:
                async for _ in stream:
                    break
        else:
            await anext(stream)
            await stream.aclose()
        await fake.until(lambda: fake.connections == 0)
        with pytest.raises(StreamInterrupted):
            await anext(stream)


async def test_a_stream_is_refused_before_it_is_sent(fake: FakeWorkersAI) -> None:
    client = fake.client()
    task = Prompt("x", response_format=objects.schema(Step))
    with pytest.raises(InputError, match="response_format"):
        client.parse_stream(MODEL, task, into=Step)
    with pytest.raises(InputError, match="bytes has no JSON form"):
        client.parse_stream(MODEL, "x", into=bytes)
    with pytest.raises(InputError, match="does not generate text"):
        client.parse_stream("@cf/baai/bge-m3", "x", into=Step)
    with pytest.raises(TypeError, match="can't be awaited: iterate it"):
        await client.parse_stream(MODEL, "x", into=Step)  # type: ignore[misc]  # on purpose
    with pytest.raises(
        TypeError, match=r"parse_stream\(\) got .* 'temperature'; set it on the task"
    ):
        client.parse_stream(MODEL, "x", into=Step, temperature=1)  # type: ignore[call-overload]
    assert fake.accepted == 0


async def test_schema_and_read_give_the_answer_and_its_value(fake: FakeWorkersAI) -> None:
    fake.answers({"response": {"value": [1]}, "usage": {"total_tokens": 9}})
    task = ASKED.replace(response_format=objects.schema(list[int]))
    answer = await fake.client().run(MODEL, task)

    assert objects.read(answer, into=list[int]) == [1]
    assert answer.usage is not None


@given(st.text(), st.text(), st.lists(st.integers(-9, 9)))
def test_text_around_an_object_is_ignored(before: str, after: str, numbers: list[int]) -> None:
    """Unless there is another object after it."""
    before, after = (one.replace("{", "(").replace("[", "(") for one in (before, after))
    text = before + f'{{"value": {numbers}}}' + after
    assert objects.read(Text(text), into=list[int]) == numbers


@given(st.text(alphabet='{}[]",:01 aé\n\\'))
def test_no_text_raises_another_error(text: str) -> None:
    with suppress(ParseError):
        objects.read(Text(text), into=Recipe)


# Parts of a truncated or invalid value may look like a complete one

LEAF = '{"name": "a", "children": []}'
CUT = [
    (f'{{"name": "root", "children": [{LEAF}, {{"name": "b", "chi', Tree),
    ('{"user": {"name": "x"}, "items": [1, 2,', dict[str, Any]),
    ("[[1, 2], [3,", list[Any]),
    ('[{"a": 1}, {"a": 2}, {"a"', Settings),
    ('{"a": 5, "b": "x", "inner": {"a": 1}, "more": [', Settings),
    ('Sure: ```json\n{"a": 5, "inner": {"a": 1}, ', Settings),
    ('A draft: {"a": 1}. The answer: {"a": 2', Settings),
    ("{a: {\"b\": 1}, 'c': [2", dict[str, Any]),
    ('<think>Maybe {"a": 1}?', Settings),
]


@pytest.mark.parametrize(("text", "into"), CUT)
@pytest.mark.parametrize("finish", ["length", "stop", None])
def test_a_part_of_a_truncated_value_is_not_read(text: str, into: Any, finish: str | None) -> None:
    """Even if the service does not report the truncation."""
    with pytest.raises(ParseError, match=r"not complete|there is no JSON"):
        objects.read(Text(text, finish_reason=finish), into=into)


@given(st.data())
def test_no_prefix_of_an_answer_is_read(data: st.DataObject) -> None:
    text = f'{{"name": "r]", "children": [{LEAF}, {{"name": "b", "children": [{LEAF}]}}]}}'
    at = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ParseError):
        objects.read(Text(text[:at]), into=Tree)


@pytest.mark.parametrize(
    ("text", "into"),
    [
        ("{'user': {\"a\": 1}}", Settings),
        ('{"a": {"a": 1}, // this\n "b": {"a": 2}}', Settings),
        ('{"value": "abc", }', str),
        ('"abc', str),
        ('{{"a": 1}}', Settings),
    ],
)
def test_a_part_of_an_invalid_value_is_not_read(text: str, into: Any) -> None:
    with pytest.raises(ParseError, match="there is no JSON in its text"):
        objects.read(Text(text), into=into)


@pytest.mark.parametrize(
    ("text", "into", "value"),
    [
        ('{"a": 5}', Settings, 5),
        ('Here: {"a": 5}\n', Settings, 5),
        ('Here: ```json\n{"a": 5}\n```', Settings, 5),
        ("```\n31\n```", int, 31),
    ],
)
def test_a_complete_value_at_the_end_of_a_truncated_answer_is_read(
    text: str, into: Any, value: Any
) -> None:
    read = objects.read(Text(text, finish_reason="length"), into=into)
    assert read == (Settings(value) if into is Settings else value)


def test_an_answer_used_up_by_reasoning_is_explained() -> None:
    answer = Text("", reasoning="Let me see", finish_reason="length")
    with pytest.raises(ParseError, match="the reasoning used up all tokens: raise max_tokens, or"):
        objects.read(answer, into=int)


@pytest.mark.parametrize(
    ("text", "into"), [("31", int), ("3.1", float), ("red", str), ('{"a": 5} And', Settings)]
)
def test_a_value_that_may_be_truncated_is_not_read(text: str, into: Any) -> None:
    with pytest.raises(ParseError, match="cut off at its maximum length: raise max_tokens"):
        objects.read(Text(text, finish_reason="length"), into=into)


@pytest.mark.parametrize(
    "text",
    [
        '<think>For example {"a": 0}.</think>\n{"a": 4}',
        'For example {"a": 0}.\n</think>\n\n{"a": 4}',
        'A draft: {"a": 0}. The answer: {"a": 4}',
        '{"a": 0}\n```json\n{"a": 4}\n```\nnot {"a": 9}',
        '{"a": 4}; {} is what you get without, [see here] or {there}',
        '{"a": 4}, as in {"other": 5}',
    ],
)
def test_the_fenced_or_last_value_is_read(text: str) -> None:
    """Reasoning and drafts come before it; a fence marks the answer."""
    assert objects.read(Text(text), into=Settings) == Settings(4)


@pytest.mark.parametrize(
    ("text", "into", "value"),
    [
        ("hello", str, "hello"),
        ("<think>Hm.</think>\nred", Literal["red", "blue"], "red"),
        ("```\n2026-01-31\n```", date, date(2026, 1, 31)),
    ],
)
def test_an_unquoted_string_is_read(text: str, into: Any, value: Any) -> None:
    """Models without JSON mode write it."""
    assert objects.read(Text(text), into=into) == value


@pytest.mark.parametrize("into", [int, bool, date, list[int], int | None, Literal["red", "blue"]])
def test_prose_is_no_value_of_another_type(into: Any) -> None:
    with pytest.raises(ParseError, match=r"^the model wrote no .+: there is no JSON in its text"):
        objects.read(Text("I can't say."), into=into)


@pytest.mark.parametrize("text", ['{"error": "I cannot"}', '{"type": "object", "properties": {}}'])
def test_an_object_with_only_other_keys_is_refused(text: str) -> None:
    """Even if no key is required."""
    with pytest.raises(ParseError, match="Settings must be an object with a, b, got"):
        objects.read(Text(text), into=Settings)
    assert objects.read(Text("{}"), into=Settings) == Settings()


def test_a_class_may_have_a_field_named_value() -> None:
    @dataclass
    class Only:
        value: int

    for text in ('{"value": 1}', '{"value": {"value": 1}}'):
        assert objects.read(Text(text), into=Only | None) == Only(1)
    with pytest.raises(ParseError, match=r"must be an object, got 2\.5"):
        objects.read(Text('{"value": 2.5}'), into=Only | None)


@pytest.mark.parametrize("around", ["", "It is "])
def test_large_numbers_are_exact(around: str) -> None:
    text = around + '{"value": 123456789012345678901234567890}'
    assert objects.read(Text(text), into=int) == 123456789012345678901234567890


@pytest.mark.parametrize(
    "text",
    [
        "[" * 400 + "1," * 100_000,
        ("[" * 50 + "1,") * 4000,
        "[1,]" * 50_000,
        "{" * 200_000,
        '["' + '\\"' * 100_000,
        '{"a' * 70_000,
        ("{" + " " * 100) * 2000,
        "[1] " * 50_000,
    ],
)
def test_no_text_takes_quadratic_time(text: str) -> None:
    """The event loop is blocked meanwhile."""
    began = process_time()
    with pytest.raises(ParseError):
        objects.read(Text(text), into=Recipe)
    assert process_time() - began < 2


async def test_a_long_wrong_answer_is_sent_back_in_part(fake: FakeWorkersAI) -> None:
    """Its tokens are billed once more."""
    fake.answers({"response": "Pie! " * 10_000}).answers({"response": PIE_JSON})
    assert await parse(fake, repair=1) == PIE
    assert len(fake.requests[1].json()["messages"][1]["content"]) == 20_001


async def test_the_complaint_is_complete_for_every_type_name(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "{"}).answers({"response": "3"})
    assert await parse(fake, Annotated[int, "a: b"], repair=1) == 3
    complaint = fake.requests[1].json()["messages"][2]["content"]
    assert complaint.startswith("That is not what was asked for: a JSON value in its text")


async def test_a_small_model_writes_objects() -> None:
    """The local server's model is constrained by the schema."""

    @dataclass
    class Person:
        name: str
        age: int
        likes: tuple[str, str]
        mood: Literal["good", "bad"] | None

    async with Server() as server, WorkersAI(**server.credentials) as ai:
        task = TextGeneration([user("Ana is 31. Say so as JSON.")], max_tokens=200, seed=1)
        person = await ai.parse("@cf/meta/llama-3.1-8b-instruct-fast", task, into=Person)
    assert isinstance(person, Person)
    assert type(person.age) is int


@pytest.mark.parametrize(
    ("text", "into", "value"),
    [
        ('{"a": 1} and {}', dict[str, int], {"a": 1}),
        ("{} and {}", dict[str, int], {}),
        ('```json\n{"a": 1}\n```\nor {"a": 2}', dict[str, int], {"a": 1}),
        ('{"value": [1]} and then [2]', list[int], [1]),
        ('{"value": [1]} and {"value": [3]} and [2]', list[int], [3]),
        ('```\n[2]\n```\nor {"value": [1]}', list[int], [2]),
        ('{"a": 1} or [2]', dict[str, int] | list[int], {"a": 1}),
        ('{"a": 1} or [2]', list[int], [2]),
        ('[1] or {"value": []}', list[int], []),
        ('[1] or {"value": "x"} or []', list[int], [1]),
    ],
)
def test_which_of_several_values_is_read(text: str, into: Any, value: Any) -> None:
    """A fenced one, or else one in the asked-for object, an object before a list, and the last one;
    an empty one only if there is no other."""
    assert objects.read(Text(f"Here: {text}. Done."), into) == value


@pytest.mark.parametrize(("others", "is_read"), [(19, True), (20, False)])
def test_the_last_values_are_tried(others: int, is_read: bool) -> None:
    """The first of 20 is one of them, that of 21 is not."""
    text = '{"a": 4} ' + '{"other": 1} ' * others
    if is_read:
        assert objects.read(Text(f"So: {text}"), into=Settings) == Settings(4)
    else:
        with pytest.raises(ParseError):
            objects.read(Text(f"So: {text}"), into=Settings)


@pytest.mark.parametrize(("count", "is_read"), [(5000, True), (5001, False)])
def test_a_text_of_thousands_of_values_is_no_answer(count: int, is_read: bool) -> None:
    text = "So: " + "[0] " * (count - 1) + "[1]"
    if is_read:
        assert objects.read(Text(text), list[int]) == [1]
    else:
        with pytest.raises(ParseError, match="more than 5000 JSON values"):
            objects.read(Text(text), list[int])


@pytest.mark.parametrize("length", [19_999, 20_000, 20_001, 50_000])
async def test_a_long_wrong_answer_is_shown_to_the_model_in_part(
    fake: FakeWorkersAI, length: int
) -> None:
    fake.answers({"response": "x" * length}).answers({"response": {"a": 4}})
    async with fake.client() as ai:
        assert await ai.parse(MODEL, "How loud?", into=Settings, repair=1) == Settings(4)
    shown = fake.requests[1].json()["messages"][-2]["content"]
    assert shown == ("x" * length if length <= 20_000 else "x" * 20_000 + "…")
