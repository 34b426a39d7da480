"""JSON schemas that the grammars of llama.cpp cannot follow."""

from typing import Any

import orjson
import pytest

from cfai.local.backends.schemas import check_answer, check_schema
from cfai.local.errors import ApiError
from tests.local.conftest import LLAMA, Local

VALUES = [str(number) for number in range(301)]

FAST: list[dict[str, Any]] = [
    {},
    {"enum": VALUES[:300]},
    {"anyOf": [{"enum": VALUES[:150]}, {"enum": VALUES[:150]}]},
    {"properties": {name: {"enum": VALUES[:300]} for name in VALUES[:300]}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{}, {"items": {"$ref": "#/$defs/a"}}]}}},
    {"$ref": "#/$defs/missing"},
    {"type": "string", "pattern": "|".join(VALUES[:300])},
]

DOUBLED = {f"a{at}": {"anyOf": [{"$ref": f"#/$defs/a{at - 1}"}] * 2} for at in range(1, 40)}

SLOW: list[dict[str, Any]] = [
    {"enum": VALUES},
    {"anyOf": [{"const": value} for value in VALUES]},
    {"oneOf": [{"enum": VALUES[:151]}, {"enum": VALUES[:150]}]},
    {"items": {"properties": {"a": {"additionalProperties": {"enum": VALUES}}}}},
    {"properties": {name: {} for name in VALUES}},
    {"type": "string", "pattern": "|".join([*VALUES, "x"])},
    {"$ref": "#/$defs/a39", "$defs": {**DOUBLED, "a0": {"enum": ["x", "y"]}}},
]


@pytest.mark.parametrize("schema", FAST, ids=range(len(FAST)))
def test_schemas_with_up_to_300_alternatives(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "zzz"},
        {"type": ["string", "text"]},
        {"properties": {"type": {"type": ""}}},
        {"items": {"anyOf": [{"type": "int"}]}},
    ],
)
def test_a_type_that_there_is_not_is_named(schema: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match=r"must have types of array, boolean, .*string, got"):
        check_schema(schema)


@pytest.mark.parametrize("schema", SLOW, ids=range(len(SLOW)))
def test_a_schema_that_would_stop_the_model_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="must have at most 300 alternatives"):
        check_schema(schema)


@pytest.mark.parametrize(
    "pattern",
    [
        "a?" * 50,
        "(a*){0,50}",
        "((a{0,9}){0,7}){0,7}",
        "[a-z]{0,5000}",
        "(ab){999}",
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
        r"^[\w.+-]+@[\w-]+(?:\.[\w-]+)*$",
        "[a?]" * 99 + r"\?\(" * 99,
        r"[\]?a?]" * 99,
        "a{0,",
        ")?" * 9,
    ],
)
def test_patterns_with_up_to_50_repetitions(pattern: str) -> None:
    check_schema({"type": "string", "pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        "a?" * 51,
        "b(a*){0,51}",
        "(?:a+|b){51,}",
        "(((a{0,10}){0,10}){0,10})",
        "((((a{0,30}){0,30}){0,30}){0,30})",
        "(x(a?b?)){26}",
        "(a?){" + "9" * 5000 + "}",
        "((((a?a?a?a?)*)+)?){13}",
    ],
)
def test_a_pattern_that_would_stop_the_model_is_refused(pattern: str) -> None:
    schema = {"items": {"properties": {"a": {"type": "string", "pattern": pattern}}}}
    with pytest.raises(ApiError, match="must have at most 50 parts of a pattern that repeat"):
        check_schema(schema)


@pytest.mark.parametrize("name", ["contains", "if", "not", "patternProperties", "propertyNames"])
@pytest.mark.parametrize("place", ["", "properties", "items", "anyOf", "$defs"])
def test_a_keyword_that_would_be_ignored_is_refused(name: str, place: str) -> None:
    part = {name: {"type": "string"}}
    places: dict[str, dict[str, Any]] = {
        "": part,
        "items": {"items": part},
        "anyOf": {"anyOf": [part]},
    }
    with pytest.raises(ApiError, match=f"must not have '{name}'"):
        check_schema(places.get(place, {place: {"a": part}}))


@pytest.mark.parametrize("name", ["$ref", "allOf", "anyOf", "const", "enum", "oneOf"])
def test_a_pattern_that_would_be_ignored_is_refused(name: str) -> None:
    value: dict[str, Any] = {"$ref": "#/$defs/a", "const": "a", "enum": ["a"]}
    part = {"pattern": "^a$", name: value.get(name, [{"type": "string"}])}
    with pytest.raises(ApiError, match=f"must not have '[$]?{name.strip('$')}' beside a pattern"):
        check_schema({"items": part, "$defs": {"a": {}}})
    with pytest.raises(ApiError, match="must not have a pattern in 'allOf'"):
        check_schema({"allOf": [{"pattern": "^a$"}]})


@pytest.mark.parametrize(
    "schema",
    [
        {"items": [{"not": {}}]},
        {"$ref": "#/x/y", "x": {"y": {"not": {}}}},
        {"anyOf": [{"$ref": "#/x"}], "x": {"items": {"$ref": "#/y"}}, "y": {"not": {}}},
    ],
)
def test_keywords_are_found_wherever_a_schema_is(schema: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="must not have 'not'"):
        check_schema(schema)


def test_schemas_that_refer_to_each_other() -> None:
    check_schema({"$ref": "#/a", "a": {"items": {"$ref": "#/b"}}, "b": {"items": {"$ref": "#/a"}}})


