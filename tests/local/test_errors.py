"""The errors as they are sent: status, code, message and form, byte for byte."""

import re
from datetime import date

import orjson
import pytest

from cfai.local import errors
from cfai.local.errors import ApiError

# Of the model layer: `AiError`, and an id at the end. Sources: cloudflare-docs, workers-ai,
# "Errors"; the bodies recorded in the issues that the module names. 9000x are the server's own.
BY_MODEL = [
    (errors.unknown_model("@cf/a/b"), 400, 5007, "AiError: No such model @cf/a/b or task"),
    (
        errors.retired_model(date(2026, 5, 30)),
        410,
        5028,
        (
            "Model has been deprecated: This model was deprecated on 2026-05-30. "
            "Please use an alternative model."
        ),
    ),
    (errors.missing_body(), 400, 3003, "AiError: Missing headers or body"),
    (errors.bad_input("x must be y"), 400, 5006, "AiError: Bad input: Error: x must be y"),
    (
        errors.request_too_large(10),
        413,
        3006,
        "AiError: Request is too large: the limit is 10 bytes",
    ),
    (errors.unknown_lora("l"), 400, 3037, "AiError: Finetune l not found"),
    (errors.incomplete_lora("l"), 400, 3039, "AiError: Finetune l is missing required files"),
    (
        errors.capacity_exceeded(),
        429,
        3040,
        "AiError: Capacity temporarily exceeded, please try again.",
    ),
    (
        errors.quota_used_up(),
        429,
        3036,
        "AiError: You have used up your daily free allocation of 10,000 neurons",
    ),
    (errors.rejected_by_model("no"), 400, 5006, "AiError: no"),
    (
        errors.text_too_long("text", 9, 5),
        400,
        5006,
        "AiError: text has 9 characters, more than the 5 that the local model reads",
    ),
    (
        errors.context_exceeded(7, 5),
        400,
        3030,
        "AiError: Max context reached 7 tokens but model supports only 5",
    ),
    (errors.json_mode_failed(), 400, 90002, "AiError: JSON Mode couldn't be met"),
    (
        errors.truncated_call(3),
        400,
        8006,
        "AiError: max_tokens is too low for the tool call: it ended after 3",
    ),
    (
        errors.internal_error(ValueError("oops")),
        500,
        8005,
        "AiError: Internal Server Error: ValueError: oops",
    ),
]

OTHERS = [
    (
        errors.forbidden_origin(),
        403,
        10000,
        "cfai local: requests from web pages of other origins are refused",
    ),
    (errors.not_authenticated(), 401, 10000, "Authentication error"),
    (errors.no_route(), 400, 7000, "No route for that URI"),
    (
        errors.path_not_found("/x"),
        404,
        7003,
        "Could not route to /x, perhaps your object identifier is invalid?",
    ),
    (errors.method_not_allowed("PUT"), 405, 7001, "Method PUT not available for that URI."),
    (
        errors.unreadable_request(417, "why"),
        417,
        90003,
        "cfai local: cannot read the request: why",
    ),
    (errors.unknown_finetune("f"), 404, 90003, "Finetune f not found"),
    (errors.unknown_batch("b"), 404, 90003, "Batch b not found"),
    (errors.invalid_request("why"), 400, 90003, "why"),
    (errors.not_supported("why"), 501, 90001, "cfai local: why"),
    (
        errors.upstream_failed("why"),
        502,
        90004,
        "cfai local: the upstream server failed: why",
    ),
    (errors.not_recorded("why"), 400, 90005, "cfai local: why"),
    (
        errors.too_many_requests(1200, 300.0, 7),
        429,
        90006,
        (
            "More than 1200 requests per 300 seconds reached. "
            "Please wait and consider throttling your request speed"
        ),
    ),
]


@pytest.mark.parametrize(("error", "status", "code", "message"), BY_MODEL)
def test_errors_of_the_model_layer(error: ApiError, status: int, code: int, message: str) -> None:
    assert error.status == status
    pattern = (
        rb'\{"result":\{\},"success":false,"errors":\[\{"message":"AiError: %s \([0-9a-f-]{36}\)",'
        rb'"code":%d\}\],"messages":\[\]\}'
    ) % (re.escape(message).encode(), code)
    assert re.fullmatch(pattern, orjson.dumps(error.body()))
    assert error.body() != error.body(), "each response has its own id"


@pytest.mark.parametrize(("error", "status", "code", "message"), OTHERS)
def test_errors_before_a_model(error: ApiError, status: int, code: int, message: str) -> None:
    assert error.status == status
    assert error.body() == {
        "result": None,
        "success": False,
        "errors": [{"code": code, "message": message}],
        "messages": [],
    }


def test_only_a_limit_that_ends_says_when() -> None:
    """`Retry-After`, in seconds."""
    pauses = {error.code: error.retry_after for error, *_ in [*BY_MODEL, *OTHERS]}
    assert {code: pause for code, pause in pauses.items() if pause is not None} == {90006: 7}
    assert errors.capacity_exceeded(3).retry_after == 3
