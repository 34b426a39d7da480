"""Errors that the service reports: every form of body by its bytes, without secrets."""

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cfai._session.redaction import redact_error
from cfai._wire.errors import (
    error_from_document,
    error_from_event,
    error_from_response,
    is_unsuccessful,
    parse_error_body,
    read_document,
    reports_error,
)
from cfai._wire.responses import Response, read_meta
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    CapacityExceeded,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
    StatusError,
)
from cfai.meta import Meta

NOW = datetime(2026, 9, 2, 10, 0, 0, tzinfo=UTC)
# The example of the API's own page.
TOKEN = "Sn3lZJTBX6kkg7OdcBUAxOO963GEIyGQqnFTOFYY"  # noqa: S105


def response(
    body: bytes | str, status: int, kind: str = "application/json", **more: str
) -> Response:
    headers = {"Content-Type": kind, "cf-ray": "8f1a-AMS", **more}
    data = body.encode() if isinstance(body, str) else body
    return Response(status, headers, data, read_meta(status, headers, attempts=1, elapsed=0.0))


def error_of(body: bytes | str, status: int, kind: str = "application/json") -> StatusError:
    error = error_from_response(response(body, status, kind), now=NOW)
    redact_error(error, [TOKEN])
    return error


# Body, status, and the class, code and message of the error.
FORMS: dict[str, tuple[str, int, type[StatusError], int | None, str]] = {
    # 1. A run, live: github.com/cloudflare/cloudflare-docs, issues 23272 and 14757.
    "run": (
        (
            '{"errors":[{"message":"AiError: AiError: Finetune abc not found '
            '(63371b53-4237-44f1-baec-b690284ac214)","code":3037}],"success":false,"result":{},'
            '"messages":[]}'
        ),
        400,
        BadRequest,
        3037,
        "AiError: AiError: Finetune abc not found (63371b53-4237-44f1-baec-b690284ac214)",
    ),
    # 2. The edge, which repeats the path: github.com/sst/opencode, issue 23773.
    "edge": (
        (
            '{"result":null,"success":false,"errors":[{"code":7003,"message":"Could not route to '
            f"/client/v4/accounts/{TOKEN}/ai/v1/chat/completions, perhaps your object identifier "
            'is invalid?"}],"messages":[]}'
        ),
        404,
        NotFound,
        7003,
        (
            "Could not route to /client/v4/accounts/***/ai/v1/chat/completions, perhaps your "
            "object identifier is invalid?"
        ),
    ),
    # 3. Cloudflare's OpenAPI document of August 2024: no code, a code as text, `errors` as text,
    # `error` as text.
    "no code": (
        '{"errors":[{"message":"bad"}],"result":{},"success":false}',
        400,
        BadRequest,
        None,
        "bad",
    ),
    "code as text": (
        '{"errors":[{"code":"10000","message":"Authentication error"}],"success":false}',
        401,
        AuthenticationError,
        10000,
        "Authentication error",
    ),
    "errors as text": (
        '{"errors":"bad asset","success":false}',
        400,
        BadRequest,
        None,
        "bad asset",
    ),
    "beside a number that JSON has not, in lines": (
        '{"errors":\n[{"code":\n7003,\n"message":\n"no route"}],\n"cost": NaN\n}',
        404,
        NotFound,
        7003,
        "no route",
    ),
    "error as text": (
        '{"error":"no such model","success":false}',
        404,
        NotFound,
        None,
        "no such model",
    ),
    # 4. The Workers binding: github.com/cloudflare/workerd, ai-mock.js.
    "binding": (
        (
            '{"internalCode":1001,"message":"InvalidInput: prompt is missing",'
            '"name":"InvalidInput","description":"prompt is missing"}'
        ),
        400,
        BadRequest,
        1001,
        "InvalidInput: prompt is missing",
    ),
    # 5. The AI Gateway: github.com/cloudflare/ai, ai-gateway-provider/test/errors.test.ts.
    "gateway": (
        '{"success":false,"error":[{"code":2001,"message":"Please configure AI Gateway"}]}',
        400,
        BadRequest,
        2001,
        "Please configure AI Gateway",
    ),
    # 6. The edge, with a chain of causes: cloudflare/workers-sdk, issue 5175.
    "chain": (
        (
            '{"success":false,"errors":[{"code":6003,"message":"Invalid request headers",'
            '"error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}],'
            '"messages":[],"result":null}'
        ),
        400,
        BadRequest,
        6003,
        "Invalid request headers; Invalid format for Authorization header (code 6111)",
    ),
    # 7. Clef's message is the JSON of another envelope, with an id: juspay/neurolink,
    # cloudflare-clef.md (the form in words; the bytes are ours).
    "envelope in the message": (
        (
            '{"errors":[{"message":"AiError: AiError: {\\"success\\":false,\\"errors\\":'
            '[{\\"code\\":5012,\\"message\\":\\"questions: at most 64 items\\"}]} (0b0b)",'
            '"code":5012}],"success":false,"result":{},"messages":[]}'
        ),
        422,
        BadRequest,
        5012,
        "questions: at most 64 items",
    ),
    "inference failed": (
        (
            '{"errors":[{"message":"AiError: AiError: {\\"error\\":{\\"type\\":'
            '\\"inference_error\\",\\"message\\":\\"Clef inference failed\\"}} (0b0b)",'
            '"code":5012}],"success":false,"result":{},"messages":[]}'
        ),
        529,
        ServerError,
        5012,
        "Clef inference failed",
    ),
    "no envelope in the message": (
        '{"errors":[{"message":"AiError: {not JSON","code":5012}],"success":false}',
        422,
        BadRequest,
        5012,
        "AiError: {not JSON",
    ),
    "JSON inside a sentence": (
        '{"errors":[{"message":"Bad input: {\\"message\\":\\"a\\"} is no text","code":5006}]}',
        400,
        BadRequest,
        5006,
        'Bad input: {"message":"a"} is no text',
    ),
    # 8. The quota, without a code: the text is that of code 4006.
    "quota without a code": (
        (
            '{"errors":[{"message":"you have used up your daily free allocation of 10,000 neurons,'
            " please upgrade to Cloudflare's Workers Paid plan"
            '"}],"success":false}'
        ),
        429,
        QuotaExceeded,
        None,
        (
            "you have used up your daily free allocation of 10,000 neurons, please upgrade to"
            " Cloudflare's Workers Paid plan"
        ),
    ),
    # 9. Providers behind it, and edges that speak HTML or plain text.
    "provider": (
        '{"error":{"message":"Overloaded","type":"overloaded_error","param":null,"code":null}}',
        529,
        ServerError,
        None,
        "Overloaded",
    ),
    "provider, code as a word": (
        '{"error":{"message":"Bad key","code":"invalid_api_key"}}',
        401,
        AuthenticationError,
        None,
        "Bad key",
    ),
    "message": ('{"message":"Not today"}', 403, PermissionDenied, None, "Not today"),
    "message beside success": (
        '{"success":false,"message":"Not today"}',
        403,
        PermissionDenied,
        None,
        "Not today",
    ),
    "several": (
        (
            '{"success":false,"errors":[{"message":"first"},{"code":5006,"message":"second"},'
            '{"code":5007,"message":"third"}]}'
        ),
        400,
        BadRequest,
        5006,
        "first; second; third",
    ),
}


