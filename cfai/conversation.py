"""`Conversation`: the messages so far, as an immutable value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, takewhile
from typing import Any, Self, cast, overload

from attrs import evolve, field, frozen

from cfai._types.excerpts import format_count, format_value
from cfai._types.json import loads, loads_strictly
from cfai._validators import check_at_least
from cfai.errors import InputError
from cfai.media import Base64
from cfai.tasks import (
    ImagePart,
    Message,
    Text,
    TextPart,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)

__all__ = ["VERSION", "Conversation", "Said"]

VERSION = 1
"""The version of the JSON that `to_json` writes."""

Said = Message | Mapping[str, Any] | Text
"""What can be added: a message, a mapping of its documented shape, or a model's answer."""

# JSON can contain a lone surrogate as an escape, UTF-8 can't encode it.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

_INVALID_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
"""Not allowed in the name of a tool by chat completions."""

_INSTRUCTION_ROLES = ("system", "developer")
_KEYS = {"role", "content", "tool_call_id", "name", "tool_calls", "extra"}


def _to_messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | Mapping):
        raise InputError(f"messages must be a list of messages, got {format_value(value)}")
    return tuple([_to_message(item) for item in value])


def _to_message(value: Said) -> Message:
    if isinstance(value, Text):
        # Their names are left to the caller, who knows the tools.
        calls = [sendable_call(call, {call.name}) for call in value.tool_calls]
        return assistant(value.text, tool_calls=calls)
    return Message.of(value)


