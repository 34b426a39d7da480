"""The messages of a conversation, made of texts and images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs
from attrs import field, frozen

from cfai import media
from cfai.errors import InputError
from cfai.media import Base64, Source
from cfai.tasks._base import extra_fields
from cfai.tasks._rule import shortened
from cfai.tasks._text_answers import ToolCall
from cfai.tasks._value import Value

_URLS = ("http://", "https://", "data:")


def _role(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"role must be text, got {shortened(value)}")
    return value


@frozen(eq=False, repr=False)
class TextPart(Value):
    """A text inside a message that holds more than one thing."""

    text: str

    def payload(self) -> dict[str, Any]:
        """Give the part as the service takes it."""
        return {"type": "text", "text": self.text}


@frozen(eq=False, repr=False)
class ImagePart(Value):
    """An image inside a message.

    *image* is bytes, a path, an open binary file or `Base64`, sent as a `data:` URI of its own
    type; or such a URI, or an `https:` URL that the service fetches, where the model allows it.
    """

    image: Source = field(repr=False)

    def __attrs_post_init__(self) -> None:
        problem = None if self._is_url() else media.problem(self.image)
        if problem:
            raise InputError(f"image {problem}")

    def payload(self) -> dict[str, Any]:
        """Give the part as the service takes it. Reads the image: a file is read here and now."""
        return {"type": "image_url", "image_url": {"url": self._url()}}

    def blocks(self) -> bool:
        """Tell whether `payload` touches a file."""
        return not self._is_url() and media.blocks(self.image)

    def _is_url(self) -> bool:
        return isinstance(self.image, str) and self.image.startswith(_URLS)

    def _url(self) -> str:
        if isinstance(self.image, str) and self._is_url():
            return self.image
        return media.data_uri(media.read(self.image))


Part = TextPart | ImagePart | Mapping[str, Any]
"""A part of a message. A mapping is sent as it is: a form that these classes do not know."""


def _part(value: Any) -> Any:
    """Make a part of a text, a part, or a mapping of the documented shape."""
    match value:
        case TextPart() | ImagePart():
            return value
        case str():
            return TextPart(value)
        case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith(_URLS):
            return value if _has_more(value) else ImagePart(url)
        case {"text": str(text)} if value.get("type", "text") == "text":
            return value if _has_more(value) else TextPart(text)
        case {"type": str(kind), **rest} if kind not in ("text", "image_url") and rest:
            return value
    raise InputError(f"content must be parts of text or images, got {shortened(value)}")


def _has_more(part: Mapping[str, Any]) -> bool:
    image = part.get("image_url")
    return len(part) > 2 or (isinstance(image, Mapping) and len(image) > 1)


def _part_payload(part: Any) -> Any:
    return part if isinstance(part, Mapping) else part.payload()


def _content(value: str | Iterable[str | Part]) -> str | tuple[Part, ...]:
    if isinstance(value, str):
        return value
    given: Any = value
    if given is None:
        raise InputError("content must not be null: send an empty text")
    if not isinstance(given, Iterable) or isinstance(given, bytes | bytearray | Mapping):
        raise InputError(f"content must be text or a list of parts, got {shortened(value)}")
    return tuple([_part(item) for item in given])


def _call(value: Any) -> ToolCall:
    match value:
        case ToolCall():
            return value
        case {"function": {"name": str(name), **rest}} | {"name": str(name), **rest}:
            named = value.get("id")
            if named is not None and not isinstance(named, str):
                raise InputError(f"the id of a tool call must be text, got {shortened(named)}")
            return ToolCall(name, rest.get("arguments"), named)
    raise InputError(f"tool_calls must be tool calls, got {shortened(value)}")


def _calls(value: Iterable[ToolCall | Mapping[str, Any]] | None) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    no_list = isinstance(value, str | bytes | bytearray | Mapping)
    if no_list or not isinstance(value, Iterable):
        raise InputError(f"tool_calls must be a list of tool calls, got {shortened(value)}")
    return tuple([_call(item) for item in value])


def _written(value: Any, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        problem = f"{what} must be text or made of JSON values, got {shortened(value)}"
        raise InputError(f"{problem}: {exc}") from exc


def _call_payload(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = _written({} if arguments is None else arguments, "arguments")
    named = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return named if call.id is None else {"id": call.id, **named}


def _text_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{attribute.name} must be text, got {shortened(value)}")


def _not_twice(message: Message, _: object, extra: Mapping[str, Any] | None) -> None:
    for name in _KNOWN if extra else ():
        if extra and name in extra and getattr(message, name) not in (None, ()):
            raise InputError(f"extra must not repeat {name}, which is set already")


_KNOWN = ("role", "content", "name", "tool_call_id", "tool_calls")


@frozen(eq=False, repr=False)
class Message(Value):
    """One turn of a conversation.

    `system`, `user`, `assistant` and `tool_result` are shorter ways to make one.
    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation".
    """

    role: str = field(converter=_role)
    """Who speaks: "system", "user", "assistant" or "tool"."""

    content: str | tuple[Part, ...] = field(converter=_content)
    """A text, or the parts that it is made of."""

    tool_call_id: str | None = field(default=None, kw_only=True, validator=_text_or_none)
    """Which call a tool's result belongs to."""

    name: str | None = field(default=None, kw_only=True, validator=_text_or_none)
    """The name of who speaks: of the tool, mostly."""

    tool_calls: tuple[ToolCall, ...] = field(default=(), kw_only=True, converter=_calls)
    """The calls that the assistant asked for. Of a mapping, the name, the arguments and the id are
    kept."""

    extra: Mapping[str, Any] | None = field(
        default=None, kw_only=True, converter=extra_fields, validator=_not_twice
    )
    """Further fields, sent as they are. They can't change one that is set."""

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Self | Message:
        """Make a message of a mapping of the documented shape, or hand one on.

        Raises:
            InputError: It is neither, or lacks its role or content.
        """
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"a message must be a Message or a mapping, got {shortened(value)}")
        if value.get("role") == "assistant" and value.get("tool_calls"):
            # Chat completions leave the content of such a message empty, or out.
            value = {**value, "content": "" if (said := value.get("content")) is None else said}
        if "role" not in value or "content" not in value:
            missing = "content" if "role" in value else "role"
            raise InputError(f"a message must have its {missing}, got {shortened(value)}")
        if len(value) == 2:
            return cls(value["role"], value["content"])
        rest = {key: item for key, item in value.items() if key not in _KNOWN}
        return cls(extra=rest or None, **{key: value[key] for key in _KNOWN if key in value})

    def payload(self) -> dict[str, Any]:
        """Give the message as the service takes it."""
        body: dict[str, Any] = {"role": self.role, "content": self.content}
        if not isinstance(self.content, str):
            body["content"] = [_part_payload(part) for part in self.content]
        if self.tool_calls:
            body["tool_calls"] = [_call_payload(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            body["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            body["name"] = self.name
        if self.extra:
            body.update(self.extra)
        return body

    def blocks(self) -> bool:
        """Tell whether `payload` touches a file."""
        if isinstance(self.content, str):
            return False
        return any(isinstance(part, ImagePart) and part.blocks() for part in self.content)


def blocking(messages: Iterable[Any]) -> bool:
    """Tell whether the payload of one of the messages touches a file."""
    return any(isinstance(message, Message) and message.blocks() for message in messages)


def system(content: str) -> Message:
    """Say how the model should behave."""
    return Message("system", content)


def user(*content: str | TextPart | ImagePart | bytes | os.PathLike[str] | Base64) -> Message:
    """Say what the user says: one text, or texts and images (bytes, paths, `ImagePart`)."""
    if len(content) == 1 and isinstance(content[0], str):
        return Message("user", content[0])
    if not content:
        raise InputError("user() must be given something to say")
    return Message("user", [_user_part(item) for item in content])


def assistant(content: str = "", *, tool_calls: Iterable[ToolCall] = ()) -> Message:
    """Say what the model said before, and which tools it asked for."""
    return Message("assistant", content, tool_calls=tool_calls)


def tool_result(
    content: Any, tool_call_id: str | None = None, *, name: str | None = None
) -> Message:
    """Say what a tool gave back.

    Args:
        content: A text as it is; anything else as JSON.
        tool_call_id: The id of the call (`ToolCall.id`), where it has one.
        name: The tool's name.
    """
    if not isinstance(content, str):
        content = _written(content, "content")
    return Message("tool", content, tool_call_id=tool_call_id, name=name)


def _user_part(value: Any) -> Part:
    return _part(value) if isinstance(value, str | TextPart | Mapping) else _image(value)


def _image(value: Any) -> ImagePart:
    if isinstance(value, ImagePart):
        return value
    if isinstance(value, list | tuple) and not (value and isinstance(value[0], int)):
        raise InputError(
            f"user() must be given its parts one by one, as in user(*parts), got {shortened(value)}"
        )
    if value is None or isinstance(value, int | float):
        raise InputError(f"user() must be given texts and images, got {shortened(value)}")
    return ImagePart(value)