def test_a_property_can_have_the_name_of_a_keyword() -> None:
    check_schema({"properties": {"not": {}, "if": {}}, "enum": [{"not": 1}], "default": {"if": 1}})


NUMBER = {"type": "number", "minimum": 1, "exclusiveMaximum": 2}

CHECKED: list[tuple[dict[str, Any], str, str]] = [
    ({"minimum": 500}, "500", "499.9"),
    ({"maximum": 0.5}, "0.5", "0.6"),
    ({"exclusiveMinimum": 0}, "0.1", "0"),
    ({"exclusiveMaximum": 0}, "-1", "0.0"),
    ({"multipleOf": 0.1}, "0.3", "0.35"),
    ({"minProperties": 2}, '{"a":1,"b":2}', '{"a":1}'),
    ({"maxProperties": 1}, '{"a":1}', '{"a":1,"b":2}'),
    ({"required": ["q"]}, '{"q":1}', '{"A":"A"}'),
    ({"uniqueItems": True}, '[1,2,{"a":1,"b":2}]', '[{"a":1,"b":2},{"b":2,"a":1}]'),
    ({"items": NUMBER}, "[1,1.9]", "[1,2]"),
    ({"properties": {"a": NUMBER}}, '{"a":1,"b":9}', '{"a":0}'),
    ({"additionalProperties": NUMBER}, '{"b":1}', '{"b":9}'),
    ({"anyOf": [{"type": "null"}, NUMBER]}, "null", "3"),
    ({"oneOf": [{"type": "string"}, NUMBER]}, '"3"', "3"),
    ({"allOf": [NUMBER, {"maximum": 1.5}]}, "1.5", "1.6"),
    ({"$ref": "#/$defs/a", "$defs": {"a": NUMBER}}, "1", "0.9"),
    ({"type": "integer", "minimum": "x"}, "1", '"x"'),
    ({"type": "integer"}, "1", "true"),
    ({"type": ["string", "null"], "maxLength": 2}, '"ab"', "1"),
    ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 2}, '"ab"', '"abc"'),
    ({"anyOf": [{"type": "string"}], "minLength": 2}, '"ab"', '"a"'),
    ({"anyOf": [{"type": "string"}], "enum": ["q"]}, '"q"', '"r"'),
    ({"const": 1, "enum": [1, 2]}, "1", "2"),
    ({"enum": [1, "a"]}, "1", "true"),
    ({"prefixItems": [{}], "minItems": 2}, "[1,2]", "[1]"),
    ({"prefixItems": [{}], "maxItems": 2}, "[1,2]", "[1,2,3]"),
    ({"prefixItems": [NUMBER], "items": {"type": "null"}}, "[1,null]", "[1,1]"),
    ({"prefixItems": [NUMBER], "items": {"type": "null"}}, "[1.5]", "[2]"),
    ({"items": [NUMBER]}, '[1,"x"]', "[2]"),
    ({"additionalProperties": False, "properties": {"a": {}}}, '{"a":1}', '{"b":1}'),
    ({"$ref": "#/$defs/a", "maximum": 1, "$defs": {"a": NUMBER}}, "1", "1.5"),
    ({"anyOf": [{"items": NUMBER}], "items": {"maximum": 1.5}}, "[1.5]", "[1.6]"),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), CHECKED)
def test_answers_are_checked(schema: dict[str, Any], right: str, wrong: str) -> None:
    check_answer(right, schema)
    with pytest.raises(ApiError, match="JSON Mode couldn't be met"):
        check_answer(wrong, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"required": 5, "properties": 5, "minProperties": "x", "anyOf": {}},
        {"type": {}, "enum": {}, "allOf": {}, "properties": {"a": {"type": [[]]}}},
        {"type": 5, "enum": 5, "allOf": 5, "prefixItems": 5, "items": 5, "$ref": 5},
    ],
)
@pytest.mark.parametrize("text", ['{"a":1}', "[1]", '"a"', "1", "true", "null"])
def test_values_that_no_keyword_has_are_ignored(schema: dict[str, Any], text: str) -> None:
    """The model's library refuses them, or ignores them, too."""
    check_schema(schema)
    check_answer(text, schema)


def test_an_incomplete_answer_is_not_checked() -> None:
    check_answer('{"a": 1', {"minimum": 500})


async def test_json_mode_never_breaks_the_schema(local: Local) -> None:
    """The grammar ignores this bound, so the model says what it likes."""
    bounds = {"type": "number", "minimum": 500.5, "maximum": 500.6}
    for schema in (bounds, {"type": "object", "required": ["q"]}):
        body = {"prompt": "Pick one", "max_tokens": 40, "seed": 1, "guided_json": schema}
        reply = await local.post(LLAMA, body)
        if reply.status == 200:
            check_answer(orjson.dumps(reply.result["response"]).decode(), schema)
        else:
            assert reply.error[:2] == (400, 90002)


@pytest.mark.parametrize("stream", [False, True])
async def test_schemas_are_refused_on_every_way(local: Local, stream: bool) -> None:
    schema = {"enum": VALUES}
    parameters = {"type": "object", "properties": {"a": schema}}
    function = {"name": "f", "description": "d", "parameters": parameters}
    messages = [{"role": "user", "content": "x"}]
    bodies: list[dict[str, Any]] = [
        {"messages": messages, "tools": [function], "tool_choice": "required", "stream": stream},
        {"prompt": "x", "guided_json": schema},
        {"prompt": "x", "response_format": {"type": "json_schema", "json_schema": schema}},
    ]
    for body in bodies:
        reply = await local.post(LLAMA, body)
        assert reply.error[:2] == (400, 5006)
        assert "300 alternatives" in reply.error[2]