@pytest.mark.parametrize(("body", "status", "kind", "code", "message"), FORMS.values(), ids=FORMS)
def test_every_form_of_body_becomes_an_error(
    body: str, status: int, kind: type[StatusError], code: int | None, message: str
) -> None:
    """With the class, the code and the message, whoever wrote the body."""
    error = error_of(body, status)
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, code, message)
    assert error.ray_id == "8f1a-AMS"
    assert error.meta == Meta(status=status, ray_id="8f1a-AMS", media_type="application/json")
    assert error.body == body.replace(TOKEN, "***")
    assert TOKEN not in str(error) + repr(error) + repr(vars(error))


# The page of Cloudflare's edge for an origin that is down.
HTML = """<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body>\r
<center><h1>502 Bad Gateway</h1></center>\r
<hr><center>cloudflare</center>\r
</body>\r
</html>\r
"""


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (
            HTML,
            "text/html",
            "502 Bad Gateway 502 Bad Gateway cloudflare",
        ),
        ("error code: 502", "text/plain; charset=UTF-8", "error code: 502"),
        ("upstream connect error\n\n or reset", "text/plain", "upstream connect error or reset"),
        ("", "text/html", "Bad Gateway"),
        ("", "application/json", "Bad Gateway"),
        ("null", "application/json", "null"),
        ("{}", "application/json", "{}"),
        ("[]", "application/json", "[]"),
        ('"no"', "application/json", '"no"'),
        ('{"success":false,"errors":[],"result":null}', "application/json", "Bad Gateway"),
        ('{"errors":[null, 6, "", {}, [], {"message":null}]}', "application/json", "Bad Gateway"),
        ('{"errors":[{"message":"a"', "application/json", '{"errors":[{"message":"a"'),
        (b"\xff\xfe\x00", "application/octet-stream", "\ufffd\ufffd\x00"),
    ],
)  # fmt: skip
def test_a_body_without_a_known_error_is_in_the_message(
    body: bytes | str, kind: str, message: str
) -> None:
    """HTML, text, nothing, null, half a document: the status decides the class."""
    error = error_of(body, 502, kind)
    assert type(error) is ServerError
    assert (error.status, error.code, error.message) == (502, None, message)


