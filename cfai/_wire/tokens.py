"""Reads the events of a text stream into tokens, and builds the whole text from tokens.

Events come as native (`response`), chat completions (`choices[].delta`), Responses events
(`type: response.…`), and `streamed_data`, a list of native events in one. A stream of chat
completions may end with a native event that has the token counts of all of it.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from attrs import define, evolve, field

from cfai._types.json import encode_decoded
from cfai._types.values import fast_maker
from cfai._wire.errors import ERROR_KEYS
from cfai._wire.text import (
    STATUSES,
    build_usage,
    decode_arguments,
    is_decoded_json,
    parse_json_text,
    read_content,
    read_declined,
    read_generated,
    read_piece,
    read_usage,
    undocumented_error,
)
from cfai.errors import DecodeError
from cfai.tasks import Text, Token, ToolCall, ToolCallDelta, Usage

_make_delta: Final = fast_maker(ToolCallDelta)


def read_stream_piece(value: Any, name: str) -> str:
    """A generated piece in an event: null and an empty object add nothing."""
    return "" if value is None or value == {} else read_generated(value, name)


_NATIVE_KEYS: Final = frozenset({"p", "response", "usage"})
_USUAL_KEYS: Final = _NATIVE_KEYS | {
    "choices", "created", "finish_reason", "id", "model", "object", "reasoning",
    "reasoning_content", "system_fingerprint", "tool_calls",
}  # fmt: skip
"""An event with no other keys reports no error. This check takes half the time of the one for
errors."""


def read_ahead(documents: Sequence[Any]) -> tuple[list[Token | None], bool]:
    """Read decoded events before it is their turn.

    Events of text are read in this one loop, which is half of what a function for each and
    `Token(...)` cost. Their keys are looked at together, which is half of a look at each.

    Returns:
        The tokens, and whether they have only text. `None` is for an event that has to be read in
        its turn: it adds nothing, is undocumented, or may be an error.
    """
    tokens: list[Token | None] = []
    keys = _collect_keys(documents)
    is_native = _NATIVE_KEYS.issuperset(keys)
    is_chat = "choices" in keys and _USUAL_KEYS.issuperset(keys)
    has_usage = "usage" in keys
    only_text = not has_usage
    create = object.__new__
    for document in documents:
        text = usage = None
        try:  # To check each type first takes longer.
            if is_native:
                text = document["response"]
            elif is_chat:
                (choice,) = document["choices"]
                delta = choice["delta"]
                is_short = len(delta) == 1 or (len(delta) == 2 and "role" in delta)
                if is_short and not choice.get("finish_reason"):
                    text = delta.get("content")
            if has_usage:
                usage = document.get("usage")
        except (AttributeError, KeyError, TypeError, ValueError):
            text = None
        if type(text) is str and text:
            token = create(Token)
            token.text = text
            token.reasoning = ""
            token.tool_calls = ()
            token.finish_reason = None
            token.usage = read_usage(usage) if usage else None
            token.raw = document
            tokens.append(token)
        else:
            tokens.append(_read_other_ahead(document))
            only_text = False
    return tokens, only_text


def _collect_keys(documents: Sequence[Any]) -> Collection[Any]:
    """All keys of several events, of which some may be no object."""
    if len(documents) == 1 and type(documents[0]) is dict:
        return documents[0]
    try:
        return frozenset().union(*documents)
    except TypeError:  # One of them is no object. To look at each takes longer.
        return frozenset().union(*(each for each in documents if type(each) is dict))


def _read_other_ahead(document: Any) -> Token | None:
    if type(document) is not dict:
        return None
    if not (_USUAL_KEYS.issuperset(document) or ERROR_KEYS.isdisjoint(document)):
        return None
    try:
        token = read_token(document)
    except DecodeError:
        return None
    return None if token is None or token.finish_reason == "error" else token


def read_token(document: Any) -> Token | None:
    """Read one decoded event; `None` if it adds nothing to the text.

    Raises:
        DecodeError: No source documents this form.
    """
    if document is None:
        return None
    if not isinstance(document, dict):
        raise undocumented_error("an event of a text stream must be an object", document)
    if "choices" in document:
        return _read_choice(document)
    text = document.get("response")
    kind = document.get("type")
    # Some of these have a `response`, too, which is the whole answer so far and not a string.
    if isinstance(kind, str) and kind.startswith("response.") and not isinstance(text, str):
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
    if type(reasoning) is not str:
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
        (finish_reason or None) if isinstance(finish_reason, str) else None,
        read_usage(usage) if usage else None,
        raw,
    )


def _read_call_deltas(value: Any) -> tuple[ToolCallDelta, ...]:
    """Calls, or pieces of them, without the objects of nulls that end calls."""
    deltas = []
    if not isinstance(value, list):
        raise undocumented_error("tool_calls must be a list", value)
    for entry in value:
        if not entry and (entry is None or entry == {}):
            continue
        if type(entry) is not dict:
            raise undocumented_error("a tool call must be an object", entry)
        nested = entry.get("function")
        function = nested if type(nested) is dict else entry
        arguments = function.get("arguments")
        if type(arguments) is not str:
            # An empty object may come before the pieces of the arguments.
            arguments = "" if arguments is None or arguments == {} else encode_decoded(arguments)
        name, index, call_id = function.get("name"), entry.get("index"), entry.get("id")
        if name or arguments or call_id:
            delta = _make_delta(
                index if type(index) is int else None,
                call_id if type(call_id) is str else None,
                name if type(name) is str else None,
                arguments,
            )
            deltas.append(delta)
    return tuple(deltas)


def _read_choice(document: dict[str, Any]) -> Token | None:
    choices = document["choices"]
    usage = document.get("usage")
    if not choices:
        return _build_token({}, "", None, usage, document)
    first = choices[0] if type(choices) is list else ""
    if type(first) is not dict and first is not None:
        raise undocumented_error("choices must be a list of objects", document)
    # Only the first choice is read: several choices are not one text. `raw` has them all.
    first = first or {}
    delta = first.get("delta")
    if delta is None:
        delta = first.get("message")
    if delta is None:
        delta = {"content": first.get("text")}
    if type(delta) is not dict:
        raise undocumented_error("a choice must have a delta", first)
    text = delta.get("content")
    if (text is None or text == "") and "refusal" in delta:
        text = read_declined(delta)
    elif text is None:
        text = ""
    elif type(text) is not str:
        if is_decoded_json(text):
            text = read_stream_piece(text, "content")
        else:
            text = read_content(text, "content")
    return _build_token(delta, text, first.get("finish_reason"), usage, document)


def _read_responses_event(document: dict[str, Any]) -> Token | None:
    match document["type"]:
        case "response.output_text.delta" | "response.refusal.delta":
            delta = document.get("delta")
            text = "" if delta == {} else read_piece(delta, "delta")
            return _build_token({}, text, None, None, document)
        case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
            return _build_token({"reasoning": document.get("delta")}, "", None, None, document)
        case "response.completed" | "response.incomplete" as kind:
            response = document.get("response")
            usage = response.get("usage") if isinstance(response, dict) else None
            finish_reason = STATUSES[kind.removeprefix("response.")]
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
            self._sum = build_usage(
                total.prompt_tokens + usage.prompt_tokens,
                total.completion_tokens + usage.completion_tokens,
                total.total_tokens + usage.total_tokens,
                usage.cached_tokens or total.cached_tokens,
                total.reasoning_tokens,
                usage.neurons if neurons is None else neurons + (usage.neurons or 0),
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
    add_text: Callable[[str], None] = field(init=False)
    """Add the text of a token that has nothing else."""

    def __attrs_post_init__(self) -> None:
        self.add_text = self._text.append

    def add(self, token: Token) -> None:
        """Add one token."""
        if token.text:
            self._text.append(token.text)
        if token.reasoning:
            self._reasoning.append(token.reasoning)
        if token.tool_calls:
            for delta in token.tool_calls:
                self._add_call(delta)
        if token.finish_reason is not None:
            self.finish_reason = token.finish_reason
        if token.usage is not None:
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
