"""Recorded streams of every dialect of Workers AI's models, and the text of each.

The bytes are those of Cloudflare's own tests and of users' reports, each with its source; where a
source shows single events, a beginning or an end mark in the usual form was put around them.
"""

from typing import NamedTuple

from cfai.tasks import Text, ToolCall, Usage


class Dialect(NamedTuple):
    stream: bytes
    says: Text
    """The whole answer."""
    tokens: int
    """How many of its events become tokens."""
    ended: bool = True
    """Whether it has an end mark or a finish reason."""


def events(*data: str) -> bytes:
    return "".join(f"data: {one}\n\n" for one in data).encode()


DONE = b"data: [DONE]\n\n"

# github.com/cloudflare/ai, packages/workers-ai-provider/test: the stream of most of its tests.
NATIVE = Dialect(
    events('{"response":"Hello chunk1"}', '{"response":"Hello chunk2"}') + DONE,
    Text("Hello chunk1Hello chunk2"),
    2,
)

# The same tests. `p` is padding that hides the length of a text.
PADDING = Dialect(
    events(
        '{"response":"Hi","p":"abcdefghijklm"}',
        '{"tool_calls":[],"p":"abdefgh"}',
        '{"response":"","p":"abcd"}',
        '{"response":null}',
    )
    + DONE,
    Text("Hi"),
    1,
)

# The same tests: a finish reason beside text, and one alone.
FINISH = Dialect(
    events('{"response":"Hello"}', '{"response":" world","finish_reason":"stop"}') + DONE,
    Text("Hello world", finish_reason="stop"),
    2,
)
BARE_FINISH = Dialect(
    events('{"response":""}', '{"finish_reason":"tool_calls"}') + DONE,
    Text(finish_reason="tool_calls"),
    1,
)

# The same tests: a call in one event.
CALL_WHOLE = Dialect(
    events(
        '{"tool_calls":[{"id":"call123","type":"function","index":0,"function":'
        '{"name":"get_weather","arguments":"{\\"location\\": \\"London\\"}"}}]}',
        '{"finish_reason":"tool_calls"}',
    )
    + DONE,
    Text(
        tool_calls=(ToolCall("get_weather", {"location": "London"}, "call123"),),
        finish_reason="tool_calls",
    ),
    2,
)

# The same tests: a call in pieces, and the sentinel of nulls (without an index) that ends it.
CALL_IN_PIECES = Dialect(
    events(
        '{"tool_calls":[{"id":"call123","type":"function","index":0,'
        '"function":{"name":"get_weather","arguments":"{\\"loc"}}]}',
        '{"tool_calls":[{"index":0,"function":{"arguments":"ation\\": \\""}}]}',
        '{"tool_calls":[{"index":0,"function":{"arguments":"London\\"}"}}]}',
        '{"tool_calls":[{"id":null,"type":null,"function":{"name":null,"arguments":""}}]}',
        '{"finish_reason":"tool_calls"}',
    )
    + DONE,
    Text(
        tool_calls=(ToolCall("get_weather", {"location": "London"}, "call123"),),
        finish_reason="tool_calls",
    ),
    4,
)

# github.com/cloudflare/ai, packages/tanstack-ai/test/tool-call-streaming.test.ts, line 283: the
# flat form, whose arguments are an object.
CALL_FLAT = Dialect(
    events(
        '{"response":"","tool_calls":[{"name":"search_events","arguments":'
        '{"date_from":"2026-05-05","date_to":"2026-05-05"}}]}'
    )
    + DONE,
    Text(
        tool_calls=(
            ToolCall("search_events", {"date_from": "2026-05-05", "date_to": "2026-05-05"}),
        )
    ),
    1,
)