def test_an_unknown_status_has_a_message() -> None:
    error = error_of("", 599)
    assert type(error) is ServerError
    assert error.message == "no reason given"


def test_a_redirect_is_an_error_that_says_so() -> None:
    """It is not followed: credentials are sent to one origin only."""
    error = error_of("<html>Moved</html>", 302, "text/html")
    assert type(error) is StatusError
    assert "redirect" in error.message


def test_retry_after_is_read_for_every_status() -> None:
    """Not only for 429 and 503: the API's own block lasts five minutes."""
    for status in (400, 403, 408, 429, 503):
        said = response('{"errors":[]}', status, **{"Retry-After": "300"})
        assert error_from_response(said, now=NOW).retry_after == 300.0


def test_a_large_body_is_cut() -> None:
    """An error stays small."""
    error = error_of("x" * 10_000_000, 500, "text/plain")
    assert error.body is not None
    assert len(error.body) == 4096
    assert len(error.message) <= 200


# Code, the status it comes with, its class. Sources: see `tests/session/test_retries.py`.
CODES = [
    (5007, 400, BadRequest), (5004, 400, BadRequest), (3039, 400, BadRequest),
    (3003, 400, BadRequest), (5018, 403, PermissionDenied), (3041, 403, PermissionDenied),
    (5016, 403, PermissionDenied), (3023, 403, PermissionDenied), (5019, 405, MethodNotAllowed),
    (5005, 405, MethodNotAllowed), (3042, 404, NotFound), (3006, 413, RequestTooLarge),
    (3007, 408, ServiceTimeout), (3008, 408, ServiceTimeout), (3036, 429, QuotaExceeded),
    (3040, 429, CapacityExceeded), (4006, 429, QuotaExceeded), (3037, 400, BadRequest),
    (5006, 400, BadRequest), (8001, 400, BadRequest), (8005, 500, ServerError),
    (8006, 400, BadRequest), (1001, 400, BadRequest), (7000, 400, BadRequest),
    (7003, 404, NotFound), (10000, 401, AuthenticationError), (10000, 403, PermissionDenied),
    (2001, 400, BadRequest), (2009, 401, AuthenticationError), (2021, 402, StatusError),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "kind"), CODES)
def test_every_code_has_its_class(code: int, status: int, kind: type[StatusError]) -> None:
    body = json.dumps({"errors": [{"message": "no", "code": code}], "success": False})
    error = error_of(body, status)
    assert (type(error), error.code, error.status) == (kind, code, status)


