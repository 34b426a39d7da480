"""The value of a growing text: what is there so far, however the text is cut, in linear time."""

import json
from collections.abc import Iterator
from copy import deepcopy
from time import process_time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai._types.partial import NOTHING, PartialJson

VALUE = {
    "name": 'Li"ma\\ é \U0001f600 \n\x7f',
    "numbers": [0, -2.5e3, 10**20, True, False, None],
    "nested": [{"a": {"b": [[], {}, ""]}}, ["x", ["y"]]],
    "": "the empty key",
    "\U0001f600": 1,
}

STATES = [
    ("", NOTHING),
    ("Sure: ", NOTHING),
    ("{", {}),
    ('{"a', {}),
    ('{"a"', {}),
    ('{"a":', {}),
    ('{"a": "', {"a": ""}),
    ('{"a": "x', {"a": "x"}),
    ('{"a": "x\\', {"a": "x"}),
    ('{"a": "x\\n', {"a": "x\n"}),
    ('{"a": "x\\u00', {"a": "x"}),
    ('{"a": "x\\u00e9', {"a": "xé"}),
    # Half of a pair waits for the other half.
    ('{"a": "\\ud83d', {"a": ""}),
    ('{"a": "\\ud83d\\ude', {"a": ""}),
    ('{"a": "\\ud83d\\ude00', {"a": "\U0001f600"}),
    ('{"a": "\\ud83d!', {"a": "\ufffd!"}),
    ('{"a": "\\ud800\\udc00', {"a": "\U00010000"}),
    ('{"a": "\\udbff\\udfff', {"a": "\U0010ffff"}),
    ('{"a": "\\udbff\\ue000', {"a": "\ufffd\ue000"}),
    ('{"a": "\\ud7ff\\udc00', {"a": "\ud7ff\ufffd"}),
    ('{"a": "\\ude00', {"a": "\ufffd"}),
    ('{"a": "\\ud83d"', {"a": "\ufffd"}),
    # A number or a literal may go on.
    ('{"a": 1', {}),
    ('{"a": 12', {}),
    ('{"a": 12,', {"a": 12}),
    ('{"a": 12 ', {"a": 12}),
    ('{"a": 12}', {"a": 12}),
    ('{"a": tru', {}),
    ('{"a": true\n', {"a": True}),
    ('{"a": null}', {"a": None}),
    ('{"a": [', {"a": []}),
    ('{"a": [1', {"a": []}),
    ('{"a": [1, "x', {"a": [1, "x"]}),
    ('{"a": [1, {', {"a": [1, {}]}),
    ('{"a": {"b": "', {"a": {"b": ""}}),
    ('{"a": {"b": 1}', {"a": {"b": 1}}),
    ('{"a": {"b": 1}, "c', {"a": {"b": 1}}),
    # Around it.
    ('```json\n{"a": 1}\n```', {"a": 1}),
    ('<think>{"no": 1}', NOTHING),
    ('<think>{"no": 1}</think>{"a": 1}', {"a": 1}),
    ('<thin {"a": 1}', {"a": 1}),
    ('In {braces} it is {"a": 1}', {"a": 1}),
    ('First {"a": 1}, better {"b": 2}', {"b": 2}),
    # A value stays until the next one has content.
    ('{"a": 1} Done {', {"a": 1}),
    ('{"a": 1} Done {ok}.', {"a": 1}),
    ('{"a": 1} {}', {"a": 1}),
    ('{"a": 1} {"b": ', {"a": 1}),
    ('{"a": 1} {"b": "', {"b": ""}),
    ('{} {"b": [', {"b": []}),
    # What is no JSON ends it, and no part of it is taken for the whole.
    ('{"a": 1, b: {"c": 2}}', {"a": 1}),
    ('{"a": 1 "b": 2}', {"a": 1}),
    ('{"a": nope, "b": {"c": 2}}', {}),
    ('{"a": "\\x", "b": 2}', {"a": ""}),
    ('{"a": "\\uzzzz", "b": 2}', {"a": ""}),
    ("[1, 2]", NOTHING),
]


