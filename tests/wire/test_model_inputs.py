"""Typed tasks against the input types of all models: what is sent, each model's type allows.

`model_inputs.json` names its sources. The types of `@cloudflare/workers-types` are read by a small
parser of TypeScript; the schemas of the model cards are checked as JSON schemas.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cfai._wire.bodies import encode_run_body
from cfai.errors import InputError
from cfai.media import MediaForm
from cfai.profiles import TASKS, profile
from cfai.tasks import (
    AutomaticSpeechRecognition,
    Decide,
    ImageClassification,
    ImageToText,
    ObjectDetection,
    Prompt,
    Rerank,
    SpeechSynthesis,
    Summarization,
    Task,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Tool,
    Translation,
    user,
)
from tests.wire.test_bodies import MP3, PNG, bytes_of

INPUTS = json.loads((Path(__file__).parent / "model_inputs.json").read_text())
CLASSES = {model: entry for entry in INPUTS["classes"].values() for model in entry["models"]}
CARDS = INPUTS["cards"]

# Types that the source refers to and does not have. All others are taken for anything.
OTHER_TYPES = {
    # github.com/cloudflare/workerd, types/defines/ai.d.ts.
    "RoleScopedChatInput": "{ role: string; content: string; name?: string; }",
}

Schema = Mapping[str, Any]


# TypeScript

_TOKEN = re.compile(r"""\s*(?:(?P<text>"[^"]*")|(?P<word>[\w$.-]+)|(?P<mark>[^\s\w]))""")


class Parser:
    """Reads a TypeScript type as a JSON schema, in which no further fields are allowed."""

    def __init__(self, text: str, types: Mapping[str, str]) -> None:
        self.tokens = [match[0].strip() for match in _TOKEN.finditer(text)]
        self.types = types
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        assert not expected or token in expected, (token, expected, self.tokens)
        self.position += 1
        return token

    def accept(self, token: str) -> bool:
        found = self.peek() == token
        self.position += found
        return found

    def union(self) -> Schema:
        self.accept("|")
        members = [self.intersection()]
        while self.accept("|"):
            members.append(self.intersection())
        return members[0] if len(members) == 1 else {"anyOf": members}

    def intersection(self) -> Schema:
        members = [self.array()]
        while self.accept("&"):
            members.append(self.array())
        known = [member for member in members if member]
        # A part that may be anything has fields that are not known here.
        open_to_all = len(known) < len(members)
        merged: dict[str, Any] = dict(known[0]) if known else {}
        for member in known[1:]:
            merged["properties"] = {**merged["properties"], **member["properties"]}
            merged["required"] = [*merged["required"], *member["required"]]
        if open_to_all:
            merged["additionalProperties"] = True
        return merged

    def array(self) -> Schema:
        schema = self.primary()
        while self.accept("["):
            if self.accept("]"):
                schema = {"type": "array", "items": schema}
            else:
                # An index, as in `ChatCompletionsInput["model"]`, is of a type that is not known.
                self.take()
                self.take("]")
                schema = {}
        return schema

    def primary(self) -> Schema:
        token = self.take()
        if token == "(":  # noqa: S105  # no password
            schema = self.union()
            self.take(")")
            return schema
        if token == "{":  # noqa: S105
            return self.members()
        if token.startswith('"'):
            return {"enum": [token[1:-1]]}
        arguments = []
        if self.accept("<"):
            arguments.append(self.union())
            while self.accept(","):
                arguments.append(self.union())
            self.take(">")
        if token == "XOR":  # noqa: S105
            return {"anyOf": arguments}
        if token in ("string", "number", "boolean", "null"):
            return {"type": token}
        if token in self.types:
            return parse(self.types[token], self.types)
        return {}

    def members(self) -> Schema:
        properties, required = {}, []
        schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
        while not self.accept("}"):
            if self.accept("["):
                while self.take() != "]":
                    pass
                self.take(":")
                schema["additionalProperties"] = self.union()
            else:
                name = self.take().strip('"')
                if not self.accept("?"):
                    required.append(name)
                self.take(":")
                properties[name] = self.union()
            self.accept(";")
        return {**schema, "properties": properties, "required": required}


