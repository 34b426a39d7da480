"""Random responses: documented bodies, changed by structure and by bytes, in broken HTTP.

Everything comes from one `random.Random`, so that a seed gives the same response on every machine.
"""

import copy
import gzip
import json
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from attrs import frozen

Samples = Sequence[bytes]
"""Bodies: JSON documents, event streams, or other bytes."""


@frozen
class RawReply:
    """One response, as written to the socket."""

    parts: tuple[bytes, ...]
    """Written one after another, with a turn of the loop in between."""
    closes: bool
    """Whether the connection is closed after it. It is if the framing is wrong."""

    @property
    def raw(self) -> bytes:
        """All bytes."""
        return b"".join(self.parts)


def build_replies(random: Random, fitting: Samples, others: Samples) -> list[RawReply]:
    """Build the responses to the requests of one call; the last one is repeated."""
    return [
        _build_reply(random, _build_body(random, fitting, others))
        for _ in range(random.choice((1, 1, 2, 3)))
    ]


# Bodies

_ENVELOPE: Final = '{"result":%s,"success":true,"errors":[],"messages":[]}'


def _build_body(random: Random, fitting: Samples, others: Samples) -> bytes:
    samples = fitting if random.random() < 0.85 else others
    body = random.choice(samples)
    if random.random() < 0.05:
        body = random.randbytes(random.randrange(200))
    if b"data:" in body[:2000]:
        body = _change_stream(random, body)
    else:
        body = _change_document(random, body)
    for _ in range(random.choice((0, 0, 0, 0, 0, 1, 2, 4))):
        body = _change_bytes(random, body)
    return body


def _change_document(random: Random, body: bytes) -> bytes:
    try:
        document = _parse(body)
    except ValueError:
        return body
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        document = _change_value(random, document)
    is_bare = not (isinstance(document, dict) and {"result", "success"} & document.keys())
    text = _write(document)
    if is_bare and random.random() < 0.85:
        text = _ENVELOPE % text
    return text.encode("utf-8", "surrogatepass")


def _parse(data: bytes) -> Any:
    if data.count(b"[") > 500:
        raise ValueError("this may be too deep for Python's parser")
    return json.loads(data)


