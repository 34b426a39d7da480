"""`cfai run`: run any model, and print its result as the service sent it."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cfai._types.excerpts import format_count, format_value
from cfai.cli import clients, files
from cfai.cli.console import Target, output_option
from cfai.cli.inputs import (
    AttachedFile,
    attach_option,
    build_content,
    check_reads_attached,
    join_texts,
)
from cfai.errors import BadRequest, InputError
from cfai.profiles import profile
from cfai.tasks import (
    Answer,
    Audio,
    AutomaticSpeechRecognition,
    Binary,
    Decide,
    Decisions,
    Extract,
    Extraction,
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
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Translation,
    rules,
    user,
)

if TYPE_CHECKING:
    from cfai import WorkersAI

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
_OWN_TASKS: Final[Mapping[str, type[Task[Any]]]] = {
    "@cf/cloudflare/clairic": Extract,
    "@cf/cloudflare/clef": Decide,
    "@cf/deepgram/aura-": SpeechSynthesis,
}
"""The models with other fields than the task that they are listed under, by the beginning of their
names."""

_COMMANDS: Final[Mapping[type[Task[Any]], str]] = {Decide: "cfai decide", Extract: "cfai extract"}
"""The commands for tasks that need more than a text."""

_NO_INPUT: Final = "there is no input: give text, a JSON object, @FILE, or pipe one in"
_NO_SUCH_MODEL: Final = 5007


@click.command()
@click.argument("model", help="The model's name, such as @cf/openai/whisper.")
@click.argument(
    "argument",
    required=False,
    metavar="[INPUT]",
    help="Text, a JSON object, @FILE, or - for stdin.",
)
@attach_option("An image, a sound, a text or a document to go with INPUT.")
@output_option
@clients.local_option
def run(
    model: str, argument: str | None, *, attach: tuple[str, ...], output: Path | None, local: bool
) -> None:
    """Run any model; print JSON, one line per event, or the bytes of a file.

    INPUT that is not a JSON object is sent as the model's text, image or sound. Without INPUT,
    standard input is the input; a text follows what is piped in.
    """
    target = Target(output)
    attached = [AttachedFile.read(name) for name in attach]
    data = _read_input(model, argument, is_optional=bool(attached))
    task = None if attached else parse_input(model, data)
    task_class = _task_class(model)
    if task_class is not None and issubclass(task_class.answer, Binary):
        target.check_accepts_bytes(f"{model} returns a file")
    generates_text = profile(model).task == "Text Generation"
    if local and generates_text:
        clients.require(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()

    async def run_once() -> None:
        async with clients.open_client(local=local, generates_text=generates_text) as ai:
            await run_model(ai, model, task or await build_task(ai, model, data, attached), target)

    try:
        asyncio.run(run_once())
    except BadRequest as exc:
        if task_class is None and exc.code != _NO_SUCH_MODEL:
            exc.add_note(
                f"the input of {model} is not known, so the text was sent as its prompt; give a "
                "JSON object to name the fields"
            )
        raise


async def run_model(
    ai: "WorkersAI", model: str, task: Task[Any] | Mapping[str, Any], target: Target
) -> None:
    """Run *model* on *task*, and write its answer to *target*."""
    if isinstance(task, Task) and task.answer is Audio and target.path is None:
        async with ai.audio(model, task) as audio:
            async for chunk in audio:
                target.write_bytes(chunk)
        return
    answer = await ai.run(model, task)
    match answer:
        case Binary():
            target.check_accepts_bytes(
                f"the answer is {format_count(len(answer.data), 'byte')} of {answer.media_type}"
            )
            target.write_bytes(answer.data)
            target.check_suffix(answer.media_type)
        case Result() | Answer():
            target.write_json(answer.value if isinstance(answer, Result) else answer.raw)
            target.check_suffix("application/json")
        case _:
            async with answer as tokens:
                async for token in tokens:
                    target.write_line(token.raw)


async def build_task(
    ai: "WorkersAI", model: str, data: str | bytes, attached: Sequence[AttachedFile]
) -> Task[Any] | Mapping[str, Any]:
    """Make the input of *model* from a text and the files that go with it.

    A chat gets images as parts of its message; other models get one file in their own field. The
    text of all other files comes before the text.

    Raises:
        InputError: The model does not take them.
    """
    text = data if isinstance(data, str) else files.decode_text(data, f"the input of {model}")
    if _parse_json_object(text) is not None:
        raise InputError("--attach needs a text as INPUT: put the file into the JSON object")
    task_class = _task_class(model) or Prompt
    if task_class is Prompt:
        check_reads_attached(model, attached, "cfai run")
        return TextGeneration([user(*await build_content(ai, text, attached))])
    media_fields = [rule.name for rule in rules(task_class).values() if rule.kind == "media"]
    with_media = (file for file in attached if media_fields and file.media is not None)
    media = next(with_media, None)
    text = await join_texts(ai, text, [file for file in attached if file is not media])
    if media is None:
        return parse_text(model, text)
    prompt = rules(task_class).get("prompt")
    if text and prompt is None:
        raise InputError(f"{model} takes a file and no text, got {format_value(text, 60)}")
    if prompt is not None and prompt.required and not text:
        raise InputError(f"{model} needs a text beside the file")
    fields: dict[str, Any] = {media_fields[0]: media.data}
    return _build_task(task_class, **fields, **({"prompt": text} if text else {}))


def parse_input(model: str, data: str | bytes) -> Task[Any] | Mapping[str, Any]:
    """Make the input of *model* from a JSON object, or from text or bytes for its main field.

    Raises:
        InputError: The model needs other input.
    """
    task_class = _task_class(model)
    fields = _parse_json_object(data)
    if fields is not None:
        return _task_from_fields(task_class, fields)
    if not data.strip():
        raise InputError(_NO_INPUT)
    return parse_text(model, data)


def parse_text(model: str, data: str | bytes) -> Task[Any] | Mapping[str, Any]:
    """Make the input of *model* from text or bytes for its main field.

    Raises:
        InputError: The model needs other input.
    """
    task_class = _task_class(model)
    if task_class is None:
        task_class = Prompt
    first, *others = (rule for rule in rules(task_class).values() if rule.required)
    if others:
        names = ", ".join(rule.name for rule in (first, *others))
        command = _COMMANDS.get(task_class)
        advice = f", or use `{command}`" if command else ""
        raise InputError(f"{model} needs {names}: give a JSON object{advice}")
    if first.kind == "media":
        if isinstance(data, str):
            raise InputError(f"{model} needs a file: give @FILE")
        AttachedFile(f"the input of {model}", data).check_is(first.name)
        return _build_task(task_class, data)
    text = data if isinstance(data, str) else files.decode_text(data, f"the input of {model}")
    first.check(text)
    # A plain dictionary returns the service's own result; but files need the task's class.
    if issubclass(task_class.answer, Binary):
        return _build_task(task_class, text)
    return {first.name: text}


def _build_task(task_class: Any, *values: Any, **fields: Any) -> Task[Any]:
    task: Task[Any] = task_class(*values, **fields)
    return task


def _task_class(model: str) -> type[Task[Any]] | None:
    own = (task for start, task in _OWN_TASKS.items() if model.startswith(start))
    return next(own, _TASKS.get(profile(model).task or ""))


def _task_from_fields(
    task_class: type[Task[Any]] | None, fields: dict[str, Any]
) -> Task[Any] | Mapping[str, Any]:
    """Send fields unchanged; through the task's class only if its answer is a file, or if it adds
    the model to them.
    """
    if task_class is None or not issubclass(task_class.answer, Binary | Decisions | Extraction):
        return fields
    required = [rule.name for rule in rules(task_class).values() if rule.required]
    if not fields.keys() >= set(required):
        return fields
    rest = {name: value for name, value in fields.items() if name not in required}
    return _build_task(task_class, *(fields[name] for name in required), extra=rest or None)


def _parse_json_object(data: str | bytes) -> dict[str, Any] | None:
    """Decode a JSON object; `None` if the input starts like something else."""
    from cfai._types.json import loads_strictly

    if not _starts_object(data):
        return None
    try:
        fields: dict[str, Any] = loads_strictly(data if isinstance(data, str) else data.decode())
    except ValueError as exc:
        raise InputError(f"input that starts with {{ must be a JSON object: {exc}") from exc
    return fields


def _read_input(model: str, argument: str | None, *, is_optional: bool) -> str | bytes:
    """Read INPUT: a text follows what is piped in; a JSON object or a file's bytes stay alone."""
    if argument is None and files.stdin_is_terminal():
        if is_optional:
            return ""
        raise InputError(_NO_INPUT)
    if argument is None:
        return files.join_piped("", "INPUT") if is_optional else files.read_stdin("INPUT")
    data = files.read_argument(argument, "INPUT")
    if argument == "-" or (not is_optional and _takes_file(model)):
        return data
    text = data if isinstance(data, str) else files.decode_text(data, argument[1:])
    return data if _starts_object(text) else files.join_piped(text, "INPUT")


def _takes_file(model: str) -> bool:
    """Tell whether the main input of *model* is an image or a sound."""
    task_class = _task_class(model)
    required = (rule for rule in rules(task_class or Prompt).values() if rule.required)
    return next(required).kind == "media"


def _starts_object(data: str | bytes) -> bool:
    return data[:64].lstrip()[:1] in ("{", b"{")