# github.com/cloudflare/ai, issue 523: the arguments come before the name.
ARGUMENTS_FIRST = Dialect(
    events(
        '{"tool_calls":[{"index":0,"function":'
        '{"arguments":"{\\"date_from\\": \\"2026-05-05\\""}}]}',
        '{"tool_calls":[{"id":"call1","index":0,"type":"function",'
        '"function":{"name":"search_events","arguments":"}"}}]}',
    )
    + DONE,
    Text(tool_calls=(ToolCall("search_events", {"date_from": "2026-05-05"}, "call1"),)),
    2,
)


def _completion(choices: str, prompt: int, total: int) -> str:
    return (
        '{"id":"chatcmpl-edc84","object":"chat.completion.chunk","created":1751570976,'
        f'"model":"@cf/qwen/qwen3-30b-a3b-fp8","choices":{choices},'
        f'"usage":{{"prompt_tokens":{prompt},"total_tokens":{total},'
        f'"completion_tokens":{total - prompt}}}}}'
    )


def _choice(delta: str, finish: str = '"finish_reason":null') -> str:
    return f'[{{"index":0,"delta":{delta},"logprobs":null,{finish}}}]'


# github.com/cloudflare/ai, workers-ai-provider, stream-text.test.ts: reasoning, counts that are
# each the sum so far, an event without choices, and an end mark without `data:`.
CHAT_COMPLETIONS = Dialect(
    events(
        _completion(_choice('{"role":"assistant","content":""}'), 13, 13),
        _completion(_choice('{"reasoning_content":"Okay"}'), 13, 16),
        _completion(_choice('{"reasoning_content":", so"}'), 13, 17),
        _completion(_choice('{"content":"Hello"}'), 13, 18),
        _completion(
            _choice('{"content":"!"}', '"finish_reason":"stop","stop_reason":null'), 13, 19
        ),
        _completion("[]", 13, 19),
    )
    + b"[DONE]",
    Text(
        "Hello!",
        reasoning="Okay, so",
        finish_reason="stop",
        usage=Usage(13, 6, 19),
    ),
    6,
)

# The same package: the other name of the key.
REASONING = Dialect(
    events(
        '{"choices":[{"index":0,"delta":{"reasoning":"Hm"}}]}',
        '{"choices":[{"index":0,"delta":{"content":"Yes"},"finish_reason":"stop"}]}',
    )
    + DONE,
    Text("Yes", reasoning="Hm", finish_reason="stop"),
    2,
)

# github.com/cloudflare/ai, issue 651, live 2026-09-02: content as a number, and counts that are
# each a share. The first event has the prompt's, in the same form.
NUMBERS = Dialect(
    events(
        '{"id":"id-1788378160014","created":1788378160,'
        '"model":"@cf/meta/llama-3.3-70b-instruct-fp8-fast","object":"chat.completion.chunk",'
        '"choices":[{"index":0,"delta":{"role":"assistant","content":"$0."}}],'
        '"usage":{"prompt_tokens":39,"completion_tokens":0,"total_tokens":39,'
        '"prompt_tokens_details":{"cached_tokens":0},"neurons":1.04}}',
        *[
            '{"id":"id-1788378160014","created":1788378160,'
            '"model":"@cf/meta/llama-3.3-70b-instruct-fp8-fast","object":"chat.completion.chunk",'
            f'"choices":[{{"index":0,"delta":{{"content":{content}}}}}],'
            '"usage":{"prompt_tokens":0,"completion_tokens":1,"total_tokens":1,'
            '"prompt_tokens_details":{"cached_tokens":0},"neurons":0.20480532944202423}}'
            for content in ("6", "0", '"05"')
        ],
    )
    + DONE,
    Text(
        "$0.6005",
        usage=Usage(39, 3, 42, cached_tokens=0, neurons=1.04 + 3 * 0.20480532944202423),
    ),
    4,
)

# github.com/cloudflare/ai, gateway-core, processText and changelog 3.0.5: native numbers.
NATIVE_NUMBERS = Dialect(
    events(
        '{"response":"$0."}', '{"response":0}', '{"response":5}', '{"response":-1.5}',
        '{"response":true}',
    )
    + DONE,
    Text("$0.05-1.5true"),
    5,
)  # fmt: skip

