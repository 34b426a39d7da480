"""Events that are decoded several at once are the same as those decoded one by one.

Tokens, errors, and their order, for random streams: whole, cut anywhere, in groups of
events, event by event, and byte by byte.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from cfai._types.json import MAX_DEPTH, loads, loads_plain, loads_together
from cfai._wire.errors import error_from_event
from cfai._wire.sse import EventSplitter
from cfai._wire.tokens import read_ahead, read_token
from cfai.errors import CfaiError, DecodeError
from cfai.meta import Meta
from cfai.settings import Retries
from cfai.streaming.events import decode_events
from cfai.tasks import Usage
from cfai.testing import FakeWorkersAI
from tests.streaming.test_events import stream
from tests.wire.dialects import DIALECTS, DONE
from tests.wire.test_tokens import count_calls

USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
CALL = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}
NUMBERS = st.sampled_from([0, 1, 2.5, -1, 2**70, True, None, float("nan"), float("inf"), "1"])
TEXTS = st.text(max_size=4) | st.sampled_from(["", "[DONE]", "1],[2", "\ud83d", "\ude00", "\n"])
USAGES = st.sampled_from([USAGE, {}, None, {"neurons": 1.5}, "x"]) | st.fixed_dictionaries(
    {}, optional=dict.fromkeys([*USAGE, "neurons", "input_tokens"], NUMBERS)
)
CALLS = st.lists(
    st.sampled_from([CALL, None, {}, "x", {"function": None}, {"function": {"arguments": "2"}}])
    | st.fixed_dictionaries({}, optional={"index": NUMBERS, "name": TEXTS, "arguments": NUMBERS}),
    max_size=2,
)
REASONS = st.sampled_from([None, "stop", "length", "error", "", 6])
PIECES: dict[str, st.SearchStrategy[Any]] = {
    "reasoning": TEXTS | NUMBERS,
    "reasoning_content": TEXTS,
    "tool_calls": CALLS | st.just({}),
}
VALUES = TEXTS | NUMBERS | st.sampled_from([{}, [], {"a": 1}, ["a"]])
NATIVE = st.fixed_dictionaries(
    {},
    optional={
        "response": VALUES, "p": TEXTS, "usage": USAGES, "finish_reason": REASONS, **PIECES,
        "error": st.sampled_from([None, "no", {}]), "success": st.booleans(), "errors": CALLS,
    },
)  # fmt: skip
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "delta": st.none() | st.fixed_dictionaries({}, optional={"content": VALUES, **PIECES}),
        "finish_reason": REASONS,
        "text": TEXTS,
    },
)
CHAT = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2) | st.just(None)},
    optional={"id": TEXTS, "usage": USAGES, "error": st.none(), "response": VALUES},
)
DOCUMENTS: st.SearchStrategy[Any] = (
    NATIVE | CHAT | st.sampled_from([None, {}, [], "a", 6, {"streamed_data": [{}]}])
)
DATA = (
    DOCUMENTS.map(lambda document: json.dumps(document).encode())
    | st.sampled_from([b"", b"{", b"[DONE]", b"1],[2", b"{},{}", b'{"a":[{}', b"{}]}", b"\xff"])
    | st.sampled_from([b"[" * 300 + b"]" * 300, b'{"response":"' + b"x" * 500 + b'"}', b"7,8"])
)
EVENT = st.builds(
    lambda lead, data, end: lead + b"data: " + data + end,
    st.sampled_from([b"", b"", b"", b"event: error\n", b"id: 1\n", b": hi\n", b"retry: 1\n"]),
    DATA,
    st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n", b"\n: hi\n\n", b"\n\n\n"]),
)
STREAMS = st.lists(EVENT, max_size=12).map(b"".join)


@given(st.lists(DATA, min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_texts_decoded_together_are_those_decoded_one_by_one(texts: list[bytes]) -> None:
    """Also texts that are JSON only together, and those that hold several values."""

    def plain(text: bytes) -> Any:
        try:
            return loads_plain(text)
        except ValueError:
            return None

    single = [plain(text) for text in texts]
    together = loads_together(texts)
    assert together is None or together == single
    assert decode_events(texts) == single
    if len(texts) == 1 or None not in single:
        assert decode_events(texts) == single


def test_no_text_can_stand_for_several() -> None:
    assert loads_together([b'{"a":1},{"b":2}', b'{"x":[{}', b"{}]}"]) is None
    assert loads_together([b"1", b"[2", b"3]", b"4,5"]) is None
    assert loads_together([b"1", b"", b"2"]) is None
    assert loads_together([b"1", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH]) is not None
    assert loads_together([b"1", b"[" * 201 + b"1" + b"]" * 201]) is None


@given(DOCUMENTS)
@example({"choices": [{"delta": {"content": "a"}, "finish_reason": ""}], "usage": USAGE})
@example({"response": "a", "finish_reason": "", "usage": USAGE})
@settings(max_examples=500, deadline=None)
def test_a_token_read_ahead_is_the_one_read_in_its_turn(document: Any) -> None:
    """Or it is left for later: an error must not come before the tokens before it."""
    (token,), only_text = read_ahead([document])
    if token is None:
        return
    assert error_from_event(document, is_named_error=False, meta=Meta()) is None
    assert token == read_token(document)
    assert token.raw is document
    assert token.finish_reason != "error"
    parts = token.reasoning, token.tool_calls, token.finish_reason, token.usage
    assert not only_text or (token.text and parts == ("", (), None, None))


async def outcome(fake: FakeWorkersAI, parts: Sequence[bytes]) -> tuple[Any, ...]:
    """The tokens of a stream and its end: an answer, or an error and its message."""
    fake.says(*parts, content_type="text/event-stream")
    tokens = stream(fake, retries=Retries(max=0))
    seen = []
    try:
        async with tokens:
            async for token in tokens:
                seen.append((token, repr(token.raw)))  # noqa: PERF401  # up to the error
    except CfaiError as exc:
        events, body = getattr(exc, "events", None), getattr(exc, "body", None)
        return seen, type(exc), str(exc), events, body, tokens.answer
    return seen, tokens.answer


def one_by_one(fake: FakeWorkersAI, parts: Sequence[bytes]) -> Any:
    """The same with each event in a packet of its own, so that none are decoded together."""
    splitter = EventSplitter(1 << 20)
    blocks = [block for part in parts for block in splitter.feed(part)] + splitter.finish()
    events = [b"data: %b\n\n" % b if isinstance(b, bytes) else b.encode() for b in blocks]
    return outcome(fake, [*events, b"[DONE]\n"] if splitter.bare_done else events)


@given(STREAMS, st.data())
@settings(max_examples=40, deadline=None)
async def test_a_stream_is_the_same_however_it_arrives(data: bytes, cuts: Any) -> None:
    async with FakeWorkersAI() as fake:
        whole = await outcome(fake, [data + DONE])
        few = cuts.draw(st.sets(st.integers(0, len(data)), max_size=4))
        ends = {end.end() for end in re.finditer(b"\n\n", data)}
        groups = {end for end in ends if cuts.draw(st.booleans())}
        for edges in (few, groups, ends, range(1, len(data))):
            at = [0, *sorted(edges), len(data)]
            pieces = [data[start:end] for start, end in pairwise(at)]
            assert repr(await outcome(fake, [*pieces, DONE])) == repr(whole)
        # An error of an event says its number, and a half pair may be in any of them.
        assert repr(await one_by_one(fake, [data + DONE])) == repr(whole)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_a_dialect_is_the_same_decoded_one_by_one(fake: FakeWorkersAI, dialect: Any) -> None:
    whole = await outcome(fake, [dialect.stream * 3 if dialect.ended else dialect.stream])
    parts = [dialect.stream * 3 if dialect.ended else dialect.stream]
    assert repr(await one_by_one(fake, parts)) == repr(whole)


async def test_an_error_comes_after_the_tokens_before_it(fake: FakeWorkersAI) -> None:
    """In one packet, with events behind it, and with the number of its event."""
    good = b'data: {"response":"a"}\n\n'
    for bad, number in ((b"{", 3), (b'{"error":"no"}', 3), (b'{"tool_calls":["a"]}', 3)):
        seen, *error = await outcome(fake, [good * 2 + b"data: " + bad + b"\n\n" + good * 2])
        assert [token.text for token, _ in seen] == ["a", "a"]
        assert issubclass(error[0], CfaiError)
        assert error[-1].text == "aa"
        if error[0] is DecodeError and bad == b"{":
            assert f"event {number} " in error[1]


async def test_raw_events_and_tokens_take_turns(fake: FakeWorkersAI) -> None:
    """Events that were decoded ahead are still there as raw events."""
    fake.says(
        b"".join(b'data: {"response":"%d"}\n\n' % n for n in range(6)) + DONE,
        content_type="text/event-stream",
    )
    tokens = stream(fake)
    raw = tokens.events()
    seen = []
    for _ in range(3):
        seen += [(await anext(tokens)).text, json.loads((await anext(raw)).data)["response"]]
    assert seen == list("012345")
    assert (await anext(raw)).data == "[DONE]"


# What a token costs. More calls for each event would show in the benchmarks.


def chat(**delta: Any) -> dict[str, Any]:
    return {"id": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("document", "most"),
    [
        ({"response": "a", "p": "b"}, 6),
        (chat(content="a"), 13),
        ({"response": "a", "usage": USAGE}, 15),
        ({**chat(content="a"), "usage": USAGE}, 22),
        (chat(reasoning_content="a"), 23),
        (chat(tool_calls=[CALL]), 36),
    ],
)
def test_reading_a_usual_event_takes_few_calls(document: Any, most: int) -> None:
    work: Callable[[], object] = lambda: read_ahead(10 * [document])  # noqa: E731
    assert read_ahead([document])[0] != [None]
    assert count_calls(work) / 10 <= most


def test_values_made_fast_are_like_others() -> None:
    (token,), _ = read_ahead([{"response": "a", "usage": USAGE}])
    assert token is not None
    assert token.usage == Usage(3, 1, 4)
    assert type(token.usage) is Usage
    assert hash(token.usage) == hash(Usage(3, 1, 4))
    with pytest.raises(AttributeError):
        token.usage.prompt_tokens = 4  # type: ignore[misc]  # frozen
    assert loads(json.dumps(USAGE)) == USAGE
