"""Reads the text answers of models: whole, or one event of a stream at a time.

Whole texts come in these forms: native (`response`), chat completions (`choices`), OpenAI Responses
(`output`), JSON mode (an object under `response`, or fenced text), with tool calls flat or nested.
Events come as native (`response`), chat completions (`choices[].delta`), Responses events
(`type: response.…`), and `streamed_data`, a list of native events in one. A stream of chat
completions may end with a native event that has the token counts of all of it.

The service decodes a generated text that happens to be JSON: it becomes JSON text again.
"""

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final

from attrs import define, evolve, field

from cfai._types.excerpts import format_value
from cfai._types.json import dumps, encode_decoded, loads
from cfai._validators import is_finite_number
from cfai.errors import DecodeError
from cfai.tasks import Text, Token, ToolCall, ToolCallDelta, Usage


def undocumented_error(expected: str, value: Any) -> DecodeError:
    """Build the error for a form that no source documents; its body is *value*."""
    excerpt = format_value(value, 200)
    message = f"the service answered something undocumented: {expected}, got {excerpt}"
    try:
        return DecodeError(message, body=dumps(value))
    except TypeError:
        return DecodeError(message)


# Fields that several forms share


def read_optional_string(value: Any) -> str | None:
    """A string that an answer can do without; anything else is dropped."""
    return value if isinstance(value, str) else None


def read_piece(value: Any, name: str) -> str:
    """A piece of text: null is empty; a number or a boolean is its JSON.

    The service decodes a generated piece that happens to be JSON: `6` arrives as a number
    (recorded live: github.com/cloudflare/ai, issue 651).
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and not isfinite(value):
        return json.dumps(value)
    if isinstance(value, bool | int | float):
        return encode_decoded(value)
    raise undocumented_error(f"{name} must be a string", value)


def read_generated(value: Any, name: str) -> str:
    """A generated text or a piece of it, which the service may have decoded to any JSON value."""
    return encode_decoded(value) if isinstance(value, dict | list) else read_piece(value, name)


def read_stream_piece(value: Any, name: str) -> str:
    """A generated piece in an event: null and an empty object add nothing."""
    return "" if value is None or value == {} else read_generated(value, name)


def read_content(value: Any, name: str) -> str:
    """The content of a message: a string, or a list of parts, of which those with text count."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(read_piece(part, name) for part in parts)
    return read_piece(value, name)


def _is_decoded(content: Any) -> bool:
    """Whether the content of a chat message is JSON that the service decoded, not its parts."""
    if isinstance(content, list):
        return not any(_is_text_part(item) for item in content)
    return isinstance(content, dict)


def _is_text_part(item: Any) -> bool:
    # A generated object may have a text, too, but not the type of a part beside it.
    return isinstance(item, dict) and "text" in item and ("type" in item or len(item) == 1)


def _read_reasoning(message: dict[str, Any]) -> str:
    value = message.get("reasoning_content")
    return read_piece(message.get("reasoning") if value is None else value, "reasoning")


_COUNTS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def read_usage(value: Any) -> Usage | None:
    """Token counts in either vocabulary (`prompt_tokens`, or `input_tokens` of Responses)."""
    if not isinstance(value, dict):
        return None
    prompt = _read_count(value, "prompt_tokens", "input_tokens") or 0
    completion = _read_count(value, "completion_tokens", "output_tokens") or 0
    total = _read_count(value, "total_tokens")
    total = prompt + completion if total is None else total
    if _COUNTS.issuperset(value):
        return Usage(prompt, completion, total)
    inputs = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    outputs = value.get("completion_tokens_details") or value.get("output_tokens_details")
    return Usage(
        prompt,
        completion,
        total,
        _read_count(inputs, "cached_tokens") if isinstance(inputs, dict) else None,
        _read_count(outputs, "reasoning_tokens") if isinstance(outputs, dict) else None,
        read_number(value.get("neurons")),
    )


def _read_count(counts: dict[str, Any], name: str, alias: str = "") -> int | None:
    count = counts.get(name)
    return read_count(counts.get(alias) if count is None else count)


