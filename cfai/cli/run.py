"""`cfai run`: any model, on whatever it takes, with its answer as the service gave it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cfai.cli import clients, inputs, options
from cfai.cli.output import Target
from cfai.errors import BadRequest, InputError
from cfai.profiles import profile
from cfai.tasks import (
    Answer,
    AutomaticSpeechRecognition,
    Binary,
    ImageClassification,
    ImageToText,
    ObjectDetection,
    Prompt,
    Result,
    SpeechSynthesis,
    Summarization,
    Task,
    TextClassification,
    TextEmbeddings,
    TextToImage,
    TextToSpeech,
    Translation,
    rules,
)

if TYPE_CHECKING:
    from cfai import TokenStream

_TASKS: Final[Mapping[str, type[Task[Any]]]] = {
    "Automatic Speech Recognition": AutomaticSpeechRecognition,
    "Image Classification": ImageClassification,
    "Image-to-Text": ImageToText,
    "Object Detection": ObjectDetection,
    "Summarization": Summarization,
    "Text Classification": TextClassification,
    "Text Embeddings": TextEmbeddings,
    "Text Generation": Prompt,
    "Text-to-Image": TextToImage,
    "Text-to-Speech": TextToSpeech,
    "Translation": Translation,
}
_AURA: Final = "@cf/deepgram/aura-"
"""These call the text to speak `text`, and the others `prompt`."""

_NO_INPUT: Final = "there is no input: give text, a JSON object, @FILE, or pipe one in"
_NO_MODEL: Final = 5007
_UNKNOWN: Final = (
    "what {} reads is not known here, so text is sent as its prompt; give a JSON object to name "
    "the fields"
)


def run(
    model: Annotated[str, typer.Argument(help="Its name, @cf/openai/whisper for one.")],
    given: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="Text, a JSON object, @FILE, or - for stdin."),
    ] = None,
    *,
    output: options.Output = None,
    local: options.Local = False,
) -> None:
    """Run any model; print JSON, a line per event, or a file's bytes.

    INPUT that is no JSON object becomes the model's own text, image or sound. Without INPUT, it is
    read from what is piped in.
    """
    target = Target(output)
    target.check()
    task = asked(model, _given(given))
    if not target.takes_bytes and isinstance(task, Task) and issubclass(task.answer, Binary):
        raise InputError(f"{model} answers with a file: say where to with -o FILE")
    writes = profile(model).task == "Text Generation"
    if local and writes:
        clients.need(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()
    try:
        asyncio.run(_run(model, task, target, local=local, writes=writes))
    except BadRequest as exc:
        if _kind(model) is None and exc.code != _NO_MODEL:
            exc.add_note(_UNKNOWN.format(model))
        raise


async def _run(
    model: str,
    task: Task[Any] | Mapping[str, Any],
    target: Target,
    *,
    local: bool,
    writes: bool,
) -> None:
    async with clients.client(local=local, writes=writes) as ai:
        answer = await ai.run(model, task)
        match answer:
            case Binary():
                _keep(answer, target)
            case Result():
                target.json(answer.value)
            case Answer():
                target.json(answer.raw)
            case _:
                await _follow(answer, target)


def _keep(answer: Binary, target: Target) -> None:
    if not target.takes_bytes:
        size, kind = len(answer.data), answer.media_type
        raise InputError(f"the answer is {size} bytes of {kind}: say where to with -o FILE")
    target.data(answer.data)


async def _follow(tokens: "TokenStream", target: Target) -> None:
    async with tokens:
        async for token in tokens:
            target.line(token.raw)


def asked(model: str, given: str | bytes) -> Task[Any] | Mapping[str, Any]:
    """Make of what was given what *model* is asked: itself where it is a JSON object.

    Raises:
        InputError: The model can't be asked with that alone.
    """
    kind = _kind(model)
    fields = _object(given)
    if fields is not None:
        return _named(kind, fields)
    if not given.strip():
        raise InputError(_NO_INPUT)
    if kind is None:
        kind = Prompt
    first, *others = (rule for rule in rules(kind).values() if rule.required)
    if others:
        names = ", ".join(rule.name for rule in (first, *others))
        raise InputError(f"{model} needs {names}: give a JSON object")
    if first.kind == "media":
        if isinstance(given, str):
            raise InputError(f"{model} takes a file: give @FILE")
        return _made(kind, given)
    text = given if isinstance(given, str) else inputs.text(given, f"what {model} reads")
    first.check(text)
    # The open form, so that the service's own words come back; but bytes need their class.
    return _made(kind, text) if issubclass(kind.answer, Binary) else {first.name: text}


def _made(kind: Callable[..., Task[Any]], value: Any, **rest: Any) -> Task[Any]:
    """Make a task of its one required field."""
    return kind(value, **rest)


def _kind(model: str) -> type[Task[Any]] | None:
    if model.startswith(_AURA):
        return SpeechSynthesis
    return _TASKS.get(profile(model).task or "")


def _named(kind: type[Task[Any]] | None, fields: dict[str, Any]) -> Task[Any] | Mapping[str, Any]:
    """What was asked by name is sent as it is; what answers with a file is known by its class."""
    if kind is None or not issubclass(kind.answer, Binary):
        return fields
    first = next(iter(rules(kind)))
    if first not in fields:
        return fields
    rest = {name: value for name, value in fields.items() if name != first}
    return _made(kind, fields[first], extra=rest or None)


def _object(given: str | bytes) -> dict[str, Any] | None:
    """Give the JSON object that it is; `None` where it begins like something else."""
    start = given[:64].lstrip()
    if start[:1] not in ("{", b"{"):
        return None
    try:
        fields: dict[str, Any] = json.loads(given)
    except ValueError as exc:
        raise InputError(f"what begins with {{ must be a JSON object: {exc}") from exc
    return fields


def _given(given: str | None) -> str | bytes:
    if given is None and inputs.stdin_is_a_terminal():
        raise InputError(_NO_INPUT)
    if given in (None, "-"):
        return inputs.stdin_bytes()
    if given.startswith("@"):
        return inputs.file_bytes(Path(given[1:]))
    return inputs.argument(given)
