"""The forms of a generated text: Workers AI's own, and those of the OpenAI protocols.

A dialect turns a text and its end into the documents of a response: whole, or as events.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

import orjson
from attrs import evolve, field, frozen

from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd, Piece, Reasoning

Document = Mapping[str, Any]


class Dialect(Protocol):
    """The form of a whole response."""

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return the result with the complete text."""


class StreamDialect(Dialect, Protocol):
    """The form of a response that can also be streamed."""

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield the events before the first piece."""

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield the events for a piece of text, or of the reasoning before it."""

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield the events after the last piece, without `[DONE]`."""


@frozen
class NativeDialect:
    """Workers AI's own: `response` and `usage`."""

    decodes_json: bool = False
    """Whether the text is JSON, which is returned decoded."""

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return the result.

        Raises:
            ApiError: The text is not the requested JSON.
        """
        rest = {**_reasoning(end.reasoning), "usage": build_usage(end)}
        if end.tool_calls:
            calls = [_decode_call(call) for call in end.tool_calls]
            return {"response": text or None, "tool_calls": calls, **rest}
        response = parse_json(text) if self.decodes_json else text
        return {"response": response, **rest}

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield nothing."""
        yield from ()

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield the event for a piece."""
        yield {"response": piece} if isinstance(piece, str) else _reasoning(piece.text)

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield an event with the tool calls, if any, and one with the end and the usage."""
        if end.tool_calls:
            yield {"tool_calls": _number_calls(end.tool_calls)}
        yield {"response": "", "finish_reason": end.reason, "usage": build_usage(end)}


@frozen
class ChatDialect:
    """Chat completions: `choices` with a message. Source: platform.openai.com/docs/api-reference.

    Events for the usage are sent as OpenAI does: one at the end, without choices.
    """

    model: str
    includes_usage: bool = True
    """Whether a stream ends with the usage."""
    checks_json: bool = False
    """Whether the text must be JSON."""
    id: str = field(factory=lambda: f"chatcmpl-{uuid4()}")
    created: int = field(factory=lambda: int(time.time()))

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return a `chat.completion`.

        Raises:
            ApiError: The text is not the requested JSON.
        """
        message = {"role": "assistant", "content": text, **_reasoning(end.reasoning)}
        if end.tool_calls:
            message |= {"content": text or None, "tool_calls": list(end.tool_calls)}
        elif self.checks_json:
            parse_json(text)
        return self.build_document(message, end.reason, end)

    def build_document(self, message: Document, reason: str, end: GenerationEnd) -> Document:
        """Return a `chat.completion` with any message."""
        choice = _choice("message", message, reason)
        return {**self._head("chat.completion"), "choices": [choice], "usage": build_usage(end)}

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield a `chat.completion.chunk` with the role."""
        yield self.build_chunk({"role": "assistant", "content": ""})

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield a `chat.completion.chunk` with a piece."""
        delta = {"content": piece} if isinstance(piece, str) else _reasoning(piece.text)
        yield self.build_chunk(delta)

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield the tool calls, if any, a chunk with the end, and one with the usage."""
        if end.tool_calls:
            yield self.build_chunk({"tool_calls": _number_calls(end.tool_calls)})
        # As vLLM does, which the service uses: some clients need a content in each chunk.
        yield self.build_chunk({"content": ""}, end.reason)
        if self.includes_usage:
            usage = build_usage(end)
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def build_chunk(self, delta: Document, reason: str | None = None) -> Document:
        """Return a `chat.completion.chunk` with any delta."""
        choices = [_choice("delta", delta, reason)]
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def _head(self, kind: str) -> Document:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@frozen
class CompletionDialect:
    """Completions of a prompt: `choices` with a text."""

    model: str
    includes_usage: bool = True
    id: str = field(factory=lambda: f"cmpl-{uuid4()}")
    created: int = field(factory=lambda: int(time.time()))

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return a `text_completion`."""
        choice = _choice("text", text, end.reason)
        return {**self._head(), "choices": [choice], "usage": build_usage(end)}

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield nothing."""
        yield from ()

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield a `text_completion` with a piece of text; its form has no place for reasoning."""
        if isinstance(piece, str):
            yield {**self._head(), "choices": [_choice("text", piece, None)]}

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield an event with the end, and one with the usage."""
        yield {**self._head(), "choices": [_choice("text", "", end.reason)]}
        if self.includes_usage:
            yield {**self._head(), "choices": [], "usage": build_usage(end)}

    def _head(self) -> Document:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
        }


