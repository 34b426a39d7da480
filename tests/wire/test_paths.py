"""Names that become part of a path: kept to the letter, or refused before anything is sent."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from yarl import URL

from cfai._wire.paths import account_segment, model_path, segment
from cfai.errors import InputError

BAD = [
    "", ".", "..", "a?b", "a#b", "a%b", "a%2Fb", "a b", " a", "a ", "\ta", "a\n", "a\r\nX: y",
    "a\0", "\x7f", "a\x85", "ä", "a\u2028", "a\\b", 'a"b', "a<b", "a[b]", "a^b", "a`b", "{a}",
    "a|b", "\ud800", "．．", "a\u200b",
]  # fmt: skip
"""What is no segment of a path, or would be another one after somebody's normalisation."""

GOOD = [
    "a",
    "A-Z_a.z~0",
    "...",
    "..a",
    "a..",
    "@cf",
    "a:b",
    "a+b",
    "a=b",
    "a,b;c",
    "(a)",
    "a'b*!&$",
]


@pytest.mark.parametrize("name", GOOD)
def test_what_a_path_can_carry_is_kept(name: str) -> None:
    assert segment("id", name) == name
    assert account_segment(name) == name
    assert model_path(name) == name
    assert model_path(f"@cf/{name}/x") == f"@cf/{name}/x"


@pytest.mark.parametrize("name", [*BAD, "a/b", "/", "../a"])
def test_what_a_path_cannot_carry_is_refused(name: str) -> None:
    """The message names the thing, the rule and the value; an account's value it hides."""
    with pytest.raises(InputError, match="finetune must") as caught:
        segment("finetune", name)
    assert repr(name) in str(caught.value)
    with pytest.raises(InputError, match="account_id must"):
        account_segment(name)


@pytest.mark.parametrize(
    "model",
    [
        *BAD, *(f"@cf/{part}/x" for part in BAD), *(f"@cf/x/{part}" for part in BAD), "/", "/a",
        "a/", "a//b", "@cf/../../accounts/x", "@cf/./x", "https://x/y",
    ],
)  # fmt: skip
def test_every_part_of_a_model_is_checked(model: str) -> None:
    with pytest.raises(InputError, match="each part of model between slashes must"):
        model_path(model)


@pytest.mark.parametrize(
    "model",
    [
        "@cf/meta/llama-3.1-8b-instruct",
        "@hf/thebloke/mistral-7b-instruct-v0.1-awq",
        "@cf/black-forest-labs/flux-1-schnell",
        "anthropic/claude-sonnet-4.5",
        "some-model:latest",
    ],
)
def test_a_model_is_sent_to_the_letter(model: str) -> None:
    """The service answers 400 (code 7000) where the slashes or the @ are percent-encoded."""
    assert model_path(model) == model
    assert "%" not in model_path(model)


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], True])
@pytest.mark.parametrize("check", [model_path, account_segment, lambda value: segment("id", value)])
def test_what_is_no_text_is_refused(value: object, check: Callable[[object], str]) -> None:
    with pytest.raises(InputError, match="must be a text"):
        check(value)


def test_an_account_is_never_shown() -> None:
    """A token pasted into the wrong variable must not end in a log."""
    for wrong in ("s3cret token", "s3cret/token", "s3cret\n"):
        with pytest.raises(InputError) as caught:
            account_segment(wrong)
        assert "s3cret" not in str(caught.value)
        assert str(len(wrong)) in str(caught.value)


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InputError) as caught:
        model_path("ä" * 100_000)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=12))
def test_what_passes_stays_one_segment_for_every_url_parser(name: str) -> None:
    """It neither leaves its place in the path nor changes on the way."""
    try:
        segment("id", name)
    except InputError:
        return
    url = URL(f"http://host/a/{name}/b", encoded=True)
    assert url.raw_path == f"/a/{name}/b"
    assert url.raw_parts == ("/", "a", name, "b")