def feed(text: str, size: int, starts: str = "{") -> Iterator[tuple[bool, Any]]:
    """Feed a text in pieces of *size*; gives whether the value changed, and a copy of it."""
    parser = PartialJson(starts)
    for at in range(0, len(text), size):
        changed = parser.feed(text[at : at + size])
        yield changed, parser.value if parser.value is NOTHING else deepcopy(parser.value)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "value"), STATES)
def test_the_value_so_far(text: str, value: Any, size: int) -> None:
    """The same for every cut."""
    states = [state for _, state in feed(text, size)] or [NOTHING]
    assert states[-1] == value


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 10_000])
def test_a_complete_value_is_what_json_says(
    ascii_only: bool, indent: int | None, size: int
) -> None:
    text = json.dumps(VALUE, ensure_ascii=ascii_only, indent=indent)
    *_, (_, value) = feed(f"Sure.\n```json\n{text}\n```\nDone.", size)
    assert value == VALUE


def grows_to(partial: Any, value: Any) -> bool:
    """Whether a partial value can become *value* by growing at its end."""
    if isinstance(partial, dict) and isinstance(value, dict):
        *done, last = [*partial] or [None]
        begun = last is None or grows_to(partial[last], value[last])
        same = all(partial[key] == value[key] for key in done)
        return begun and same and [*value][: len(partial)] == [*partial]
    if isinstance(partial, list) and isinstance(value, list):
        same = partial[:-1] == value[: len(partial) - 1] if partial else True
        return same and (not partial or grows_to(partial[-1], value[len(partial) - 1]))
    if isinstance(partial, str) and isinstance(value, str):
        return value.startswith(partial)
    return bool(partial == value)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, JSON, max_size=4) | st.lists(JSON, max_size=4), st.data())
def test_any_value_grows_step_by_step(value: Any, data: st.DataObject) -> None:
    """A change is reported if and only if there is one, and nothing that was there goes away."""
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    size = data.draw(st.integers(1, 10))
    before: Any = NOTHING
    for changed, state in feed(text, size, "{["):
        assert changed == (before is NOTHING or state != before) or state is NOTHING
        if state is not NOTHING:
            assert grows_to(state, value)
        before = state
    assert before == value


@given(st.text('{}[]",:\\u0123ae <think/>', max_size=60), st.integers(1, 7))
def test_no_text_raises(text: str, size: int) -> None:
    for _ in feed(text, size, "{["):
        pass


def test_deep_nesting_ends_it() -> None:
    parser = PartialJson("{[")
    parser.feed("[" * 100_000)
    depth, value = 0, parser.value
    while value:
        depth, value = depth + 1, value[0]
    assert depth < 1000


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        ('{"a": "', "word"),
        ('{"a": "', "\\u00e9"),
        ('{"a": "', "\\"),
        ('{"a": ["', 'x", "y'),
        ('{"a": [', '{"b": 1}, '),
        ('{"a": [', "1"),
        ('{"a": ', " "),
        ("", "<think"),
        ("", "prose {"),
        ("<think>", "</thin"),
        ('{"a"', " "),
    ],
)
def test_no_text_takes_quadratic_time(start: str, piece: str) -> None:
    """A token costs the same at the end of a long answer as at its beginning."""
    parser = PartialJson()
    parser.feed(start)
    started = process_time()
    for _ in range(100_000):
        parser.feed(piece)
    assert process_time() - started < 20


@pytest.mark.parametrize("prose", [" Done {ok}.", " {} ", " {", ' {"', ' {"a" or', " {1}", ' {"b"'])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_brace_after_the_value_does_not_empty_it(prose: str, size: int) -> None:
    """A display would show nothing for a moment."""
    first = '{"a": {"b": [1]}}'
    parts = list(feed(first + prose, size))
    complete = [value for _, value in parts[-(-len(first) // size) :]]
    assert all(value == {"a": {"b": [1]}} for value in complete)


def test_a_later_value_replaces_it() -> None:
    parser = PartialJson()
    parser.feed('{"a": 1} or rather {"a"')
    assert parser.value == {"a": 1}
    assert parser.feed(": 2 ")
    assert parser.value == {"a": 2}