def _change_stream(random: Random, body: bytes) -> bytes:
    end = random.choice((b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"))
    events = [event for event in body.split(b"\n\n") if event]
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        at = random.randrange(len(events)) if events else 0
        match random.randrange(7):
            case 0 if events:
                del events[at]
            case 1 if events:
                events.insert(at, random.choice(events))
            case 2:
                events.insert(at, random.choice(_ODD_EVENTS))
            case 3 if len(events) > 1:
                random.shuffle(events)
            case _ if events:
                events[at] = _change_event(random, events[at])
            case _:
                pass
    return end.join(events) + random.choice((end, end, end, b""))


def _change_event(random: Random, event: bytes) -> bytes:
    head, colon, data = event.partition(b"data:")
    try:
        document = _parse(data)
    except ValueError:
        return event
    text = _write(_change_value(random, document)).encode("utf-8", "surrogatepass")
    return head + colon + b" " + text


_ODD_EVENTS: Final = (
    b": keep-alive",
    b":",
    b"data",
    b"data:",
    b"data: ",
    b"data: {}",
    b"data: []",
    b"data: null",
    b"data: NaN",
    b'data: ""',
    b"data: 1\ndata: 2",
    b'data: {"response":\ndata: "two lines"}',
    b"data: [DONE]",
    b"[DONE]",
    b"event: error\ndata: no",
    b'event: error\ndata: {"errors":[{"code":3040,"message":"busy"}]}',
    b'event: response.completed\ndata: {"type":"response.completed","response":null}',
    b'data: {"errors":[{"code":3036,"message":"used up"}],"success":false}',
    b'{"errors":[{"message":"AiError: no","code":3007}],"success":false,"result":{}}',
    b'data: {"error":{"message":"no","code":429}}',
    b"id: 1\x00\nretry: 99999999999999999999",
    b"id: 7\nevent: \ndata: {}",
    b"\xef\xbb\xbfdata: {}",
    b"data: \xff\xfe",
    b"data: " + b"[" * 3000,
    b"data: " + b"[" * 600 + b"]" * 600,
    b'data: {"choices":[{"index":99999999999,"delta":{"content":"a"}}]}',
    b'data: {"tool_calls":[{"index":-1,"function":{"name":null,"arguments":{}}}]}',
)


# Changes by structure

_RAW: Final = "\x01raw:"
"""Starts a text that is written as it is: JSON that no Python value gives."""

_ODD_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "a",
    "null",
    "true",
    "1",
    "1e9",
    "NaN",
    "\x00",
    "\x1b[31m",
    "é\U0001f600",
    "\ud83d",
    "\ude00 and \ud83d",
    "{",
    "{}",
    "[" * 2000,
    "[" * 1200 + "]" * 1200,
    '{"a":' * 300 + "1" + "}" * 300,
    '{"name":"add","arguments":{"a":1,"b":"\\ud800"}}',
    "<tool_call>{",
    "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59.999999999Z",
    "0000-00-00",
    "data:image/png;base64,iVBORw0KGgo=",
    "data:;base64,%%%",
    "http://127.0.0.1:1/a.png",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [{}],
    {"a": {"b": [1, "2", None]}},
    f"{_RAW}1e999",
    f"{_RAW}-1e999",
    f"{_RAW}{'9' * 5000}",
    f"{_RAW}0.{'3' * 400}",
    f"{_RAW}1E+2",
    f'{_RAW}"\\ud800\\u0000"',
    f'{_RAW}{{"a":1,"a":2}}',
    f"{_RAW}{'[' * 400}{']' * 400}",
    f"{_RAW}{'[' * 5000}{']' * 5000}",
    f"{_RAW}{'[' * 100_000}",
)


def _odd_value(random: Random) -> Any:
    # A copy, because it may be changed in turn.
    return copy.deepcopy(random.choice(_ODD_VALUES))


def _write(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False)
    while (start := text.find('"\\u0001raw:')) >= 0:
        # The text of a raw value is itself JSON inside a JSON string.
        value, end = json.JSONDecoder().raw_decode(text, start)
        text = text[:start] + value.removeprefix(_RAW) + text[end:]
    return text


def _change_value(random: Random, value: Any) -> Any:
    """Change *value* at one random place; the deeper, the less likely is the outside."""
    inside = isinstance(value, list | dict) and value and random.random() < 0.8
    if inside and isinstance(value, list):
        at = random.randrange(len(value))
        value[at] = _change_value(random, value[at])
        return value
    if inside:
        key = random.choice(list(value))
        value[key] = _change_value(random, value[key])
        return value
    if isinstance(value, dict) and value and random.random() < 0.6:
        return _change_keys(random, value)
    if isinstance(value, list) and value and random.random() < 0.6:
        return _change_items(random, value)
    match random.randrange(10):
        case 0:
            return [value]
        case 1:
            return {"value": value}
        case 2:
            return json.dumps(value)[:100_000]
        case 3 if isinstance(value, str):
            at = random.randrange(len(value) + 1)
            return value[:at] + str(random.choice(_ODD_VALUES)).removeprefix(_RAW) + value[at:]
        case 4 if isinstance(value, int | float) and not isinstance(value, bool):
            return random.choice((-value, value * 2, str(value)[:99], f"{_RAW}{value}.0"))
        case _:
            return _odd_value(random)


def _change_keys(random: Random, value: dict[str, Any]) -> dict[str, Any]:
    key = random.choice(list(value))
    match random.randrange(5):
        case 0:
            del value[key]
        case 1:
            value[random.choice(("", "\x00", "\ud800", key.upper(), f"{key}s"))] = value.pop(key)
        case 2:
            other = random.choice(list(value))
            value[key], value[other] = value[other], value[key]
        case 3:
            value[random.choice(_KEYS)] = _odd_value(random)
        case _:
            value[key] = copy.deepcopy(value)
    return value


_KEYS: Final = (
    "choices",
    "code",
    "content",
    "cursor",
    "data",
    "delta",
    "error",
    "errors",
    "external_reference",
    "finish_reason",
    "id",
    "index",
    "message",
    "name",
    "next_page_token",
    "parsed",
    "request_id",
    "response",
    "responses",
    "result",
    "result_info",
    "shape",
    "status",
    "success",
    "tool_calls",
    "total_pages",
    "type",
    "usage",
    "value",
)


def _change_items(random: Random, value: list[Any]) -> list[Any]:
    at = random.randrange(len(value))
    match random.randrange(5):
        case 0:
            del value[at]
        case 1:
            value.insert(at, _odd_value(random))
        case 2:
            value *= random.choice((2, 3, 50))
        case 3:
            random.shuffle(value)
        case _:
            value[at] = value[0]
    return value


# Changes by bytes

_TOKENS: Final = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b'"', b"\\", b"\\u", b"\\ud83d",
    b"[", b"]", b"{", b"}", b",", b":", b"0", b"-", b"e9", b"NaN", b"Infinity", b"null", b"//",
    b"\n", b"\r", b"\r\n", b"\n\n", b"data:", b"event: error\n", b"id:\x00", b"[DONE]", b"\t",
    b" " * 70_000, b"[" * 2000, b"{\"a\":" * 2000, b"\xe2\x80\xa8",
)  # fmt: skip


