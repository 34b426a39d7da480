"""The messages of a conversation, made of texts and images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Self

from attrs import field, frozen

from cfai import media
from cfai._types.values import Value, fast_maker
from cfai._validators import instance_of
from cfai.errors import InputError
from cfai.media import Base64, Source
from cfai.tasks.generation import ToolCall
from cfai.tasks.task import copy_extra, shorten

_URLS = ("http://", "https://", "data:")


# Parts


@frozen(eq=False, repr=False)
class TextPart(Value):
    """A text inside a message with several parts."""

    text: str

    def payload(self) -> dict[str, Any]:
        """Give the part as JSON."""
        return {"type": "text", "text": self.text}


@frozen(eq=False, repr=False)
class ImagePart(Value):
    """An image inside a message.

    *image* is bytes, a path, an open binary file or `Base64`, sent as a `data:` URI; or a `data:`
    URI, or an `https:` URL that the service fetches if the model supports it.
    """

    image: Source = field(repr=False)

    def __attrs_post_init__(self) -> None:
        problem = None if self._is_url() else media.problem(self.image)
        if problem:
            raise InputError(f"image {problem}")

    def payload(self) -> dict[str, Any]:
        """Give the part as JSON. Reads the image if it is a file."""
        is_url, image = self._is_url(), self.image
        url = image if is_url else media.data_uri(media.read(image))
        return {"type": "image_url", "image_url": {"url": url}}

    def reads_files(self) -> bool:
        """Tell whether `payload` reads a file."""
        return not self._is_url() and media.blocks(self.image)

    def _is_url(self) -> bool:
        return isinstance(self.image, str) and self.image.startswith(_URLS)


Part = TextPart | ImagePart | Mapping[str, Any]
"""A part of a message. A mapping of a form that these classes do not cover is sent unchanged."""


def _parse_part(value: Any) -> Any:
    match value:
        case TextPart() | ImagePart():
            return value
        case str():
            return TextPart(value)
        case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith(_URLS):
            return value if _has_more_keys(value) else ImagePart(url)
        case {"text": str(text)} if value.get("type", "text") == "text":
            return value if _has_more_keys(value) else TextPart(text)
        case {"type": str(kind), **rest} if kind not in ("text", "image_url") and rest:
            return value
    raise InputError(f"content must be parts of text or images, got {shorten(value)}")


def _has_more_keys(part: Mapping[str, Any]) -> bool:
    image = part.get("image_url")
    return len(part) > 2 or (isinstance(image, Mapping) and len(image) > 1)


# The fields of a message


def _parse_content(value: str | Iterable[str | Part]) -> str | tuple[Part, ...]:
    if isinstance(value, str):
        return value
    content: Any = value
    if content is None:
        raise InputError("content must not be null: send an empty string")
    if not isinstance(content, Iterable) or isinstance(content, bytes | bytearray | Mapping):
        raise InputError(f"content must be a string or a list of parts, got {shorten(value)}")
    return tuple([_parse_part(item) for item in content])


def _parse_call(value: Any) -> ToolCall:
    match value:
        case ToolCall():
            return value
        case {"function": {"name": str(name), **rest}} | {"name": str(name), **rest}:
            call_id = value.get("id")
            if call_id is not None and not isinstance(call_id, str):
                raise InputError(f"the id of a tool call must be a string, got {shorten(call_id)}")
            return ToolCall(name, rest.get("arguments"), call_id)
    raise InputError(f"tool_calls must be tool calls, got {shorten(value)}")


_NO_CALLS: tuple[ToolCall, ...] = ()


def _parse_calls(value: Iterable[ToolCall | Mapping[str, Any]] | None) -> tuple[ToolCall, ...]:
    if value is None or value is _NO_CALLS:  # Most messages have none.
        return ()
    is_single = isinstance(value, str | bytes | bytearray | Mapping)
    if is_single or not isinstance(value, Iterable):
        raise InputError(f"tool_calls must be a list of tool calls, got {shorten(value)}")
    return tuple([_parse_call(item) for item in value])


def _encode_json(value: Any, name: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        problem = f"{name} must be a string or made of JSON values, got {shorten(value)}"
        raise InputError(f"{problem}: {exc}") from exc


def _encode_call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = _encode_json({} if arguments is None else arguments, "arguments")
    body = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return body if call.id is None else {"id": call.id, **body}


_is_string = instance_of(str, "a string", qualified=False)


def _check_extra(message: Message, _: object, extra: Mapping[str, Any] | None) -> None:
    for name in _FIELDS if extra else ():
        if extra and name in extra and getattr(message, name) not in (None, ()):
            raise InputError(f"extra must not repeat {name}, which is set already")


_FIELDS = ("role", "content", "name", "tool_call_id", "tool_calls")


@frozen(eq=False, repr=False)
class Message(Value):
    """One message of a conversation.

    `system`, `user`, `assistant` and `tool_result` are shorter ways to create one.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation".
    """

    role: str = field(validator=_is_string)
    """The author: "system", "user", "assistant" or "tool"."""

    content: str | tuple[Part, ...] = field(converter=_parse_content)
    """A text, or a tuple of parts."""

    tool_call_id: str | None = field(default=None, kw_only=True, validator=_is_string)
    """The id of the call that a tool's result answers."""

    name: str | None = field(default=None, kw_only=True, validator=_is_string)
    """The author's name; mostly the name of the tool."""

    tool_calls: tuple[ToolCall, ...] = field(
        default=_NO_CALLS, kw_only=True, converter=_parse_calls
    )
    """The tool calls of the assistant. Of a mapping, the name, the arguments and the id are
    kept."""

    extra: Mapping[str, Any] | None = field(
        default=None, kw_only=True, converter=copy_extra, validator=_check_extra
    )
    """Other fields, sent unchanged. A field that is set can't be repeated here."""

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Self | Message:
        """Read a message from a mapping of the documented form; a `Message` is returned unchanged.

        Raises:
            InputError: It is neither, or has no role or content.
        """
        if isinstance(value, Message):
            return value
        if type(value) is not dict and not isinstance(value, Mapping):
            raise InputError(f"a message must be a Message or a mapping, got {shorten(value)}")
        if value.get("role") == "assistant" and value.get("tool_calls"):
            # Chat completions send null or no content in a message with tool calls.
            content = value.get("content")
            value = {**value, "content": "" if content is None else content}
        if "role" not in value or "content" not in value:
            missing = "content" if "role" in value else "role"
            raise InputError(f"a message must have a {missing}, got {shorten(value)}")
        role, content = value["role"], value["content"]
        if len(value) == 2:
            if cls is Message and type(role) is str and type(content) is str:
                # Nothing to check or convert: most messages, in a quarter of the time.
                return _make_message(role, content)
            return cls(role, content)
        rest = {key: item for key, item in value.items() if key not in _FIELDS}
        return cls(extra=rest or None, **{key: value[key] for key in _FIELDS if key in value})

    def payload(self) -> dict[str, Any]:
        """Give the message as JSON. Reads the images that are files."""
        body: dict[str, Any] = {"role": self.role, "content": self.content}
        if not isinstance(self.content, str):
            parts = self.content
            body["content"] = [p if isinstance(p, Mapping) else p.payload() for p in parts]
        if self.tool_calls:
            body["tool_calls"] = [_encode_call(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            body["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            body["name"] = self.name
        if self.extra:
            body.update(self.extra)
        return body

    def reads_files(self) -> bool:
        """Tell whether `payload` reads a file."""
        if isinstance(self.content, str):
            return False
        return any(isinstance(part, ImagePart) and part.reads_files() for part in self.content)


_make_message = fast_maker(Message)


def any_read_files(messages: Iterable[Any]) -> bool:
    """Tell whether the payload of one of the messages reads a file."""
    for message in messages:
        # Most messages are a text, which has no files.
        is_message = isinstance(message, Message) and type(message.content) is not str
        if is_message and message.reads_files():
            return True
    return False


# Shorter ways to create a message


def system(content: str) -> Message:
    """Create a system message: how the model should behave."""
    return Message("system", content)


def user(*content: str | TextPart | ImagePart | bytes | os.PathLike[str] | Base64) -> Message:
    """Create a user message: one text, or texts and images (bytes, paths, `ImagePart`)."""
    if len(content) == 1 and isinstance(content[0], str):
        return Message("user", content[0])
    if not content:
        raise InputError("user() must be called with at least one text or image")
    return Message("user", [_parse_user_part(item) for item in content])


def assistant(content: str = "", *, tool_calls: Iterable[ToolCall] = ()) -> Message:
    """Create an assistant message: an earlier answer of the model, and its tool calls."""
    return Message("assistant", content, tool_calls=tool_calls)


def tool_result(
    content: Any, tool_call_id: str | None = None, *, name: str | None = None
) -> Message:
    """Create a tool message: the result of a tool call.

    Args:
        content: A string is sent unchanged, anything else as JSON.
        tool_call_id: The id of the call (`ToolCall.id`), if it has one.
        name: The tool's name.
    """
    if not isinstance(content, str):
        content = _encode_json(content, "content")
    return Message("tool", content, tool_call_id=tool_call_id, name=name)


def _parse_user_part(value: Any) -> Part:
    if isinstance(value, str | TextPart | ImagePart | Mapping):
        part: Part = _parse_part(value)
        return part
    if isinstance(value, list | tuple) and not (value and isinstance(value[0], int)):
        raise InputError(
            "user() must be called with its parts as separate arguments, as in user(*parts), "
            f"got {shorten(value)}"
        )
    if value is None or isinstance(value, int | float):
        raise InputError(f"user() must be called with texts and images, got {shorten(value)}")
    return ImagePart(value)
