"""Inputs and answers as values: what they send, what they refuse, what they can do."""

import io
import json
import math
import pickle
from array import array
from pathlib import Path
from typing import Any, TypeVar, assert_type

import pytest

from cfai.errors import InputError
from cfai.media import Base64, MediaForm
from cfai.meta import Meta
from cfai.tasks import (
    Answer,
    Audio,
    AutomaticSpeechRecognition,
    Box,
    CodeFunction,
    Description,
    Detection,
    Detections,
    Embeddings,
    Function,
    Image,
    ImageClassification,
    ImagePart,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    Label,
    Labels,
    Message,
    MultimodalEmbeddings,
    ObjectDetection,
    Prompt,
    Ranked,
    Ranking,
    Rerank,
    ResponseFormat,
    Result,
    Segment,
    SpeechSynthesis,
    Summarization,
    Summary,
    Task,
    Text,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextPart,
    TextToImage,
    TextToSpeech,
    Token,
    Tool,
    ToolCall,
    ToolCallDelta,
    Transcript,
    Translated,
    Translation,
    Usage,
    Word,
    assistant,
    rules,
    system,
    tool_result,
    user,
)

A = TypeVar("A", bound=Answer)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_URI = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}

# Every input, with every field that it has, and the body that the API page documents for it.
COMPLETE: list[tuple[Task[Any], type[Answer], dict[str, Any]]] = [
    (TextClassification("fine"), Labels, {"text": "fine"}),
    (
        TextToImage(
            "a cat",
            guidance=7.5,
            height=512,
            image=PNG,
            mask=PNG,
            negative_prompt="dogs",
            num_steps=20,
            seed=1,
            strength=0.5,
            width=256,
        ),
        Image,
        {
            "prompt": "a cat",
            "guidance": 7.5,
            "height": 512,
            "image": PNG,
            "mask": PNG,
            "negative_prompt": "dogs",
            "num_steps": 20,
            "seed": 1,
            "strength": 0.5,
            "width": 256,
        },
    ),
    (TextToImage("a", image_b64="iVBO"), Image, {"prompt": "a", "image_b64": "iVBO"}),
    (TextToSpeech("hi", lang="fr"), Audio, {"prompt": "hi", "lang": "fr"}),
    (TextEmbeddings("one"), Embeddings, {"text": "one"}),
    (
        TextEmbeddings(["one", "two"], pooling="cls", truncate_inputs=True),
        Embeddings,
        {"text": ["one", "two"], "pooling": "cls", "truncate_inputs": True},
    ),
    (
        AutomaticSpeechRecognition(b"RIFF", source_lang="de", target_lang="en"),
        Transcript,
        {"audio": b"RIFF", "source_lang": "de", "target_lang": "en"},
    ),
    (ImageClassification(PNG), Labels, {"image": PNG}),
    (ObjectDetection(PNG), Detections, {"image": PNG}),
    (
        Prompt(
            "why?",
            frequency_penalty=-2,
            lora="mine",
            max_tokens=10,
            presence_penalty=2,
            raw=True,
            repetition_penalty=1.1,
            response_format=ResponseFormat("json_object"),
            seed=9999999999,
            stream=False,
            temperature=0,
            top_k=50,
            top_p=0.001,
        ),
        Text,
        {
            "prompt": "why?",
            "frequency_penalty": -2,
            "lora": "mine",
            "max_tokens": 10,
            "presence_penalty": 2,
            "raw": True,
            "repetition_penalty": 1.1,
            "response_format": {"type": "json_object"},
            "seed": 9999999999,
            "stream": False,
            "temperature": 0,
            "top_k": 50,
            "top_p": 0.001,
        },
    ),
    (
        TextGeneration(
            [system("brief"), {"role": "user", "content": "hi"}],
            frequency_penalty=1,
            functions=[CodeFunction("now", "return Date()"), {"name": "f", "code": "1"}],
            lora="mine",
            max_tokens=10,
            presence_penalty=1,
            raw=False,
            repetition_penalty=2,
            response_format=WEATHER,
            seed=1,
            stream=True,
            temperature=5,
            tools=[Tool("a", "b", WEATHER)],
            top_k=1,
            top_p=1,
        ),
        Text,
        {
            "messages": [
                {"role": "system", "content": "brief"},
                {"role": "user", "content": "hi"},
            ],
            "frequency_penalty": 1,
            "functions": [
                {"name": "now", "code": "return Date()"},
                {"name": "f", "code": "1"},
            ],
            "lora": "mine",
            "max_tokens": 10,
            "presence_penalty": 1,
            "raw": False,
            "repetition_penalty": 2,
            "response_format": {"type": "json_schema", "json_schema": WEATHER},
            "seed": 1,
            "stream": True,
            "temperature": 5,
            "tools": [{"name": "a", "description": "b", "parameters": WEATHER}],
            "top_k": 1,
            "top_p": 1,
        },
    ),
    (
        Translation("one", "es", source_lang="en"),
        Translated,
        {"text": "one", "target_lang": "es", "source_lang": "en"},
    ),
    (
        Summarization("long", max_length=100),
        Summary,
        {"input_text": "long", "max_length": 100},
    ),
    (
        ImageToText(
            PNG,
            frequency_penalty=3,
            max_tokens=10,
            presence_penalty=3,
            prompt="what?",
            raw=True,
            repetition_penalty=3,
            seed=0,
            temperature=6,
            top_k=100,
            top_p=2,
        ),
        Description,
        {
            "image": PNG,
            "frequency_penalty": 3,
            "max_tokens": 10,
            "presence_penalty": 3,
            "prompt": "what?",
            "raw": True,
            "repetition_penalty": 3,
            "seed": 0,
            "temperature": 6,
            "top_k": 100,
            "top_p": 2,
        },
    ),
    (
        ImagePrompt(PNG, "what?", ignore_eos=True, max_tokens=3, top_p=0),
        Description,
        {"image": PNG, "prompt": "what?", "ignore_eos": True, "max_tokens": 3, "top_p": 0},
    ),
    (
        ImageTextToText(PNG, [user("what?")], ignore_eos=False, seed=4),
        Description,
        {
            "image": PNG,
            "messages": [{"role": "user", "content": "what?"}],
            "ignore_eos": False,
            "seed": 4,
        },
    ),
    (
        MultimodalEmbeddings(image=PNG, text=["one"]),
        Embeddings,
        {"image": PNG, "text": ["one"]},
    ),
    (
        Rerank("why?", ["so", {"text": "because"}], top_k=1),  # type: ignore[list-item]  # JSON
        Ranking,
        {"query": "why?", "contexts": [{"text": "so"}, {"text": "because"}], "top_k": 1},
    ),
    (
        SpeechSynthesis(
            "hi",
            speaker="luna",
            encoding="linear16",
            container="wav",
            sample_rate=24000,
            bit_rate=48000,
        ),
        Audio,
        {
            "text": "hi",
            "speaker": "luna",
            "encoding": "linear16",
            "container": "wav",
            "sample_rate": 24000,
            "bit_rate": 48000,
        },
    ),
]


