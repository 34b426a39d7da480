"""The service's models: looked up by name, listed, searched, and described by JSON schemas.

The schemas are built from the rules that requests are checked by. Source of the rows' form:
github.com/cloudflare/workerd, `AiModelsSearchObject`.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from attrs import field, frozen

from cfai import tasks
from cfai.local import errors
from cfai.local.backends.roles import Abilities
from cfai.local.requests import ApiRequest
from cfai.profiles import TASKS, is_gateway_route, models, profile
from cfai.tasks import Rule, Task, rules

Row = dict[str, Any]
Schema = dict[str, Any]

_DEFAULT_DIMENSIONS = 384

_GENERATION = "Text Generation"

_OTHER_TASKS = {
    "@cf/baai/bge-reranker-base": "Reranking",
    "@cf/cloudflare/clef": "Decisions",
    "@cf/cloudflare/clairic": "Extraction",
    "@cf/meta/llama-guard": "Judgement",
}
"""Models listed under a task with other fields or answers than their own, by the beginning of
their names. No local model can do decisions, extractions and judgements."""

_TEXT_FIELDS = {"@cf/qwen/qwen3-embedding-0.6b": ("queries", "documents", "text")}
"""The fields for texts, if there are others than `text`. Source: the model's input schema."""


AnswerForm = Literal["native", "chat", "responses"]
"""How a language model answers a run: with `response`, or as chat completions do; "responses" are
chat completions, or OpenAI's Responses to a request with `input`."""

_CHAT_MODELS = (
    "@cf/deepseek-ai/deepseek-v4",
    "@cf/google/gemma-4",
    "@cf/moonshotai/kimi-k2",
    "@cf/nvidia/nemotron-3",
    "@cf/qwen/qwen3",
    "@cf/zai-org/glm-",
)
"""The models that answer as chat completions do, by the beginning of their names. Source: the
output types in @cloudflare/workers-types 5.20261117.1."""

_RESPONSES_MODELS = ("@cf/openai/gpt-oss",)


@frozen
class ServedModel:
    """A model of the service, for which a local one stands in."""

    name: str
    task: str
    """The service's name of its task, or one of `_OTHER_TASKS`."""
    dimensions: int = _DEFAULT_DIMENSIONS
    """The length of its vectors."""
    texts_per_request: int | None = None
    text_fields: tuple[str, ...] = ("text",)
    takes_contexts: bool = False
    """Whether it also takes a query and contexts, as bge-m3 does."""
    takes_image: bool = False
    """Whether it also embeds an image."""
    speaks: AnswerForm = "native"
    abilities: Abilities = field(factory=Abilities)
    """What the text generator that stands in for it can do."""


def find_model(name: str) -> ServedModel | None:
    """Look up a model; `None` if the service does not have it."""
    known_profile = profile(name)
    if known_profile.task is None:
        return None
    others = (task for start, task in _OTHER_TASKS.items() if name.startswith(start))
    return ServedModel(
        name,
        task=next(others, known_profile.task),
        dimensions=known_profile.dimension or _DEFAULT_DIMENSIONS,
        texts_per_request=known_profile.texts_per_request,
        text_fields=_TEXT_FIELDS.get(name, ("text",)),
        takes_contexts=name == "@cf/baai/bge-m3",
        takes_image=name.startswith("@cf/baai/omni-bge"),
        speaks=_find_protocol(name),
    )


def _find_protocol(name: str) -> AnswerForm:
    if name.startswith(_RESPONSES_MODELS):
        return "responses"
    return "chat" if name.startswith(_CHAT_MODELS) else "native"


def find_chat_model(name: str) -> ServedModel | None:
    """Look up a model for `/ai/v1/chat/completions`, which also takes routes of AI Gateway."""
    if is_gateway_route(name):
        return ServedModel(name, _GENERATION)
    return find_model(name)


