"""The messages and tools of a conversation: what is used of them at every depth, and their form for
the local text model, or for a generator that can do more: with images, and with tool calls.

Images of a chat must be in the request: an address would have to be fetched, and nothing is fetched
here.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from cfai.local import errors
from cfai.local.backends.roles import Abilities
from cfai.local.errors import ApiError
from cfai.local.handlers.media import find_image_type, read_media
from cfai.local.requests import JsonBody, Shape, check_shape
from cfai.tasks.task import shorten

Message = Mapping[str, Any]


# What is used of them

_NOTHING: Shape = (None, [], {}, "")

_IMAGE_PARTS: Mapping[str, Shape] = {"type": None, "image_url": {"url": None, "detail": None}}
_PARTS: Mapping[str, Shape] = {
    "text": {"type": None, "text": None},
    "image_url": {"type": None, "image_url": {"url": None, "detail": (None, "auto")}},
    # Of Responses.
    "input_text": {"type": None, "text": None},
    "output_text": {"type": None, "text": None, "annotations": _NOTHING, "logprobs": _NOTHING},
}
"""The parts of a message by their types. Others are refused when they are read."""


def _choose_part(part: Any) -> Shape:
    return _PARTS.get(part.get("type", "text")) if isinstance(part, dict) else None


def _choose_remote_part(part: Any) -> Shape:
    is_image = isinstance(part, dict) and part.get("type") == "image_url"
    return _IMAGE_PARTS if is_image else _choose_part(part)


_FUNCTION = ("function", None)
_FUNCTION_CALL: Mapping[str, Shape] = {"name": None, "arguments": None}


def _choose_call(call: Any) -> Shape:
    # Clients send the `index` of a streamed call back; its place in the list says the same.
    labels: Mapping[str, Shape] = {"id": None, "index": None, "type": _FUNCTION}
    has_function = isinstance(call, dict) and "function" in call
    return {**labels, "function": _FUNCTION_CALL} if has_function else {**labels, **_FUNCTION_CALL}


_MESSAGES: Shape = [
    {
        "annotations": _NOTHING,
        "audio": _NOTHING,
        "content": [_choose_part],
        "function_call": _NOTHING,
        "name": None,
        "reasoning": _NOTHING,
        "reasoning_content": _NOTHING,
        "refusal": _NOTHING,
        "role": None,
        "tool_call_id": None,
        "tool_calls": [_choose_call],
    }
]

_TOOL: Mapping[str, Shape] = {
    "description": None,
    "name": None,
    "parameters": None,
    # The arguments of a call always follow the schema.
    "strict": (None, True, False),
}


def _choose_tool(tool: Any) -> Shape:
    return {"type": _FUNCTION, **({"function": _TOOL} if "function" in tool else _TOOL)}


def _choose_choice(choice: Any) -> Shape:
    has_function = isinstance(choice, dict) and "function" in choice
    return {"type": _FUNCTION, **({"function": {"name": None}} if has_function else {"name": None})}


_INPUT: Shape = [
    {
        "content": [_choose_part],
        # Of an earlier answer, and labels only.
        "id": None,
        "role": None,
        "status": None,
        "type": ("message", None),
    }
]


def check_input(items: Any) -> None:
    """Refuse what would be ignored of the messages in the `input` of Responses.

    Raises:
        ApiError: There is such a field or value; the message names it.
    """
    check_shape("input", items, _INPUT)


def check_conversation(body: JsonBody, abilities: Abilities) -> None:
    """Refuse what would be ignored of the messages and tools of a body with checked types.

    Raises:
        ApiError: There is such a field or value; the message names it.
    """
    if abilities.is_remote:
        # The other server gets the rest as it is.
        for index, message in enumerate(body.get("messages") or ()):
            place = f"messages[{index}]"
            check_shape(f"{place}.content", message.get("content"), [_choose_remote_part])
            check_shape(f"{place}.tool_calls", message.get("tool_calls"), [_choose_call])
        return
    check_shape("messages", body.get("messages"), _MESSAGES)
    check_shape("tools", body.get("tools"), [_choose_tool])
    check_shape("tool_choice", body.get("tool_choice"), _choose_choice)


# For the local text model


def accept_empty_content(messages: Any) -> Any:
    """Give the messages with tool calls and without a content an empty one, as the rules want.

    Source: Cloudflare changelog, 2026-02-17: `/ai/v1/chat/completions` accepts `content: null`.
    """
    if not isinstance(messages, list):
        return messages
    return [
        {**message, "content": ""}
        if isinstance(message, dict) and message.get("tool_calls") and not message.get("content")
        else message
        for message in messages
    ]


def render_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return the role and the text of each message; its tool calls become a part of the text.

    The text begins with the name of its author, if there is one: that of a person, or of a tool.
    """
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    tools = {call.get("id"): call.get("function", call)["name"] for call in calls}
    rendered = []
    for index, message in enumerate(messages):
        texts = [_join_parts(f"messages[{index}].content", message["content"])]
        texts += [_render_call(call) for call in message.get("tool_calls") or ()]
        text = "\n".join(text for text in texts if text)
        name = message.get("name") or tools.get(message.get("tool_call_id") or "")
        role = "system" if message["role"] == "developer" else message["role"]
        rendered.append({"role": role, "content": f"{name}: {text}" if name else text})
    return rendered


def _render_call(call: Message) -> str:
    function = call.get("function", call)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = orjson.dumps(arguments or {}).decode()
    return f'{{"name": "{function["name"]}", "arguments": {arguments}}}'


def _join_parts(path: str, content: str | Sequence[str | Message]) -> str:
    """Return the text of a message; several text parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    parts = [{"text": part} if isinstance(part, str) else part for part in content]
    for index, part in enumerate(parts):
        if part.get("type", "text") != "text":
            raise no_text(f"{path}[{index}]")
    return "\n".join(part["text"] for part in parts)


def no_text(path: str) -> ApiError:
    """Return the error for something else than text at *path*."""
    return errors.not_supported(
        f"{path}: the local text model reads only text, no images, audio or files"
    )


# For another generator


def has_image(body: JsonBody) -> bool:
    """Return whether a request has something else than text."""
    parts = (
        part
        for message in body["messages"]
        if not isinstance(message["content"], str)
        for part in message["content"]
    )
    return body.get("image") is not None or any(
        isinstance(part, dict) and part.get("type", "text") != "text" for part in parts
    )


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
            image = part["image_url"]
            detail = {} if isinstance(image, str) else image
            return {"type": "image_url", "image_url": {**detail, "url": url}}
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