@pytest.mark.parametrize(("task", "answer", "body"), COMPLETE, ids=lambda one: type(one).__name__)
def test_a_task_is_sent_as_documented(
    task: Task[Any], answer: type[Answer], body: dict[str, Any]
) -> None:
    assert task.payload() == body
    assert task.answer is answer


@pytest.mark.parametrize(("task", "answer", "body"), COMPLETE, ids=lambda one: type(one).__name__)
def test_a_task_is_a_value(task: Task[Any], answer: type[Answer], body: dict[str, Any]) -> None:
    """It can be sent again, compared, stored, and never changes."""
    stored = pickle.loads(pickle.dumps(task))  # noqa: S301  # our own

    assert stored == task
    assert stored.payload() == task.payload() == body
    assert task.replace() == task
    assert not hasattr(task, "__dict__")
    with pytest.raises(AttributeError):
        task.extra = {}  # type: ignore[misc]  # on purpose


def test_every_rule_is_of_a_field_that_the_table_above_holds() -> None:
    """No field of any input is left out of the table of bodies."""
    sent: dict[type[Task[Any]], set[str]] = {}
    for task, _, body in COMPLETE:
        sent.setdefault(type(task), set()).update(body)
    for kind, names in sent.items():
        if kind not in (ImagePrompt, ImageTextToText):
            assert names == set(rules(kind)), kind


