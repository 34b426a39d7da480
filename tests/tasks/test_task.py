"""Tasks as values: the JSON that they send, what they refuse, and how they compare."""

import io
import pickle
from pathlib import Path
from typing import Any, TypeVar, assert_type

import pytest

from cfai.errors import InputError
from cfai.media import MediaForm
from cfai.settings import UNSET
from cfai.tasks import (
    Answer,
    Audio,
    AutomaticSpeechRecognition,
    CodeFunction,
    Description,
    Detections,
    Embeddings,
    Image,
    ImageClassification,
    ImagePart,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    Labels,
    MultimodalEmbeddings,
    ObjectDetection,
    Prompt,
    Ranking,
    Rerank,
    ResponseFormat,
    SpeechSynthesis,
    Summarization,
    Summary,
    Task,
    Text,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Tool,
    Transcript,
    Translated,
    Translation,
    rules,
    system,
    user,
)

A = TypeVar("A", bound=Answer)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_URI = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}


def class_name(value: object) -> str:
    return type(value).__name__


# Every task with every field, and the body that the API page documents for it.
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
            logprobs=True,
            max_completion_tokens=20,
            max_tokens=10,
            n=1,
            reasoning_effort="low",
            stop="\n",
            stream_options={"include_usage": True},
            thinking=False,
            top_logprobs=3,
            chat_template_kwargs={"clear_thinking": False},
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
            "logprobs": True,
            "max_completion_tokens": 20,
            "max_tokens": 10,
            "n": 1,
            "reasoning_effort": "low",
            "stop": "\n",
            "stream_options": {"include_usage": True},
            "thinking": False,
            "top_logprobs": 3,
            "chat_template_kwargs": {"clear_thinking": False},
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
            logprobs=True,
            max_completion_tokens=20,
            max_tokens=10,
            n=1,
            reasoning_effort=None,
            stop=["a", "b"],
            stream_options={"include_usage": True},
            thinking=False,
            top_logprobs=3,
            chat_template_kwargs={"clear_thinking": False},
            parallel_tool_calls=False,
            tool_choice="required",
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
            "logprobs": True,
            "max_completion_tokens": 20,
            "max_tokens": 10,
            "n": 1,
            "reasoning_effort": None,
            "stop": ["a", "b"],
            "stream_options": {"include_usage": True},
            "thinking": False,
            "top_logprobs": 3,
            "chat_template_kwargs": {"clear_thinking": False},
            "parallel_tool_calls": False,
            "tool_choice": "required",
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


@pytest.mark.parametrize(("task", "answer", "body"), COMPLETE, ids=class_name)
def test_a_task_is_sent_as_documented(
    task: Task[Any], answer: type[Answer], body: dict[str, Any]
) -> None:
    assert task.payload() == body
    assert task.answer is answer


@pytest.mark.parametrize(("task", "answer", "body"), COMPLETE, ids=class_name)
def test_tasks_can_be_pickled_compared_and_not_changed(
    task: Task[Any], answer: type[Answer], body: dict[str, Any]
) -> None:
    """A task can be sent again, compared and stored, and never changes."""
    stored = pickle.loads(pickle.dumps(task))  # noqa: S301  # our own

    assert stored == task
    assert stored.payload() == task.payload() == body
    assert task.replace() == task
    assert not hasattr(task, "__dict__")
    with pytest.raises(AttributeError):
        task.extra = {}  # type: ignore[misc]  # on purpose


def test_the_table_covers_every_field() -> None:
    """The table of bodies above has every field of every task."""
    sent: dict[type[Task[Any]], set[str]] = {}
    for task, _, body in COMPLETE:
        sent.setdefault(type(task), set()).update(body)
    for kind, names in sent.items():
        if kind not in (ImagePrompt, ImageTextToText):
            assert names == set(rules(kind)), kind


def test_equal_tasks_have_equal_hashes() -> None:
    first, second = (TextGeneration([user("hi")], temperature=1) for _ in range(2))

    assert hash(first) == hash(second)
    assert len({first, second, Prompt("hi")}) == 2


def test_repr_shows_set_fields_and_stays_short() -> None:
    assert repr(Prompt("hi", seed=3)) == "Prompt(prompt='hi', seed=3)"
    assert repr(ImageToText(PNG * 1000)) == "ImageToText(image=<8000 bytes>)"
    assert len(repr(Prompt("x" * 1_000_000))) < 100


def answered(task: Task[A]) -> A:
    """Stand in for a client: return the type that mypy infers for the answer."""
    kind: Any = task.answer
    answer: A = kind.__new__(kind)
    return answer