@frozen(repr=False)
class Conversation(Sequence[Message]):
    """The messages of a conversation, in order; a sequence of `Message`.

    It is immutable: each method returns a new conversation. To undo a turn that failed, keep the
    conversation from before it.

    ```python
    talk = Conversation().system("Be brief.").user("What is snow?")
    talk = talk.add(await ai.run(model, TextGeneration(talk)))
    ```

    Args:
        messages: The messages so far.
    """

    _messages: Iterable[Said] = field(default=(), converter=_to_messages, alias="messages")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages."""
        return cast("tuple[Message, ...]", self._messages)

    # Adding messages

    def add(self, *messages: Said) -> Self:
        """Append messages; a `Text` is appended as the model's message, with its tool calls."""
        return evolve(self, messages=(*self.messages, *_to_messages(messages)))

    def system(self, content: str) -> Self:
        """Append instructions for the model."""
        return self.add(system(content))

    def user(
        self, *content: str | TextPart | ImagePart | bytes | os.PathLike[str] | Base64
    ) -> Self:
        """Append a user message: a text, or texts and images, as in `cfai.user`."""
        return self.add(user(*content))

    def assistant(self, content: str = "", *, tool_calls: Iterable[ToolCall] = ()) -> Self:
        """Append a message of the model, with its tool calls."""
        return self.add(assistant(content, tool_calls=tool_calls))

    def tool_result(
        self, content: Any, tool_call_id: str | None = None, *, name: str | None = None
    ) -> Self:
        """Append the result of a tool, as in `cfai.tool_result`."""
        return self.add(tool_result(content, tool_call_id, name=name))

    # Removing messages

    @property
    def characters(self) -> int:
        """The length of all texts, tool calls included, in characters. Images count as 0."""
        return sum(map(_characters, self))

    def trim(self, *, messages: int | None = None, characters: int | None = None) -> Self:
        """Remove the oldest turns until the conversation fits the limits.

        A turn is a user message and everything up to the next one, so a tool's result stays with
        its call. Instructions right before the user message belong to the turn. After the
        instructions at the beginning, the first message that is left is the user's. These
        instructions and the last turn are always kept, and count.

        Args:
            messages: The largest number of messages.
            characters: The largest length of all texts, counted like `characters`.

        Raises:
            InputError: A limit is not a whole number above 0.
        """
        for name, limit in (("messages", messages), ("characters", characters)):
            if limit is not None:
                check_at_least(name, limit, 1)
        head = tuple(takewhile(lambda message: message.role in _INSTRUCTION_ROLES, self))
        turns = list(_turns(self[len(head) :]))
        count, length = len(head), sum(map(_characters, head))
        first = len(turns)
        for turn in reversed(turns):
            count += len(turn)
            length += sum(map(_characters, turn))
            fits = (messages is None or count <= messages) and (
                characters is None or length <= characters
            )
            if not fits and first < len(turns):
                break
            first -= 1
        return evolve(self, messages=(*head, *chain.from_iterable(turns[first:])))

    # JSON

    def to_json(self) -> str:
        """Write it as JSON for `from_json`. Images that are files are read now.

        Raises:
            InputError: It contains a value that JSON can't express, or a file can't be read.
        """
        document = {"version": VERSION, "messages": [_write_message(message) for message in self]}
        try:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False)
            return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        except (TypeError, ValueError, RecursionError) as exc:
            raise InputError(f"the conversation can't be written as JSON: {exc}") from exc

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the JSON of `to_json`.

        Raises:
            InputError: The JSON has another form, or an unknown version.
        """
        try:
            document = loads_strictly(_decode(text))
        except (TypeError, ValueError) as exc:
            raise InputError(f"a conversation must be JSON: {exc}") from exc
        match document:
            case {"version": int(version)} if version != VERSION or version is True:
                raise InputError(f"a conversation must have version {VERSION}, got {version}")
            case {"version": int(), "messages": [*messages], **more} if not more:
                return cls([_read_message(index, item) for index, item in enumerate(messages)])
        raise InputError(
            f"a conversation must have version and messages, got {format_value(document)}"
        )

    @classmethod
    def from_ai_sdk(cls, messages: Any) -> Self:
        """Read the messages that the AI SDK's `useChat` posts: `body["messages"]`.

        Texts and images (`data:` and `https:` URLs) are read, and the calls of tools with their
        results; invalid names and arguments are replaced, as in a run of tools. Reasoning, sources,
        the app's own data parts and calls without a result are left out. A browser can post
        anything: check lengths, and do not rely on results of tools.

        Raises:
            InputError: The messages have another form, or one is an instruction (role `system`),
                which only the app should write; or a file is not an image.

        Source: `UIMessage` of npm's ai 6.0.
        """
        if not isinstance(messages, list):
            raise InputError(f"messages must be a list, got {format_value(messages)}")
        return cls(
            list(
                chain.from_iterable(
                    _read_ui_message(f"messages[{index}]", message)
                    for index, message in enumerate(messages)
                )
            )
        )

    # Sequence

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Message | Self:
        """Return a message, or a conversation of a slice."""
        if isinstance(index, slice):
            return evolve(self, messages=self.messages[index])
        return self.messages[index]

    def __repr__(self) -> str:
        return f"<Conversation of {format_count(len(self), 'message')}>"


def _decode(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    return bytes(text).decode(json.detect_encoding(text))


def _characters(message: Message) -> int:
    content = message.content
    parts = (content,) if isinstance(content, str) else tuple(content)
    count = 0
    for part in parts:
        match part:
            case str(text) | TextPart(text=text) | {"text": str(text)}:
                count += len(text)
    for call in message.tool_calls or ():
        count += len(call.name) + len(_arguments_text(call.arguments))
    return count


def _arguments_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        with suppress(RecursionError):
            return repr(value)
        return format_value(value)  # It can't be sent, either.


def _turns(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Split messages into turns: a user message with everything up to the next one.

    Instructions right before a user message belong to its turn.
    """
    turn: list[Message] = []
    leading: list[Message] = []
    for message in messages:
        if message.role in _INSTRUCTION_ROLES:
            leading.append(message)
            continue
        if message.role == "user" and turn:
            yield turn
            turn = []
        turn += [*leading, message]
        leading = []
    turn += leading
    if turn:
        yield turn


def _write_message(message: Message) -> dict[str, Any]:
    """The message as sent, except that the arguments of tool calls are not encoded."""
    document = evolve(message, tool_calls=(), extra=None).payload()
    if message.tool_calls:
        document["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments, "id": call.id}
            for call in message.tool_calls
        ]
    return {**document, "extra": dict(message.extra)} if message.extra else document


def _read_message(index: int, document: Any) -> Message:
    if not isinstance(document, dict) or not document.keys() <= _KEYS:
        raise InputError(f"messages[{index}] must be a message, got {format_value(document)}")
    extra = document.pop("extra", None)
    try:
        return evolve(Message.of(document), extra=extra)
    except InputError as exc:
        raise InputError(f"messages[{index}]: {exc}") from exc


# Calls of tools


