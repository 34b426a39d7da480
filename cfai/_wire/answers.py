"""Reads responses into the answers of tasks: by Content-Type first, then by class of answer.

The results of less frequent tasks are read by `results` and `decisions`, vectors by `vectors`.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import frozen

from cfai import tasks
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
from cfai._wire.responses import Response, begins_json, is_json, is_json_type, unwrap_result
from cfai._wire.text import (
    read_number,
    read_text,
    recover_tool_calls,
)
from cfai.errors import DecodeError, StreamUnsupported
from cfai.meta import Meta
from cfai.tasks import (
    Answer,
    Result,
    Task,
    Text,
    texts_of,
)

if TYPE_CHECKING:
    from cfai.tasks import Audio

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
        return _plain_spec(task.answer)  # type: ignore[arg-type]  # classes can be hashed
    json = getattr(task, "response_format", None) is not None
    documents = getattr(task, "documents", ())
    tools = _tool_names(getattr(task, "tools", None))
    texts = texts_of(task)
    count = None if texts is None else len(texts)
    return AnswerSpec(task.answer, json, tuple(documents), count, tools)


@cache
def _plain_spec(answer: type[Answer]) -> AnswerSpec:
    """The spec of most tasks, which differ in the class of answer only."""
    return AnswerSpec(answer)


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
    return _complete(answer, response.meta, None if answer.is_file else result)


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
    if spec.answer.is_file:
        from cfai._wire.results import find_media_url

        if (url := find_media_url(result, spec.answer)) is not None:
            return RemoteMedia(url, spec, response.meta, result)
    answer = _read_result(result, spec)
    return _complete(answer, response.meta, None if answer.is_file else result)


def read_media(remote: RemoteMedia, response: Response) -> Answer:
    """Read downloaded media into the answer that they belong to.

    Raises:
        StatusError: The address sent an error response.
        DecodeError: It sent something else.
    """
    raise_for_status(response)
    return _complete(_read_body(response, remote.spec), remote.meta, remote.raw)


def _read_body(response: Response, spec: AnswerSpec) -> Answer:
    if encoding := response.describe_encoding():
        kind = response.media_type or "no Content-Type"
        raise DecodeError(f"the service answered {response.status} ({kind}) with a body{encoding}")
    # What files need is imported by the first of them.
    from cfai._wire.results import read_binary

    return read_binary(response.body, response.media_type, spec.answer)


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
    if spec.answer is tasks.Description:
        return tasks.Description(text.text, finish_reason=text.finish_reason, meta=text.meta)
    raise DecodeError(f"expected {spec.answer.__name__}, got a stream", meta=text.meta)


def _holds_json(response: Response, expected: type[Answer]) -> bool:
    media_type = response.media_type
    if is_json_type(media_type):
        return True
    if not begins_json(response.body):
        return False
    # Audio without a type may be bare samples, which begin with any byte. Under any other type, an
    # answer that was paid for is still one.
    vague = media_type == "text/plain" or (not media_type and not issubclass(expected, tasks.Audio))
    return vague or is_json(response.body)


def read_sound(data: bytes, media_type: str) -> "Audio":
    """The first bytes of a body as a sound.

    Raises:
        DecodeError: The Content-Type, or else the bytes, name something else.
    """
    from cfai._wire.results import read_binary

    return cast("Audio", read_binary(data, media_type, tasks.Audio))


def _read_result(result: Any, spec: AnswerSpec) -> Answer:
    if spec.answer is Text:
        answer = read_text(result, json_mode=spec.json)
        return recover_tool_calls(answer, spec.tools) if spec.tools else answer
    if spec.answer is Result:
        return _read_open_result(result)
    # What other answers need is imported by the first of them.
    if spec.answer.has_vectors:
        from cfai._wire.vectors import read_embeddings

        return read_embeddings(result, spec.count)
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
    if answer.has_vectors:
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


def _read_open_result(result: Any) -> Answer:
    """The result of a mapping: any value, or one of the two documented forms of base64."""
    if isinstance(result, dict):
        keys = list(result.keys() - {"usage"})
        if keys in (["image"], ["audio"]) and isinstance(result[keys[0]], str):
            from cfai._wire.results import read_base64

            with suppress(DecodeError):
                return read_base64(result, keys[0])
    return Result(result)
