"""What another server with OpenAI's protocol answers: the fields of a run, and its result; and the
messages for a generator that can do more than the local one: with images, and with tool calls.

The handlers block and run in a worker thread. Images of a chat must be in the request: an address
would have to be fetched, and nothing is fetched here.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from cfai.local import errors
from cfai.local.backends.roles import Abilities, IsCancelled
from cfai.local.backends.upstream import UpstreamModel
from cfai.local.handlers import text
from cfai.local.handlers.media import Media, build_image_answer, read_media
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, check_names, missing_fields
from cfai.tasks import TextToImage, TextToSpeech
from cfai.tasks.task import shorten

_IMAGE_FIELDS = ("prompt", "width", "height")
_AUDIO_FIELDS = ("audio", "language", "initial_prompt")
_SPEECH_FIELDS = ("text", "prompt", "speaker")
_VOICE = "alloy"
"""The first voice of OpenAI, which other servers know, too."""

Handler = Callable[[UpstreamModel, ServedModel, JsonBody, IsCancelled], Any]
"""Returns a result, or media."""


def embed(
    backend: UpstreamModel, model: ServedModel, body: JsonBody, is_cancelled: IsCancelled
) -> Any:
    """Answer with vectors, or with a ranking, as bge-m3 does."""
    return text.embed(model, body, is_cancelled, backend)[0]


def rerank(
    backend: UpstreamModel, model: ServedModel, body: JsonBody, is_cancelled: IsCancelled
) -> Any:
    """Answer a reranking."""
    return text.rerank(model, body, is_cancelled, backend=backend)[0]


def generate_image(
    backend: UpstreamModel, model: ServedModel, body: JsonBody, is_cancelled: IsCancelled
) -> Any:
    """Answer a text-to-image task."""
    check_names(body, *_IMAGE_FIELDS)
    check_fields(TextToImage, body)
    size = None
    if body.get("width") is not None or body.get("height") is not None:
        if body.get("width") is None or body.get("height") is None:
            raise errors.bad_input("width and height must be sent together")
        size = f"{int(body['width'])}x{int(body['height'])}"
    image = backend.generate_image(body["prompt"], size, is_cancelled=is_cancelled)
    return build_image_answer(model, image, find_image_type(image))


def transcribe(
    backend: UpstreamModel, model: ServedModel, body: JsonBody, is_cancelled: IsCancelled
) -> Any:
    """Answer a speech recognition. The audio is bytes, a list of integers, or base64."""
    check_names(body, *_AUDIO_FIELDS)
    fields = {"language": body.get("language"), "prompt": body.get("initial_prompt")}
    texts = {name: value for name, value in fields.items() if value is not None}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise errors.bad_input(f"{name} must be a string, got {shorten(value)}")
    audio = read_media(body, "audio")
    transcript = backend.transcribe(audio, texts, is_cancelled=is_cancelled)
    result = {"text": transcript["text"], "word_count": len(transcript["text"].split())}
    if model.name.endswith("nova-3"):
        alternatives = [{"transcript": transcript["text"]}]
        return {"results": {"channels": [{"alternatives": alternatives}]}}
    if isinstance(transcript.get("segments"), list):
        result["segments"] = [_read_segment(row) for row in transcript["segments"]]
    return result


def speak(
    backend: UpstreamModel, model: ServedModel, body: JsonBody, is_cancelled: IsCancelled
) -> Any:
    """Answer a text-to-speech task: MP3, or as base64 in JSON, as melotts does."""
    check_names(body, *_SPEECH_FIELDS)
    name = "text" if body.get("text") is not None else "prompt"
    if body.get(name) is None:
        raise missing_fields("text")
    if name == "text" and body.get("prompt") is not None:
        raise errors.bad_input("prompt must be omitted if there is a text")
    check_fields(TextToSpeech, {"prompt": body[name], "text": body[name]})
    voice = body.get("speaker") or _VOICE
    if not isinstance(voice, str):
        raise errors.bad_input(f"speaker must be a string, got {shorten(voice)}")
    sound = backend.speak(body[name], voice, is_cancelled=is_cancelled)
    if "melotts" in model.name:
        return {"audio": b64encode(sound).decode()}
    return Media(sound, "audio/mpeg")


UPSTREAM_HANDLERS: Mapping[str, Handler] = {
    "Automatic Speech Recognition": transcribe,
    "Reranking": rerank,
    "Text Embeddings": embed,
    "Text-to-Image": generate_image,
    "Text-to-Speech": speak,
}
"""The tasks that OpenAI's protocol has, except text generation."""


