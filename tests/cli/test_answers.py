"""`cfai chat --schema` checks the form of the answer."""

import json
from typing import Annotated, Any, Literal

import pydantic
import pytest

from cfai.cli.answers import AnswerForm
from cfai.errors import InputError
from cfai.tasks import Text
from cfai.testing import FakeWorkersAI

from .processes import Cfai

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
REFERRING = {
    "$defs": {"Age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "properties": {"age": {"$ref": "#/$defs/Age"}},
    "required": ["age"],
}
TREE = {
    "properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}},
    "required": ["name"],
}
TREE_VALUE = {"name": "a", "children": [{"name": "b", "children": []}]}
ID = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}
CYCLE = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
LISTS = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}


def choose(value: Any, schema: dict[str, Any]) -> tuple[Any, str | None]:
    """What is chosen of an answer, and its problem."""
    return AnswerForm.of(schema).choose_value(Text(json.dumps(value)))


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
    assert "does not match --schema: $.age: 'old' is not of type 'integer'" in done.err


async def test_the_value_that_matches_is_chosen(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """By bounds and references, too."""
    fake.answers({"response": '{"age": 300} or rather {"age": 30}\n{"age": -1}'})
    done = await cfai.run("chat", "Who?", "--schema", json.dumps(REFERRING))
    assert (done.code, json.loads(done.text), done.err) == (0, {"age": 30}, "")


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
        ({"age": 150}, REFERRING),
        (TREE_VALUE, TREE),
        ([[], [[]]], {"$ref": "#/$defs/a", **LISTS}),
        ({"x": [[]]}, {"properties": {"x": {"$ref": "#/$defs/a"}}, **LISTS}),
        ({"x": 1}, {**DRAFT_7, "dependencies": {"x": ["x"]}}),
        ([[3]], {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]}),
        (
            {"a": {}},
            {
                "additionalProperties": {"$ref": "#"},
                "allOf": [{"$ref": "#/$defs/x"}],
                "$defs": {"x": {}},
            },
        ),
        ("2026-13-99", {"type": "string", "format": "date"}),
        ([1, "a"], {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}),
        ([1, "a"], {**DRAFT_7, "items": [{"type": "integer"}, {"type": "string"}]}),
        (2, {**DRAFT_4, "maximum": 3, "exclusiveMaximum": True}),
        ("anything", {"$schema": "https://example.com/unknown"}),
        ({"any": "thing"}, {"type": "json_object"}),
        ({"any": "thing"}, {"type": "json_schema"}),
        ({"age": 1}, {"type": "json_schema", "json_schema": PERSON}),
        ({"age": 1}, {"type": "json_schema", "json_schema": {"name": "n", "schema": PERSON}}),
    ],
)
def test_answers_that_match(value: Any, schema: Any) -> None:
    assert choose(value, schema) == (value, None)


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        ({}, PERSON, "'age' is a required property"),
        ([], PERSON, "[] is not of type 'object'"),
        ({"age": True}, PERSON, "$.age: True is not of type 'integer'"),
        ({"age": 1.5}, PERSON, "$.age: 1.5 is not of type 'integer'"),
        ({"age": "1" * 5000}, PERSON, "11 is not of type 'integer'"),
        ({"a": {"b": 1}}, {"properties": {"a": {"required": ["c"]}}}, "$.a: 'c' is a required"),
        ([1, "2"], {"items": {"type": "number"}}, "$[1]: '2' is not of type 'number'"),
        (1, {"type": ["string", "null"]}, "1 is not of type 'string', 'null'"),
        (True, {"enum": [1]}, "True is not one of [1]"),
        ("c", {"const": "a"}, "'a' was expected"),
        ("long", ID, "'long' is too long"),
        (1.5, {"oneOf": [{"type": "string"}, {"type": "integer"}]}, "under any of the given"),
        (1, {"oneOf": [{"type": "number"}, {"type": "integer"}]}, "valid under each of"),
        (1, {"allOf": [{"type": "integer"}, {"type": "string"}]}, "1 is not of type 'string'"),
        ({"x": 1}, {"additionalProperties": False}, "('x' was unexpected)"),
        ({"age": 151}, REFERRING, "$.age: 151 is greater than the maximum of 150"),
        ({"age": -1}, REFERRING, "$.age: -1 is less than the minimum of 0"),
        ("", {"minLength": 1}, "'' should be non-empty"),
        ("x1", {"pattern": "^[a-z]+$"}, "'x1' does not match"),
        ([], {"minItems": 1}, "[] should be non-empty"),
        ([1, 2], {"maxItems": 1}, "[1, 2] is too long"),
        ([1, 1], {"uniqueItems": True}, "has non-unique elements"),
        (3, {"multipleOf": 2}, "3 is not a multiple of 2"),
        ({"name": "a", "children": [{"nome": "b"}]}, TREE, "$.children[0]: 'name' is a required"),
        ([1, 2], {**DRAFT_7, "items": [{"type": "integer"}, {"type": "string"}]}, "$[1]: 2 is not"),
        (3, {**DRAFT_4, "maximum": 3, "exclusiveMaximum": True}, "3 is greater than or equal"),
        ({"b": 1}, {**DRAFT_4, "patternProperties": {"(": {}}}, "it can't be checked: missing )"),
        ({}, {"type": "json_schema", "json_schema": {"schema": PERSON}}, "'age' is a required"),
    ],
)
def test_answers_that_do_not_match(value: Any, schema: Any, problem: str) -> None:
    """The error says which part is wrong, and how."""
    chosen, reported = choose(value, schema)
    assert chosen == value
    assert problem in (reported or "")
    assert len(reported or "") < 200


