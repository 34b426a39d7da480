"""Secrets are removed from errors, whole or cut, wherever an error keeps a text."""

import reprlib
from datetime import UTC, datetime
from typing import Any

import pytest

from cfai._session.redaction import redact_error, redact_error_text, redact_whole_secrets
from cfai._wire.errors import error_from_response
from cfai._wire.responses import Response
from cfai.errors import (
    BODY_LIMIT,
    BadRequest,
    CfaiError,
    DecodeError,
    NotFound,
    StatusError,
    status_error,
)
from cfai.meta import Meta

SECRET = "v1_0-S3CR3T-T0KEN-0123456789abcdefghij"  # noqa: S105  # made up


def pieces(secret: str, size: int) -> list[str]:
    """The beginning and the end of a secret."""
    return [secret[:size], secret[-size:]]


def visible(error: CfaiError) -> str:
    return f"{error} {error!r} {vars(error)}"


@pytest.mark.parametrize("kept", range(1, len(SECRET)))
@pytest.mark.parametrize("form", [str, str.encode])
def test_a_secret_cut_at_the_edge_of_an_excerpt_is_hidden(kept: int, form: Any) -> None:
    """However little of it is left at the end of a body that was cut."""
    body = "." * (BODY_LIMIT - kept) + SECRET + "." * 100
    error = DecodeError("no JSON", body=form(body))
    assert error.body == form(body[:BODY_LIMIT])
    redact_error(error, [SECRET])
    assert error.body == form("." * (BODY_LIMIT - kept) + "***")


@pytest.mark.parametrize("size", range(8, len(SECRET) + 1))
@pytest.mark.parametrize("pattern", ["{}", "{}...", "...{}", "'a {}, b'", "{}…{}", "{}{}"])
def test_a_piece_of_a_secret_in_a_message_is_hidden(size: int, pattern: str) -> None:
    """Its beginning or its end, from 8 characters on, wherever it stands."""
    for piece in pieces(SECRET, size):
        redacted = redact_error_text(pattern.format(piece, piece), [SECRET])
        assert redacted.replace("***", "") == pattern.replace("{}", "")


@pytest.mark.parametrize("limit", [24, 30, 40, 60])
@pytest.mark.parametrize("before", ["", "Authorization: "])
def test_a_secret_that_reprlib_cut_in_the_middle_is_hidden(limit: int, before: str) -> None:
    """`reprlib` keeps the beginning and the end of a text, and so of a secret."""
    shortener = reprlib.Repr()
    shortener.maxstring = limit
    error = CfaiError(f"unexpected value: {shortener.repr(before + SECRET)}")
    redact_error(error, [SECRET])
    for start in range(len(SECRET) - 7):
        assert SECRET[start : start + 8] not in visible(error)


@pytest.mark.parametrize("limit", range(9, len(SECRET) + 2))
def test_a_secret_that_a_format_cut_is_hidden(limit: int) -> None:
    error = CfaiError(f"got {SECRET!r:.{limit}}")
    redact_error(error, [SECRET])
    assert str(error) in ("got '***", "got '***'")


@pytest.mark.parametrize("piece", [SECRET[5:], SECRET[:-5], SECRET[5:-5], SECRET[9:17]])
def test_any_long_piece_of_a_secret_is_hidden(piece: str) -> None:
    """Without its beginning, its end, or both."""
    assert redact_error_text(f"{piece} is unknown", [SECRET]) == "*** is unknown"


def test_a_piece_that_repeats_itself_is_hidden_as_a_whole() -> None:
    secret = "abcabcabcabd" + "xyz" * 3
    assert redact_error_text(f"abc{secret}abc.", [secret]) == "***abc."


@pytest.mark.parametrize("kept", range(1, len(SECRET)))
@pytest.mark.parametrize("before", ["." * 199, f"<!--{'.' * (BODY_LIMIT - 7)}-->"])
def test_a_secret_that_a_message_from_a_page_cut_is_hidden(kept: int, before: str) -> None:
    """However little of it is left, and however short the text of the page is."""
    page = before.replace("." * kept, "", 1) + SECRET + "." * BODY_LIMIT
    answer = Response(502, {"Content-Type": "text/html"}, page.encode(), Meta())
    error = error_from_response(answer, now=datetime.now(UTC))
    redact_error(error, [SECRET])
    text = "" if before.startswith("<") else before[kept:]
    assert error.message == f"{text}***…"


@pytest.mark.parametrize("kept", range(3, len(SECRET)))
def test_the_beginning_of_a_secret_at_the_end_of_any_text_is_hidden(kept: int) -> None:
    """A text does not always show that it was cut."""
    assert redact_error_text(f"got 'a {SECRET[:kept]}", [SECRET]).startswith("got 'a ***")
    assert SECRET[:3] not in redact_error_text(f"got 'a {SECRET[:kept]}", [SECRET])


def test_a_few_characters_of_a_secret_are_left_alone() -> None:
    """They could be a word."""
    assert redact_error_text("v1_0-S3 hij", [SECRET]) == "v1_0-S3 hij"


