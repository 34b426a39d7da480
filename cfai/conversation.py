"""`Conversation`: what was said so far, as a value that grows by making a longer one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn, Self, cast, overload

from attrs import evolve, field, frozen

from cfai._validators import check_at_least, format_value
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
"""Of the JSON that `to_json` writes."""

Said = Message | Mapping[str, Any] | Text
"""What can be said: a message, a mapping of its documented shape, or what a model answered."""

# Half a character, which JSON can hold where it is escaped, and no file as UTF-8.
_HALF = re.compile(r"[\ud800-\udfff]")

_LEADING = ("system", "developer")
_KEYS = {"role", "content", "tool_call_id", "name", "tool_calls", "extra"}


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | Mapping):
        raise InputError(f"messages must be a list of messages, got {format_value(value)}")
    return tuple([_message(one) for one in value])


def _message(value: Said) -> Message:
    if isinstance(value, Text):
        return assistant(value.text, tool_calls=value.tool_calls)
    return Message.of(value)


@frozen(repr=False)
class Conversation(Sequence[Message]):
    """The messages of a conversation, in their order; a sequence of them.

    It never changes: each method gives a new one, and the old one still stands for the moment
    before. So a turn that fails is undone by not keeping what it gave.

    ```python
    talk = Conversation().system("Be brief.").user("What is snow?")
    talk = talk.add(await ai.run(model, TextGeneration(talk)))
    ```

    Args:
        messages: What was said already.
    """

    _said: Iterable[Said] = field(default=(), converter=_messages, alias="messages")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages."""
        return cast("tuple[Message, ...]", self._said)

    # Growing

    def add(self, *said: Said) -> Self:
        """Give it with more at its end; a `Text`, as models answer it, with its tool calls."""
        return evolve(self, messages=(*self.messages, *_messages(said)))

    def system(self, content: str) -> Self:
        """Give it with what says how the model should behave."""
        return self.add(system(content))

    def user(
        self, *content: str | TextPart | ImagePart | bytes | os.PathLike[str] | Base64
    ) -> Self:
        """Give it with what the user says: one text, or texts and images, as in `cfai.user`."""
        return self.add(user(*content))

    def assistant(self, content: str = "", *, tool_calls: Iterable[ToolCall] = ()) -> Self:
        """Give it with what the model said, and which tools it asked for."""
        return self.add(assistant(content, tool_calls=tool_calls))

    def tool_result(
        self, content: Any, tool_call_id: str | None = None, *, name: str | None = None
    ) -> Self:
        """Give it with what a tool gave back, as in `cfai.tool_result`."""
        return self.add(tool_result(content, tool_call_id, name=name))

    # Shrinking

    @property
    def characters(self) -> int:
        """How long its texts are, those of tool calls included. Images count nothing."""
        return sum(map(_characters, self))

    def trim(self, *, messages: int | None = None, characters: int | None = None) -> Self:
        """Give it without its oldest turns, so that it fits.

        A turn is what the user says and all that comes of it, so that the result of a tool stays
        with its call; instructions right before belong to it, too. So where something was left
        out, the first to speak is the user. Kept in any case, and counted, are the instructions at
        the beginning and the last turn.

        Args:
            messages: How many messages there may be.
            characters: How long their texts may be together, as `characters` counts them.

        Raises:
            InputError: A limit is no whole number above 0.
        """
        for name, limit in (("messages", messages), ("characters", characters)):
            if limit is not None:
                check_at_least(name, limit, 1)
        head = self._head()
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

    def _head(self) -> tuple[Message, ...]:
        """The instructions at the beginning."""
        at = next((at for at, one in enumerate(self) if one.role not in _LEADING), len(self))
        return tuple(self[:at])

    # Keeping

    def to_json(self) -> str:
        """Write it as JSON that `from_json` reads. An image that is a file is read here and now.

        Raises:
            InputError: It holds something that JSON has no form for, or a file can't be read.
        """
        said = {"version": VERSION, "messages": [_plain(message) for message in self]}
        try:
            return _HALF.sub(_escaped, json.dumps(said, ensure_ascii=False, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as exc:
            raise InputError(f"the conversation can't be written as JSON: {exc}") from exc

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InputError: It is something else, or of a version that this SDK doesn't know.
        """
        try:
            said = json.loads(text, parse_constant=_no_constant)
        except (TypeError, ValueError, RecursionError) as exc:
            raise InputError(f"a conversation must be JSON: {exc}") from exc
        match said:
            case {"version": int(version)} if version != VERSION or version is True:
                raise InputError(f"a conversation must have version {VERSION}, got {version}")
            case {"version": int(), "messages": [*messages], **more} if not more:
                return cls([_read(at, message) for at, message in enumerate(messages)])
        raise InputError(f"a conversation must have version and messages, got {format_value(said)}")

    # A sequence

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...
    def __getitem__(self, at: int | slice) -> Message | Self:
        """Give one message, or a conversation of some."""
        return (
            evolve(self, messages=self.messages[at]) if isinstance(at, slice) else self.messages[at]
        )

    def __repr__(self) -> str:
        return f"<Conversation of {len(self)} message{'' if len(self) == 1 else 's'}>"


def _characters(message: Message) -> int:
    content = message.content
    parts = (content,) if isinstance(content, str) else tuple(content)
    count = sum(len(_text(part)) for part in parts)
    for call in message.tool_calls or ():
        arguments = call.arguments
        count += len(call.name)
        count += len(arguments if isinstance(arguments, str) else _json(arguments))
    return count


def _text(part: Any) -> str:
    match part:
        case str():
            return part
        case TextPart(text=text) | {"text": str(text)}:
            return text
    return ""


def _json(value: Any) -> str:
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _turns(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """What the user says, each time with all that follows until the user speaks again.

    Instructions right before it are of the same turn.
    """
    turn: list[Message] = []
    leading: list[Message] = []
    for message in messages:
        if message.role in _LEADING:
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


def _plain(message: Message) -> dict[str, Any]:
    """The message as it is sent, but for its tool calls: their arguments are kept as they are."""
    said = evolve(message, tool_calls=(), extra=None).payload()
    if message.tool_calls:
        said["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments, "id": call.id}
            for call in message.tool_calls
        ]
    return {**said, "extra": dict(message.extra)} if message.extra else said


def _read(at: int, said: Any) -> Message:
    if not isinstance(said, dict) or not said.keys() <= _KEYS:
        raise InputError(f"messages[{at}] must be a message, got {format_value(said)}")
    extra = said.pop("extra", None)
    try:
        return evolve(Message.of(said), extra=extra)
    except InputError as exc:
        raise InputError(f"messages[{at}]: {exc}") from exc


def _escaped(half: re.Match[str]) -> str:
    return f"\\u{ord(half[0]):04x}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