def test_an_answer_nested_too_deep_is_not_checked() -> None:
    value: Any = None
    for _ in range(2000):
        value = {"name": "a", "children": [value]}
    chosen, problem = AnswerForm.of(TREE).choose_value(Text(parsed=value))
    assert chosen is value
    assert problem is not None
    assert problem.startswith("it can't be checked: maximum recursion depth")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "must be a JSON schema: $.type: 'objekt' is not valid"),
        ({"type": "object", "required": "age"}, "$.required: 'age' is not of type 'array'"),
        ({"properties": {"a": {"minimum": "x"}}}, "$.properties.a.minimum: 'x' is not of type"),
        ({"properties": {"a": 1}}, "$.properties.a: 1 is not of type 'object', 'boolean'"),
        ({"pattern": "("}, "$.pattern: '(' is not a 'regex'"),
        ({"enum": {}}, "$.enum: {} is not of type 'array'"),
        ({"$schema": 7}, "$['$schema']: 7 is not of type 'string'"),
        ({"$ref": 7}, "$['$ref']: 7 is not of type 'string'"),
        ({"json_schema": [1]}, "[1] is not of type 'object', 'boolean'"),
        ({"$ref": "#/$defs/Person"}, "refers to #/$defs/Person, which is not in it"),
        ({"items": {"anyOf": [{"$ref": "#/no"}]}}, "refers to #/no, which is not in it"),
        ({"$ref": "#/required/x", "required": ["a"]}, "refers to #/required/x, which is not in"),
        ({"$ref": "#anchor"}, "refers to #anchor, which is not in it"),
        ({"$ref": "https://example.com/a.json"}, "refers to https://example.com/a.json, which"),
        ({"$ref": "http://[/a"}, "refers to http://[/a, which is not in it"),
        ({"$ref": "file:///etc/passwd"}, "refers to file:///etc/passwd, which is not in it"),
        ({"$dynamicRef": "#/no"}, "refers to #/no, which is not in it"),
        ({"items": {"$ref": "#/x"}, "x": {"type": "objekt"}}, "$.type: 'objekt' is not valid"),
        ({"$ref": "#"}, "refers to #, which leads back to itself"),
        ({"anyOf": [{"$ref": "#"}]}, "refers to #, which leads back to itself"),
        ({"items": {"$ref": "#/items"}}, "refers to #/items, which leads back to itself"),
        ({"properties": {"x": {"$ref": "#/$defs/a"}}, **CYCLE}, "#/$defs/a, which leads back"),
        ({**CYCLE}, "which leads back to itself before any part of a value"),
        ({"items": {"not": {"$ref": "#/items"}}}, "refers to #/items, which leads back"),
        ({"items": {"if": {}, "else": {"$ref": "#/items"}}}, "refers to #/items, which leads"),
        ({"items": {"dependentSchemas": {"a": {"$ref": "#/items"}}}}, "refers to #/items, which"),
        ({**DRAFT_7, "items": {"dependencies": {"a": {"$ref": "#/items"}}}}, "#/items, which lea"),
        ({"items": {"$anchor": "a", "allOf": [{"$dynamicRef": "#a"}]}}, "#a, which leads back"),
        ({}, "must be a ResponseFormat or a JSON schema, got {}"),
    ],
)
def test_invalid_schemas_are_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        AnswerForm.of(schema)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "schema", ['{"type": "objekt"}', '{"$ref": "#/$defs/x"}', '{"a": NaN}', "{", "[" * 9, "{}"]
)
async def test_nothing_is_sent_with_an_invalid_schema(
    cfai: Cfai, fake: FakeWorkersAI, schema: str
) -> None:
    done = await cfai.run("chat", "Who?", "--schema", schema)
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert not fake.requests


def test_schemas_of_pydantic_are_read() -> None:
    """They have definitions, references, bounds and tuples."""

    class Pet(pydantic.BaseModel):
        name: Annotated[str, pydantic.Field(min_length=1)]
        kind: Literal["cat", "dog"]

    class Owner(pydantic.BaseModel):
        age: Annotated[int, pydantic.Field(ge=0, le=150)]
        pets: list[Pet]
        home: tuple[float, float] | None = None

    schema = Owner.model_json_schema()
    good = {"age": 3, "pets": [{"name": "a", "kind": "cat"}], "home": [1.5, 2]}
    assert choose(good, schema) == (good, None)
    for part, problem in (
        ({"age": 151}, "$.age: 151 is greater than"),
        ({"pets": [{"name": "", "kind": "dog"}]}, "$.pets[0].name: '' should be non-empty"),
        ({"pets": [{"name": "a", "kind": "cow"}]}, "$.pets[0].kind: 'cow' is not one of"),
        ({"home": [1.5]}, "$.home: [1.5] is too short"),
    ):
        assert problem in str(choose({**good, **part}, schema)[1])