def find_retirement(name: str) -> date | None:
    """Return the day since which a model is rejected as retired; `None` if it is not.

    If the service has no other model for a task (summaries), the retired ones stay available here.
    """
    known_profile = profile(name)
    is_last = known_profile.retired is not None and not models(known_profile.task or "")
    return None if is_last else known_profile.retired


# The catalogue

_PAGE_SIZE = 50

_SOURCES = {"@cf": 1, "@hf": 2}
"""The service's numbers for the source of a model."""

_FLAGS = ("hide_experimental", "include_deprecated")


async def search_models(request: ApiRequest) -> list[Row]:
    """`GET models/search`. No model here is experimental or deprecated, and retired ones are gone.

    Raises:
        ApiError: A filter has an invalid value, or another format is requested.
    """
    query = request.http.query
    if "format" in query:
        raise errors.not_supported("models are listed only in the default format: omit format")
    for name in _FLAGS:
        if query.get(name, "true") not in ("true", "false"):
            raise errors.invalid_request(f"{name} must be true or false, got {query[name][:60]!r}")
    page = request.read_number("page", 1, minimum=1)
    size = request.read_number("per_page", _PAGE_SIZE, minimum=1)
    source = request.read_number("source", 0) if "source" in query else None
    rows = [row for row in map(_model_row, list_models()) if _matches(row, query, source)]
    return rows[(page - 1) * size : page * size]


async def get_schema(request: ApiRequest) -> Row:
    """`GET models/schema?model=`: the JSON schemas of a model's input and output.

    Raises:
        ApiError: The service does not have the model.
    """
    name = request.http.query.get("model", "")
    model = find_model(name)
    if model is None:
        raise errors.unknown_model(name)
    task = model.task if model.task in _INPUTS else TASKS[name]
    inputs = [_input_schema(input_type) for input_type in _INPUTS.get(task, ())]
    schema = inputs[0] if len(inputs) == 1 else {"type": "object", "oneOf": inputs}
    return {"input": schema if inputs else {"type": "object"}, "output": _OUTPUTS.get(task, {})}


async def list_tasks(request: ApiRequest) -> list[Row]:
    """`GET tasks/search`: every task that has a model."""
    return [_task_row(task) for task in sorted({TASKS[name] for name in list_models()})]


async def list_authors(request: ApiRequest) -> list[Row]:
    """`GET authors/search`: the authors in the models' names. The API documents only "object"."""
    return [{"name": name} for name in sorted({author_of(model) for model in list_models()})]


@cache
def list_models() -> tuple[str, ...]:
    """Return the names of the models that are not retired, sorted."""
    return tuple(name for name in sorted(TASKS) if find_retirement(name) is None)


def _matches(row: Row, query: Mapping[str, str], source: int | None) -> bool:
    searchable = f"{row['name']} {row['description']}".casefold()
    return (
        all(word in searchable for word in query.get("search", "").casefold().split())
        and ("task" not in query or row["task"]["name"].casefold() == query["task"].casefold())
        and query.get("author", author_of(row["name"])).casefold()
        == author_of(row["name"]).casefold()
        and (source is None or row["source"] == source)
    )


@cache
def _model_row(name: str) -> Row:
    # Context windows and prices are the service's, not those of the local models.
    properties = [{"property_id": "lora", "value": "true"}] if name.endswith("-lora") else []
    return {
        "id": _stable_id(f"model/{name}"),
        "source": _SOURCES[name.partition("/")[0]],
        "name": name,
        "description": f"{TASKS[name]} by {author_of(name)}",
        "task": _task_row(TASKS[name]),
        "tags": [],
        "properties": properties,
    }


def _task_row(name: str) -> Row:
    return {"id": _stable_id(f"task/{name}"), "name": name, "description": ""}


def author_of(model: str) -> str:
    """Return the author in the name of a model."""
    return model.split("/")[1]


def _stable_id(name: str) -> str:
    """Return an id that never changes. It is not the service's."""
    return str(uuid5(NAMESPACE_URL, f"cfai:local/{name}"))