def test_equal_tasks_have_equal_hashes() -> None:
    one, two = (TextGeneration([user("hi")], temperature=1) for _ in range(2))

    assert hash(one) == hash(two)
    assert len({one, two, Prompt("hi")}) == 2


def test_a_task_shows_what_is_set_and_no_more_than_fits() -> None:
    assert repr(Prompt("hi", seed=3)) == "Prompt(prompt='hi', seed=3)"
    assert repr(ImageToText(PNG * 1000)) == "ImageToText(image=<8000 bytes>)"
    assert len(repr(Prompt("x" * 1_000_000))) < 100


def answered(task: Task[A]) -> A:
    """Stand for a client: give back what mypy believes the answer to be."""
    kind: Any = task.answer
    made: A = kind.__new__(kind)
    return made


def test_a_type_checker_knows_the_answer() -> None:
    """mypy checks these lines; running them checks that it is right."""
    assert isinstance(assert_type(answered(Prompt("hi")), Text), Text)
    assert isinstance(assert_type(answered(ImageToText(PNG)), Description), Description)
    assert isinstance(assert_type(answered(TextToImage("a cat")), Image), Image)
    assert isinstance(assert_type(answered(Rerank("q", ["a"])), Ranking), Ranking)


def test_replace_makes_another_and_checks_it() -> None:
    task = Prompt("hi", temperature=1)
    changed = assert_type(task.replace(temperature=2), Prompt)

    assert (task.temperature, changed.temperature) == (1, 2)
    with pytest.raises(InputError, match="temperature must be from 0 to 5, got 6"):
        task.replace(temperature=6)
    with pytest.raises(TypeError):
        task.replace(warmth=1)


def test_extra_is_sent_as_it_is_and_beyond_bounds() -> None:
    task = TextToImage("a cat", extra={"steps": 8, "num_steps": 40, "nested": {"a": None}})

    assert task.payload() == {
        "prompt": "a cat",
        "steps": 8,
        "num_steps": 40,
        "nested": {"a": None},
    }


def test_extra_does_not_change_what_is_set() -> None:
    with pytest.raises(InputError, match="extra must not repeat num_steps"):
        TextToImage("a cat", num_steps=4, extra={"num_steps": 40})
    with pytest.raises(InputError, match="extra must not repeat contexts"):
        Rerank("why?", ["so"], extra={"contexts": []})


def test_extra_is_a_copy() -> None:
    given = {"steps": 8}
    task = TextToImage("a cat", extra=given)
    given["steps"] = 9

    assert task.payload()["steps"] == 8


@pytest.mark.parametrize("extra", [[], "a", {1: 2}, 5])
def test_extra_is_a_mapping_of_names(extra: Any) -> None:
    with pytest.raises(InputError, match="extra must be a mapping"):
        Prompt("hi", extra=extra)


def test_a_list_is_kept_as_it_was_when_given() -> None:
    history = [user("one")]
    task = TextGeneration(history)
    history.append(user("two"))

    assert len(task.payload()["messages"]) == 1


def test_any_iterable_of_messages_will_do() -> None:
    assert TextGeneration(message for message in [user("a"), user("b")]).payload() == {  # type: ignore[arg-type]  # a generator
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    }


def test_an_image_to_start_from_is_given_once() -> None:
    with pytest.raises(InputError, match="image and image_b64"):
        TextToImage("a cat", image=PNG, image_b64="iVBO")


def test_the_media_form_is_not_sent_and_may_be_a_name() -> None:
    form: Any = "base64"
    task = AutomaticSpeechRecognition(b"RIFF", media_form=form)

    assert task.media_form is MediaForm.BASE64
    assert task.payload() == {"audio": b"RIFF"}
    assert "media_form" not in rules(AutomaticSpeechRecognition)


