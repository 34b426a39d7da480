"""attrs classes from JSON: strict about meaning, tolerant about form."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from attrs import field, frozen
from hypothesis import given, strategies as st

from cfai._types.json import (
    MAX_DEPTH,
    NestedTooDeep,
    dumps,
    dumps_decoded,
    encode_decoded,
    loads,
    loads_with_half_pairs,
    read_as,
)
from cfai.errors import DecodeError
from cfai.tasks import Box, Detection, Label
from cfai.tasks.task import to_plain


@frozen
class Row:
    name: str
    count: int | None = None
    share: float | None = None
    public: bool | None = None
    created: datetime | None = None
    labels: tuple[Label, ...] = field(default=())
    more: dict[str, Any] | None = None


def row(**fields: Any) -> Row:
    return read_as({"name": "a", **fields}, Row, "result")


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({}, Row("a")),
        ({"count": None, "share": None, "public": None, "created": None}, Row("a")),
        # Unknown keys: the service grows.
        ({"new": 1, "newer": {"a": []}}, Row("a")),
        # Counts are documented as "number": 12.0 is the count 12.
        ({"count": 12.0}, Row("a", count=12)),
        ({"count": -1}, Row("a", count=-1)),
        ({"share": 1}, Row("a", share=1.0)),
        ({"public": False}, Row("a", public=False)),
        (
            {"created": "2026-09-02T10:00:00Z"},
            Row("a", created=datetime(2026, 9, 2, 10, tzinfo=UTC)),
        ),
        (
            {"created": "2026-09-02T10:00:00.123456+02:00"},
            Row(
                "a",
                created=datetime(2026, 9, 2, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
            ),
        ),
        ({"labels": [{"label": "x", "score": 1}]}, Row("a", labels=(Label("x", 1.0),))),
        ({"more": {"a": [None, 2.9]}}, Row("a", more={"a": [None, 2.9]})),
    ],
)
def test_documented_values_are_read(fields: dict[str, Any], value: Row) -> None:
    read = row(**fields)
    assert read == value
    assert type(read.count) is type(value.count)
    assert type(read.share) is type(value.share)


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        # cattrs alone makes "None", "6", 2, True and 1.0 of these.
        ({"name": None}, "result.name"),
        ({"name": 6}, "result.name"),
        ({"name": ["a"]}, "result.name"),
        ({"count": 2.9}, "result.count"),
        ({"count": "2"}, "result.count"),
        ({"count": True}, "result.count"),
        ({"count": float("inf")}, "result.count"),
        ({"count": float("nan")}, "result.count"),
        ({"share": float("nan")}, "result.share"),
        ({"share": "0.5"}, "result.share"),
        ({"share": False}, "result.share"),
        ({"public": "false"}, "result.public"),
        ({"public": 0}, "result.public"),
        ({"created": "2026-09-02T10:00:00"}, "result.created"),
        ({"created": "yesterday"}, "result.created"),
        ({"created": 1788378160}, "result.created"),
        ({"labels": [{"label": "x", "score": None}]}, "result.labels"),
        ({"labels": [{"label": "x"}]}, "result.labels"),
        ({"labels": ["x"]}, "result.labels"),
        ({"labels": 6}, "result.labels"),
    ],
)
def test_undocumented_values_raise_with_their_path(fields: dict[str, Any], at: str) -> None:
    with pytest.raises(DecodeError, match="undocumented") as caught:
        row(**fields)
    assert at in str(caught.value)


@pytest.mark.parametrize("value", [None, [], {}, "a", 6, True, [{"name": "a"}]])
def test_other_json_types_are_decode_errors(value: Any) -> None:
    with pytest.raises(DecodeError):
        read_as(value, Row, "result")


@pytest.mark.parametrize(("kind", "value"), [(str, None), (int, 2.9), (float, "1"), (bool, 0)])
def test_scalars_are_read_strictly(kind: type[Any], value: Any) -> None:
    with pytest.raises(DecodeError):
        read_as(value, kind, "result")


def test_nested_classes() -> None:
    box = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4.5}
    read = read_as([{"label": "a", "score": 1, "box": box}], tuple[Detection, ...], "result")
    assert read == (Detection("a", 1.0, Box(1.0, 2.0, 3.0, 4.5)),)
    with pytest.raises(DecodeError, match=r"result\[0\]\.box"):
        read_as([{"label": "a", "score": 1, "box": {}}], tuple[Detection, ...], "result")


def test_messages_stay_short_with_many_errors() -> None:
    with pytest.raises(DecodeError) as caught:
        read_as([{}] * 1000, tuple[Detection, ...], "result")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":"\xf0\x9f\x98"}', {"a": "\ufffd"}),
        (bytearray(b'"\xc3("'), "\ufffd("),
        ('"ä"', "ä"),
        (b"18446744073709551616", 18446744073709551616.0),
    ],
)
def test_invalid_utf8_is_replaced(data: bytes | str, value: Any) -> None:
    """Invalid UTF-8 becomes U+FFFD instead of losing the answer."""
    assert loads(data) == value


@pytest.mark.parametrize(
    "data",
    [b"", "", b"{", b"NaN", b"1e400", b"\xff", b'{"a":1}x', b'"\xff', b"[" * 2000, "{'a': 1}"],
)
def test_invalid_json_is_a_value_error(data: bytes | str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the message is the library's
        loads(data)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_raise_nothing_but_value_error(data: bytes) -> None:
    try:
        loads(data)
    except ValueError:
        return


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_json_round_trips(value: Any) -> None:
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (r'"\uDE00a"', "\ufffda"),
        (rb'["\ud83d\ude00", "\ude00\ud83d"]', ["\U0001f600", "\ufffd\ufffd"]),
        (rb'"\\ud83d \\\ud83d"', "\\ud83d \\\ufffd"),
        (b'{"\\ud83d":"\xff"}', {"\ufffd": "\ufffd"}),
    ],
)
def test_half_a_surrogate_pair_is_a_replacement_character(data: bytes | str, value: Any) -> None:
    """JSON.stringify writes it as an escape. An escaped backslash before `ud83d` begins no pair."""
    assert loads(data) == value


@pytest.mark.parametrize("data", ['{"a":NaN}', '[Infinity,"NaN"]', "[-Infinity,1]"])
def test_numbers_that_are_not_finite_are_read_only_if_allowed(data: str) -> None:
    for form in (data, data.encode()):
        assert repr(loads(form, allow_nan=True)) == repr(json.loads(data))
        with pytest.raises(ValueError):  # noqa: PT011  # the message depends on the place
            loads(form)


@pytest.mark.parametrize("data", ["NaNa", '{"a":NaN', "[" * 100_000 + "NaN", '"NaN', "nan"])
def test_other_text_stays_an_error(data: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of either decoder
        loads(data, allow_nan=True)


def test_json_is_compact_utf8() -> None:
    assert dumps({"a": ["ä", None, 0.5]}) == '{"a":["ä",null,0.5]}'.encode()


# Depth


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "form",
    ["{}", '{{"a":{}}}', '[{{"a":[{}]}},1,"["]', '{{"a":{},"b":NaN}}', '"{}"', '{{"\\ud83d":{}}}'],
)
def test_json_is_read_to_a_limit_of_levels(form: str) -> None:
    """With every decoder; brackets inside a string are no levels."""
    outer = form.count("{{") + form.count("[") - form.count('"["')
    for levels in (MAX_DEPTH - outer, MAX_DEPTH - outer + 1, 500, 1010, 100_000):
        data = form.format(nested(levels))
        if levels + outer <= MAX_DEPTH or form == '"{}"':
            loads(data, allow_nan=True)
            loads(data.encode(), allow_nan=True, big_integers=True)
            loads_with_half_pairs(data)
            continue
        with pytest.raises(ValueError):  # noqa: PT011  # orjson has a limit of its own
            loads(data, allow_nan=True)
        with pytest.raises(NestedTooDeep, match="nested deeper than 200 levels"):
            loads_with_half_pairs(data)


def test_a_value_at_the_limit_can_be_used_deep_in_a_program() -> None:
    """Compared, copied, shown and encoded, with 200 frames of the program above."""
    for inner in ("[{}]", '{{"a":{}}}'):
        data = "1"
        for _ in range(MAX_DEPTH):
            data = inner.format(data)
        value = loads(data)

        def use(frames: int, data: str = data, value: Any = value) -> None:
            if frames:
                return use(frames - 1)
            assert value == loads(data)
            assert copy.deepcopy(value) == value
            assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # our own
            assert len(repr(value)) > MAX_DEPTH
            assert encode_decoded(value) == data
            assert to_plain(value) == value
            return None

        use(200)


# Integers beyond 64 bits, and numbers beyond a float


@pytest.mark.parametrize(
    "number",
    [
        2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**22, -(10**30), 12345678901234567890123,
    ],
)  # fmt: skip
def test_integers_beyond_64_bits_stay_integers_if_wanted(number: int) -> None:
    for form in ('{{"a":[{}]}}', '{{"a":[ {}\n]}}', '{{"b":0.1234567890123456789,"a":[{}]}}'):
        data = form.format(number)
        for given_data in (data, data.encode()):
            (value,) = loads(given_data, big_integers=True)["a"]
            assert type(value) is int
            assert value == number


@pytest.mark.parametrize("data", ['{"a":0.12345678901234567890123}', '["1234567890123456789012"]'])
def test_other_long_digits_are_read_as_ever(data: str) -> None:
    assert loads(data, big_integers=True) == loads(data)


def test_a_number_beyond_a_float_is_infinite_if_allowed() -> None:
    digits = "1" + "0" * 5000
    for data in ("1e400", digits, f"[{digits}]", f'{{"a":-{digits}}}'):
        assert "inf" in repr(loads(data, allow_nan=True))
        with pytest.raises(ValueError):  # noqa: PT011  # of either decoder
            loads(data)


@pytest.mark.parametrize("value", [2**70, [2**64, "\ud83d"], {"ä": [1, None]}])
def test_a_decoded_value_can_be_encoded_again(value: Any) -> None:
    assert json.loads(encode_decoded(value)) == value
    assert " " not in encode_decoded(value)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
def test_integers_beyond_64_bits_are_floats_unless_requested(number: int) -> None:
    for value, expected in (
        (loads(str(number)), float),
        (loads(str(number), big_integers=True), int),
    ):
        assert value == expected(number)
        assert type(value) is expected


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**38])
def test_what_was_decoded_is_encoded_for_every_client(number: int) -> None:
    value = {"a": [number, float("nan"), float("-inf"), 1.5], "b": "\ud83d", "c": {"d": None}}
    encoded = dumps_decoded(value)
    assert json.loads(encoded, parse_constant=pytest.fail) == {
        "a": [number, None, None, 1.5],
        "b": "�",
        "c": {"d": None},
    }


def test_what_was_decoded_is_encoded_in_c_if_it_can_be() -> None:
    assert dumps_decoded({"a": [float("nan"), 1]}) == b'{"a":[null,1]}'