def parse(text: str, types: Mapping[str, str]) -> Schema:
    text = re.sub(r"^(?:type \w+ =|interface \w+)", "", text)
    return Parser(text.removesuffix(";"), types).union()


def schemas_of(model: str) -> dict[str, Schema]:
    """The input types of a model by their source."""
    found: dict[str, Schema] = {}
    if model in CLASSES:
        types = {**OTHER_TYPES, **CLASSES[model]["types"]}
        found["types"] = parse(CLASSES[model]["input"], types)
    if model in CARDS:
        found["card"] = CARDS[model]
    return found


# JSON schemas

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
    "binary": (bytes,),
}


def problems(  # noqa: C901  # one branch per keyword
    value: Any, schema: Schema, path: str = ""
) -> Iterator[str]:
    """What is wrong with a value; fields that the schema does not name are wrong, too."""
    for key in ("oneOf", "anyOf"):
        if key in schema:
            members = [list(problems(value, member, path)) for member in schema[key]]
            if all(members):
                yield from min(members, key=len)
            return
    kind = "binary" if schema.get("format") == "binary" else schema.get("type")
    if isinstance(kind, str):
        is_bool = isinstance(value, bool) and kind != "boolean"
        if is_bool or not isinstance(value, _TYPES[kind]):
            yield f"{path} must be {kind}, is {value!r:.60}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} must be one of {schema['enum']}, is {value!r}"
    if isinstance(value, int | float):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{path} is out of bounds: {value}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), f"{path}[{index}]")
    elif isinstance(value, dict) and "properties" in schema:
        yield from _object_problems(value, schema, path)