@pytest.mark.parametrize(
    ("task", "blocks"),
    [
        (Prompt("hi"), False),
        (TextGeneration([user("hi", PNG)]), False),
        (TextGeneration([user("hi", Path("a.png"))]), True),
        (TextGeneration([user("hi", ImagePart("https://example.com/a.png"))]), False),
        (ImageToText(PNG), False),
        (ImageToText("a.png"), True),
        (ImageToText(io.BytesIO(PNG)), True),
        (TextToImage("a", mask="mask.png"), True),
        (ImageTextToText(PNG, [user("hi")]), False),
        (ImageTextToText("a.png", [user("hi")]), True),
        (ImageTextToText(PNG, [user("hi", Path("a.png"))]), True),
    ],
)
def test_a_task_tells_whether_it_reads_files(task: Task[Any], blocks: bool) -> None:
    assert task.blocks() is blocks


# Messages


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (system("be brief"), {"role": "system", "content": "be brief"}),
        (user("hi"), {"role": "user", "content": "hi"}),
        (user(""), {"role": "user", "content": ""}),
        (assistant("hello"), {"role": "assistant", "content": "hello"}),
        (
            user("look", PNG),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": PNG_URI}},
                ],
            },
        ),
        (
            user(TextPart("a"), ImagePart("https://example.com/a.png"), Base64("iVBORw0KGgo=")),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "image_url", "image_url": {"url": PNG_URI}},
                ],
            },
        ),
        (
            assistant(tool_calls=[ToolCall("add", {"a": 1, "b": "ü"}, "call-1")]),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call-1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a": 1, "b": "ü"}'},
                    }
                ],
            },
        ),
        (
            assistant(tool_calls=[ToolCall("now"), ToolCall("add", '{"a":1}')]),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"type": "function", "function": {"name": "now", "arguments": "{}"}},
                    {"type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
                ],
            },
        ),
        (
            tool_result("3", "call-1", name="add"),
            {"role": "tool", "content": "3", "tool_call_id": "call-1", "name": "add"},
        ),
        (tool_result({"sum": 3}), {"role": "tool", "content": '{"sum": 3}'}),
    ],
)
def test_a_message_is_sent_as_documented(message: Message, body: dict[str, Any]) -> None:
    assert message.payload() == body
    assert hash(message) if "tool_calls" not in body else True


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": "hi", "name": "Ada"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG_URI}}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": PNG_URI, "detail": "low"}},
                {"type": "text", "text": "hi", "cache": True},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "call-1"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
    ],
)
def test_a_mapping_of_the_documented_shape_is_a_message(body: dict[str, Any]) -> None:
    """It is checked, and arrives as it was."""
    assert TextGeneration([body]).payload() == {"messages": [body]}


def test_calls_in_the_services_own_form_are_sent_in_the_nested_one() -> None:
    given = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}

    assert Message.of(given).tool_calls == (ToolCall("f", {}),)
    assert Message.of(given).payload()["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("hi", r"messages\[0\]: a message must be a Message or a mapping, got 'hi'"),
        ({"content": "hi"}, "must have its role"),
        ({"role": "user"}, "must have its content"),
        ({"role": "user", "content": None}, "content must not be null"),
        ({"role": None, "content": "hi"}, "role must be text, got None"),
        ({"role": "user", "content": 5}, "content must be text or a list of parts, got 5"),
        ({"role": "user", "content": {"type": "text"}}, "content must be text or a list"),
        ({"role": "user", "content": [5]}, "content must be parts of text or images, got 5"),
        ({"role": "user", "content": [{"type": "text"}]}, "content must be parts"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content must be parts"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]},
            "content must be parts",
        ),
        ({"role": "assistant", "content": "", "tool_calls": [5]}, "tool_calls must be tool calls"),
    ],
)
def test_a_message_of_another_shape_is_refused(message: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextGeneration([message])


def test_an_image_in_a_message_is_read_when_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    message = user("look", path)
    path.write_bytes(PNG)

    assert message.payload()["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URI}}


def test_an_image_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="image must not be empty"):
        ImagePart(b"")
    with pytest.raises(InputError, match="image must be bytes"):
        user("look", 5j)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InputError, match="something to say"):
        user()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, r"user\(\) must be given texts and images, got None"),
        (1, r"user\(\) must be given texts and images, got 1"),
        (["what", b"x"], r"user\(\) must be given its parts one by one, as in user\(\*parts\)"),
        ([], r"user\(\) must be given its parts one by one"),
    ],
)
def test_what_a_user_cannot_say_is_named(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        user(given)
    with pytest.raises(InputError, match=words):
        user("look", given)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool_calls": 3}, "tool_calls must be a list of tool calls, got 3"),
        ({"tool_calls": "x"}, "tool_calls must be a list of tool calls, got 'x'"),
        ({"tool_calls": {"name": "f"}}, "tool_calls must be a list of tool calls, got {'name'"),
        ({"name": 3}, "name must be text, got 3"),
        ({"tool_call_id": [1]}, r"tool_call_id must be text, got \[1\]"),
    ],
)
def test_a_field_of_a_message_of_another_kind_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Message("assistant", "x", **fields)
    with pytest.raises(InputError, match=words):
        Message.of({"role": "assistant", "content": "x", **fields})