# github.com/vercel/ai, issue 4031: a choice without an index.
NO_INDEX = Dialect(
    events(
        '{"id":"id-1733737971956","object":"chat.completion.chunk","created":1733737971,'
        '"model":"@cf/meta/llama-3.1-8b-instruct-fast","choices":[{"delta":{"content":"**"}}]}'
    )
    + DONE,
    Text("**"),
    1,
)

# github.com/cloudflare/ai, stream-text.test.ts and changelog 3.1.14: Kimi's ids.
KIMI = Dialect(
    events(
        '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"type":"function",'
        '"id":"functions.list_toolbox_tools:0","function":'
        '{"name":"list_toolbox_tools","arguments":""}}]}}]}',
        '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,'
        '"function":{"arguments":"{}"}}]}}]}',
        '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"type":"function",'
        '"id":"functions.list_toolbox_tools:1","function":'
        '{"name":"list_toolbox_tools","arguments":"{\\"all\\":true}"}}]}}]}',
        '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
    )
    + DONE,
    Text(
        tool_calls=(
            ToolCall("list_toolbox_tools", {}, "functions.list_toolbox_tools:0"),
            ToolCall("list_toolbox_tools", {"all": True}, "functions.list_toolbox_tools:1"),
        ),
        finish_reason="tool_calls",
    ),
    4,
)

# github.com/cloudflare/langchain-cloudflare, chat_models.py: several chunks in one event.
STREAMED_DATA = Dialect(
    events(
        '{"streamed_data":[{"response":"Hel"},{"response":"lo",'
        '"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}]}',
        '{"streamed_data":[]}',
    )
    + DONE,
    Text("Hello", usage=Usage(4, 2, 6)),
    1,
)

# github.com/cloudflare/langchain-cloudflare, `_streaming_safe_usage` and its tests: shares.
SHARES = Dialect(
    events(
        '{"response":"","usage":{"prompt_tokens":39,"completion_tokens":0,"total_tokens":39,'
        '"neurons":1.04}}',
        '{"response":"a","usage":{"prompt_tokens":0,"completion_tokens":1,"total_tokens":1,'
        '"neurons":0.2048}}',
        '{"response":"b","usage":{"prompt_tokens":0,"completion_tokens":1,"total_tokens":1,'
        '"neurons":0.2048}}',
    )
    + DONE,
    Text("ab", usage=Usage(39, 2, 41, neurons=1.04 + 0.2048 + 0.2048)),
    3,
)

# Event names of github.com/cloudflare/workerd, types/defines/ai.d.ts.
RESPONSES = Dialect(
    b"event: response.created\n"
    b'data: {"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}\n\n'
    b"event: response.reasoning_text.delta\n"
    b'data: {"type":"response.reasoning_text.delta","delta":"Hm"}\n\n'
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n'
    b"event: response.completed\n"
    b'data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","usage":'
    b'{"input_tokens":5,"output_tokens":2,"total_tokens":7,'
    b'"output_tokens_details":{"reasoning_tokens":1}}}}\n\n',
    Text("Hello", reasoning="Hm", finish_reason="stop", usage=Usage(5, 2, 7, None, 1)),
    3,
)