# `success: false` under 200


@pytest.mark.parametrize(("code", "status", "kind"), CODES[:-1])
def test_a_refusal_under_status_200_is_the_same_error(
    code: int, status: int, kind: type[StatusError]
) -> None:
    """The official SDK returns `None` for these."""
    document = {"result": None, "success": False, "errors": [{"code": code, "message": "no"}]}
    said = response(json.dumps(document), 200)
    assert is_unsuccessful(document)
    error = error_from_document(document, said)
    if (code, status) != (10000, 403):
        assert type(error) is kind
        assert error.status == status
    assert (error.code, error.message) == (code, "no")


def test_a_refusal_without_a_reason_is_an_error() -> None:
    for document in ({"success": False}, {"success": False, "errors": [], "result": {}}):
        assert is_unsuccessful(document)
        error = error_from_document(document, response(json.dumps(document), 200))
        assert type(error) is StatusError
        assert error.status == 200
        assert "success: false" in error.message


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"success": False}, True),
        ({"success": False, "errors": [], "result": {"response": "a"}}, True),
        ({"success": True, "errors": [{"message": "a warning"}]}, False),
        ({"errors": [{"message": "no"}]}, True),
        ({"errors": [{"message": "no"}], "response": "a"}, False),
        ({"error": "no", "result": None}, True),
        ({"internalCode": 3040}, True),
        ({"errors": [], "error": None}, False),
        ([{"success": False}], False),
    ],
)
def test_which_documents_are_errors(document: Any, expected: bool) -> None:
    """Those that say so, and those with errors and no answer."""
    assert reports_error(document) is expected


@pytest.mark.parametrize(
    "document",
    [
        {"success": True, "errors": [], "result": {}},
        {"success": True, "errors": [{"message": "a warning"}]},
        {"success": None},
        {"success": 0},
        {"result": {"success": False}},
        {"response": "a"},
        [{"success": False}],
        None,
        "success",
    ],
)
def test_only_success_false_is_a_refusal(document: Any) -> None:
    """A zero is not false, and a result may contain anything."""
    assert not is_unsuccessful(document)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        # A public client's test of JSON mode.
        (
            '{"error":{"message":"JSON Mode couldn\'t be met: invalid schema"}}',
            StatusError,
            "JSON Mode couldn't be met: invalid schema",
        ),
        # chroma-core/chroma, issue 7284.
        ('{"errors":["rate limited"]}', RateLimited, "rate limited"),
        ('{"error":"Too Many Requests"}', RateLimited, "Too Many"),
        ('{"error":{"message":"You hit the rate limit"}}', RateLimited, "You hit"),
        ('{"errors":[{"code":429,"message":"Rate limit exceeded"}]}', RateLimited, "Rate limit"),
        ('{"errors":["Capacity temporarily exceeded."]}', CapacityExceeded, "Capacity"),
        # A used-up quota counts wherever it stands: it must not be asked for twice.
        (
            '{"errors":[{"code":3040,"message":"busy"},{"code":4006,"message":"no"}]}',
            QuotaExceeded,
            "busy; no",
        ),
        (
            '{"errors":[{"code":1000,"message":"no","error_chain":[{"code":3036,"message":"x"}]}]}',
            QuotaExceeded,
            "no; x (code 3036)",
        ),
        (
            '{"error":{"code":5012,"message":"Error: {\\"errors\\":[{\\"code\\":4006}]} (a-1)"}}',
            QuotaExceeded,
            "Error: {",
        ),
        ('{"error":{"error":{"code":"4006","message":"no"}}}', QuotaExceeded, "no"),
        # The code beside the error.
        ('{"error":"no","code":4006}', QuotaExceeded, "no"),
        ('{"error":{"message":"no"},"code":"3040"}', CapacityExceeded, "no"),
        ('{"errors":["no"],"internalCode":3036}', QuotaExceeded, "no"),
        ('{"error":{"message":"no","code":3040},"code":1}', CapacityExceeded, "no"),
        ('{"errors":["you have used up your daily free allocation"]}', QuotaExceeded, "you have"),
        ('{"errors":[{"code":4006,"message":"no"}],"result":{}}', QuotaExceeded, "no"),
        ('{"errors":[{"code":3040,"message":"no"}],"result":null}', CapacityExceeded, "no"),
        ('{"internalCode":1001,"message":"InvalidInput: x"}', BadRequest, "InvalidInput: x"),
        ('{"error":"no","output":[],"choices":[]}', StatusError, "no"),
        ('{"errors":[{"code":12345,"message":"no"}]}', BadRequest, "no"),
    ],
)
def test_errors_under_status_200_need_no_success_false(
    body: str, kind: type[StatusError], message: str
) -> None:
    with pytest.raises(StatusError) as caught:
        read_document(response(body, 200))
    assert type(caught.value) is kind
    assert caught.value.message.startswith(message)
    assert caught.value.body == body


