"""The formats in which a relay writes an answer: server-sent events, lines of JSON, the AI SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Protocol

from cfai._types.json import dumps_decoded

_EVENT_STREAM = "text/event-stream; charset=utf-8"
_KEEP_ALIVE_COMMENT = b": keep-alive\n\n"

_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "error": "error",
}
"""The service's finish reasons in the AI SDK's words."""


class RelayFormat(Protocol):
    """Writes frames as bytes. It may keep a state: each relay has a format of its own."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the response: its type, and what else the protocol asks for."""

    @property
    def preamble(self) -> bytes:
        """Bytes before the first frame."""

    @property
    def keep_alive(self) -> bytes:
        """Bytes that clients ignore, to send during silence."""

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one frame; *number* counts from 1."""


class SseFormat:
    """Events for an `EventSource`, which reconnects after *retry* milliseconds."""

    headers: Mapping[str, str] = {"content-type": _EVENT_STREAM}
    keep_alive = _KEEP_ALIVE_COMMENT

    def __init__(self, retry: int | None) -> None:
        self.preamble: bytes = b"" if retry is None else b"retry: %d\n\n" % retry

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one event."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), _json_line(data))


class NdjsonFormat:
    """Lines of JSON, with the frame's name as `type`. Clients skip empty lines."""

    headers: Mapping[str, str] = {"content-type": "application/x-ndjson"}
    preamble = b""
    keep_alive = b"\n"

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one line."""
        return _json_line({"type": name, **data}) + b"\n"


class AiSdkFormat:
    """Parts of the AI SDK's UI message stream, version 1, for one message.

    Source: AI SDK docs, AI SDK UI, "Stream Protocols"; `uiMessageChunkSchema` of npm's ai 6.0.
    """

    headers: Mapping[str, str] = {
        "content-type": _EVENT_STREAM,
        "x-vercel-ai-ui-message-stream": "v1",
    }
    preamble = b'data: {"type":"start"}\n\n'
    keep_alive = _KEEP_ALIVE_COMMENT

    def __init__(self) -> None:
        self._in_step = False
        self._open_kind: str | None = None
        """The part that is being written, "text" or "reasoning", if any."""
        self._parts = 0
        self._usage: Any = None

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write the parts of one frame. Frames that the protocol does not have are empty."""
        match name:
            case "text" | "reasoning":
                parts = self._write(name, data["text"])
            case "tool_call":
                parts = self._call(data)
            case "tool_error" if "arguments" in data:
                parts = self._call(data)
            case "tool_result" | "tool_error":
                parts = self._result(data)
            case "step":
                parts = chain(self._close(), self._end_step())
            case "usage":
                self._usage = data
                return b""
            case "done" | "error":
                parts = self._end(data)
            case _:
                return b""
        frame = b"".join([b"data: %b\n\n" % _json_line(part) for part in parts])
        return frame + b"data: [DONE]\n\n" if name in ("done", "error") else frame

    def _write(self, kind: str, text: str) -> Iterator[dict[str, Any]]:
        yield from self._begin_step()
        if self._open_kind != kind:
            yield from self._close()
            self._open_kind = kind
            self._parts += 1
            yield {"type": f"{kind}-start", "id": str(self._parts)}
        yield {"type": f"{kind}-delta", "id": str(self._parts), "delta": text}

    def _call(self, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._begin_step()
        yield from self._close()
        self._parts += 1
        # Not every model gives its calls an id.
        call_id = call["id"] or f"call-{self._parts}"
        part = {"toolCallId": call_id, "toolName": call["name"], "input": call["arguments"]}
        if "message" in call:
            yield {"type": "tool-input-error", **part, "errorText": call["message"]}
        else:
            yield {"type": "tool-input-available", **part}

    def _result(self, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        call_id = result["id"]
        if "output" in result:
            part = {"type": "tool-output-available", "output": result["output"]}
        else:
            part = {"type": "tool-output-error", "errorText": result["message"]}
        yield {**part, "toolCallId": call_id}

    def _end(self, data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        # As the AI SDK's own server does, a text that was cut is not ended.
        reason = data.get("finish_reason")
        if reason == "cancelled":
            yield {"type": "abort"}
            return
        if "error" in data:
            reason = "error"
            # The part of an error has only a text. A page needs the class, to know what may help.
            details = {name: value for name, value in data.items() if name != "message"}
            yield {"type": "message-metadata", "messageMetadata": details}
            yield {"type": "error", "errorText": data["message"]}
        else:
            yield from self._close()
        yield from self._end_step()
        end: dict[str, Any] = {"type": "finish"}
        if reason is not None:
            end["finishReason"] = _FINISH_REASONS.get(reason, "other")
        if self._usage is not None:
            end["messageMetadata"] = {"usage": self._usage}
        yield end

    def _begin_step(self) -> Iterator[dict[str, Any]]:
        if not self._in_step:
            self._in_step = True
            yield {"type": "start-step"}

    def _end_step(self) -> Iterator[dict[str, Any]]:
        if self._in_step:
            self._in_step = False
            yield {"type": "finish-step"}

    def _close(self) -> Iterator[dict[str, Any]]:
        """End the text or the reasoning that is being written."""
        if self._open_kind is not None:
            yield {"type": f"{self._open_kind}-end", "id": str(self._parts)}
            self._open_kind = None


def _json_line(data: Mapping[str, Any]) -> bytes:
    """JSON without any character that a client may take for the end of a line.

    JSON escapes CR and LF. Clients that split lines like Python's `str.splitlines`, such as httpx's
    `aiter_lines`, also split at U+2028, U+2029 and U+0085.
    """
    text = dumps_decoded(data)
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text.replace(b"\xc2\x85", b"\\u0085") if b"\xc2\x85" in text else text
