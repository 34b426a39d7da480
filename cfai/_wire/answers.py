"""Reads responses into the answers of tasks: by Content-Type first, then by class of answer.

The results of less frequent tasks are read by `results` and `decisions`, vectors by `vectors`.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Final, cast

from attrs import evolve, frozen

from cfai import media
from cfai._types.json import read_as
from cfai._types.values import Value
from cfai._wire.errors import (
    error_from_document,
    error_from_failed_run,
    is_failed_run,
    raise_for_status,
    read_document,
    reports_error,
)
from cfai._wire.responses import Response, is_json_type, unwrap_result
from cfai._wire.text import (
    read_number,
    read_optional_string,
    read_text,
    read_usage,
    recover_tool_calls,
    undocumented_error,
)
from cfai.errors import DecodeError, StreamUnsupported
from cfai.meta import Meta
from cfai.tasks import (
    Answer,
    Audio,
    Binary,
    Description,
    Embeddings,
    Image,
    Result,
    Task,
    Text,
    texts_of,
)

_MEDIA: Final[dict[str, type[Binary]]] = {"image": Image, "audio": Audio}
_BIG_INTEGERS: Final = frozenset({Result, Text})
"""The answers whose integers are the caller's or the model's own, of any size. The service decodes
a generated text that is a number."""


@frozen(eq=False, repr=False)
class AnswerSpec(Value):
    """What reading an answer needs to know of its task."""

    answer: type[Answer]
    json: bool = False
    """Whether the task requests JSON."""
    documents: tuple[str, ...] = ()
    """The texts that a ranking refers to."""
    count: int | None = None
    """How many vectors are expected."""
    tools: frozenset[str] = frozenset()
    """The names of the tools that the model may call."""


def answer_spec(task: Task[Any] | Mapping[str, Any]) -> AnswerSpec:
    """Build the spec of the answer to *task*."""
    if not isinstance(task, Task):
        tools = _tool_names(task.get("tools"))
        return AnswerSpec(Result, bool(task.get("response_format")), tools=tools)
    for name in _fields_in_spec(type(task)):  # type: ignore[arg-type]  # classes can be hashed
        if getattr(task, name) is not None:
            break
    else:
        return _PLAIN_SPECS.get(task.answer) or AnswerSpec(task.answer)
    json = getattr(task, "response_format", None) is not None
    documents = getattr(task, "documents", ())
    tools = _tool_names(getattr(task, "tools", None))
    texts = texts_of(task)
    count = None if texts is None else len(texts)
    return AnswerSpec(task.answer, json, tuple(documents), count, tools)


@cache
def _fields_in_spec(task_class: type[Task[Any]]) -> list[str]:
    """The fields of a task that reading its answer depends on; most tasks set none of them."""
    names = ("response_format", "documents", "tools", task_class.texts)
    return [name for name in names if name is not None and hasattr(task_class, name)]


def _tool_names(tools: Any) -> frozenset[str]:
    """The names in a list of tools of either form. The list of a mapping may hold anything."""
    if not isinstance(tools, list | tuple):
        return frozenset()
    names = []
    for tool in tools:
        described = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        is_mapping = isinstance(described, Mapping)
        names.append(described.get("name") if is_mapping else getattr(tool, "name", None))
    return frozenset(name for name in names if isinstance(name, str))


# Responses


def read_answer(spec: AnswerSpec, response: Response) -> Answer:
    """Read a response into the answer of a task.

    If a `VectorDecoder` wrapped the response, its vectors are empty until they are decoded.

    Raises:
        StatusError: An error response, by its status or by `success: false`.
        DecodeError: The response has an undocumented form.
    """
    if not _holds_json(response, spec.answer):
        raise_for_status(response)
        if response.media_type == "text/html" or not response.body:
            response.json()  # This raises an error that says so.
        return _complete(_read_body(response, spec), response.meta, None)
    big_integers = spec.answer in _BIG_INTEGERS
    result = unwrap_result(read_document(response, big_integers=big_integers))
    answer = _read_result(result, spec)
    return _complete(answer, response.meta, None if isinstance(answer, Binary) else result)


@frozen(eq=False, repr=False)
class RemoteMedia(Value):
    """An image or a sound that the service left at an address, to be downloaded."""

    url: str
    spec: AnswerSpec
    meta: Meta
    raw: Any


def read_universal_answer(spec: AnswerSpec, response: Response) -> Answer | RemoteMedia:
    """Read a response of the route universal, whose result is inside a second envelope.

    The second envelope is `{state, result, provider, model}`, or `{state, error, model}`. It was
    also documented without the first one, and need not be there.

    Source: Cloudflare docs, ai-gateway/usage/run-api.mdx@0a26bf7.

    Raises:
        StatusError: The service sent an error response, or the provider failed.
        DecodeError: The response has an undocumented form.
    """
    if not _holds_json(response, spec.answer):
        return read_answer(spec, response)
    raise_for_status(response)
    document = response.json(big_integers=spec.answer in _BIG_INTEGERS)
    result = unwrap_result(document)
    for envelope in (document, result):
        if is_failed_run(envelope):
            raise error_from_failed_run(envelope, response)
    if reports_error(document):
        raise error_from_document(document, response)
    if isinstance(result, dict) and "state" in result and "result" in result:
        result = result["result"]
    if (url := _find_media_url(result, spec.answer)) is not None:
        return RemoteMedia(url, spec, response.meta, result)
    answer = _read_result(result, spec)
    return _complete(answer, response.meta, None if isinstance(answer, Binary) else result)


def _find_media_url(result: Any, expected: type[Answer]) -> str | None:
    key = next((key for key, media_class in _MEDIA.items() if media_class is expected), None)
    url = result.get(key) if isinstance(result, dict) and key is not None else None
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


def read_media(remote: RemoteMedia, response: Response) -> Answer:
    """Read downloaded media into the answer that they belong to.

    Raises:
        StatusError: The address sent an error response.
        DecodeError: It sent something else.
    """
    raise_for_status(response)
    return _complete(_read_body(response, remote.spec), remote.meta, remote.raw)


def _read_body(response: Response, spec: AnswerSpec) -> Binary:
    if encoding := response.describe_encoding():
        kind = response.media_type or "no Content-Type"
        raise DecodeError(f"the service answered {response.status} ({kind}) with a body{encoding}")
    return _read_binary(response.body, response.media_type, spec.answer)


def read_item(spec: AnswerSpec, result: Any, meta: Meta) -> Answer:
    """Read one of several results in a response.

    Raises:
        DecodeError: The result has an undocumented form.
    """
    return _complete(_read_result(result, spec), meta, result)


def read_whole_text(spec: AnswerSpec, response: Response) -> Text:
    """Read the whole text from a response that should have been a stream.

    gpt-oss and Kimi have answered a request for a stream with an empty result
    (github.com/cloudflare/ai, workers-ai-provider, changelog 3.1.1).

    Raises:
        StreamUnsupported: The result is empty.
        StatusError: An error response.
        DecodeError: The result is not text.
    """
    if not _holds_json(response, Text):
        raise_for_status(response)
        kind = (response.media_type or "no Content-Type") + response.describe_encoding()
        raise DecodeError(f"expected a stream of events, got {kind}")
    result = unwrap_result(read_document(response, big_integers=True))
    if not result:
        raise StreamUnsupported("the model answered nothing to a request for a stream: call run()")
    text = _read_result(result, AnswerSpec(Text, spec.json, tools=spec.tools))
    return cast("Text", _complete(text, response.meta, result))


def answer_from_text(spec: AnswerSpec, text: Text) -> Answer:
    """Turn the text of a stream that was not requested into the answer of a task.

    Raises:
        DecodeError: This class of answer is not made of text.
    """
    if spec.answer is Text:
        return text
    if spec.answer is Description:
        return Description(text.text, finish_reason=text.finish_reason, meta=text.meta)
    raise DecodeError(f"expected {spec.answer.__name__}, got a stream", meta=text.meta)


def _holds_json(response: Response, expected: type[Answer]) -> bool:
    media_type = response.media_type
    if is_json_type(media_type):
        return True
    # Audio without a type may be bare samples, which begin with any byte.
    vague = media_type == "text/plain" or (not media_type and not issubclass(expected, Audio))
    return vague and response.body[:1] in (b"{", b"[")


def read_sound(data: bytes, media_type: str) -> Audio:
    """The first bytes of a body as a sound.

    Raises:
        DecodeError: The Content-Type, or else the bytes, name something else.
    """
    return cast("Audio", _read_binary(data, media_type, Audio))


def _read_binary(data: bytes, content_type: str, expected: type[Answer]) -> Binary:
    """The bytes of a response, in the expected class or in the one that their type names."""
    media_type = content_type
    vague = media_type in ("", "application/octet-stream")
    if vague:
        media_type = media.media_type(data)
    named = _MEDIA.get(media_type.partition("/")[0], Binary)
    if expected is Result:
        return named(data, media_type)
    fits = issubclass(named, expected) or (vague and named is Binary)
    if not (fits and issubclass(expected, Binary)):
        received = content_type or f"no Content-Type, and bytes of {media_type}"
        raise DecodeError(f"expected {expected.__name__}, got {received}")
    return expected(data, media_type)


def _read_result(result: Any, spec: AnswerSpec) -> Answer:
    reader = _READERS.get(spec.answer)
    if reader is not None:
        return reader(result, spec)
    # What these answers need is imported by the first of them.
    from cfai._wire import results

    listed_reader = results.READERS.get(spec.answer)
    if listed_reader is not None:
        return listed_reader(result, spec.documents)
    from cfai._wire import decisions

    typed_reader = decisions.READERS.get(spec.answer)
    if typed_reader is not None:
        return typed_reader(result)
    return read_as(result, spec.answer, "result")


def _complete(answer: Answer, meta: Meta, raw: Any) -> Answer:
    if type(answer) is Embeddings:
        # The vectors would stay in memory as lists of floats.
        raw = {key: value for key, value in raw.items() if key not in ("data", "response")}
    # Nobody else has the new answer yet, and to fill it in costs less than a copy.
    _set_meta(answer, meta)
    _set_raw(answer, raw)
    return answer


_set_meta: Final = vars(Answer)["meta"].__set__
_set_raw: Final = vars(Answer)["raw"].__set__
"""Past the lock of frozen values, in half of the time of `object.__setattr__`."""


def read_neurons(answer: Answer, *, shared: bool = False) -> float | None:
    """The cost of an answer as the service reported it: with its usage, or else in the header.

    Args:
        answer: A complete answer.
        shared: Whether the response has several answers, so that the header is not about this one.
    """
    usage = getattr(answer, "usage", None)
    neurons = None
    if usage is not None:
        neurons = usage.neurons
    elif isinstance(answer.raw, dict):
        counts = answer.raw.get("usage")
        neurons = read_number(counts.get("neurons")) if isinstance(counts, dict) else None
    return answer.meta.neurons if neurons is None and not shared else neurons


# Results


def _read_media(result: Any, key: str) -> Binary:
    """An image or audio in base64: `{key: "…"}`, or the bare string of the API page."""
    text = result.get(key) if isinstance(result, dict) else result
    if not isinstance(text, str) or not text:
        raise undocumented_error(f"{key} must be a base64 string", result)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError) as exc:
        raise undocumented_error(f"{key} must be a base64 string", text[:60]) from exc
    if not data:
        raise undocumented_error(f"{key} must not be empty", result)
    binary = _MEDIA[key](data, media.media_type(data))
    usage = read_usage(result.get("usage")) if isinstance(result, dict) else None
    return binary if usage is None else evolve(binary, usage=usage)


def _read_embeddings(result: Any, spec: AnswerSpec) -> Embeddings:
    # What vectors need is imported by the first of them.
    from cfai._wire.vectors import read_embeddings

    return read_embeddings(result, spec.count)


def _read_description(result: Any, _: AnswerSpec) -> Description:
    if isinstance(result, dict):
        # `description` of llava and uform; `answer` and `caption` of moondream; chat models.
        for key in ("description", "answer", "caption"):
            if isinstance(text := result.get(key), str):
                finish_reason = read_optional_string(result.get("finish_reason"))
                return Description(text, finish_reason=finish_reason)
        if "response" in result or "choices" in result:
            chat = read_text(result)
            return Description(chat.text, finish_reason=chat.finish_reason)
    raise undocumented_error("description must be a string", result)


def _read_text(result: Any, spec: AnswerSpec) -> Text:
    answer = read_text(result, json_mode=spec.json)
    return recover_tool_calls(answer, spec.tools) if spec.tools else answer


def _read_open_result(result: Any, _: AnswerSpec) -> Answer:
    """The result of a mapping: any value, or one of the two documented forms of base64."""
    if isinstance(result, dict):
        keys = list(result.keys() - {"usage"})
        if len(keys) == 1 and keys[0] in _MEDIA and isinstance(result[keys[0]], str):
            with suppress(DecodeError):
                return _read_media(result, keys[0])
    return Result(result)


_READERS: Final[dict[type[Answer], Callable[[Any, AnswerSpec], Answer]]] = {
    Image: lambda result, _: _read_media(result, "image"),
    Audio: lambda result, _: _read_media(result, "audio"),
    Embeddings: _read_embeddings,
    Text: _read_text,
    Description: _read_description,
    Result: _read_open_result,
}

_PLAIN_SPECS: Final = {answer: AnswerSpec(answer) for answer in _READERS}
"""The specs of most tasks, which differ in the class of answer only."""