# JSON schemas

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_BYTES: Schema = {"type": "string", "format": "binary"}


def _input_schema(task: type[Task[Any]]) -> Schema:
    fields = {name: rule for name, rule in rules(task).items() if not rule.translated}
    return _without_none(
        type="object",
        properties={name: _field_schema(rule) for name, rule in fields.items()},
        required=[name for name, rule in fields.items() if rule.required] or None,
    )


def _field_schema(rule: Rule) -> Schema:
    match rule.kind:
        case "text":
            return _text_schema(rule)
        case "texts":
            return _list_schema(rule, _text_schema(rule))
        case "text or texts":
            return {"oneOf": [_text_schema(rule), _list_schema(rule, _text_schema(rule))]}
        case "number" | "integer":
            return _without_none(type=rule.kind, minimum=rule.minimum, maximum=rule.maximum)
        case "media":
            return {"oneOf": [_BYTES, {"type": "array", "items": _NUMBER}]}
        case "list":
            return _list_schema(rule, {})
        case "JSON":
            return {}
        case "mapping":
            return _without_none(
                type="object",
                minProperties=rule.min_items,
                maxProperties=rule.max_items,
                propertyNames=_without_none(pattern=rule.names),
            )
        case _:
            return {"type": rule.kind}


def _text_schema(rule: Rule) -> Schema:
    return _without_none(
        type=["string", "null"] if rule.nullable else "string",
        minLength=rule.min_length,
        maxLength=rule.max_length,
        enum=list(rule.choices) if rule.choices else None,
    )


def _list_schema(rule: Rule, item: Schema) -> Schema:
    return _without_none(type="array", items=item, minItems=rule.min_items, maxItems=rule.max_items)


def _without_none(**fields: Any) -> Schema:
    return {name: value for name, value in fields.items() if value is not None}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_LABEL = {"label": _TEXT, "score": _NUMBER}
_BOX = _object(xmin=_NUMBER, ymin=_NUMBER, xmax=_NUMBER, ymax=_NUMBER)

_INPUTS: Mapping[str, tuple[type[Task[Any]], ...]] = {
    "Automatic Speech Recognition": (tasks.AutomaticSpeechRecognition,),
    "Decisions": (tasks.Decide,),
    "Extraction": (tasks.Extract,),
    "Image Classification": (tasks.ImageClassification,),
    "Image-to-Text": (tasks.ImageToText,),
    "Object Detection": (tasks.ObjectDetection,),
    "Reranking": (tasks.Rerank,),
    "Summarization": (tasks.Summarization,),
    "Text Classification": (tasks.TextClassification,),
    "Text Embeddings": (tasks.TextEmbeddings,),
    "Text Generation": (tasks.Prompt, tasks.TextGeneration),
    "Text-to-Image": (tasks.TextToImage,),
    "Text-to-Speech": (tasks.TextToSpeech,),
    "Translation": (tasks.Translation,),
}

_OUTPUTS: Mapping[str, Schema] = {
    "Automatic Speech Recognition": _object(text=_TEXT),
    "Decisions": _object(model=_TEXT, answers={"type": "object"}, usage={"type": "object"}),
    "Extraction": _object(model=_TEXT, answers={"type": "object"}, usage={"type": "object"}),
    "Image Classification": _list(_object(**_LABEL)),
    "Image-to-Text": _object(description=_TEXT),
    "Object Detection": _list(_object(**_LABEL, box=_BOX)),
    "Reranking": _object(response=_list(_object(id={"type": "integer"}, score=_NUMBER))),
    "Summarization": _object(summary=_TEXT),
    "Text Classification": _list(_object(**_LABEL)),
    "Text Embeddings": _object(shape=_list(_NUMBER), data=_list(_list(_NUMBER))),
    "Text Generation": _object(response=_TEXT, usage={"type": "object"}),
    "Text-to-Image": _BYTES,
    "Text-to-Speech": _object(audio=_TEXT),
    "Translation": _object(translated_text=_TEXT),
}