@pytest.mark.parametrize(
    "body",
    [
        '{"result":{"response":"a"},"errors":["a warning"]}',
        '{"success":true,"errors":["a warning"]}',
        '{"choices":[{}],"error":{"message":"a warning"}}',
        '{"response":"a","error":"a warning"}',
        '{"errors":[],"error":null,"message":"hello"}',
        '[{"error":"no"}]',
        '{"result":{"error":"no"}}',
    ],
)
def test_an_answer_beside_errors_is_not_lost(body: str) -> None:
    assert read_document(response(body, 200)) == json.loads(body)


# The body of code 4006 as an event, with status 429.
QUOTA_EVENT = (
    b'data: {"errors":[{"message":"AiError: AiError: you have used up your daily free allocation'
    b' of 10,000 neurons (0b0b)","code":4006}],"success":false,"result":{},"messages":[]}\n\n'
)


@pytest.mark.parametrize("prefix", [b"", b": ping\n\n", b"event: error\n"])
def test_an_error_status_with_an_event_is_read(prefix: bytes) -> None:
    error = error_of(prefix + QUOTA_EVENT, 429, "text/event-stream")
    assert (type(error), error.code) == (QuotaExceeded, 4006)
    assert error.message.startswith("AiError: AiError: you have used up")


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"errors":[{"code":4006,"message":"used up"}]}',
        b'data: {"errors":[{"code":4006,"message":"used up"}]}\n\n',
        b'data: {"errors":\ndata: [{"code":4006,"message":"used up"}]}\n\n',
        b'data: {"errors":\r\ndata:[{"code":4006,"message":"used up"}]}',
        b'data: {"response":"a"}\n\n{"errors":[{"code":4006,"message":"used up"}]}\n',
        b'data: {"errors":[{"code":4006,"message":"used up"}]}\ndata: [DONE]\n\n',
        b'event: error\rdata: {"code":4006,"message":"used up"}\r\r',
    ],
)
def test_a_used_up_quota_is_known_in_every_form(before: bytes, body: bytes) -> None:
    """With a byte order mark, and over several lines."""
    error = error_of(before + body, 429, "text/event-stream")
    assert (type(error), error.code, error.message) == (QuotaExceeded, 4006, "used up")


def test_the_login_of_a_proxy_names_its_place() -> None:
    """Without a tunnel, the proxy's refusal is the answer."""
    error = error_of(b"<html>Proxy Authentication Required</html>", 407, "text/html")
    assert (type(error), error.status) == (StatusError, 407)
    assert "the proxy requires a login: put the user name" in str(error)


# Inside a stream: no error event has been recorded, so every form of body is read.

META = Meta(status=200, ray_id="8f1a-AMS")


def event_error(document: Any, *, named_error: bool = False) -> StatusError | None:
    return error_from_event(document, is_named_error=named_error, meta=META)