def _change_bytes(random: Random, body: bytes) -> bytes:
    at = random.randrange(len(body) + 1)
    end = min(len(body), at + random.choice((1, 1, 2, 8, 64)))
    match random.randrange(6):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + body[end:]
        case 2:
            return body[:at] + random.choice(_TOKENS) + body[at:]
        case 3:
            return body[:at] + body[at:end] * 2 + body[end:]
        case 4:
            return body[:at] + random.randbytes(end - at) + body[end:]
        case _:
            return body[:at] + random.choice(_TOKENS) + body[end:]


# HTTP

_STATUSES: Final = (
    100, 101, 103, 201, 202, 204, 206, 299, 301, 302, 304, 400, 401, 402, 403, 404, 405, 408,
    409, 410, 413, 415, 418, 422, 424, 429, 498, 499, 500, 501, 502, 503, 504, 520, 522, 524,
    529, 530, 599, 600, 999, 0,
)  # fmt: skip

_REASONS: Final = (b" OK", b" OK", b"", b" ", b" \xe9\xff", b" \x00", b" " + b"x" * 9000)

_KINDS: Final = (
    b"application/json", b"application/json; charset=utf-8", b"application/problem+json",
    b"application/json; charset=utf-16", b"application/json; charset=no-such", b"text/plain",
    b"text/html; charset=\xff", b"text/event-stream", b"TEXT/Event-Stream; charset=utf-8",
    b"application/octet-stream", b"audio/mpeg", b"audio/wav; rate=1", b"image/png",
    b"image/svg+xml", b"multipart/mixed; boundary=a", b"/", b"", b"json", b"application/",
    b";;;", b"video/mp4", b"application/json, text/event-stream", b"\xff\xfe",
    b"application/x-ndjson",
)  # fmt: skip

_HEADERS: Final = (
    b"cf-ray: 8f1a-AMS", b"cf-ray: \xff\xfe", b"cf-ray: " + b"x" * 3000, b"Retry-After: 0",
    b"Retry-After: -1", b"Retry-After: 1e400", b"Retry-After: nan", b"Retry-After: soon",
    b"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", b"Retry-After: Mon, 0 Foo 0000 99:99:99 GMT",
    b"Date: yesterday", b"Ratelimit: \"default\";r=-1;t=nan", b"Ratelimit: ;;;",
    b"Ratelimit: a=\xff", b"Ratelimit-Policy: \"x\";q=1e9;w=0", b"cf-ai-neurons: NaN",
    b"cf-ai-neurons: 1e999", b"cf-ai-neurons: -5", b"cf-ai-neurons: 0x10", b"cf-ai-req-id: \x01",
    b"cf-aig-step: 1e3", b"cf-aig-cache-status: HIT",
    b"Set-Cookie: a=b; Domain=.example; Max-Age=nope", b"Location: https://other.example/",
    b"Location: //[::1", b"Link: <\xff>", b"X: " + b"y" * 9000,
    b"Content-Disposition: attachment; filename*=UTF-8''%ff", b"Content-Range: bytes 0-1/2",
    b"Content-Type: text/plain", b"Alt-Svc: h3=\":443\"", b"Trailer: x", b"Upgrade: websocket",
)  # fmt: skip