def find_image_type(image: bytes) -> str:
    """Return the media type of an image by its first bytes."""
    types = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp"}
    matches = (kind for start, kind in types.items() if image.startswith(start))
    return next(matches, "application/octet-stream")


def _read_segment(row: Any) -> dict[str, Any]:
    segment = row if isinstance(row, dict) else {}
    return {name: segment[name] for name in ("start", "end", "text") if name in segment}


# Chats

Message = Mapping[str, Any]

PASSED_ON = frozenset({"chat_template_kwargs", "logit_bias", "reasoning_effort", "verbosity"})
"""The further fields of chat completions that another server gets as they are."""


def build_messages(body: JsonBody, abilities: Abilities) -> list[Message]:
    """Return the messages of a request with checked fields, in the form of chat completions.

    Raises:
        ApiError: An image is not in the request, or the generator cannot read it.
    """
    messages: list[Message] = [_build_message(message) for message in body["messages"]]
    if body.get("image") is not None:
        messages = _add_image(messages, body)
    return _name_calls(messages) if abilities.calls_tools else messages


def read_extra(body: JsonBody, abilities: Abilities) -> dict[str, Any]:
    """Return the further fields: the tools in the form of chat completions, and `PASSED_ON`."""
    extra = {name: body[name] for name in PASSED_ON if body.get(name) is not None}
    if body.get("tools") and abilities.calls_tools:
        extra["tools"] = [
            tool if "function" in tool else {"type": "function", "function": tool}
            for tool in body["tools"]
        ]
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                extra[name] = body[name]
    return extra


def _build_message(message: Message) -> dict[str, Any]:
    content = message["content"]
    if not isinstance(content, str):
        content = [_build_part(part) for part in content]
    built = {**message, "content": content}
    if calls := message.get("tool_calls"):
        built["tool_calls"] = [_build_call(call) for call in calls]
        built["content"] = content or None
    return built


def _build_part(part: Any) -> Mapping[str, Any]:
    match part:
        case str(text):
            return {"type": "text", "text": text}
        case {"type": "text"}:
            return {"type": "text", "text": part["text"]}
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            if not url.startswith("data:image/"):
                raise errors.bad_input(
                    f"image_url must be a data URI, got {shorten(url)}: nothing is fetched"
                )
            return {"type": "image_url", "image_url": {"url": url}}
    raise errors.not_supported(f"a part of a message must be text or an image, got {shorten(part)}")


def _add_image(messages: Sequence[Mapping[str, Any]], body: JsonBody) -> list[Message]:
    """Put the image of a run into its last message."""
    image = body["image"]
    if isinstance(image, str) and image.startswith("data:image/"):
        url = image
    else:
        content = read_media(body, "image")
        url = f"data:{find_image_type(content)};base64,{b64encode(content).decode()}"
    *first, last = messages
    text = last["content"]
    parts = [{"type": "text", "text": text}] if isinstance(text, str) else list(text)
    parts.append({"type": "image_url", "image_url": {"url": url}})
    return [*first, {**last, "content": parts}]


def _build_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = orjson.dumps(arguments or {}).decode()
    built = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return built | ({"id": call["id"]} if call.get("id") else {})


def _name_calls(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Give an id to each call and result without one, as Workers AI's own form allows."""
    named: list[Message] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            calls = [
                {"id": f"call_{index}_{number}", **call}
                for number, call in enumerate(message["tool_calls"])
            ]
            waiting = [call["id"] for call in calls]
            named.append({**message, "tool_calls": calls})
        elif message["role"] == "tool" and not message.get("tool_call_id"):
            identifier = waiting.pop(0) if waiting else f"call_{index}"
            named.append({**message, "tool_call_id": identifier})
        else:
            named.append(message)
    return named