def read_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object.

    Raises:
        InputError: They are not JSON, or not an object.
    """
    arguments = call.arguments
    # Some models encode the JSON twice.
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments, big_integers=True)
        except ValueError:
            raise InputError(f"arguments must be JSON, got {format_value(arguments)}") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise InputError(f"arguments must be an object, got {format_value(arguments)}")
    return arguments


def sendable_call(call: ToolCall, names: Container[str] = ()) -> ToolCall:
    """A call as the service accepts it back: with a valid name, and an object of arguments.

    Args:
        call: As the model wrote it.
        names: The names of the tools, which are valid.
    """
    name = call.name
    if name not in names:
        name = _INVALID_IN_NAME.sub("_", name)[:64] or "unnamed"
    try:
        arguments = read_arguments(call)
    except InputError:
        arguments = {}
    return evolve(call, name=name, arguments=arguments)


# Messages of the AI SDK: https://ai-sdk.dev/docs/reference/ai-sdk-core/ui-message


def _read_ui_message(name: str, document: Any) -> Iterator[Message]:
    match document:
        case {"role": "user", "parts": []}:
            raise InputError(f"{name}.parts must not be empty")
        case {"role": "user", "parts": [*parts]}:
            content = list(_user_parts(name, parts))
            if content:
                yield user(*content)
        case {"role": "assistant", "parts": [*parts]}:
            yield from _assistant_messages(name, parts)
        case {"role": "system"}:
            raise InputError(
                f"{name} must not have the role system: add instructions in the app, not in the "
                f"browser"
            )
        case _:
            raise InputError(f"{name} must have a role and parts, got {format_value(document)}")


def _user_parts(name: str, parts: list[Any]) -> Iterator[str | ImagePart]:
    for index, part in enumerate(parts):
        match part:
            case {"type": "text", "text": str(text)}:
                yield text
            case {"type": "file", "mediaType": str(media_type), "url": str(url)}:
                if not media_type.startswith("image/"):
                    raise InputError(
                        f"{name}.parts[{index}] must be an image, got {media_type:.80}"
                    )
                if not url.startswith(("data:", "https:")):
                    raise InputError(
                        f"{name}.parts[{index}].url must be a data: or https: URL, "
                        f"got {format_value(url)}"
                    )
                yield ImagePart(url)
            case _:
                _check_left_out(f"{name}.parts[{index}]", part)


def _check_left_out(name: str, part: Any) -> None:
    """Check that a part is of another type than those that are read."""
    match part:
        case {"type": "text" | "file"}:
            raise InputError(f"{name} must be a text or a file, got {format_value(part)}")
        case {"type": str()}:
            return
    raise InputError(f"{name} must have a type, got {format_value(part)}")


def _assistant_messages(name: str, parts: list[Any]) -> Iterator[Message]:
    """The messages of each step: the model's text and calls, and their results."""
    text = ""
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, part in enumerate([*parts, {"type": "step-start"}]):
        match part:
            case {"type": "step-start"}:
                if text or calls:
                    yield assistant(text, tool_calls=calls)
                    yield from results
                text, calls, results = "", [], []
            case {"type": "text", "text": str(more)}:
                text += more
            case {"type": str(kind)} if kind == "dynamic-tool" or kind.startswith("tool-"):
                tool = part.get("toolName") if kind == "dynamic-tool" else kind[len("tool-") :]
                content = _tool_output(part)
                if content is None:
                    continue
                call_id = part.get("toolCallId")
                if not isinstance(call_id, str) or not isinstance(tool, str):
                    raise InputError(
                        f"{name}.parts[{index}] must have toolCallId and a name, "
                        f"got {format_value(part)}"
                    )
                arguments = part.get("input", part.get("rawInput"))
                call = sendable_call(ToolCall(tool, arguments, call_id))
                calls.append(call)
                results.append(tool_result(content, call_id, name=call.name))
            case {"type": "file", "mediaType": str(), "url": str()}:
                continue  # An image that the model drew.
            case _:
                _check_left_out(f"{name}.parts[{index}]", part)


def _tool_output(part: Mapping[str, Any]) -> Any:
    """What the model gets as the result of a call; `None` if there is no result yet."""
    match part:
        case {"state": "output-available", "output": output}:
            return output if isinstance(output, str) else _dump_output(output)
        case {"state": "output-error", "errorText": str(message)}:
            return message if message.startswith("error: ") else f"error: {message}"
        case {"state": "output-denied"}:
            return "error: the user did not allow this call"
    return None


def _dump_output(output: Any) -> str:
    try:
        return json.dumps(output, ensure_ascii=False)
    except (ValueError, RecursionError) as exc:  # Too many digits, or nested too deep.
        raise InputError(f"the output of a tool can't be written as JSON: {exc}") from exc
