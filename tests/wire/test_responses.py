"""Responses: their headers and their envelopes."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings, strategies as st
from multidict import CIMultiDict

from cfai._wire.responses import (
    Response,
    begins_events,
    is_json_type,
    is_stream,
    read_media_type,
    read_meta,
    read_retry_after,
    read_unknown_encoding,
    unwrap_result,
)
from cfai.errors import DecodeError
from cfai.meta import Meta

NOW = datetime(2026, 9, 2, 10, 0, 0, tzinfo=UTC)


def response(body: bytes, kind: str | None = "application/json", status: int = 200) -> Response:
    headers = {} if kind is None else {"Content-Type": kind}
    return Response(status, headers, body, read_meta(status, headers, attempts=1, elapsed=0.0))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        # RFC 9110, section 10.2.3: seconds, or a date.
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "30"}, 30.0),
        ({"Retry-After": " 30 "}, 30.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "Wed, 02 Sep 2026 10:01:30 GMT"}, 90.0),
        ({"Retry-After": "Wed, 02 Sep 2026 12:01:30 +0200"}, 90.0),
        ({"Retry-After": "Wednesday, 02-Sep-26 10:01:30 GMT"}, 90.0),
        ({"Retry-After": "Wed Sep  2 10:01:30 2026"}, 90.0),
        ({"Retry-After": "Wed, 02 Sep 2026 09:59:00 GMT"}, 0.0),
        # The openai and anthropic services say milliseconds so, and clients of both read it.
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0"}, 0.0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "9"}, 9.0),
        # What is negative, no number or no date says nothing.
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Foo 2026 10:01:30 GMT"}, None),
        ({"Retry-After": "Wed, 02 Sep 99999999999999999999 10:01:30 GMT"}, None),
        ({"Retry-After": "Wed, 02 Sep 2026 10:01:30 +999999999999"}, None),
        ({"retry-after-ms": "-1"}, None),
    ],
)
def test_retry_after_is_read_in_every_form(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert read_retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 13 Nov 2026 11:59:40 GMT", 20.0),
        ("Fri, 13 Nov 2026 12:00:00 GMT", 0.0),
        ("Fri, 13 Nov 2026 12:00:01 GMT", 0.0),
        ("yesterday", 60.0),
        ("", 60.0),
    ],
)
def test_a_retry_after_is_compared_with_the_date_of_its_response(date: str, seconds: float) -> None:
    """The clock of this machine may be wrong. It is used if the response has no valid date."""
    headers = {"Retry-After": "Fri, 13 Nov 2026 12:00:00 GMT", "Date": date}
    now = datetime(2026, 11, 13, 11, 59, tzinfo=UTC)
    assert read_retry_after(headers, now) == seconds


@given(
    st.lists(
        st.sampled_from(["Wed", ",", " ", " ", ":", "-", "+", "Sep", "GMT", "PM", "."])
        | st.integers(0, 10**12).map(str),
        max_size=16,
    ).map("".join)
    | st.text(max_size=20)
)
@example("Wed, 02 Sep 1 00:00:00 +2359")
@example("0 Sep 0 0:3000000000 0")
@settings(max_examples=300, deadline=None)
def test_any_retry_after_is_seconds_or_none(value: str) -> None:
    """A finite number, 0 or more."""
    seconds = read_retry_after({"Retry-After": value, "retry-after-ms": value}, NOW)
    assert seconds is None or 0 <= seconds < math.inf


@pytest.mark.parametrize(
    ("header", "kind", "json"),
    [
        ("application/json", "application/json", True),
        ("application/json; charset=utf-8", "application/json", True),
        ("Application/JSON;charset=UTF-8", "application/json", True),
        (" application/problem+json ", "application/problem+json", True),
        ("text/event-stream; charset=utf-8", "text/event-stream", False),
        ("TEXT/EVENT-STREAM", "text/event-stream", False),
        ("image/png", "image/png", False),
        ("application/jsonl", "application/jsonl", False),
        ("", "", False),
        (";", "", False),
    ],
)
def test_a_content_type_is_read_without_case_and_parameters(
    header: str, kind: str, json: bool
) -> None:
    assert read_media_type({"Content-Type": header}) == kind
    assert is_json_type(kind) is json


def test_headers_become_meta() -> None:
    """Cloudflare docs, "Rate limits" and AI Gateway ("Auto Router" has the values of the last
    three); `cf-ai-req-id`: workerd, ai-api.ts; `cf-ai-neurons`: xujialiu/Zotero-TTS, pull 72."""
    headers = {
        "Content-Type": "application/json",
        "cf-ray": "8f1a-AMS",
        "cf-ai-req-id": "req-1",
        "Ratelimit": '"default";r=50;t=30',
        "Ratelimit-Policy": '"burst";q=100;w=60',
        "cf-aig-log-id": "log-1",
        "cf-aig-cache-status": "HIT",
        "cfai-backend": "smollm2",
        "cf-ai-neurons": "2.73",
        "cf-aig-request-id": "gateway-1",
        "cf-aig-event-id": "event-1",
        "cf-aig-run-id": "run-1",
        "cf-aig-step": "2",
        "cf-aig-routed-model": "openai/gpt-5.6-luna",
        "cf-aig-routing-reason": "cost_optimal_within_pool",
        "cf-aig-routing-decision-id": "91e0b970-33f0-4921-b8dc-127412e7b103",
    }
    assert read_meta(200, headers, attempts=2, elapsed=1.5) == Meta(
        status=200,
        ray_id="8f1a-AMS",
        request_id="req-1",
        attempts=2,
        elapsed=1.5,
        rate_limit='"default";r=50;t=30',
        rate_limit_policy='"burst";q=100;w=60',
        gateway_log_id="log-1",
        cache_status="HIT",
        media_type="application/json",
        backend="smollm2",
        neurons=2.73,
        gateway_request_id="gateway-1",
        gateway_event_id="event-1",
        gateway_run_id="run-1",
        gateway_step="2",
        routed_model="openai/gpt-5.6-luna",
        routing_reason="cost_optimal_within_pool",
        routing_decision_id="91e0b970-33f0-4921-b8dc-127412e7b103",
    )
    assert read_meta(200, {}, attempts=1, elapsed=0.0) == Meta(status=200)


@pytest.mark.parametrize(
    ("header", "neurons"),
    [
        ("0", 0.0),
        ("57.6", 57.6),
        ("1e-3", 0.001),
        ("", None),
        ("many", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_a_malformed_number_of_neurons_does_not_lose_the_answer(
    header: str, neurons: float | None
) -> None:
    headers = {"cf-ai-neurons": header}
    assert read_meta(200, headers, attempts=1, elapsed=0.0).neurons == neurons


@pytest.mark.parametrize(
    ("document", "result"),
    [
        ({"result": {"a": 1}, "success": True}, {"a": 1}),
        ({"result": None, "success": True}, None),
        ({"result": [1]}, [1]),
        # github.com/cloudflare/ai, createRunBinary: `data.result ?? data`.
        ({"text": "hi"}, {"text": "hi"}),
        ([1], [1]),
        (None, None),
        ("a", "a"),
    ],
)
def test_the_envelope_may_be_missing(document: object, result: object) -> None:
    assert unwrap_result(document) == result


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "application/json", r"200 \(application/json\) with an empty body"),
        (b"", None, r"200 \(no Content-Type\) with an empty body"),
        (b'{"a":', "application/json", "with a body that is not JSON"),
        (b"undefined", "application/json", "with a body that is not JSON"),
        (b"NaNa", "application/json", "with a body that is not JSON"),
        (b'{"a":1}garbage', "application/json", "with a body that is not JSON"),
        (b"<html>", "text/html", r"200 \(text/html\) with a body that is not JSON"),
        (
            b"[" * 1000 + b"]" * 1000,
            "application/json",
            r"with JSON that can't be read: it is nested deeper than 200 levels$",
        ),
    ],
)
def test_a_body_that_is_not_json_is_an_error_with_the_body(
    body: bytes, kind: str | None, said: str
) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        response(body, kind).json()
    assert caught.value.body == body
    assert caught.value.meta == response(body, kind).meta


@pytest.mark.parametrize(
    ("status", "media_type", "media", "socket", "expected"),
    [
        (200, "text/event-stream", False, False, True),
        (200, "audio/mpeg", True, False, True),
        (200, "audio/mpeg", False, False, False),
        (200, "application/json", True, False, False),
        (429, "text/event-stream", False, False, False),
        (101, "", False, False, False),
        (101, "", False, True, True),
        (200, "text/event-stream", False, True, False),
        (200, "application/json", False, True, False),
        (403, "application/json", False, True, False),
    ],
)
def test_what_is_read_as_it_arrives(
    status: int, media_type: str, media: bool, socket: bool, expected: bool
) -> None:
    assert is_stream(status, media_type, media=media, socket=socket) == expected


def test_invalid_utf8_in_json_is_replaced_as_a_browser_does() -> None:
    assert response(b'{"response":"a\xffb"}').json() == {"response": "a\ufffdb"}


def test_the_repr_of_a_response_does_not_show_its_body_or_headers() -> None:
    """They may contain private texts or credentials."""
    shown = repr(Response(200, {"x-secret": "s3cret"}, b"private", Meta()))
    assert "s3cret" not in shown
    assert "private" not in shown


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Text/HTML; charset=utf-8", "text/html"),
        ("", ""),
        ("image/\udcfe", "image/?"),
        ("im\u00e4ge/png", "im\u00e4ge/png"),
    ],
)
def test_a_media_type_can_be_encoded(header: str, kind: str) -> None:
    """aiohttp decodes other bytes than UTF-8 to lone surrogates."""
    assert read_media_type({"Content-Type": header}) == kind


# The beginning of a body of the wrong kind


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *((name, True) for name in (b"data:", b"event: x", b"id:1", b"retry:", b": comment")),
        (b"\xef\xbb\xbfdata:", True),
        (b"\r\n\ndata:", True),
        (b"\xef\xbb\xbf\ndata:", True),
        (b"", None),
        (b"\n", None),
        (b"dat", None),
        (b"\xef\xbb", None),
        (b"\xef\xbb\xbfeve", None),
        (b"{", False),
        (b"data", None),
        (b"dat:", False),
        (b" data:", False),
        (b"<html>", False),
        (b"\xef\xbb\xbf{", False),
    ],
)
def test_how_a_body_of_events_begins(data: bytes, expected: bool | None) -> None:
    """With a field of an event (WHATWG HTML, "Server-sent events"); `None` is too little."""
    assert begins_events(data) is expected


@pytest.mark.parametrize(
    ("encodings", "unknown"),
    [
        ([], ""),
        (["gzip"], ""),
        (["BR"], ""),
        (["identity"], ""),
        (["utf-8, identity"], ""),
        (["aws-chunked"], ""),
        ([""], ""),
        (["snappy"], "snappy"),
        (["gzip, gzip"], "gzip, gzip"),
        (["gzip", "br"], "gzip, br"),
        (["identity", "gzip"], "identity, gzip"),
    ],
)
def test_which_encodings_nobody_decodes(encodings: list[str], unknown: str) -> None:
    """aiohttp decodes one; none at all has several names."""
    headers = CIMultiDict(("Content-Encoding", value) for value in encodings)
    assert read_unknown_encoding(headers) == unknown


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        ("application/json", True),
        ("application/problem+json", True),
        ("text/json", False),
        ("application/jsonl", False),
        ("", False),
    ],
)
def test_which_types_are_json(media_type: str, is_json: bool) -> None:
    """RFC 6839, section 3.1. Media that arrive piece by piece are none of these."""
    assert is_json_type(media_type) is is_json
    assert is_stream(200, media_type, media=True) is not (is_json or media_type == "text/json")
