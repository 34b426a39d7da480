"""One event of a text stream -> one `Token`, in every dialect; and tokens -> the whole `Text`.

The dialects: native (`response`), chat completions (`choices[].delta`), Responses events
(`type: response.…`), and `streamed_data`, a list of native chunks in one event.
"""

from collections.abc import Iterator
from typing import Any, Final

from attrs import evolve

from cfai._wire.text import arguments, as_json, content, parsed, undocumented, usage, words
from cfai.tasks import Text, Token, ToolCall, ToolCallDelta, Usage

_MORE: Final = frozenset(
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
"""What an event of the native dialect may hold beside its text."""


def _delta(entry: Any) -> ToolCallDelta | None:
    """A call, or a piece of one; `None` for the sentinel of nulls that ends a call."""
    if not isinstance(entry, dict):
        raise undocumented("a tool call must be an object", entry)
    called = entry.get("function")
    said = called if isinstance(called, dict) else entry
    pieces = said.get("arguments")
    if pieces is not None and not isinstance(pieces, str):
        pieces = as_json(pieces)
    name, index, named = said.get("name"), entry.get("index"), entry.get("id")
    if not name and not pieces and not named:
        return None
    return ToolCallDelta(
        index=index if isinstance(index, int) else None,
        id=named if isinstance(named, str) else None,
        name=name if isinstance(name, str) else None,
        arguments=pieces or "",
    )


def _deltas(entries: Any) -> tuple[ToolCallDelta, ...]:
    if not entries:
        return ()
    if not isinstance(entries, list):
        raise undocumented("tool_calls must be a list", entries)
    return tuple(delta for entry in entries if (delta := _delta(entry)) is not None)


def _token(said: dict[str, Any], text: str, finish: Any, counts: Any, raw: Any) -> Token | None:
    """A token of what is there; `None` where nothing is."""
    thought = said.get("reasoning_content")
    if thought is None:
        thought = said.get("reasoning")
    calls = said.get("tool_calls")
    if not (thought or calls or finish or counts):
        return Token(text, "", (), None, None, raw) if text else None
    reasoning = words(thought, "reasoning")
    deltas = _deltas(calls)
    if not (text or reasoning or deltas or finish or counts):
        return None
    return Token(
        text,
        reasoning,
        deltas,
        finish if isinstance(finish, str) else None,
        usage(counts) if counts else None,
        raw,
    )


def _choice(document: dict[str, Any]) -> Token | None:
    choices = document["choices"]
    counts = document.get("usage")
    if not choices:
        return _token({}, "", None, counts, document)
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise undocumented("choices must be a list of objects", document)
    # Only the first choice is told: several at once have no one text. `raw` has them all.
    first = choices[0]
    delta = first.get("delta")
    if delta is None:
        delta = first.get("message")
    if delta is None:
        delta = {"content": first.get("text")}
    if not isinstance(delta, dict):
        raise undocumented("a choice must have a delta", first)
    said = delta.get("content")
    text = said if isinstance(said, str) else content(said, "content")
    return _token(delta, text, first.get("finish_reason"), counts, document)


def _responses(document: dict[str, Any]) -> Token | None:
    match document["type"]:
        case "response.output_text.delta":
            text = words(document.get("delta"), "delta")
            return _token({}, text, None, None, document)
        case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
            return _token({"reasoning": document.get("delta")}, "", None, None, document)
        case "response.completed" | "response.incomplete":
            whole = document.get("response")
            counts = whole.get("usage") if isinstance(whole, dict) else None
            finish = "stop" if document["type"] == "response.completed" else "length"
            return _token({}, "", finish, counts, document)
    return None


def _several(document: dict[str, Any]) -> Token | None:
    entries = document["streamed_data"]
    if not isinstance(entries, list):
        raise undocumented("streamed_data must be a list", document)
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


def read_token(document: Any) -> Token | None:
    """What one decoded event adds to a text; `None` where it adds nothing.

    Raises:
        DecodeError: No source documents this form.
    """
    if not isinstance(document, dict):
        raise undocumented("an event of a text stream must be an object", document)
    said = document.get("response")
    if type(said) is str and said and _MORE.isdisjoint(document):
        # By far the most events of the native dialect: a piece of text and nothing else.
        return Token(said, "", (), None, None, document)
    if "choices" in document:
        return _choice(document)
    kind = document.get("type")
    # Some of these have a `response` too, which is the whole answer so far and no text.
    if isinstance(kind, str) and kind.startswith("response."):
        return _responses(document)
    if "streamed_data" in document:
        return _several(document)
    text = said if isinstance(said, str) else words(said, "response")
    return _token(document, text, document.get("finish_reason"), document.get("usage"), document)


class Counting:
    """Token counts of a stream, whose chunks carry either their own share or the sum so far.

    Llama-style streams say the prompt once and then 0 for it, with one token a chunk; vLLM-style
    streams repeat the prompt and count up. So a prompt that falls back to 0 means shares.
    (github.com/cloudflare/langchain-cloudflare, `_streaming_safe_usage`; the rule is inferred.)
    """

    __slots__ = ("_last", "_shares", "_sum")

    def __init__(self) -> None:
        self._last: Usage | None = None
        self._sum: Usage | None = None
        self._shares = False

    def add(self, usage: Usage) -> None:
        """Take the counts of one more chunk."""
        if self._last is None or self._sum is None:
            self._last = self._sum = usage
            return
        if not usage.prompt_tokens:
            self._shares = True
        last, total = self._last, self._sum
        repeats = usage.prompt_tokens and usage.total_tokens >= total.total_tokens
        self._last = usage
        if repeats:
            # The sum itself, said at the end; and every chunk of a stream that counts up.
            self._sum = usage
        elif usage != last or not usage.prompt_tokens:
            self._sum = evolve(
                total,
                prompt_tokens=total.prompt_tokens + usage.prompt_tokens,
                completion_tokens=total.completion_tokens + usage.completion_tokens,
                total_tokens=total.total_tokens + usage.total_tokens,
                neurons=_plus(total.neurons, usage.neurons),
                cached_tokens=usage.cached_tokens or total.cached_tokens,
            )

    @property
    def total(self) -> Usage | None:
        """The counts of the whole stream so far."""
        return self._sum if self._shares else self._last


def _plus(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


class _Call:
    """A tool call as it grows."""

    __slots__ = ("id", "index", "name", "pieces")

    def __init__(self, delta: ToolCallDelta) -> None:
        self.index, self.id, self.name = delta.index, delta.id, delta.name
        self.pieces = [delta.arguments]

    def takes(self, delta: ToolCallDelta) -> bool:
        """Whether *delta* continues this call, and is not the start of another."""
        if delta.index is not None and self.index is not None and delta.index != self.index:
            return False
        if delta.id is not None and self.id is not None:
            return delta.id == self.id and (delta.name in (None, self.name) or self.name is None)
        return delta.name is None or self.name is None

    def add(self, delta: ToolCallDelta) -> None:
        self.id = delta.id if self.id is None else self.id
        self.name = delta.name if self.name is None else self.name
        self.pieces.append(delta.arguments)

    @property
    def whole(self) -> ToolCall:
        return ToolCall(self.name or "", arguments("".join(self.pieces)), self.id)


class Assembly:
    """The answer as it grows, token by token. Nothing is parsed before it is asked for."""

    __slots__ = ("_calls", "_counting", "_reasoning", "_text", "finish_reason")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._counting = Counting()
        self.finish_reason: str | None = None

    def add(self, token: Token) -> None:
        """Take one more token."""
        if token.text:
            self._text.append(token.text)
        if token.reasoning:
            self._reasoning.append(token.reasoning)
        for delta in token.tool_calls:
            self._place(delta)
        if token.finish_reason:
            self.finish_reason = token.finish_reason
        if token.usage:
            self._counting.add(token.usage)

    def _place(self, delta: ToolCallDelta) -> None:
        for call in self._candidates(delta):
            if call.takes(delta):
                call.add(delta)
                return
        self._calls.append(_Call(delta))

    def _candidates(self, delta: ToolCallDelta) -> Iterator[_Call]:
        """The calls that *delta* may continue: the latest of its index, or the latest of all."""
        if delta.index is None:
            yield from self._calls[-1:]
        else:
            yield from (call for call in reversed(self._calls) if call.index == delta.index)

    def text(self, *, json_asked: bool = False) -> Text:
        """The answer so far, without its facts (`meta`, `raw`)."""
        said = "".join(self._text)
        return Text(
            text=said,
            parsed=parsed(said) if json_asked else None,
            tool_calls=tuple(call.whole for call in self._calls),
            reasoning="".join(self._reasoning),
            finish_reason=self.finish_reason,
            usage=self._counting.total,
        )


def as_token(text: Text) -> Token:
    """A whole answer as the one token of a stream."""
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
                else as_json(call.arguments),
            )
            for index, call in enumerate(text.tool_calls)
        ),
        finish_reason=text.finish_reason,
        usage=text.usage,
        raw=text.raw,
    )
