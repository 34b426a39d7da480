"""JSON schemas of what the tasks take, made from the rules that requests are checked by."""

from collections.abc import Mapping
from typing import Any

from cfai import tasks
from cfai.tasks import Rule, Task, rules

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_BYTES: Schema = {"type": "string", "format": "binary"}


def of(task: str) -> Schema:
    """Give the input and the output of a task, by its name."""
    inputs = [_input(one) for one in _INPUTS.get(task, ())]
    one = inputs[0] if len(inputs) == 1 else {"type": "object", "oneOf": inputs}
    return {"input": one if inputs else {"type": "object"}, "output": _OUTPUTS.get(task, {})}


def _input(task: type[Task[Any]]) -> Schema:
    held = rules(task)
    found: Schema = {
        "type": "object",
        "properties": {name: _field(rule) for name, rule in held.items()},
    }
    required = [name for name, rule in held.items() if rule.required]
    return {**found, "required": required} if required else found


def _field(rule: Rule) -> Schema:
    match rule.kind:
        case "text":
            return _text(rule)
        case "texts":
            return _items(rule, _text(rule))
        case "text or texts":
            return {"oneOf": [_text(rule), _items(rule, _text(rule))]}
        case "number" | "integer":
            return _said(type=rule.kind, minimum=rule.minimum, maximum=rule.maximum)
        case "media":
            return {"oneOf": [_BYTES, {"type": "array", "items": _NUMBER}]}
        case "list":
            return _items(rule, {})
        case _:
            return {"type": rule.kind}


def _text(rule: Rule) -> Schema:
    return _said(
        type="string",
        minLength=rule.min_length,
        maxLength=rule.max_length,
        enum=list(rule.choices) if rule.choices else None,
    )


def _items(rule: Rule, item: Schema) -> Schema:
    return _said(type="array", items=item, minItems=rule.min_items, maxItems=rule.max_items)


def _said(**given: Any) -> Schema:
    return {name: value for name, value in given.items() if value is not None}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_LABEL = {"label": _TEXT, "score": _NUMBER}
_BOX = _object(xmin=_NUMBER, ymin=_NUMBER, xmax=_NUMBER, ymax=_NUMBER)

_INPUTS: Mapping[str, tuple[type[Task[Any]], ...]] = {
    "Automatic Speech Recognition": (tasks.AutomaticSpeechRecognition,),
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