def test_longer_secrets_are_hidden_before_their_beginnings() -> None:
    """One secret may be a part of another; an empty one hides nothing."""
    assert redact_error_text("abcdef abc x", ["abcdef", "abc", ""]) == "*** *** x"
    assert redact_error_text("abc", []) == "abc"


@pytest.mark.parametrize("text", [SECRET, SECRET.lower(), SECRET.upper(), f"İ{SECRET.lower()}"])
def test_case_does_not_matter(text: str) -> None:
    """A Content-Type is kept in lower case."""
    assert redact_error_text(text, [SECRET]).removeprefix("İ") == "***"


@pytest.mark.parametrize("piece", [SECRET, *pieces(SECRET, 12)])
def test_every_attribute_is_redacted(piece: str) -> None:
    """The message, the entries at any depth, the body and the headers."""
    error = BadRequest(
        f"bad {piece}",
        status=400,
        errors=[{"message": piece, piece: [{"deep": (piece, 6)}]}],
        ray_id=piece,
        body=f"<p>{piece}</p>",
        meta=Meta(ray_id=piece, rate_limit=f"a;{piece}", media_type=piece.lower()),
    )
    error.add_note(f"while {piece}")
    redact_error(error, [SECRET])
    assert piece.lower() not in visible(error).lower()
    assert error.errors == ({"message": "***", "***": [{"deep": ("***", 6)}]},)
    assert error.meta == Meta(ray_id="***", rate_limit="a;***", media_type="***")
    assert (error.status, error.body, error.args) == (400, "<p>***</p>", ("bad ***",))


@pytest.mark.parametrize("piece", [SECRET, *pieces(SECRET, 8), "/accounts/ab/ai", "Bearer x"])
def test_an_error_that_came_from_one_with_a_secret_forgets_it(piece: str) -> None:
    error = CfaiError("no")
    error.__cause__ = ValueError("bad")
    error.__cause__.__context__ = LookupError(piece)
    redact_error(error, [SECRET])
    assert error.__cause__ is error.__context__ is None


def test_an_error_keeps_a_cause_without_secrets() -> None:
    error = CfaiError("no")
    error.__cause__ = cause = ValueError("bad")
    redact_error(error, [SECRET])
    assert error.__cause__ is cause


def test_an_error_that_showed_a_secret_forgets_what_it_came_from() -> None:
    """The cause may keep the same text without showing it, as decoders of JSON do."""
    error = DecodeError("no JSON", body=SECRET)
    error.__cause__ = ValueError("line 1")
    redact_error(error, [SECRET])
    assert error.__cause__ is None


def test_a_second_redaction_changes_nothing() -> None:
    error = status_error(400, None, f"{SECRET} at /accounts/{SECRET}/ai", body='"api_key": "a"')
    redact_error(error, [SECRET])
    once = visible(error)
    error.__cause__ = cause = ValueError("bad")
    redact_error(error, [SECRET])
    assert visible(error) == once
    assert error.__cause__ is cause


def test_the_account_and_the_token_that_the_service_repeats_are_hidden() -> None:
    """Code 7003 repeats the path, and so a token that was pasted as the account id."""
    message = "Could not route to /client/v4/accounts/s3cret-token/ai/run/@cf/a/b, perhaps ..."
    error: StatusError = NotFound(
        message,
        status=404,
        code=7003,
        errors=[{"code": 7003, "message": message, "more": [{"path": message}]}],
        body=('{"errors":[{"message":"' + message + '"}]}').encode(),
    )
    text = status_error(404, 7003, "no", body=message)
    decode = DecodeError(f"what is {message}", body=f"Authorization: Bearer s3cret-token {message}")

    for hidden in (error, text, decode):
        redact_error(hidden, [])
        assert "s3cret" not in visible(hidden)
    assert "/ai/run/@cf/a/b" in str(error)
    assert isinstance(error.body, bytes)
    assert b"/accounts/***/ai" in error.body


@pytest.mark.parametrize(
    "text",
    [
        '{"api_key": "another-secret", "project": "p"}',
        '{"api_key": ["another-secret"]}',
        '{"api_key": "another-sec',
        r"{\"api_key\": \"another-secret\"}",
        "api_key=another-secret",
        "api_key: 'another-secret'",
    ],
)
def test_a_key_of_another_service_is_hidden(text: str) -> None:
    redacted = redact_error_text(text, [])
    assert "another" not in redacted
    assert "api_key" in redacted


def test_a_key_in_a_decoded_body_is_hidden() -> None:
    error = BadRequest("no", status=400, errors=[{"wandb": {"api_key": 6, "project": "p"}}])
    redact_error(error, [])
    assert error.errors == ({"wandb": {"api_key": "***", "project": "p"}},)


def test_a_stray_byte_of_a_header_can_be_printed_afterwards() -> None:
    error = CfaiError("caf\udce9")
    redact_error(error, [SECRET])
    assert str(error) == "caf?"


def test_only_whole_secrets_are_hidden_in_the_result_of_a_tool() -> None:
    """It is data, in which a piece of a secret may be an ordinary word."""
    secret = "documentation-2026"  # noqa: S105
    text = redact_whole_secrets("documentation of documentation-2026", [secret])
    assert text == "documentation of ***"
