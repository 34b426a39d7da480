"""The documented output of every model becomes the answer of its task.

`model_outputs.json` names its sources. From each type or schema, values are made that have all of
its fields, one for each alternative.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cfai._wire.answers import answer_spec, read_answer
from cfai._wire.responses import Response, read_meta
from cfai.errors import CfaiError
from cfai.tasks import (
    Answer,
    Audio,
    Binary,
    Decisions,
    Description,
    Detections,
    Embeddings,
    Image,
    Labels,
    Ranking,
    Rerank,
    Result,
    Summary,
    Task,
    Text,
    TextEmbeddings,
    Transcript,
    Translated,
)
from tests.wire.test_bodies import MP3, PNG
from tests.wire.test_model_inputs import CLASSES, INPUTS, WITHOUT_TASK, examples_of, parse

OUTPUTS = json.loads((Path(__file__).parent / "model_outputs.json").read_text())
CLASS_OF = {model: name for name, entry in INPUTS["classes"].items() for model in entry["models"]}
CARDS = OUTPUTS["cards"]
MODELS = sorted({*CLASSES, *CARDS} - {"@cf/deepgram/flux"})

# github.com/cloudflare/workerd, types/defines/ai.d.ts.
OTHER_TYPES = {
    "AiTextGenerationToolLegacyOutput": "{ name: string; arguments: unknown; }",
    "AiTextGenerationToolOutput": (
        '{ id: string; type: "function"; function: { name: string; arguments: string; }; }'
    ),
    "UsageTags": ("{ prompt_tokens: number; completion_tokens: number; total_tokens: number; }"),
    "ChatCompletionsOutput": (
        "{ id: string; object: string; created: number; model: string;"
        " choices: { index: number; message: { role: string; content: string | null;"
        " refusal: string | null; tool_calls?: AiTextGenerationToolOutput[]; };"
        ' finish_reason: "stop" | "length" | "tool_calls"; logprobs: null; }[];'
        " usage?: UsageTags; }"
    ),
    "ResponsesOutput": (
        '{ id: string; object: "response"; status: "completed" | "incomplete"; output:'
        ' ({ type: "message"; content: { type: "output_text"; text: string; }[]; }'
        ' | { type: "function_call"; call_id: string; name: string; arguments: string; })[];'
        " usage?: { input_tokens: number; output_tokens: number; total_tokens: number; }; }"
    ),
}

# Notation that the parser does not read, and the same in one that it reads.
NOTATION = {
    "AiTextGenerationToolLegacyOutput[] & AiTextGenerationToolOutput[]": (
        "(AiTextGenerationToolLegacyOutput | AiTextGenerationToolOutput)[]"
    ),
    "[number, number]": "number[]",
    "ReadableStream<Uint8Array>": "bytes",
    "Uint8Array": "bytes",
}


class Output(NamedTuple):
    """One documented response."""

    content_type: str
    value: Any
    """A JSON value, or the bytes of a response."""


TEXTS = {"image": b64encode(PNG).decode(), "audio": b64encode(MP3).decode(), "arguments": "{}"}
"""Texts that mean something, by the names of their fields."""


def values(schema: Mapping[str, Any], name: str = "") -> Iterator[Any]:
    """Values of a schema: with all fields of objects, and with each alternative once."""
    for key in ("oneOf", "anyOf"):
        if key in schema:
            for member in schema[key]:
                yield from values(member, name)
            return
    if "enum" in schema:
        yield from schema["enum"]
        return
    match schema.get("type"):
        case "object" | None if "properties" in schema:
            yield from _objects(schema["properties"])
        case "object" if isinstance(others := schema.get("additionalProperties"), Mapping):
            yield {f"name{index}": value for index, value in enumerate(values(others))}
        case "object":
            yield {}
        case "array":
            yield list(values(schema["items"], name))[:1]
            yield from ([item] for item in list(values(schema["items"], name))[1:])
        case kind:
            simple = {"string": TEXTS.get(name, "text"), "number": 1, "integer": 1, "boolean": True}
            yield simple.get(str(kind))


def _objects(properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    choices = {name: list(values(schema, name)) for name, schema in properties.items()}
    first = {name: options[0] for name, options in choices.items()}
    if "shape" in first:
        # The one number that the types don't tell.
        first["shape"] = [1, 1]
    yield first
    for name, options in choices.items():
        yield from ({**first, name: option} for option in options[1:])


def outputs_of(model: str) -> Iterator[Output]:
    """The documented responses of a model."""
    if model in CLASS_OF:
        entry = OUTPUTS["classes"][CLASS_OF[model]]
        types = {name: _notation(text) for name, text in entry["types"].items()}
        schema = parse(_notation(entry["output"]), {**OTHER_TYPES, **types})
        yield from _responses(model, schema)
    if model in CARDS:
        yield from _responses(model, CARDS[model])


def _notation(text: str) -> str:
    for other, same in NOTATION.items():
        text = text.replace(other, same)
    return text


def _responses(model: str, schema: Mapping[str, Any]) -> Iterator[Output]:
    members = schema.get("oneOf") or schema.get("anyOf")
    if members and "properties" not in schema:
        for member in members:
            yield from _responses(model, member)
        return
    kind = schema.get("contentType", "")
    if kind == "text/event-stream" or schema.get("properties", {}).keys() == {"request_id"}:
        return  # A stream, or a batch of the queue.
    media = examples_of(model)[0][0].answer in (Image, Audio) if model not in WITHOUT_TASK else None
    is_unknown = not schema.keys() - {"additionalProperties"}  # the type `bytes`
    if schema.get("format") == "binary" or is_unknown or (schema.get("type") == "string" and media):
        # The types know no Content-Type: the bytes tell.
        is_image = examples_of(model)[0][0].answer is Image
        yield Output(kind or "application/octet-stream", PNG if is_image else MP3)
    elif schema.get("type") == "object" and "properties" not in schema:
        return  # The card of gpt-oss says no more than that it is an object.
    else:
        yield from (Output("application/json", value) for value in values(schema))


def read(task: Task[Any] | Mapping[str, Any], output: Output) -> Answer:
    is_bytes = isinstance(output.value, bytes)
    envelope = {"result": output.value, "success": True, "errors": [], "messages": []}
    body = output.value if is_bytes else json.dumps(envelope).encode()
    headers = {"Content-Type": output.content_type}
    meta = read_meta(200, headers, attempts=1, elapsed=0.0, media_type=output.content_type)
    return read_answer(answer_spec(task), Response(200, headers, body, meta))


def has_content(answer: Answer) -> bool:
    """Whether the answer has what its task is for."""
    match answer:
        case Text():
            return bool(answer.text or answer.tool_calls)
        case Embeddings():
            return answer.tolist() == [[1.0]]
        case Binary():
            return answer.data in (PNG, MP3)
        case Labels() | Detections() | Ranking():
            return len(answer.items) == 1
        case Transcript() | Translated() | Summary() | Description():
            return answer.text == "text"
        case Decisions():
            return len(answer) > 0 and not answer.unread
        case Result():
            return bool(answer.value)
    return False


def tasks_of(model: str) -> list[Task[Any] | Mapping[str, Any]]:
    if model in WITHOUT_TASK:
        return [{}]
    first = examples_of(model)[0][0]
    # The output of bge-m3 depends on its input, which can be a query with texts.
    return [first, Rerank("q", ["a", "b"])] if isinstance(first, TextEmbeddings) else [first]


@pytest.mark.parametrize("model", MODELS)
def test_the_documented_output_of_every_model_is_read(model: str) -> None:
    outputs = list(outputs_of(model))
    for output in outputs:
        answers = []
        for task in tasks_of(model):
            with suppress(CfaiError):
                answers.append(read(task, output))
        assert any(map(has_content, answers)), (output, answers)
    assert outputs


def test_every_alternative_is_read() -> None:
    """The maker of values itself."""
    found = {name: list(outputs_of(f"@cf/{name}")) for name in (
        "meta/llama-guard-3-8b", "baai/bge-m3", "qwen/qwen3-30b-a3b-fp8", "myshell-ai/melotts",
    )}  # fmt: skip
    guard = [output.value["response"] for output in found["meta/llama-guard-3-8b"]]
    assert guard[:2] == ["text", {"safe": True, "categories": ["text"]}]
    m3 = [output.value for output in found["baai/bge-m3"]]
    assert {"response": [{"id": 1, "score": 1}]} in m3
    assert {"shape": [1, 1], "data": [[1]], "pooling": "mean"} in m3
    assert {"shape": [1, 1], "response": [[1]], "pooling": "cls"} in m3
    assert "text" in [output.value for output in found["qwen/qwen3-30b-a3b-fp8"]]
    melotts = {output.content_type for output in found["myshell-ai/melotts"]}
    assert melotts == {"application/json", "audio/mpeg", "application/octet-stream"}


def test_an_output_of_another_form_is_noticed() -> None:
    """The check itself."""
    for model in MODELS:
        task = tasks_of(model)[0]
        with suppress(CfaiError):
            answer = read(task, Output("application/json", {"other": 1}))
            assert isinstance(answer, Result) or not has_content(answer)