# Cloudflare docs, Workers AI changelog of 2026-02-17: `/ai/v1/chat/completions` keeps the ids of
# calls, says `tool_calls` in the last chunk, and has the finish reason on the chunk with the usage.
_CHUNK = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1771286400,'
    '"model":"@cf/zai-org/glm-4.7-flash","choices":[{"index":0,"delta":'
)
OPENAI_ROUTE = Dialect(
    events(
        _CHUNK + '{"role":"assistant","content":""},"finish_reason":null}]}',
        _CHUNK + '{"content":"Hel"},"finish_reason":null}]}',
        _CHUNK + '{"content":"lo"},"finish_reason":null}]}',
        _CHUNK + '{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,'
        '"total_tokens":11}}',
    )
    + DONE,
    Text("Hello", finish_reason="stop", usage=Usage(9, 2, 11)),
    3,
)
OPENAI_ROUTE_CALLS = Dialect(
    events(
        _CHUNK + '{"role":"assistant","content":null},"finish_reason":null}]}',
        _CHUNK + '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":'
        '{"name":"add","arguments":"{\\"a\\":"}}]},"finish_reason":null}]}',
        _CHUNK
        + '{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}]}',
        _CHUNK + '{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,'
        '"completion_tokens":7,"total_tokens":16}}',
    )
    + DONE,
    Text(
        tool_calls=(ToolCall("add", {"a": 1}, "call_1"),),
        finish_reason="tool_calls",
        usage=Usage(9, 7, 16),
    ),
    3,
)

# OpenAI's API reference, the chat completion chunk object: a model that declines.
DECLINED = Dialect(
    events(
        _CHUNK + '{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}',
        _CHUNK + '{"refusal":"I can\'t "},"finish_reason":null}]}',
        _CHUNK + '{"content":null,"refusal":"help."},"finish_reason":null}]}',
        _CHUNK + '{},"finish_reason":"stop"}]}',
    )
    + DONE,
    Text("I can't help.", finish_reason="stop"),
    3,
)


def _share(delta: str, prompt: int, completion: int) -> str:
    return (
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1791331200,'
        '"model":"@cf/google/gemma-4-26b-a4b-it","choices":'
        f'[{{"index":0,"delta":{delta},"finish_reason":null}}],"p":"abcdef","usage":'
        f'{{"prompt_tokens":{prompt},"completion_tokens":{completion},'
        f'"total_tokens":{prompt + completion}}}}}'
    )


_SHARES = [
    _share('{"role":"assistant","content":""}', 19, 0),
    _share('{"reasoning":"Hm"}', 0, 1),
    _share('{"reasoning_content":"."}', 0, 1),
    _share('{"content":"Hel"}', 0, 1),
    _share('{"content":"lo"}', 0, 1),
]
_NO_COUNTS = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],'
    '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
)
_TOTAL = (
    '{"response":"","usage":{"prompt_tokens":19,"completion_tokens":6,"total_tokens":25,'
    '"neurons":0.25}}'
)
_MIXED_SAYS = Text("Hello", reasoning="Hm.", usage=Usage(19, 6, 25, neurons=0.25))

# gemma-4 on 2026-10-07 and qwen3.8 on 2026-08-19, compiled from reports: shares beside choices,
# then a native event with the counts of the whole stream, and an event of zeros on either side.
MIXED = Dialect(events(*_SHARES, _TOTAL) + DONE, _MIXED_SAYS, 6)
ZEROS_FIRST = Dialect(events(*_SHARES, _NO_COUNTS, _TOTAL) + DONE, _MIXED_SAYS, 7)
ZEROS_LAST = Dialect(events(*_SHARES, _TOTAL, _NO_COUNTS) + DONE, _MIXED_SAYS, 7)

# JSON.stringify writes half a surrogate pair as an escape; Python's json writes NaN.
HALF_A_PAIR = Dialect(
    events(
        r'{"response":"I am happy \ud83d"}',
        r'{"response":"\ud83d\ude00"}',
        r'{"choices":[{"delta":{"content":"\\ud83d \ude00"}}]}',
    )
    + DONE,
    Text("I am happy \ufffd\U0001f600\\ud83d \ufffd"),
    3,
)
NOT_FINITE = Dialect(
    events(
        '{"choices":[{"delta":{"content":"Hel"},"logprobs":NaN}]}',
        '{"response":"lo ","score":-Infinity}',
        '{"response":NaN,"usage":{"prompt_tokens":NaN,"total_tokens":3}}',
    )
    + DONE,
    Text("Hello NaN", usage=Usage(0, 0, 3)),
    3,
)

