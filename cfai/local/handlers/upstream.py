"""What another server with OpenAI's protocol answers: the fields of a run, and its result.

The handlers block and run in a worker thread.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from cfai.local import errors
from cfai.local.backends.roles import IsCancelled
from cfai.local.backends.upstream import UpstreamModel
from cfai.local.handlers import text
from cfai.local.handlers.media import Media, build_image_answer, find_image_type, read_media
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


def _read_segment(row: Any) -> dict[str, Any]:
    segment = row if isinstance(row, dict) else {}
    return {name: segment[name] for name in ("start", "end", "text") if name in segment}
