"""The chunks of a streamed chat completion, as llama.cpp and other servers send them.

Source: platform.openai.com/docs/api-reference; for `reasoning_content`, api-docs.deepseek.com, and
for its other name `reasoning`, docs.vllm.ai, "Reasoning Outputs".
"""

from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define, field

from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd, IsCancelled, OnPiece, Reasoning

_MAX_COUNT = 2**53
"""Above it, JavaScript has no exact integers."""


@define
class ChunkReader:
    """Reads the chunks of one generation, and hands over their text and reasoning."""

    _on_piece: OnPiece
    _is_cancelled: IsCancelled
    _reason: str = field(default="stop", init=False)
    _pieces: int = field(default=0, init=False)
    _reasoning: str = field(default="", init=False)
    _usage: Mapping[str, Any] = field(factory=dict, init=False)
    _calls: dict[int, dict[str, str]] = field(factory=dict, init=False)

    def read(self, chunk: Mapping[str, Any]) -> bool:
        """Read a chunk and return whether to stop, since the caller has gone.

        Raises:
            ApiError: The chunk is malformed.
        """
        try:
            text, reasoning = self._read_choices(chunk)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise errors.upstream_failed(f"a chunk is malformed: {exc!r}") from exc
        self._pieces += bool(text) + bool(reasoning)
        self._reasoning += reasoning
        if reasoning:
            self._on_piece(Reasoning(reasoning))
        if text or not reasoning:
            self._on_piece(text)
        if self._is_cancelled():
            self._reason = "stopped"
            return True
        return False

    def end(self) -> GenerationEnd:
        """Return how the generation ended, after its last chunk.

        Raises:
            ApiError: A tool call has no name.
        """
        usage = self._usage
        tokens = usage.get("completion_tokens")
        details = usage.get("completion_tokens_details") or {}
        return GenerationEnd(
            self._reason,
            usage.get("prompt_tokens") or 0,
            self._pieces if tokens is None else tokens,
            _build_calls(self._calls),
            self._reasoning,
            details.get("reasoning_tokens"),
        )

    def _read_choices(self, chunk: Mapping[str, Any]) -> tuple[str, str]:
        self._usage = _read_usage(chunk.get("usage")) or self._usage
        text = reasoning = ""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text += _read_text(delta.get("content")) or _read_text(choice.get("text"))
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            self._reason = choice.get("finish_reason") or self._reason
            for index, call in enumerate(delta.get("tool_calls") or ()):
                _add_call(self._calls.setdefault(call.get("index", index), {}), call)
        return text, reasoning


def _read_text(value: Any) -> str:
    """Return a piece of text; Workers AI sends one of digits as a number."""
    return "" if value is None else str(value) if isinstance(value, int | float) else value


def _read_usage(usage: Any) -> dict[str, Any]:
    """Return the counts of an event, if it has any; each is the sum so far."""
    if not usage:
        return {}
    counts = _read_counts(usage, "prompt_tokens", "completion_tokens")
    details = usage.get("completion_tokens_details")
    if isinstance(details, dict):
        counts["completion_tokens_details"] = _read_counts(details, "reasoning_tokens")
    return counts


def _read_counts(counts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    values = {name: counts.get(name) for name in names}
    read = {name: None if value is None else int(value) for name, value in values.items()}
    if any(value is not None and not 0 <= value <= _MAX_COUNT for value in read.values()):
        raise ValueError(f"a count is outside of 0 to {_MAX_COUNT}")
    return read


def _add_call(call: dict[str, str], delta: Mapping[str, Any]) -> None:
    function = delta.get("function") or {}
    for name, piece in (("id", delta.get("id")), ("name", function.get("name"))):
        call[name] = call.get(name) or piece or ""
    arguments = function.get("arguments") or ""
    if isinstance(arguments, dict):
        arguments = orjson.dumps(arguments).decode()
    call["arguments"] = call.get("arguments", "") + arguments


def _build_calls(calls: Mapping[int, Mapping[str, str]]) -> tuple[dict[str, Any], ...]:
    built = []
    for index, call in sorted(calls.items()):
        if not call["name"]:
            raise errors.upstream_failed("a tool call has no name")
        function = {"name": call["name"], "arguments": call["arguments"] or "{}"}
        built.append(
            {"id": call["id"] or f"call_{index}", "type": "function", "function": function}
        )
    return tuple(built)