def _object_problems(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    yield from (
        f"{path}.{name} is missing" for name in schema.get("required") or () if name not in value
    )
    others = schema.get("additionalProperties", not schema["properties"])
    for name, item in value.items():
        if name in schema["properties"]:
            yield from problems(item, schema["properties"][name], f"{path}.{name}")
        elif isinstance(others, Mapping):
            yield from problems(item, others, f"{path}.{name}")
        elif others is not True:
            yield f"{path}.{name} is not in the schema"


# Requests

BODY = {"body": {}, "contentType": "audio/mpeg"}


def sent(model: str, task: Task[Any]) -> list[Any]:
    """The request, in each form in which the sources write it."""
    body = encode_run_body(model, task, {})
    if body.content_type == "application/json":
        return [json.loads(bytes_of(body))]
    if body.content_type.startswith("multipart/form-data; boundary="):
        return [{"multipart": {"body": {}, "contentType": body.content_type}}]
    assert profile(model).media is MediaForm.RAW
    # Raw bytes: `format: binary` in a card, a string in a type, or a stream with its type.
    return [bytes_of(body), "bytes", {"audio": BODY, **body.query}]


# The tasks of the models of each of the service's tasks: one that must be sent, and others that
# must be sent or be refused.
CHATS: list[Task[Any]] = [
    TextGeneration([user("Hi")], max_tokens=5, temperature=0.5),
    TextGeneration([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
]
EXAMPLES: dict[str, tuple[list[Task[Any]], list[Task[Any]]]] = {
    "Automatic Speech Recognition": (
        [AutomaticSpeechRecognition(MP3)],
        [AutomaticSpeechRecognition(MP3, source_lang="en")],
    ),
    "Image Classification": ([ImageClassification(PNG)], []),
    "Image-to-Text": (
        [ImageToText(PNG), ImageToText(PNG, prompt="What?", max_tokens=5, temperature=0.5)],
        [ImageToText(PNG, top_k=5), ImageToText(PNG, raw=True)],
    ),
    "Object Detection": ([ObjectDetection(PNG)], []),
    "Summarization": ([Summarization("a", max_length=5)], []),
    "Text Embeddings": ([TextEmbeddings("a"), TextEmbeddings(["a", "b"])], []),
    "Text Generation": (CHATS, []),
    "Text-to-Image": (
        [TextToImage("a")],
        [
            TextToImage("a", image=PNG, strength=0.5),
            TextToImage("a", image_b64="iVBORw0K"),
            TextToImage("a", image=PNG, mask=PNG),
            TextToImage("a", height=512, width=512),
            TextToImage("a", negative_prompt="b"),
            TextToImage("a", num_steps=4),
            TextToImage("a", guidance=5),
        ],
    ),
    "Text-to-Speech": (
        [TextToSpeech("a"), SpeechSynthesis("a")],
        [
            TextToSpeech("a", lang="en"),
            SpeechSynthesis("a", encoding="linear16", container="wav", sample_rate=8000),
        ],
    ),
    "Translation": (
        [Translation("a", "hin_Deva")],
        [Translation("a", "hin_Deva", source_lang="eng_Latn")],
    ),
}
OF_MODELS: dict[str, tuple[list[Task[Any]], list[Task[Any]]]] = {
    "@cf/baai/bge-reranker-base": ([Rerank("q", ["a"], top_k=1)], []),
    "@cf/huggingface/distilbert-sst-2-int8": ([TextClassification("a")], []),
    # A type for moderation: no options.
    "@cf/meta/llama-guard-3-8b": (CHATS, []),
    "@cf/cloudflare/clef": (
        [Decide("a", {"b": {"type": "noul", "instructions": "Is it?"}})],
        [],
    ),
}
WITHOUT_TASK = {
    # It only answers over WebSockets.
    "@cf/deepgram/flux",
    # There is no typed task for voice activity: an open run.
    "@cf/pipecat-ai/smart-turn-v2",
}
# The API's own input "Automatic Speech Recognition" has it, which these models' own types lack.
OF_THE_API = {
    ("@cf/openai/whisper", "source_lang"),
    ("@cf/openai/whisper-tiny-en", "source_lang"),
}

MODELS = sorted({*CLASSES, *CARDS})


def examples_of(model: str) -> tuple[list[Task[Any]], list[Task[Any]]]:
    return OF_MODELS.get(model) or EXAMPLES[TASKS[model]]


def check(model: str, task: Task[Any]) -> None:
    """Check that a source of the model's input allows one of the forms of the request."""
    schemas = schemas_of(model)
    requests = sent(model, task)
    for request in requests:
        if isinstance(request, dict):
            for known, name in OF_THE_API:
                if known == model:
                    request.pop(name, None)
    found = {
        source: min((list(problems(request, schema)) for request in requests), key=len)
        for source, schema in schemas.items()
    }
    # Where the sources disagree, either form is right.
    assert not all(found.values()), (task, found)


@pytest.mark.parametrize("model", [model for model in MODELS if model not in WITHOUT_TASK])
def test_the_input_type_of_every_model_allows_what_is_sent(model: str) -> None:
    """Or the task is refused before it is sent, if it has more than the model takes."""
    required, optional = examples_of(model)
    for task in required:
        check(model, task)
    for task in optional:
        with suppress(InputError):
            check(model, task)


def test_every_model_of_the_sources_is_checked() -> None:
    assert len(CLASSES) == 99
    assert len(CARDS) >= 43
    assert set(MODELS) >= WITHOUT_TASK


def test_a_wrong_request_is_noticed() -> None:
    """The checker itself."""
    schemas = schemas_of("@cf/meta/llama-3.3-70b-instruct-fp8-fast")
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert list(problems(parts, schemas["card"]))
    assert not list(problems(parts, schemas["types"]))
    for schema in schemas.values():
        assert list(problems({"input": "a"}, schema))
        assert list(problems({"messages": "a"}, schema))
        assert not list(problems({"prompt": "a"}, schema))
    phoenix = schemas_of("@cf/leonardo/phoenix-1.0")
    for schema in phoenix.values():
        assert list(problems({"prompt": "a", "image_b64": "a"}, schema)) == [
            ".image_b64 is not in the schema"
        ]
    moondream = schemas_of("@cf/moondream/moondream3.1-9B-A2B")
    for schema in moondream.values():
        assert list(problems({"image": [1, 2], "question": "a"}, schema))
    gemma = schemas_of("@cf/google/gemma-4-26b-a4b-it")["types"]
    assert gemma["properties"].keys() == {"chat_template_kwargs", "skip_special_tokens"}


def test_tools_fit_the_types_that_describe_them() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": "b"}}}
    task = TextGeneration([user("Hi")], tools=[Tool("a", "b", parameters)])
    for model in (
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        "@cf/qwen/qwen2.5-coder-32b-instruct",
    ):
        check(model, task)
    check("@cf/meta/llama-3.3-70b-instruct-fp8-fast", Prompt("a", max_tokens=5))