# Not recorded; the service decodes a piece that happens to be JSON (issue 651).
DECODED = Dialect(
    events(
        '{"choices":[{"delta":{"content":"See "}}]}',
        '{"choices":[{"delta":{"content":[1]}}]}',
        '{"choices":[{"delta":{"content":{"a":1}}}]}',
        '{"response":[]}',
    )
    + DONE,
    Text('See [1]{"a":1}[]'),
    4,
)

# Not recorded: null, or an empty object, in the place of each piece and of the event itself.
NOTHING = Dialect(
    events(
        "null",
        "{}",
        '{"response":"a"}',
        '{"response":{}}',
        '{"response":null,"tool_calls":null,"usage":null}',
        '{"response":{},"reasoning":{},"tool_calls":[null,{}],"usage":{}}',
        '{"choices":[null]}',
        '{"choices":[{}]}',
        '{"choices":[{"delta":null}]}',
        '{"choices":[{"delta":{}}]}',
        '{"choices":[{"delta":{"content":{},"reasoning_content":{}}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":null}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{}}]}}]}',
        '{"streamed_data":[null,{}]}',
        '{"type":"response.output_text.delta","delta":{}}',
        '{"choices":[{"delta":{"tool_calls":'
        '[{"index":0,"id":"a","function":{"name":"f","arguments":{}}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":null}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"x\\":1}"}}]}}]}',
    )
    + DONE,
    Text("a", tool_calls=(ToolCall("f", {"x": 1}, "a"),)),
    3,
)

DIALECTS: dict[str, Dialect] = {
    "native": NATIVE,
    "padding": PADDING,
    "native finish": FINISH,
    "bare finish": BARE_FINISH,
    "call whole": CALL_WHOLE,
    "call in pieces": CALL_IN_PIECES,
    "call flat": CALL_FLAT,
    "arguments first": ARGUMENTS_FIRST,
    "chat completions": CHAT_COMPLETIONS,
    "reasoning": REASONING,
    "numbers": NUMBERS,
    "native numbers": NATIVE_NUMBERS,
    "no index": NO_INDEX,
    "kimi": KIMI,
    "streamed_data": STREAMED_DATA,
    "shares": SHARES,
    "responses": RESPONSES,
    "openai route": OPENAI_ROUTE,
    "openai route with calls": OPENAI_ROUTE_CALLS,
    "declined": DECLINED,
    "mixed": MIXED,
    "mixed, zeros first": ZEROS_FIRST,
    "mixed, zeros last": ZEROS_LAST,
    "half a surrogate pair": HALF_A_PAIR,
    "not finite": NOT_FINITE,
    "decoded pieces": DECODED,
    "pieces of nothing": NOTHING,
    # The ends.
    "no space after the colon": NATIVE._replace(stream=NATIVE.stream.replace(b": {", b":{")),
    "CRLF": NATIVE._replace(stream=NATIVE.stream.replace(b"\n", b"\r\n")),
    "end mark repeated": NATIVE._replace(stream=NATIVE.stream + DONE),
    "end mark bare": NATIVE._replace(stream=NATIVE.stream.replace(b"data: [", b"[")),
    "end mark unterminated": NATIVE._replace(stream=NATIVE.stream.rstrip()),
    "end mark missing after a finish reason": FINISH._replace(stream=FINISH.stream[: -len(DONE)]),
    "last event unterminated": FINISH._replace(stream=FINISH.stream[: -len(DONE)].rstrip()),
    "end mark missing": NATIVE._replace(stream=NATIVE.stream[: -len(DONE)], ended=False),
    "keep-alive comments": NATIVE._replace(
        stream=b": hi\n\n" + NATIVE.stream.replace(b"\n\n", b"\n\n: hi\n\n")
    ),
    "event ids": NATIVE._replace(stream=b"id: 1\nretry: 10\n" + NATIVE.stream),
}