def _build_reply(random: Random, body: bytes) -> RawReply:
    status = random.choice(_STATUSES) if random.random() < 0.2 else 200
    kind = b"text/event-stream" if b"data:" in body[:2000] else b"application/json"
    if random.random() < 0.1:
        kind = random.choice(_KINDS)
    headers = [b"Content-Type: " + kind] if random.random() < 0.98 else []
    if random.random() < 0.2:
        headers += random.choices(_HEADERS, k=random.choice((1, 1, 2, 5)))
    if random.random() < 0.06:
        encoding, body = _encode(random, body)
        headers.append(b"Content-Encoding: " + encoding)
    framing = random.choice(_FRAMINGS) if random.random() < 0.3 else "length"
    framed, body = _frame(random, framing, body)
    reason = random.choice(_REASONS) if random.random() < 0.1 else b" OK"
    line = b"HTTP/1.1 %03d%b" % (status, reason)
    if framing == "broken" and random.random() < 0.5:
        line = random.choice(_LINES)
    reply = b"\r\n".join([line, *headers, *framed, b"", body])
    if framing == "broken":
        reply = _change_bytes(random, reply)
    # A status without a body, or one before the final response, leaves bytes in the connection.
    closes = framing not in ("length", "chunked") or status < 200 or status in (204, 304)
    parts = tuple(_cut(random, reply)) if random.random() < 0.5 else (reply,)
    return RawReply(parts, closes)


def _frame(random: Random, framing: str, body: bytes) -> tuple[list[bytes], bytes]:
    """The header that says how long the body is, and the body as it is sent."""
    match framing:
        case "length" | "broken":
            return [b"Content-Length: %d" % len(body)], body
        case "too short":
            size = len(body) + random.choice((1, 1000, 10**9, 10**30))
            return [b"Content-Length: %d" % size], body
        case "too long":
            return [b"Content-Length: %d" % random.randrange(len(body) + 1)], body
        case "close":
            return [], body
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in _cut(random, body) if part]
    body = b"".join([*chunks, b"0\r\n\r\n"])
    if framing == "chunked, cut":
        body = body[: random.randrange(len(body))]
    return [b"Transfer-Encoding: chunked"], body


_LINES: Final = (
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200",
    b"HTTP/1.1",
    b"",
    b"SSH-2.0-x",
    b"GET / HTTP/1.1",
)

_FRAMINGS: Final = (
    "chunked",
    "chunked",
    "close",
    "chunked, cut",
    "too short",
    "too long",
    "broken",
)


_BOMB: Final = gzip.compress(bytes(20 * 2**20), 1)


def _encode(random: Random, body: bytes) -> tuple[bytes, bytes]:
    """Encode a body, or only claim it."""
    match random.randrange(7):
        case 0:
            return b"gzip", gzip.compress(body, 1)
        case 1:
            return b"deflate", zlib.compress(body, 1)
        case 2:
            return b"gzip", gzip.compress(body, 1)[: random.randrange(20, 60)]
        case 3:
            return b"gzip", _BOMB
        case 4:
            return random.choice((b"br", b"zstd", b"gzip")), body
        case 5:
            return random.choice((b"compress", b"no-such", b"\xff", b"gzip, gzip", b"")), body
        case _:
            return b"identity", body


def _cut(random: Random, data: bytes) -> list[bytes]:
    """Cut *data* at a few random places."""
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 1, 2, 5))))
    return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]