def test_type_checkers_know_the_answer_type() -> None:
    """mypy checks these lines, and the test checks that it is right."""
    assert isinstance(assert_type(answered(Prompt("hi")), Text), Text)
    assert isinstance(assert_type(answered(ImageToText(PNG)), Description), Description)
    assert isinstance(assert_type(answered(TextToImage("a cat")), Image), Image)
    assert isinstance(assert_type(answered(Rerank("q", ["a"])), Ranking), Ranking)


def test_replace_returns_a_checked_copy() -> None:
    task = Prompt("hi", temperature=1)
    changed = assert_type(task.replace(temperature=2), Prompt)

    assert (task.temperature, changed.temperature) == (1, 2)
    with pytest.raises(InputError, match="temperature must be between 0 and 5, got 6"):
        task.replace(temperature=6)
    with pytest.raises(TypeError):
        task.replace(warmth=1)


def test_extra_is_sent_unchecked() -> None:
    task = TextToImage("a cat", extra={"steps": 8, "num_steps": 40, "nested": {"a": None}})

    assert task.payload() == {
        "prompt": "a cat",
        "steps": 8,
        "num_steps": 40,
        "nested": {"a": None},
    }


def test_extra_must_not_repeat_a_set_field() -> None:
    with pytest.raises(InputError, match="extra must not repeat num_steps"):
        TextToImage("a cat", num_steps=4, extra={"num_steps": 40})
    with pytest.raises(InputError, match="extra must not repeat contexts"):
        Rerank("why?", ["so"], extra={"contexts": []})


def test_extra_is_a_copy() -> None:
    given = {"steps": 8}
    task = TextToImage("a cat", extra=given)
    given["steps"] = 9

    assert task.payload()["steps"] == 8


def test_null_is_a_value_of_the_effort() -> None:
    """It is sent; only a field that is not set is not."""
    task = Prompt("hi", reasoning_effort=None)
    assert task.payload() == {"prompt": "hi", "reasoning_effort": None}
    assert repr(task) == "Prompt(prompt='hi', reasoning_effort=None)"
    assert task != Prompt("hi")
    assert "reasoning_effort" not in Prompt("hi").payload()
    assert repr(Prompt("hi")) == "Prompt(prompt='hi')"
    assert task.replace(reasoning_effort=UNSET) == Prompt("hi")
    assert Prompt("hi", extra={"reasoning_effort": 1}).payload()["reasoning_effort"] == 1
    with pytest.raises(InputError, match="extra must not repeat reasoning_effort"):
        Prompt("hi", reasoning_effort=None, extra={"reasoning_effort": "low"})
    with pytest.raises(InputError, match="max_tokens must be a number, got UNSET"):
        Prompt("hi", max_tokens=UNSET)  # type: ignore[arg-type]  # null is no value of it


def test_one_text_is_asked_for() -> None:
    """An answer has one text, so others would be paid for and lost."""
    with pytest.raises(InputError, match=r"^n must be 1, got 2$"):
        Prompt("hi", n=2)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("chat_template_kwargs", ["a"], "chat_template_kwargs must be a mapping"),
        ("chat_template_kwargs", {1: True}, "chat_template_kwargs must have names"),
        ("stream_options", True, "stream_options must be a mapping"),
        ("stream_options", {"include_usage": 1}, "must be true or false, got 1"),
        ("stop", 5, "stop must be a list of strings, got 5"),
        ("stop", ["a", None], "stop must be a string, got None"),
        ("tool_choice", "weather", "tool_choice: must be auto, none, required, a tool or a map"),
        ("tool_choice", {"function": {"name": "f"}}, "tool_choice: must be auto, none, required"),
    ],
)
def test_invalid_options_of_a_chat_are_refused(name: str, value: Any, problem: str) -> None:
    """The error names the field, the rule and the value."""
    options = {name: value}
    with pytest.raises(InputError, match=problem):
        TextGeneration([user("hi")], **options)


@pytest.mark.parametrize("extra", [[], "a", {1: 2}, 5])
def test_extra_is_a_mapping_of_names(extra: Any) -> None:
    with pytest.raises(InputError, match="extra must be a mapping"):
        Prompt("hi", extra=extra)


def test_lists_are_copied() -> None:
    history = [user("one")]
    task = TextGeneration(history)
    history.append(user("two"))

    assert len(task.payload()["messages"]) == 1


def test_messages_can_be_any_iterable() -> None:
    assert TextGeneration(message for message in [user("a"), user("b")]).payload() == {  # type: ignore[arg-type]  # a generator
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    }


def test_image_and_image_b64_exclude_each_other() -> None:
    with pytest.raises(InputError, match="image and image_b64"):
        TextToImage("a cat", image=PNG, image_b64="iVBO")


def test_media_form_can_be_a_string_and_is_not_sent() -> None:
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
def test_blocks_is_true_if_a_file_is_read(task: Task[Any], blocks: bool) -> None:
    assert task.reads_files() is blocks