@pytest.mark.parametrize(
    ("document", "kind", "code", "message"),
    [
        ({"errors": [{"code": 3040, "message": "busy"}]}, CapacityExceeded, 3040, "busy"),
        ({"errors": [{"code": 4006, "message": "used"}]}, QuotaExceeded, 4006, "used"),
        ({"errors": [{"code": 3007, "message": "slow"}]}, ServiceTimeout, 3007, "slow"),
        ({"errors": [{"code": 5006, "message": "bad"}]}, BadRequest, 5006, "bad"),
        ({"errors": [{"message": "broken"}]}, ServerError, None, "broken"),
        ({"errors": "broken"}, ServerError, None, "broken"),
        ({"error": "broken"}, ServerError, None, "broken"),
        ({"error": {"message": "broken", "code": 8005}}, ServerError, 8005, "broken"),
        ({"error": {"message": "broken", "code": 503}}, ServerError, 503, "broken"),
        ({"error": {"message": "broken", "code": 12345}}, BadRequest, 12345, "broken"),
        ({"error": [{"code": 2009, "message": "who?"}]}, AuthenticationError, 2009, "who?"),
        ({"error": {"type": "server_error"}}, ServerError, None, "the stream reported an error"),
        ({"internalCode": 1001, "message": "InvalidInput: x"}, BadRequest, 1001, "InvalidInput: x"),
        ({"success": False}, ServerError, None, "the stream reported an error"),
        ({"success": False, "errors": [{"code": 3036, "message": "q"}]}, QuotaExceeded, 3036, "q"),
        ({"response": "a", "error": {"message": "broken"}}, ServerError, None, "broken"),
    ],
)
def test_an_error_event_has_the_class_that_its_status_would_have_had(
    document: Any, kind: type[StatusError], code: int | None, message: str
) -> None:
    """The status of the response is 200; the code tells what was meant."""
    error = event_error(document)
    assert error is not None
    assert type(error) is kind
    assert error.code == code
    assert error.message.startswith(message)
    assert error.meta is META
    assert error.ray_id == "8f1a-AMS"
    assert error.status >= 400


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"message": "broken"}, "broken"),
        ({"type": "error", "message": "broken"}, "broken"),
        ("broken", "broken"),
        (None, "None"),
        ({}, "the stream reported an error without a reason"),
        ({"errors": []}, "the stream reported an error without a reason"),
    ],
)
def test_an_event_named_error_is_an_error_whatever_it_contains(document: Any, message: str) -> None:
    error = event_error(document, named_error=True)
    assert type(error) is ServerError
    assert error.message == message


@pytest.mark.parametrize(
    "document",
    [
        {"response": "a"},
        {"response": "a", "errors": [], "error": None, "success": True},
        {"response": "a", "message": "hello"},
        {"choices": []},
        {},
        [],
        None,
        "error",
        6,
    ],
)
def test_an_event_without_an_error_reports_none(document: Any) -> None:
    assert event_error(document) is None


# Hostile bodies

DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "body",
    [
        '{"errors":[{"code":"' + "9" * 5000 + '","message":"no"}],"success":false}',
        '{"errors":[{"code":' + "9" * 5000 + ',"message":"no"}],"success":false}',
        '{"errors":[{"code":1e300,"message":"no"}],"success":false}',
        '{"errors":[{"code":true,"message":{"a":1}}],"success":false}',
        '{"errors":[{"code":"٣","message":["a"]}],"success":false}',
        f'{{"errors":[{{"message":{DEEP}}}],"success":false}}',
        f'{{"errors":[{{"message":"no","deep":{DEEP}}}],"success":false}}',
        f'{{"errors":{DEEP},"success":false}}',
        f'{{"error":{{"message":"no","deep":{DEEP}}},"success":false}}',
        f'{{"internalCode":{DEEP},"message":"no","success":false}}',
    ],
)
def test_a_hostile_body_is_a_cfai_error(body: str) -> None:
    """Under an error status, under 200, and inside a stream."""
    error = error_of(body, 400)
    assert type(error) is BadRequest
    pickle.dumps(error)
    repr(error.errors)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    assert is_unsuccessful(document)
    assert isinstance(error_from_document(document, response(body, 200)), StatusError)
    assert isinstance(event_error(document), StatusError)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["errors", "error", "code", "message", "internalCode", "success", "result"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_json_is_an_error_or_none(document: Any, named: bool) -> None:
    parse_error_body(document)
    event_error(document, named_error=named)
    error_from_document(document, response("{}", 200))
    assert isinstance(error_of(json.dumps(document), 418), StatusError)


# Secrets


@pytest.mark.parametrize(
    "body",
    [
        f'{{"errors":[{{"message":"bad token {TOKEN}","code":10000,"seen":["{TOKEN}"]}}]}}',
        f'{{"errors":[{{"message":{{"token":"{TOKEN}"}}}}]}}',
        f'{{"errors":"bad token {TOKEN}"}}',
        f'{{"error":{{"message":"bad token {TOKEN}","deep":{{"a":[{{"b":"{TOKEN}"}}]}}}}}}',
        f'{{"error":{{"message":"bad","{TOKEN}":1}}}}',
        f'{{"internalCode":1001,"message":"{TOKEN}","description":"{TOKEN}"}}',
        f'{{"message":"{TOKEN}"}}',
        f"<html>Authorization: Bearer {TOKEN}</html>",
        f"{TOKEN}",
        "x" * 4080 + TOKEN,
        "x" * 8180 + TOKEN,
        f'{{"errors":[{{"message":"/accounts/{TOKEN}/ai","code":7003}}]}}',
    ],
)
def test_no_error_repeats_a_secret(body: str) -> None:
    """Neither in its message, `repr`, entries or body, nor in its pickle."""
    error = error_of(body, 401)
    shown = (str(error), repr(error), repr(vars(error)), repr(error.errors), repr(error.body))
    for text in (*shown, repr(pickle.dumps(error))):
        assert TOKEN not in text
        assert TOKEN[:16] not in text


def test_rate_limited_is_not_capacity() -> None:
    assert type(error_of('{"errors":[{"code":1,"message":"slow down"}]}', 429)) is RateLimited


# Bounds of what is kept


@pytest.mark.parametrize("character", ["x", "é", "中", "😀"])
@pytest.mark.parametrize("count", [4095, 4096, 4097, 20_000])
def test_an_error_keeps_the_first_characters_of_a_body(character: str, count: int) -> None:
    """Characters, and not bytes: those of UTF-8 have up to four."""
    error = error_of(character * count, 500, "text/plain")
    assert error.body == character * min(count, 4096)


@pytest.mark.parametrize(
    ("count", "message"),
    [(1, "x"), (199, "x" * 199), (200, "x" * 200), (201, "x" * 199 + "…"), (5000, "x" * 199 + "…")],
)
def test_the_text_of_a_page_is_cut_with_a_mark(count: int, message: str) -> None:
    page = f"<html><head></head><body>  {'x' * count}\n</body></html>"
    assert error_of(page, 502, "text/html").message == message
    assert error_of("<p>" + " " * 5000 + page, 502, "text/html").message == "Bad Gateway"
    # What follows is not known, so a short text has the mark, too.
    assert error_of("x" + " " * 4094, 502, "text/html").message == "x"
    assert error_of("x" + " " * 4095, 502, "text/html").message == "x…"


@pytest.mark.parametrize(("depth", "is_kept"), [(14, True), (15, True), (16, False), (100, False)])
def test_the_levels_of_an_entry_are_limited(depth: int, is_kept: bool) -> None:
    """The message is read nevertheless."""
    inner: Any = 7
    for _ in range(depth):
        inner = [inner]
    error = error_of(json.dumps({"errors": [{"message": "no", "details": inner}]}), 400)
    assert error.message == "no"
    (entry,) = error.errors
    value = entry["details"]
    while isinstance(value, list):
        (value,) = value
    assert value == (7 if is_kept else "…")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("5007", 5007),
        ("999999999", 999999999),
        ("1000000000", None),
        ("", None),
        ("-1", None),
        ("５００７", None),
        (5007, 5007),
        (True, None),
        (5007.0, None),
    ],
)
@pytest.mark.parametrize("name", ["code", "internalCode"])
def test_what_is_a_code(name: str, code: Any, expected: int | None) -> None:
    body = json.dumps({"errors": [{name: code, "message": "no"}]})
    assert error_of(body, 400).code == expected


