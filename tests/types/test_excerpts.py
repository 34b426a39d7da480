"""Excerpts of values: what they show, and that they cost no more than what they show."""

from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai import CfaiError, Conversation
from cfai._types.excerpts import format_json, format_path, format_value
from cfai._types.json import read_as
from cfai._types.read import TypeMismatch, read_value
from cfai._types.schema import json_schema
from cfai._wire.requests import check_run_model
from cfai._wire.results import read_base64

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers(), max_size=1)
        | st.frozensets(st.integers(), max_size=1)
    ),
)


@given(VALUES, st.integers(1, 100))
def test_an_excerpt_is_the_beginning_of_the_repr(value: Any, limit: int) -> None:
    excerpt = format_value(value, limit)
    assert len(excerpt) <= limit
    # The quotation marks of a text depend on all of its characters, which are not read.
    plain = repr(value).translate({ord("'"): '"', ord("\\"): '"'})
    if '"' not in plain:
        assert excerpt == repr(value)[:limit]


def deep(levels: int, kind: type = list) -> Any:
    value: Any = kind()
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


class Unshowable:
    def __repr__(self) -> str:
        raise RecursionError


class Counted(UserDict[str, Any]):
    """Counts how often it is shown."""

    shown = 0

    def __repr__(self) -> str:
        Counted.shown += 1
        return "{}"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a b/é.txt", "a b/é.txt"),
        ("caf\udce9.html", "caf\\udce9.html"),
        ("a\0b\n", "a\\x00b\\n"),
        ("\u202ebd.exe", "\\u202ebd.exe"),
        ("x" * 10**6, "x" * 4096),
        (Path("x/y"), str(Path("x/y"))),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_path_has_escapes_for_what_cannot_be_printed(path: Any, shown: str) -> None:
    assert format_path(path) == shown


@pytest.mark.parametrize("write", [format_value, format_json])
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_a_deep_value_is_shown_to_the_limit(write: Any, kind: type) -> None:
    for limit in (1, 80, 200):
        assert len(write(deep(100_000, kind), limit)) == limit


def test_a_value_is_read_only_as_far_as_it_is_shown() -> None:
    Counted.shown = 0
    format_value([Counted() for _ in range(100_000)])
    assert Counted.shown <= 20
    assert len(format_value("x" * 10**7)) == 80
    assert len(format_value(b"x" * 10**7, 40)) == 40
    assert len(format_value(dict.fromkeys(range(10**5)))) == 80


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([10**5000, 1], "[a number with too many digits, 1]"),
        (Unshowable(), "<Unshowable>"),
        ({"a": (1,)}, "{'a': (1,)}"),
        ((), "()"),
        (set(), "set()"),
        (frozenset({1}), "frozenset({1})"),
    ],
)
def test_every_value_has_an_excerpt(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [None, True, 1.5, "ä"]}, '{"a": [null, true, 1.5, "ä"]}'),
        ((1, [2]), "[1, [2]]"),
        ("x" * 100, '"' + "x" * 78 + "…"),
        ("x" * 78, '"' + "x" * 78 + '"'),
        (float("nan"), "NaN"),
        (b"x", "b'x'"),
    ],
)
def test_json_is_shown_as_json(value: Any, text: str) -> None:
    assert format_json(value) == text


# Messages show the beginning of what is long

LONG = "x" * 300


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: json_schema(type("X" * 200, (), {})),
            f": {'X' * 80} has no JSON form; use a type that JSON has",
        ),
        (
            lambda: read_value(list(range(9)), list[str], "it"),
            "; ".join(f"it[{i}] must be a string, got {i}" for i in range(5)),
        ),
        (
            lambda: read_as(list(range(9)), tuple[str, ...], "it"),
            "; ".join(f"it[{i}] must be a string, got int {i}" for i in range(3)),
        ),
        (
            lambda: check_run_model("a b" * 200),
            "._~!$&'()*+,;=:@-, got '" + ("a b" * 200)[:199],
        ),
        (lambda: check_run_model(f"openai/{LONG}"), f"for this call, got 'openai/{LONG[:192]}"),
        (
            lambda: read_base64({"image": "*" * 200}, "image"),
            f"image must be a base64 string, got '{'*' * 60}'",
        ),
        (
            lambda: read_base64({"image": 5, "x": LONG}, "image"),
            f"image must be a base64 string, got {{'image': 5, 'x': '{LONG[:181]}",
        ),
        (
            lambda: Conversation.from_ai_sdk(
                [{"role": "user", "parts": [{"type": "file", "mediaType": LONG, "url": "data:"}]}]
            ),
            f"messages[0].parts[0] must be an image, got {LONG[:80]}",
        ),
    ],
)
def test_messages_show_the_beginning_of_long_values(
    call: Callable[[], object], message: str
) -> None:
    """And the first few of many problems."""
    with pytest.raises((CfaiError, TypeMismatch)) as caught:
        call()
    assert str(caught.value).endswith(message)