def read_count(value: Any) -> int | None:
    """A count; anything but a finite number is dropped. 2.5 counts as 2."""
    is_usual = type(value) is int and 0 <= value < 2**53
    return int(value) if is_usual or is_finite_number(value) else None


def read_number(value: Any) -> float | None:
    """A number; anything but one that is finite as a float is dropped."""
    return float(value) if value is not None and is_finite_number(value) else None


def decode_arguments(value: Any) -> Any:
    """The arguments of a call: decoded if they are JSON, else the text that the model wrote."""
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip():
        return {}
    try:
        return loads(value, big_integers=True)
    except ValueError:
        return value


def _call_entries(value: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each tool call, and the object with its name: itself, or nested under `function`."""
    if not value:
        return
    if not isinstance(value, list):
        raise undocumented_error("tool_calls must be a list", value)
    for entry in value:
        if entry is None or entry == {}:
            continue
        if not isinstance(entry, dict):
            raise undocumented_error("a tool call must be an object", entry)
        nested = entry.get("function")
        yield entry, nested if isinstance(nested, dict) else entry


def _read_tool_calls(value: Any) -> tuple[ToolCall, ...]:
    calls = []
    for entry, function in _call_entries(value):
        name = function.get("name")
        if not isinstance(name, str):
            raise undocumented_error("a tool call must have a name", entry)
        arguments = decode_arguments(function.get("arguments"))
        calls.append(ToolCall(name, arguments, read_optional_string(entry.get("id"))))
    return tuple(calls)


def parse_json_text(text: str) -> Any:
    """The JSON in *text*, fenced with ```json or bare; `None` if it is not JSON."""
    # No regular expression: some models write JSON and then whitespace without end.
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        return loads(text, big_integers=True)
    except ValueError:
        return None


# Whole texts


def read_text(result: Any, *, json_mode: bool = False) -> Text:
    """Read a whole text answer in any form; in *json_mode*, `parsed` is read from the text.

    Raises:
        DecodeError: No source documents this form.
    """
    if isinstance(result, str):
        answer = Text(text=result)
    elif not isinstance(result, dict):
        raise undocumented_error("a text answer must be an object", result)
    elif "choices" in result:
        answer = _read_chat_completion(result)
    elif "response" in result or "tool_calls" in result:
        answer = _read_native(result)
    elif "output" in result:
        answer = _read_responses_output(result)
    else:
        raise undocumented_error("a text answer must have response, choices or output", result)
    if json_mode and answer.parsed is None:
        return evolve(answer, parsed=parse_json_text(answer.text))
    return answer


def _read_native(result: dict[str, Any]) -> Text:
    response = result.get("response")
    calls = _read_tool_calls(result.get("tool_calls"))
    reasoning = _read_reasoning(result)
    # Null beside an empty list of calls is an empty text, as it is in chat completions.
    is_empty = "response" in result and "tool_calls" in result
    if response is None and not (calls or reasoning or is_empty):
        raise undocumented_error("response must be a string if there are no tool_calls", result)
    return Text(
        text=read_generated(response, "response"),
        parsed=response if isinstance(response, dict | list) else None,
        tool_calls=calls,
        reasoning=reasoning,
        finish_reason=read_optional_string(result.get("finish_reason")),
        usage=read_usage(result.get("usage")),
    )


def _read_chat_completion(result: dict[str, Any]) -> Text:
    choices = result["choices"]
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise undocumented_error("choices must be a list of at least one object", result)
    first = choices[0]
    message = first.get("message")
    if not isinstance(message, dict):
        # Legacy completions have the text on the choice itself.
        if "text" not in first:
            raise undocumented_error("a choice must have a message", first)
        message = {"content": first["text"]}
    content = message.get("content")
    is_decoded = _is_decoded(content)
    return Text(
        text=encode_decoded(content) if is_decoded else read_content(content, "content"),
        parsed=content if is_decoded else None,
        tool_calls=_read_tool_calls(message.get("tool_calls")),
        reasoning=_read_reasoning(message),
        finish_reason=read_optional_string(first.get("finish_reason")),
        usage=read_usage(result.get("usage")),
    )


_STATUSES: Final = {"completed": "stop", "incomplete": "length"}
"""The finish reasons of chat completions by the states of OpenAI Responses."""


def _read_responses_output(result: dict[str, Any]) -> Text:
    output, status = result["output"], read_optional_string(result.get("status"))
    if not isinstance(output, list):
        raise undocumented_error("output must be a list", result)
    items = [item for item in output if isinstance(item, dict)]
    messages = [item for item in items if item.get("type") == "message"]
    reasoning = [item for item in items if item.get("type") == "reasoning"]
    return Text(
        text="".join(read_content(item.get("content"), "content") for item in messages),
        tool_calls=tuple(
            ToolCall(
                read_piece(item.get("name"), "name"),
                decode_arguments(item.get("arguments")),
                read_optional_string(item.get("call_id") or item.get("id")),
            )
            for item in items
            if item.get("type") == "function_call"
        ),
        reasoning="".join(
            read_content(item.get("content") or item.get("summary"), "reasoning")
            for item in reasoning
        ),
        finish_reason=_STATUSES.get(status, status) if status else None,
        usage=read_usage(result.get("usage")),
    )


# Events of a stream

_NOT_ONLY_TEXT: Final = frozenset(
    {
        "choices",
        "finish_reason",
        "reasoning",
        "reasoning_content",
        "streamed_data",
        "tool_calls",
        "usage",
    }
)
"""What an event of the native dialect may hold besides its text."""


def read_token(document: Any) -> Token | None:
    """Read one decoded event; `None` if it adds nothing to the text.

    Raises:
        DecodeError: No source documents this form.
    """
    if document is None:
        return None
    if not isinstance(document, dict):
        raise undocumented_error("an event of a text stream must be an object", document)
    text = document.get("response")
    if type(text) is str and text and _NOT_ONLY_TEXT.isdisjoint(document):
        # Most events of the native dialect: a piece of text and nothing else.
        return Token(text, "", (), None, None, document)
    if "choices" in document:
        return _read_choice(document)
    kind = document.get("type")
    # Some of these have a `response`, too, which is the whole answer so far and not a string.
    if isinstance(kind, str) and kind.startswith("response."):
        return _read_responses_event(document)
    if "streamed_data" in document:
        return _read_streamed_data(document)
    if not isinstance(text, str):
        text = read_stream_piece(text, "response")
    return _build_token(
        document, text, document.get("finish_reason"), document.get("usage"), document
    )


def _build_token(
    delta: dict[str, Any], text: str, finish_reason: Any, usage: Any, raw: Any
) -> Token | None:
    reasoning = delta.get("reasoning_content")
    if reasoning is None:
        reasoning = delta.get("reasoning")
    if not isinstance(reasoning, str):
        reasoning = "" if not reasoning and reasoning != 0 else read_piece(reasoning, "reasoning")
    calls = delta.get("tool_calls")
    if not (reasoning or calls or finish_reason or usage):
        return Token(text, "", (), None, None, raw) if text else None
    deltas = _read_call_deltas(calls) if calls else ()
    if not (text or reasoning or deltas or finish_reason or usage):
        return None
    return Token(
        text,
        reasoning,
        deltas,
        finish_reason if isinstance(finish_reason, str) else None,
        read_usage(usage) if usage else None,
        raw,
    )


def _read_call_deltas(value: Any) -> tuple[ToolCallDelta, ...]:
    """Calls, or pieces of them, without the objects of nulls that end calls."""
    deltas = []
    for entry, function in _call_entries(value):
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            # An empty object may come before the pieces of the arguments.
            arguments = "" if arguments is None or arguments == {} else encode_decoded(arguments)
        name, index, call_id = function.get("name"), entry.get("index"), entry.get("id")
        if name or arguments or call_id:
            delta = ToolCallDelta(
                index=index if isinstance(index, int) else None,
                id=read_optional_string(call_id),
                name=read_optional_string(name),
                arguments=arguments,
            )
            deltas.append(delta)
    return tuple(deltas)


def _read_choice(document: dict[str, Any]) -> Token | None:
    choices = document["choices"]
    usage = document.get("usage")
    if not choices:
        return _build_token({}, "", None, usage, document)
    if not isinstance(choices, list) or not isinstance(choices[0], dict | None):
        raise undocumented_error("choices must be a list of objects", document)
    # Only the first choice is read: several choices are not one text. `raw` has them all.
    first = choices[0] or {}
    delta = first.get("delta")
    if delta is None:
        delta = first.get("message")
    if delta is None:
        delta = {"content": first.get("text")}
    if not isinstance(delta, dict):
        raise undocumented_error("a choice must have a delta", first)
    text = delta.get("content")
    if not isinstance(text, str):
        if _is_decoded(text):
            text = read_stream_piece(text, "content")
        else:
            text = read_content(text, "content")
    return _build_token(delta, text, first.get("finish_reason"), usage, document)


def _read_responses_event(document: dict[str, Any]) -> Token | None:
    match document["type"]:
        case "response.output_text.delta":
            delta = document.get("delta")
            text = "" if delta == {} else read_piece(delta, "delta")
            return _build_token({}, text, None, None, document)
        case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
            return _build_token({"reasoning": document.get("delta")}, "", None, None, document)
        case "response.completed" | "response.incomplete" as kind:
            response = document.get("response")
            usage = response.get("usage") if isinstance(response, dict) else None
            finish_reason = _STATUSES[kind.removeprefix("response.")]
            return _build_token({}, "", finish_reason, usage, document)
    return None


def _read_streamed_data(document: dict[str, Any]) -> Token | None:
    entries = document["streamed_data"]
    if not isinstance(entries, list):
        raise undocumented_error("streamed_data must be a list", document)
    tokens = [token for entry in entries if (token := read_token(entry)) is not None]
    if not tokens:
        return None
    return Token(
        text="".join(token.text for token in tokens),
        reasoning="".join(token.reasoning for token in tokens),
        tool_calls=tuple(delta for token in tokens for delta in token.tool_calls),
        finish_reason=next((t.finish_reason for t in reversed(tokens) if t.finish_reason), None),
        usage=next((t.usage for t in reversed(tokens) if t.usage), None),
        raw=document,
    )


def token_from_text(text: Text) -> Token:
    """A whole answer as the only token of a stream."""
    return Token(
        text=text.text,
        reasoning=text.reasoning,
        tool_calls=tuple(
            ToolCallDelta(
                index=index,
                id=call.id,
                name=call.name,
                arguments=call.arguments
                if isinstance(call.arguments, str)
                else encode_decoded(call.arguments),
            )
            for index, call in enumerate(text.tool_calls)
        ),
        finish_reason=text.finish_reason,
        usage=text.usage,
        raw=text.raw,
    )


# Tokens to a whole text


@define(eq=False)
class UsageCounter:
    """Adds up the token counts of a stream, whose events carry their own share or the sum so far.

    Llama-style streams report the prompt once and then 0 for it, with one token per event;
    vLLM-style streams repeat the prompt and count up. So a prompt of 0 tokens means shares.
    (github.com/cloudflare/langchain-cloudflare, `_streaming_safe_usage`; the rule is inferred.)

    gemma-4 and qwen3.8 send chat completions with shares, and then a native event with the total,
    which replaces what was added up; an event of zeros may come before or after it.
    """

    _last: Usage | None = field(default=None, init=False)
    _sum: Usage | None = field(default=None, init=False)
    _has_shares: bool = field(default=False, init=False)
    _total: Usage | None = field(default=None, init=False)

    def set_total(self, usage: Usage) -> None:
        """Replace what was added up by the counts of the whole stream."""
        counted = self.total
        if counted is not None and usage.neurons is None:
            usage = evolve(usage, neurons=counted.neurons)
        if counted is not None and usage.cached_tokens is None:
            usage = evolve(usage, cached_tokens=counted.cached_tokens)
        self._total = usage

    def add(self, usage: Usage) -> None:
        """Add the counts of one event."""
        if self._last is None or self._sum is None:
            self._last = self._sum = usage
            return
        if not usage.prompt_tokens:
            self._has_shares = True
        last, total, neurons = self._last, self._sum, self._sum.neurons
        self._last = usage
        if usage.prompt_tokens and usage.total_tokens >= total.total_tokens:
            # The sum at the end, or any event of a stream that counts up.
            self._sum = usage
        elif usage != last or not usage.prompt_tokens:
            self._sum = evolve(
                total,
                prompt_tokens=total.prompt_tokens + usage.prompt_tokens,
                completion_tokens=total.completion_tokens + usage.completion_tokens,
                total_tokens=total.total_tokens + usage.total_tokens,
                neurons=usage.neurons if neurons is None else neurons + (usage.neurons or 0),
                cached_tokens=usage.cached_tokens or total.cached_tokens,
            )

    @property
    def total(self) -> Usage | None:
        """The counts of the stream so far."""
        return self._total or (self._sum if self._has_shares else self._last)


@define(eq=False)
class _PartialCall:
    """A tool call as it grows."""

    index: int | None
    id: str | None
    name: str | None
    arguments: list[str] = field(factory=list, init=False)

    def is_continued_by(self, delta: ToolCallDelta) -> bool:
        """Whether *delta*, of the same index, belongs to this call and begins no other one."""
        if delta.id is not None and self.id is not None:
            return delta.id == self.id and (delta.name in (None, self.name) or self.name is None)
        return delta.name is None or self.name is None


@define(eq=False)
class TextBuilder:
    """Builds an answer from its tokens. Nothing is parsed before `build` is called."""

    _text: list[str] = field(factory=list, init=False)
    _reasoning: list[str] = field(factory=list, init=False)
    _calls: list[_PartialCall] = field(factory=list, init=False)
    _latest: dict[int | tuple[int | None, str] | None, _PartialCall] = field(
        factory=dict, init=False
    )
    """The latest call of each index, and of each index and id, so that a stream of many calls is
    not searched for each piece. `None` is the latest of all."""
    _usage: UsageCounter = field(factory=UsageCounter, init=False)
    _has_choices: bool = field(default=False, init=False)
    """Whether an event of chat completions had token counts."""
    finish_reason: str | None = field(default=None, init=False)

    def add(self, token: Token) -> None:
        """Add one token."""
        if token.text:
            self._text.append(token.text)
        if token.reasoning:
            self._reasoning.append(token.reasoning)
        for delta in token.tool_calls:
            self._add_call(delta)
        if token.finish_reason:
            self.finish_reason = token.finish_reason
        if token.usage:
            self._add_usage(token.usage, token.raw)

    def _add_usage(self, usage: Usage, event: Any) -> None:
        if isinstance(event, dict) and "choices" in event:
            self._has_choices = True
        elif self._has_choices and usage.total_tokens:
            self._usage.set_total(usage)
            return
        self._usage.add(usage)

    def _add_call(self, delta: ToolCallDelta) -> None:
        # A delta continues the latest call of its index and id, or of its index, or of all.
        latest, index = self._latest, delta.index
        call = latest.get(index)
        if call is None or not call.is_continued_by(delta):
            call = None if index is None or delta.id is None else latest.get((index, delta.id))
        if call is None or not call.is_continued_by(delta):
            call = _PartialCall(index, delta.id, delta.name)
            self._calls.append(call)
        call.id = delta.id if call.id is None else call.id
        call.name = delta.name if call.name is None else call.name
        call.arguments.append(delta.arguments)
        latest[None] = latest[index] = call
        if call.id is not None:
            latest[index, call.id] = call

    @property
    def usage(self) -> Usage | None:
        """The token counts so far."""
        return self._usage.total

    def build(self, *, json_mode: bool = False) -> Text:
        """The answer so far, without `meta` and `raw`."""
        text = "".join(self._text)
        return Text(
            text=text,
            parsed=parse_json_text(text) if json_mode else None,
            tool_calls=tuple(
                ToolCall(call.name or "", decode_arguments("".join(call.arguments)), call.id)
                for call in self._calls
            ),
            reasoning="".join(self._reasoning),
            finish_reason=self.finish_reason,
            usage=self.usage,
        )