@pytest.mark.parametrize(("before", "is_found"), [(65_000, True), (65_536, False)])
def test_an_event_is_looked_for_at_the_beginning(before: int, is_found: bool) -> None:
    """In 64 KiB: the body of an error can be as large as an answer."""
    event = b'data: {"errors":[{"code":4006,"message":"used up"}]}\n\n'
    error = error_of(b":" + b"x" * (before - 3) + b"\n\n" + event, 429, "text/event-stream")
    assert error.code == (4006 if is_found else None)


def count_values(value: Any) -> int:
    """The values in a value, with itself; each text is at most as long as may be."""
    if isinstance(value, dict):
        assert all(len(name) <= 4096 for name in value)
        return 1 + sum(map(count_values, value.values()))
    if isinstance(value, list | tuple):
        return 1 + sum(map(count_values, value))
    assert not isinstance(value, str) or len(value) <= 4096
    return 1


ENTRIES = [{"code": 1, "message": "m"} for _ in range(100_000)]
CAUSES = {"code": 1, "message": "m", "error_chain": ENTRIES}
TREE: Any = "leaf"
for _ in range(8):
    TREE = [TREE] * 6

HUGE: dict[str, Any] = {
    "entries": {"errors": ENTRIES},
    "entries of text": {"errors": ["m"] * 100_000},
    "entries below error": {"error": ENTRIES},
    "causes": {"errors": [CAUSES]},
    "entries with causes": {"errors": [CAUSES, CAUSES]},
    "a list in an entry": {"errors": [{"code": 1, "message": "m", "rows": ["x"] * 100_000}]},
    "names in an entry": {
        "error": {"code": 1, "message": "m"} | {f"n{n}": n for n in range(99_999)}
    },
    "a long name": {"error": {"code": 1, "message": "m", "x" * 10**6: 1}},
    "names beside the message": {"message": "m", "internalCode": 1}
    | {f"n{n}": n for n in range(99_999)},
    "a tree": {"errors": [{"code": 1, "message": "m", "tree": TREE}]},
    "long messages": {"errors": [{"code": 1, "message": "m" * 10**5}] * 40},
    "a long message": {"errors": [{"code": 1, "message": "m" * 10**6}]},
    "a long text": {"error": "m" * 10**6},
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("status", [200, 400, 429])
def test_what_is_kept_of_a_huge_body_is_bounded(name: str, status: int) -> None:
    """Its code and its message are read; each text in an error is searched for secrets."""
    error = error_of(json.dumps({"success": False, **HUGE[name]}), status)
    assert error.code in (1, None)
    assert error.message.startswith("m")
    assert len(error.message) <= 4096
    assert len(error.errors) <= 100
    assert count_values(error.errors) <= 2001
    event = error_from_event(HUGE[name], is_named_error=True, meta=Meta())
    assert event is not None
    assert (event.message, event.errors) == (error.message, error.errors) or name.startswith(
        "names"
    )


@pytest.mark.parametrize(("count", "left"), [(1, 1), (99, 99), (100, 100), (101, 100)])
def test_the_entries_of_an_error_are_limited(count: int, left: int) -> None:
    """Each of them is as it came."""
    entries = [{"code": 7000 + n, "message": f"m{n}"} for n in range(count)]
    error = error_of(json.dumps({"errors": entries}), 400)
    assert error.errors == tuple(entries[:left])
    assert error.message == "; ".join(f"m{n}" for n in range(left))


@pytest.mark.parametrize(("count", "is_cut"), [(4095, False), (4096, False), (4097, True)])
def test_the_texts_of_an_error_are_limited(count: int, is_cut: bool) -> None:
    """With a mark at their end, where redaction looks for the beginning of a secret."""
    error = error_of(json.dumps({"errors": [{"message": "m" * count}]}), 400)
    expected = f"{'m' * 4095}…" if is_cut else "m" * count
    assert (error.message, error.errors) == (expected, ({"message": expected},))