@pytest.mark.parametrize("name", ["role", "content", "name", "tool_call_id", "tool_calls"])
def test_what_is_extra_in_a_message_changes_nothing_that_is_set(name: str) -> None:
    anything: Any = [1]
    with pytest.raises(InputError, match=f"extra must not repeat {name}, which is set already"):
        Message(
            "tool", "x", name="n", tool_call_id="1", tool_calls=[ToolCall("f")], extra={name: "y"}
        )
    with pytest.raises(InputError, match="extra must be a mapping of names to values"):
        Message("tool", "x", extra=anything)
    assert Message("tool", "x", extra={"name": "n"}).payload()["name"] == "n"


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_message_of_calls_alone_has_an_empty_text(content: dict[str, Any]) -> None:
    """Chat completions hand them back without content, or with a null for it."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"role": "assistant", **content, "tool_calls": [call]}

    assert TextGeneration([body]).payload()["messages"] == [
        {"role": "assistant", "content": "", "tool_calls": [call]}
    ]


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": object()}, b"x"])
def test_what_json_cannot_write_is_no_result_of_a_tool(value: Any) -> None:
    with pytest.raises(InputError, match="content must be text or made of JSON values, got "):
        tool_result(value)
    with pytest.raises(InputError, match="arguments must be text or made of JSON values, got "):
        assistant(tool_calls=[ToolCall("f", value)]).payload()


# Tools


def test_a_tool_has_two_forms() -> None:
    """Both of those that the API documents."""
    described = {"name": "weather", "description": "Tell it", "parameters": WEATHER}

    assert Tool("weather", "Tell it", WEATHER).payload() == described
    assert Function("weather", "Tell it", WEATHER).payload() == {
        "type": "function",
        "function": described,
    }


def test_a_tool_can_be_given_its_properties_alone() -> None:
    properties = {"type": {"type": "string", "description": "What kind"}}

    assert Tool("a", "b", properties, required=["type"]).payload()["parameters"] == {
        "type": "object",
        "properties": properties,
        "required": ["type"],
    }
    assert Tool("a", "b").payload()["parameters"] == {"type": "object", "properties": {}}


def test_a_schema_is_not_changed_by_the_tool_that_it_describes() -> None:
    schema = dict(WEATHER)
    Tool("a", "b", schema, required=["city"]).payload()

    assert schema == WEATHER


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_a_mapping_of_a_tool_passes_as_it_is(form: str) -> None:
    tool: dict[str, Any] = {"name": "a", "description": "b", "parameters": WEATHER, "strict": True}
    if form == "nested":
        tool = {"type": "function", "function": tool}

    assert TextGeneration([user("hi")], tools=[tool]).payload()["tools"] == [tool]


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({}, r"tools\[0\]: a tool must be"),
        (5, "a tool must be"),
        ({"name": "a"}, "description must be text, got None"),
        ({"name": "a", "description": False, "parameters": {}}, "description must be text"),
        ({"name": "a", "description": "b"}, "parameters must be a JSON schema"),
        ({"name": "", "description": "b", "parameters": {}}, "name must be text of at least 1"),
        ({"type": "function", "function": {"name": "a"}}, "description must be text"),
        ({"function": {"name": "a", "description": "b", "parameters": {}}}, "a tool must be"),
    ],
)
def test_a_tool_of_another_shape_is_refused(tool: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextGeneration([user("hi")], tools=[tool])


def test_a_function_has_a_name_and_code() -> None:
    for function in ({"name": "a"}, {"code": "b"}, {"name": "a", "code": 5}, 5):
        anything: Any = function
        with pytest.raises(InputError, match=r"functions\[0\]: a function must have its name"):
            TextGeneration([user("hi")], functions=[anything])


# The form of the answer


@pytest.mark.parametrize(
    ("given", "sent"),
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
                "json_schema": {"name": "weather", "schema": WEATHER, "strict": True},
            },
            {"type": "json_schema", "json_schema": WEATHER},
        ),
        (
            ResponseFormat("json_schema", json_schema={"name": "weather", "schema": WEATHER}),
            {"type": "json_schema", "json_schema": WEATHER},
        ),
        ({"json_schema": WEATHER}, {"json_schema": WEATHER}),
        ({"enum": ["a", "b"]}, {"type": "json_schema", "json_schema": {"enum": ["a", "b"]}}),
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
def test_a_format_is_sent_with_the_bare_schema(given: Any, sent: dict[str, Any]) -> None:
    assert Prompt("hi", response_format=given).payload()["response_format"] == sent


def test_plain_text_is_the_default_and_left_out() -> None:
    """Chat completions have a name for it, which is no JSON schema."""
    assert Prompt("hi", response_format={"type": "text"}).payload() == {"prompt": "hi"}


@pytest.mark.parametrize("given", ["xml", 5, {}, [], {"json_schema": 1, "type": "xml"}])
def test_a_format_of_another_kind_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"^response_format: "):
        Prompt("hi", response_format=given)


# Numbers


def test_a_number_is_sent_as_it_is() -> None:
    """Whole numbers stay whole, and a subclass becomes what every encoder knows."""

    class Half(float):
        pass

    body = Prompt("hi", temperature=Half(0.5), max_tokens=10, top_p=1).payload()

    assert json.dumps(body) == '{"prompt": "hi", "max_tokens": 10, "temperature": 0.5, "top_p": 1}'
    assert type(body["temperature"]) is float


# Answers

META = Meta(status=200, ray_id="8f1")


def test_an_answer_is_compared_by_what_it_says() -> None:
    assert Text("hi", meta=META, raw={"response": "hi"}) == Text("hi")
    assert repr(Text("hi", meta=META, raw={"secret": 1})) == repr(Text("hi"))
    assert Text("hi", meta=META).meta is META
    assert Text("hi").meta == Meta()


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        (
            Text("hi", tool_calls=(ToolCall("f", {"a": 1}),), usage=Usage(1, 2, 3)),
            {
                "text": "hi",
                "parsed": None,
                "tool_calls": [{"name": "f", "arguments": {"a": 1}, "id": None}],
                "reasoning": "",
                "finish_reason": None,
                "usage": {
                    "prompt_tokens": 1,
                    "completion_tokens": 2,
                    "total_tokens": 3,
                    "cached_tokens": None,
                    "reasoning_tokens": None,
                    "neurons": None,
                },
            },
        ),
        (Labels((Label("good", 0.9),)), {"items": [{"label": "good", "score": 0.9}]}),
        (
            Detections((Detection("cat", 0.9, Box(1, 2, 3, 4)),)),
            {
                "items": [
                    {
                        "label": "cat",
                        "score": 0.9,
                        "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4},
                    }
                ]
            },
        ),
        (Image(PNG, "image/png"), {"data": "iVBORw0KGgo=", "media_type": "image/png"}),
        (
            Embeddings((1, 2), array("f", [1, 0.5]), pooling="cls"),
            {"shape": [1, 2], "pooling": "cls", "usage": None, "vectors": [[1.0, 0.5]]},
        ),
        (
            Transcript("hi", segments=(Segment("hi", 0, 1, (Word("hi", 0, 1),)),)),
            {
                "text": "hi",
                "vtt": None,
                "word_count": None,
                "words": [],
                "segments": [
                    {
                        "text": "hi",
                        "start": 0,
                        "end": 1,
                        "words": [{"word": "hi", "start": 0, "end": 1}],
                    }
                ],
                "info": None,
            },
        ),
        (Ranking((Ranked(1, 0.5, "so"),)), {"items": [{"id": 1, "score": 0.5, "text": "so"}]}),
        (Translated("uno"), {"text": "uno"}),
        (Summary("short"), {"text": "short"}),
        (Description("a cat", "stop"), {"text": "a cat", "finish_reason": "stop"}),
        (Result({"a": [1, {"b": None}]}), {"value": {"a": [1, {"b": None}]}}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_answer_can_be_plain(answer: Answer, plain: dict[str, Any]) -> None:
    """Any JSON encoder takes it; and it survives being stored."""
    assert answer.to_dict() == plain
    assert json.loads(json.dumps(answer.to_dict())) == plain
    assert pickle.loads(pickle.dumps(answer)) == answer  # noqa: S301  # our own


def test_labels_are_a_sequence_with_a_best() -> None:
    low, high = Label("bad", 0.1), Label("good", 0.9)
    labels = Labels((low, high))

    assert list(labels) == [low, high]
    assert labels.best == labels[-1] == high
    assert labels[:1] == (low,)
    assert (len(labels), high in labels, labels.index(high)) == (2, True, 1)
    assert not Labels()
    with pytest.raises(ValueError, match="empty"):
        _ = Labels().best


def test_detections_and_rankings_are_sequences() -> None:
    detection = Detection("cat", 0.9, Box(1, 2, 3, 4))
    ranked = Ranked(1, 0.5)

    assert list(Detections((detection,))) == [detection] == list(Detections((detection,))[:])
    assert list(Ranking((ranked,))) == [ranked] == list(Ranking((ranked,))[:])


@pytest.mark.parametrize(
    "answer",
    [
        Text("hi"),
        Token("hi"),
        Translated("hi"),
        Summary("hi"),
        Description("hi"),
        Transcript("hi"),
    ],
)
def test_what_is_a_text_reads_as_one(answer: object) -> None:
    assert f"{answer}" == "hi"


def test_a_token_is_a_value() -> None:
    token = Token(tool_calls=(ToolCallDelta(0, arguments="{"),), raw={"p": "x"})

    assert token == Token(tool_calls=(ToolCallDelta(0, arguments="{"),))
    assert str(token) == ""
    assert "raw" not in repr(token)


def test_a_file_is_saved_and_its_path_given(tmp_path: Path) -> None:
    image = Image(PNG, "image/png")
    saved = image.save(tmp_path / "cat.png")

    assert saved.read_bytes() == PNG
    assert image.save(str(saved)) == saved
    assert "PNG" not in repr(image)


def test_embeddings_are_rows() -> None:
    vectors = Embeddings((3, 2), array("f", [1, 2, 3, 4, 5, 6]))

    assert len(vectors) == 3
    assert vectors[1] == vectors[-2] == array("f", [3, 4])
    assert vectors[1:] == [array("f", [3, 4]), array("f", [5, 6])]
    assert list(vectors) == vectors.vectors
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert "array" not in repr(vectors)
    with pytest.raises(IndexError):
        vectors[3]


def test_embeddings_share_their_memory_with_numpy() -> None:
    vectors = Embeddings((2, 2), array("f", [1, 2, 3, 4]))
    seen = vectors.numpy()
    vectors.buffer[0] = 9

    assert seen.shape == (2, 2)
    assert seen.dtype == "float32"
    assert seen[0, 0] == 9
    assert Embeddings((0, 0), array("f")).numpy().shape == (0, 0)


def test_an_open_result_can_be_looked_into() -> None:
    assert Result({"a": 1})["a"] == 1
    assert Result([1, 2])[0] == 1
    assert "a" in Result({"a": 1})
    assert "a" not in Result("abc")


def test_no_number_hides_in_a_list_of_texts() -> None:
    anything: Any = [math.nan]
    with pytest.raises(InputError, match="text must be text, got nan"):
        MultimodalEmbeddings(text=anything)