@frozen
class ResponsesDialect:
    """OpenAI's Responses: `output` with a message. It is never streamed, as at the service."""

    model: str

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return a `response`."""
        is_complete = end.reason == "stop"
        status = "completed" if is_complete else "incomplete"
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }
        return {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "error": None,
            "incomplete_details": None if is_complete else {"reason": "max_output_tokens"},
            "model": self.model,
            "output": [*_reasoning_items(end.reasoning), message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": end.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": end.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens or 0},
                "total_tokens": end.prompt_tokens + end.completion_tokens,
            },
        }


@frozen
class NativeToolDialect:
    """A tool call in Workers AI's own form."""

    tool: str
    id: str = field(factory=lambda: f"call_{uuid4().hex}")

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return the call with its arguments as an object.

        Raises:
            ApiError: The arguments are not complete.
        """
        call = {"name": self.tool, "arguments": _parse_arguments(text, end)}
        rest = {**_reasoning(end.reasoning), "usage": build_usage(end)}
        return {"response": None, "tool_calls": [call], **rest}

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield the beginning of the call."""
        yield {"tool_calls": [_begin_call(self.id, self.tool)]}

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield a piece of the arguments, or of the reasoning before them."""
        if isinstance(piece, Reasoning):
            yield _reasoning(piece.text)
        else:
            yield {"tool_calls": [_continue_call(piece)]}

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield an event with the end and the usage."""
        reason = _end_call(end)
        yield {"response": "", "finish_reason": reason, "usage": build_usage(end)}


@frozen
class ChatToolDialect:
    """A tool call in the form of chat completions."""

    chat: ChatDialect
    tool: str
    id: str = field(factory=lambda: f"call_{uuid4().hex}")

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return a `chat.completion` with the call. Raises like `NativeToolDialect`."""
        _parse_arguments(text, end)
        function = {"name": self.tool, "arguments": text}
        calls = [{"id": self.id, "type": "function", "function": function}]
        reasoning = _reasoning(end.reasoning)
        message = {"role": "assistant", "content": None, **reasoning, "tool_calls": calls}
        return self.chat.build_document(message, "tool_calls", end)

    def build_first_chunks(self) -> Iterator[Document]:
        """Yield a chunk with the beginning of the call."""
        call = _begin_call(self.id, self.tool)
        yield self.chat.build_chunk({"role": "assistant", "content": None, "tool_calls": [call]})

    def build_chunks(self, piece: Piece) -> Iterator[Document]:
        """Yield a chunk with a piece of the arguments, or of the reasoning before them."""
        if isinstance(piece, Reasoning):
            yield from self.chat.build_chunks(piece)
        else:
            yield self.chat.build_chunk({"tool_calls": [_continue_call(piece)]})

    def build_last_chunks(self, end: GenerationEnd) -> Iterator[Document]:
        """Yield a chunk with the end, and one with the usage."""
        yield from self.chat.build_last_chunks(evolve(end, reason=_end_call(end)))


def _decode_call(call: Document) -> Document:
    """Return a call in Workers AI's form, with decoded arguments."""
    function = call["function"]
    return {"name": function["name"], "arguments": parse_json(function["arguments"])}


def _number_calls(calls: Sequence[Document]) -> list[Document]:
    return [{"index": index, **call} for index, call in enumerate(calls)]


def _begin_call(call_id: str, name: str) -> Document:
    function = {"name": name, "arguments": ""}
    return {"id": call_id, "type": "function", "index": 0, "function": function}


def _continue_call(piece: str) -> Document:
    return {"index": 0, "function": {"arguments": piece}}


def _end_call(end: GenerationEnd) -> str:
    return "tool_calls" if end.reason == "stop" else end.reason


def _parse_arguments(text: str, end: GenerationEnd) -> Any:
    if end.reason == "length":
        raise errors.truncated_call(end.completion_tokens)
    return parse_json(text)


def parse_json(text: str) -> Any:
    """Parse a text that must be JSON.

    Raises:
        ApiError: It is not.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise errors.json_mode_failed() from exc


def build_usage(end: GenerationEnd) -> dict[str, Any]:
    """Return the token counts with Workers AI's names, which are also those of completions."""
    usage: dict[str, Any] = {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }
    if end.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": end.reasoning_tokens}
    return usage


def _reasoning(text: str) -> dict[str, Any]:
    """Return the field for reasoning, if there is any.

    Source: github.com/cloudflare/ai, workers-ai-provider, stream-text.test.ts. Some models of the
    service name it `reasoning`; clients read both.
    """
    return {"reasoning_content": text} if text else {}


def _reasoning_items(text: str) -> list[Document]:
    """Return the item for reasoning in the output of Responses, if there is any."""
    if not text:
        return []
    part = {"type": "reasoning_text", "text": text}
    return [{"id": f"rs_{uuid4().hex}", "type": "reasoning", "summary": [], "content": [part]}]


def _choice(name: str, content: str | Document | Sequence[Any], reason: str | None) -> Document:
    return {"index": 0, name: content, "logprobs": None, "finish_reason": reason}
