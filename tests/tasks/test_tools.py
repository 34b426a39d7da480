"""Tools and response formats: their JSON, and the forms that are accepted or refused."""

from typing import Any

import pytest

from cfai.errors import InputError
from cfai.tasks import (
    Function,
    Prompt,
    ResponseFormat,
    TextGeneration,
    Tool,
    user,
)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_URI = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}


def test_tools_have_two_forms() -> None:
    """The API documents both."""
    described = {"name": "weather", "description": "Tell it", "parameters": WEATHER}

    assert Tool("weather", "Tell it", WEATHER).payload() == described
    assert Function("weather", "Tell it", WEATHER).payload() == {
        "type": "function",
        "function": described,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (Tool("f", "F."), {"type": "function", "function": {"name": "f"}}),
        (Function("f", "F."), {"type": "function", "function": {"name": "f"}}),
        *[
            (choice, choice)
            for choice in (
                {"type": "function", "function": {"name": "f"}},
                {"type": "custom", "custom": {"name": "f"}},
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
            )
        ],
    ],
)
def test_a_choice_of_tools_has_every_documented_form(choice: Any, sent: object) -> None:
    """Source: `ChatCompletionToolChoiceOption` in @cloudflare/workers-types."""
    assert TextGeneration([user("hi")], tool_choice=choice).payload()["tool_choice"] == sent


def test_parameters_can_be_properties_alone() -> None:
    properties = {"type": {"type": "string", "description": "What kind"}}

    assert Tool("a", "b", properties, required=["type"]).payload()["parameters"] == {
        "type": "object",
        "properties": properties,
        "required": ["type"],
    }
    assert Tool("a", "b").payload()["parameters"] == {"type": "object", "properties": {}}


def test_payload_does_not_change_the_schema() -> None:
    schema = dict(WEATHER)
    Tool("a", "b", schema, required=["city"]).payload()

    assert schema == WEATHER


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_mappings_of_tools_are_sent_unchanged(form: str) -> None:
    tool: dict[str, Any] = {"name": "a", "description": "b", "parameters": WEATHER, "strict": True}
    if form == "nested":
        tool = {"type": "function", "function": tool}

    assert TextGeneration([user("hi")], tools=[tool]).payload()["tools"] == [tool]


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({}, r"tools\[0\]: a tool must be"),
        (5, "a tool must be"),
        ({"name": "a"}, "description must be a string, got None"),
        ({"name": "a", "description": False, "parameters": {}}, "description must be a string"),
        ({"name": "a", "description": "b"}, "parameters must be a JSON schema"),
        ({"name": "", "description": "b", "parameters": {}}, "name must be a string of at least 1"),
        ({"type": "function", "function": {"name": "a"}}, "description must be a string"),
        ({"function": {"name": "a", "description": "b", "parameters": {}}}, "a tool must be"),
    ],
)
def test_invalid_tools_are_refused(tool: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextGeneration([user("hi")], tools=[tool])


def test_code_functions_need_a_name_and_code() -> None:
    for function in ({"name": "a"}, {"code": "b"}, {"name": "a", "code": 5}, 5):
        anything: Any = function
        with pytest.raises(InputError, match=r"functions\[0\]: a function must have a name"):
            TextGeneration([user("hi")], functions=[anything])


# The form of the answer


OWN_KEYWORDS: list[dict[str, Any]] = [{"type": "object"}, {"properties": {"schema": {}}}]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("json_object", {"type": "json_object"}),
        ({"type": "json_object"}, {"type": "json_object"}),
        (WEATHER, {"type": "json_schema", "json_schema": WEATHER}),
        (
            {"type": "json_schema", "json_schema": WEATHER},
            {"type": "json_schema", "json_schema": WEATHER},
        ),
        # The form of OpenAI, which the service refuses.
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "weather",
                    "description": "Today's weather",
                    "schema": WEATHER,
                    "strict": True,
                },
            },
            {
                "type": "json_schema",
                "json_schema": {
                    "title": "weather",
                    "description": "Today's weather",
                    **WEATHER,
                },
            },
        ),
        (
            ResponseFormat("json_schema", json_schema={"title": "Today", "schema": WEATHER}),
            {"type": "json_schema", "json_schema": {"title": "Today", **WEATHER}},
        ),
        (
            # The schema's own title and description are more precise.
            {
                "json_schema": {
                    "name": "a",
                    "description": "b",
                    "schema": {**WEATHER, "title": "c", "description": "d"},
                },
            },
            {"json_schema": {**WEATHER, "title": "c", "description": "d"}},
        ),
        (
            {"json_schema": {"schema": WEATHER, "name": None, "description": 5}},
            {"json_schema": WEATHER},
        ),
        ({"json_schema": WEATHER}, {"json_schema": WEATHER}),
        ({"enum": ["a", "b"]}, {"type": "json_schema", "json_schema": {"enum": ["a", "b"]}}),
        # With only one of its own keywords, it is a schema, too.
        *[
            (
                {"json_schema": {**keyword, "schema": {"type": "string"}}},
                {"json_schema": {**keyword, "schema": {"type": "string"}}},
            )
            for keyword in OWN_KEYWORDS
        ],
        (
            # A schema may speak of a thing called "schema".
            {"type": "object", "properties": {"schema": {"type": "string"}}},
            {
                "type": "json_schema",
                "json_schema": {"type": "object", "properties": {"schema": {"type": "string"}}},
            },
        ),
    ],
)
def test_response_formats_are_sent_with_the_bare_schema(value: Any, sent: dict[str, Any]) -> None:
    assert Prompt("hi", response_format=value).payload()["response_format"] == sent


def test_the_text_format_is_not_sent() -> None:
    """Chat completions name it, but it is not a JSON schema."""
    assert Prompt("hi", response_format={"type": "text"}).payload() == {"prompt": "hi"}


@pytest.mark.parametrize("value", ["xml", 5, {}, [], {"json_schema": 1, "type": "xml"}])
def test_invalid_response_formats_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^response_format: "):
        Prompt("hi", response_format=value)
