"""Answers as objects: what is asked for, in which forms it may come, and what a wrong one says."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from time import process_time
from typing import Annotated, Any, Literal, TypedDict

import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from cfai import (
    BadRequest,
    DecodeError,
    InputError,
    ParseError,
    Prompt,
    Text,
    TextGeneration,
    WorkersAI,
    objects,
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


async def test_the_schema_of_the_type_is_asked_for(fake: FakeWorkersAI) -> None:
    """As the service wants it: bare, with nothing around it; and not as a stream."""
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
async def test_an_object_in_every_form_is_read(fake: FakeWorkersAI, result: bytes) -> None:
    fake.says(b'{"result":' + result + b',"success":true,"errors":[],"messages":[]}')
    assert await parse(fake, Country) == {"name": "India", "capital": "New Delhi"}


@pytest.mark.parametrize(
    ("into", "said", "value"),
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
async def test_what_is_no_object_stands_in_one(
    fake: FakeWorkersAI, into: Any, said: Any, value: Any
) -> None:
    """Models write objects only, so another value is asked for inside one, and taken bare, too."""
    fake.answers({"response": said})
    assert await parse(fake, into) == value

    schema = fake.requests[0].json()["response_format"]["json_schema"]
    assert schema["type"] == "object"


def test_definitions_stand_at_the_top() -> None:
    @dataclass
    class Pair:
        one: Recipe
        other: Recipe

    made = objects.schema(list[Pair])
    assert list(made) == ["type", "properties", "required", "additionalProperties", "$defs"]
    assert list(made["$defs"]) == ["Recipe"]


@pytest.mark.parametrize(
    ("said", "finish", "problem"),
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
async def test_a_wrong_answer_keeps_the_text(
    fake: FakeWorkersAI, said: str, finish: str | None, problem: str
) -> None:
    """And says what is wrong with it."""
    fake.answers({"response": said, "finish_reason": finish, "usage": {"total_tokens": 9}})
    with pytest.raises(ParseError) as caught:
        await parse(fake)

    assert str(caught.value).startswith(f"the model wrote no Recipe: {problem}")
    assert caught.value.text == said
    assert caught.value.answer.usage.total_tokens == 9
    assert isinstance(caught.value, DecodeError)
    assert len(fake.requests) == 1


async def test_a_wrong_answer_may_be_repaired_once(fake: FakeWorkersAI) -> None:
    """The model sees what it wrote, what is wrong with it, and the schema again."""
    fake.answers({"response": "Pie!"}).answers({"response": PIE_JSON})
    assert await parse(fake, repair=1) == PIE

    asked, said, complaint = fake.requests[1].json()["messages"]
    assert asked == {"role": "user", "content": "A recipe for pie."}
    assert said == {"role": "assistant", "content": "Pie!"}
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
    """With its other fields; a raw one stays a prompt, for it has no messages."""
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


async def test_an_error_of_the_service_is_its_own(fake: FakeWorkersAI) -> None:
    """What the model could not write at all has no text to repair."""
    fake.fails(400, 5006, "JSON Mode couldn't be met")
    with pytest.raises(BadRequest, match="couldn't be met"):
        await parse(fake, repair=1)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        ({"prompt": "x"}, {}, "task must be a Prompt or a TextGeneration, got dict"),
        ("x", {}, "task must be a Prompt or a TextGeneration, got str"),
        (Prompt("x", response_format="json_object"), {}, "must not have a response_format"),
        (ASKED, {"repair": 2}, "repair must be 0 or 1, got 2"),
        (ASKED, {"repair": True}, "repair must be 0 or 1, got True"),
        (ASKED, {"into": bytes}, "bytes has no JSON form"),
    ],
)
async def test_what_cannot_work_is_refused(
    fake: FakeWorkersAI, task: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        await fake.client().parse(MODEL, task, **{"into": Recipe, **options})
    assert not fake.requests


async def test_the_answer_can_be_had_beside_its_object(fake: FakeWorkersAI) -> None:
    fake.answers({"response": {"value": [1]}, "usage": {"total_tokens": 9}})
    task = ASKED.replace(response_format=objects.schema(list[int]))
    answer = await fake.client().run(MODEL, task)

    assert objects.read(answer, into=list[int]) == [1]
    assert answer.usage is not None


@given(st.text(), st.text(), st.lists(st.integers(-9, 9)))
def test_text_around_it_does_no_harm(before: str, after: str, numbers: list[int]) -> None:
    """Whatever stands around an object, it is found, unless there is another behind it."""
    before, after = (one.replace("{", "(").replace("[", "(") for one in (before, after))
    text = before + f'{{"value": {numbers}}}' + after
    assert objects.read(Text(text), into=list[int]) == numbers


@given(st.text(alphabet='{}[]",:01 aé\n\\'))
def test_no_text_is_a_crash(text: str) -> None:
    with suppress(ParseError):
        objects.read(Text(text), into=Recipe)


# What was cut, and what is wrong, has parts that would pass for the whole

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


@pytest.mark.parametrize(("said", "into"), CUT)
@pytest.mark.parametrize("finish", ["length", "stop", None])
def test_a_part_of_what_was_cut_is_no_answer(said: str, into: Any, finish: str | None) -> None:
    """Also where the service does not say that it was cut."""
    with pytest.raises(ParseError, match=r"not complete|there is no JSON"):
        objects.read(Text(said, finish_reason=finish), into=into)


@given(st.data())
def test_no_beginning_of_an_answer_is_an_answer(data: st.DataObject) -> None:
    said = f'{{"name": "r]", "children": [{LEAF}, {{"name": "b", "children": [{LEAF}]}}]}}'
    at = data.draw(st.integers(0, len(said) - 1))
    with pytest.raises(ParseError):
        objects.read(Text(said[:at]), into=Tree)


@pytest.mark.parametrize(
    ("said", "into"),
    [
        ("{'user': {\"a\": 1}}", Settings),
        ('{"a": {"a": 1}, // this\n "b": {"a": 2}}', Settings),
        ('{"value": "abc", }', str),
        ('"abc', str),
        ('{{"a": 1}}', Settings),
    ],
)
def test_a_part_of_what_is_wrong_is_no_answer(said: str, into: Any) -> None:
    with pytest.raises(ParseError, match="there is no JSON in its text"):
        objects.read(Text(said), into=into)


@pytest.mark.parametrize(
    ("said", "into", "value"),
    [
        ('{"a": 5}', Settings, 5),
        ('Here: {"a": 5}\n', Settings, 5),
        ('Here: ```json\n{"a": 5}\n```', Settings, 5),
        ("```\n31\n```", int, 31),
    ],
)
def test_what_is_whole_at_the_end_of_what_was_cut_is_read(said: str, into: Any, value: Any) -> None:
    read = objects.read(Text(said, finish_reason="length"), into=into)
    assert read == (Settings(value) if into is Settings else value)


@pytest.mark.parametrize(
    ("said", "into"), [("31", int), ("3.1", float), ("red", str), ('{"a": 5} And', Settings)]
)
def test_what_may_have_gone_on_is_no_answer(said: str, into: Any) -> None:
    with pytest.raises(ParseError, match="cut off at its maximum length: raise max_tokens"):
        objects.read(Text(said, finish_reason="length"), into=into)


@pytest.mark.parametrize(
    "said",
    [
        '<think>For example {"a": 0}.</think>\n{"a": 4}',
        'For example {"a": 0}.\n</think>\n\n{"a": 4}',
        'A draft: {"a": 0}. The answer: {"a": 4}',
        '{"a": 0}\n```json\n{"a": 4}\n```\nnot {"a": 9}',
        '{"a": 4}; {} is what you get without, [see here] or {there}',
        '{"a": 4}, as in {"other": 5}',
    ],
)
def test_the_answer_is_what_stands_apart_or_last(said: str) -> None:
    """Thoughts and drafts come before it; and a fence says which one is meant."""
    assert objects.read(Text(said), into=Settings) == Settings(4)


@pytest.mark.parametrize(
    ("said", "into", "value"),
    [
        ("hello", str, "hello"),
        ("<think>Hm.</think>\nred", Literal["red", "blue"], "red"),
        ("```\n2026-01-31\n```", date, date(2026, 1, 31)),
    ],
)
def test_a_bare_word_is_a_text(said: str, into: Any, value: Any) -> None:
    """As models write it that don't have JSON mode."""
    assert objects.read(Text(said), into=into) == value


