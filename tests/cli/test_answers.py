"""`cfai chat --schema` checks the form of the answer."""

import json
from typing import Any

import pytest

from cfai.cli.answers import check_form
from cfai.errors import ParseError
from cfai.tasks import Text
from cfai.testing import FakeWorkersAI

from .processes import Cfai

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize("text", ["sorry, no", "", '{"age": 1', "{'age': 1}"])
@pytest.mark.parametrize("as_json", [False, True])
async def test_an_answer_that_is_not_json_is_an_error(
    cfai: Cfai, fake: FakeWorkersAI, text: str, as_json: bool
) -> None:
    """It is named in the error; standard output has nothing that is not JSON."""
    fake.answers({"response": text})
    options = ["--json"] if as_json else []
    done = await cfai.run("chat", "Who?", "--schema", "age:int", *options)
    assert done.code == 1
    assert "error: the answer is not JSON" in done.err
    assert text in done.err
    if as_json:
        assert json.loads(done.text)["answer"]["text"] == text
    else:
        assert not done.out


@pytest.mark.parametrize(
    "text",
    [
        '{"age": 1}',
        '```json\n{"age": 1}\n```',
        '```\n{"age": 1}\n```\n',
        'Sure:\n\n```json\n{"age": 1}\n```\nHope that helps.',
        '<think>{"age": 2}?</think>{"age": 1}',
        '{"age": 1}\n{"note": "an answer"}',
    ],
)
async def test_the_json_may_be_inside_other_text(
    cfai: Cfai, fake: FakeWorkersAI, text: str
) -> None:
    """As for `WorkersAI.parse`; only the value is printed."""
    fake.answers({"response": text})
    done = await cfai.run("chat", "Who?", "--schema", "age:int")
    assert (done.code, done.text) == (0, '{"age":1}\n'), done.err


async def test_an_answer_of_another_form_is_printed_and_an_error(
    cfai: Cfai, fake: FakeWorkersAI
) -> None:
    fake.answers({"response": {"age": "old"}})
    done = await cfai.run("chat", "Who?", "--schema", "age:int")
    assert (done.code, json.loads(done.text)) == (1, {"age": "old"})
    assert "does not match --schema: age must be of type integer, got 'old'" in done.err


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"age": 1}, PERSON),
        ({"age": 1.0, "more": None}, PERSON),
        ([1, 2.5], {"type": "array", "items": {"type": "number"}}),
        (None, {"type": ["string", "null"]}),
        ("a", {"enum": ["a", "b"]}),
        (1, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"x": 1}, {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("anything", {}),
        (1, {"$ref": "#/$defs/other"}),
    ],
)
def test_answers_that_match(value: Any, schema: Any) -> None:
    check_form(Text(json.dumps(value)), value, schema)


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        ({}, PERSON, "it has no age"),
        ([], PERSON, "it must be of type object"),
        ({"age": True}, PERSON, "age must be of type integer"),
        ({"age": 1.5}, PERSON, "age must be of type integer"),
        ({"a": {"b": 1}}, {"properties": {"a": {"required": ["c"]}}}, "a has no c"),
        ([1, "2"], {"type": "array", "items": {"type": "number"}}, "[1] must be of type number"),
        (1, {"type": ["string", "null"]}, "it must be of type string or null"),
        (True, {"enum": [1]}, "it must be one of"),
        ("c", {"const": "a"}, "it must be one of"),
        (1.5, {"oneOf": [{"type": "string"}, {"type": "integer"}]}, "one of oneOf"),
        (1, {"allOf": [{"type": "integer"}, {"type": "string"}]}, "it must be of type string"),
        ({"x": 1}, {"additionalProperties": False}, "it must not have x"),
    ],
)
def test_answers_that_do_not_match(value: Any, schema: Any, problem: str) -> None:
    """The error says which part is wrong."""
    with pytest.raises(ParseError) as caught:
        check_form(Text(json.dumps(value)), value, schema)
    assert problem in str(caught.value)