@pytest.mark.parametrize("said", ['{"error": "I cannot"}', '{"type": "object", "properties": {}}'])
def test_an_object_of_other_keys_alone_is_no_value(said: str) -> None:
    """Also where no key is required."""
    with pytest.raises(ParseError, match="Settings must be an object with a, b, got"):
        objects.read(Text(said), into=Settings)
    assert objects.read(Text("{}"), into=Settings) == Settings()


def test_a_class_may_have_the_field_that_others_are_wrapped_in() -> None:
    @dataclass
    class Only:
        value: int

    for said in ('{"value": 1}', '{"value": {"value": 1}}'):
        assert objects.read(Text(said), into=Only | None) == Only(1)
    with pytest.raises(ParseError, match=r"must be an object, got 2\.5"):
        objects.read(Text('{"value": 2.5}'), into=Only | None)


@pytest.mark.parametrize("around", ["", "It is "])
def test_a_large_number_is_what_was_written(around: str) -> None:
    text = around + '{"value": 123456789012345678901234567890}'
    assert objects.read(Text(text), into=int) == 123456789012345678901234567890


@pytest.mark.parametrize(
    "said",
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
def test_no_text_takes_long(said: str) -> None:
    """The event loop waits meanwhile: these took seconds where time grew with its square."""
    began = process_time()
    with pytest.raises(ParseError):
        objects.read(Text(said), into=Recipe)
    assert process_time() - began < 2


async def test_a_long_wrong_answer_is_shown_in_part(fake: FakeWorkersAI) -> None:
    """It is paid for once more."""
    fake.answers({"response": "Pie! " * 10_000}).answers({"response": PIE_JSON})
    assert await parse(fake, repair=1) == PIE
    assert len(fake.requests[1].json()["messages"][1]["content"]) == 20_001


async def test_the_complaint_is_whole_whatever_the_type_is_called(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "{"}).answers({"response": "3"})
    assert await parse(fake, Annotated[int, "a: b"], repair=1) == 3
    complaint = fake.requests[1].json()["messages"][2]["content"]
    assert complaint.startswith("That is not what was asked for: a JSON value in its text")


async def test_a_real_small_model_writes_objects() -> None:
    """The schema is one that the local server's model is held to."""

    @dataclass
    class Person:
        name: str
        age: int
        likes: tuple[str, str]
        mood: Literal["good", "bad"] | None

    async with Server() as server, WorkersAI(**server.credentials) as ai:
        task = TextGeneration([user("Ana is 31. Say so as JSON.")], max_tokens=200, seed=1)
        person = await ai.parse("@cf/meta/llama-3.1-8b-instruct", task, into=Person)
    assert isinstance(person, Person)
    assert type(person.age) is int
