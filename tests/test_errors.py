"""Errors: classes for statuses and codes, messages and hints, pickling."""

import copy
import pickle
import sys
from array import array
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cfai import WorkersAI, errors
from cfai.conversation import Conversation
from cfai.errors import (
    BODY_LIMIT,
    CODES,
    AnswerTooLarge,
    AuthenticationError,
    BadRequest,
    BudgetExceeded,
    CapacityExceeded,
    CfaiError,
    Conflict,
    DecodeError,
    InputError,
    MethodNotAllowed,
    MissingExtra,
    ModelRetired,
    NotFound,
    ParseError,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
    ToolLoopExceeded,
    UploadInterrupted,
    next_reset,
    status_error,
)
from cfai.meta import Meta
from cfai.tasks import Embeddings, Text
from cfai.testing import FakeWorkersAI

META = Meta(status=429, ray_id="8f1-AMS", attempts=3)


def all_error_classes(root: type[CfaiError] = CfaiError) -> Iterator[type[CfaiError]]:
    """All error classes of the module, without subclasses defined by tests."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_error_classes(child)


EXAMPLES: list[tuple[type[CfaiError], str, dict[str, Any]]] = [
    (
        StatusError,
        "no",
        {
            "status": 429,
            "code": 3040,
            "errors": [{"code": 3040, "message": "no"}],
            "ray_id": "8f1-AMS",
            "retry_after": 1.5,
            "body": b'{"success":false}',
            "meta": META,
        },
    ),
    (BudgetExceeded, "used up", {"budget": 10, "spent": 10.5}),
    (RequestTimeout, "too slow", {"phase": "idle", "limit": 60.0}),
    (UploadInterrupted, "cut", {"sent": 6, "size": 10}),
    (StreamInterrupted, "cut", {"answer": Text("Hel"), "events": 2}),
    (AnswerTooLarge, "too much", {"limit": 1024, "meta": META}),
    (ParseError, "no Recipe", {"answer": Text("Hm.", meta=META)}),
    (
        ToolLoopExceeded,
        "too many",
        {"limit": 3, "answer": Text("Hm."), "messages": Conversation().user("Hi")},
    ),
    (DecodeError, "what?", {"body": "<html>", "meta": META}),
    (MissingExtra, "numpy", {"needed_for": "Embeddings.numpy()"}),
    (CfaiError, "something is wrong", {}),
]
"""The arguments of each class with arguments of its own; a subclass has those of its base."""


def example(kind: type[CfaiError]) -> CfaiError:
    message, facts = next((row[1], row[2]) for row in EXAMPLES if issubclass(kind, row[0]))
    return kind(message, **facts)


def pickle_and_unpickle(error: CfaiError) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # made in this very line


@pytest.mark.parametrize("kind", sorted(set(all_error_classes()), key=str))
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, pickle_and_unpickle])
def test_every_error_survives_pickling_and_copying(kind: type[CfaiError], travel: Any) -> None:
    """With its class, message and attributes."""
    sent = example(kind)
    sent.add_note("while embedding row 7")
    arrived = travel(sent)

    assert type(arrived) is kind
    assert str(arrived) == str(sent)
    assert arrived.args == sent.args
    assert vars(arrived) == vars(sent)


def test_the_tree_in_the_module_docstring_is_complete() -> None:
    """It has all classes of the module, and no others."""
    assert errors.__doc__
    for kind in all_error_classes():
        assert f" {kind.__name__}" in f" {errors.__doc__}".replace("\n", " "), kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthenticationError),
        (402, StatusError),
        (403, PermissionDenied),
        (404, NotFound),
        (405, MethodNotAllowed),
        (408, ServiceTimeout),
        (409, Conflict),
        (413, RequestTooLarge),
        (418, StatusError),
        (422, BadRequest),
        (429, RateLimited),
        (499, StatusError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
        (529, ServerError),
        (599, ServerError),
        (301, StatusError),
    ],
)
def test_the_class_for_a_status(status: int, kind: type[StatusError]) -> None:
    error = status_error(status, None, "no")

    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, None, "no")


# The service's code table: code, its HTTP status, what it must become.
CODE_TABLE = [
    (5007, 400, BadRequest),
    (5004, 400, BadRequest),
    (3039, 400, BadRequest),
    (3003, 400, BadRequest),
    (5018, 403, PermissionDenied),
    (3041, 403, PermissionDenied),
    (5016, 403, PermissionDenied),
    (3023, 403, PermissionDenied),
    (5019, 405, MethodNotAllowed),
    (5005, 405, MethodNotAllowed),
    (3042, 404, NotFound),
    (3006, 413, RequestTooLarge),
    (3007, 408, ServiceTimeout),
    (3008, 408, ServiceTimeout),
    (3036, 429, QuotaExceeded),
    (3040, 429, CapacityExceeded),
    (4006, 429, QuotaExceeded),
    (5028, 410, ModelRetired),
    (3037, 400, BadRequest),
    (5006, 400, BadRequest),
    (8001, 400, BadRequest),
    (8005, 500, ServerError),
    (8006, 400, BadRequest),
    (1001, 400, BadRequest),
    (7000, 400, BadRequest),
    (7003, 404, NotFound),
    (10000, 401, AuthenticationError),
    (2001, 400, BadRequest),
    (2009, 401, AuthenticationError),
    (2016, None, BadRequest),
    (2017, None, BadRequest),
    (2021, 402, StatusError),
    (2003, 400, BadRequest),
    (2008, 400, BadRequest),
    (3010, 500, ServerError),
    (3030, 400, BadRequest),
    (3046, 408, ServiceTimeout),
    (5012, 422, BadRequest),
    (5021, 413, RequestTooLarge),
    (5023, 400, BadRequest),
    (5025, 400, BadRequest),
    (5030, 400, BadRequest),
    (5035, 403, PermissionDenied),
    (6003, 400, BadRequest),
]


def test_the_table_covers_all_codes() -> None:
    assert {code for code, _, _ in CODE_TABLE} == set(CODES)


@pytest.mark.parametrize(("code", "status", "kind"), CODE_TABLE)
def test_the_class_for_a_code(code: int, status: int | None, kind: type[StatusError]) -> None:
    """With its own status, and with HTTP 200."""
    assert type(status_error(status or 424, code, "no")) is kind
    for none in (None, 200):
        error = status_error(none, code, "no")
        assert type(error) is (kind if status else BadRequest)
        assert error.status == (status or 400)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3036, QuotaExceeded),
        (4006, QuotaExceeded),
        (3040, CapacityExceeded),
        (5028, ModelRetired),
        (3007, ServiceTimeout),
        (5007, BadRequest),
        (3042, NotFound),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 403, 429, 500, 503])
def test_a_documented_code_overrides_the_status(
    code: int, kind: type[StatusError], status: int
) -> None:
    error = status_error(status, code, "no")

    assert type(error) is kind
    assert error.status == (CODES[code].status if status == 200 else status)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, 10000, AuthenticationError),
        (403, 10000, PermissionDenied),
        (404, 7000, NotFound),
        (500, 5006, ServerError),
        (400, 8005, BadRequest),
        (404, 3037, NotFound),
        (429, 12345, RateLimited),
        (200, 12345, BadRequest),
        (None, 12345, BadRequest),
        (200, None, StatusError),
        (None, None, ServerError),
        (302, 12345, StatusError),
        (422, 5012, BadRequest),
        (529, 5012, ServerError),
        (200, 503, ServerError),
        (None, 500, ServerError),
        (None, 429, RateLimited),
        (404, 500, NotFound),
    ],
)
def test_the_status_overrides_an_undocumented_code(
    status: int | None, code: int | None, kind: type[StatusError]
) -> None:
    assert type(status_error(status, code, "no")) is kind


def test_quota_exceeded_is_not_rate_limited() -> None:
    """Code that retries after RateLimited must not retry after a used-up quota."""
    assert not issubclass(QuotaExceeded, RateLimited)
    assert issubclass(CapacityExceeded, RateLimited)


def test_an_input_error_is_a_value_error_and_a_missing_extra_an_import_error() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingExtra, ImportError)
    assert str(MissingExtra("numpy", needed_for="Embeddings.numpy()")) == (
        "Embeddings.numpy() needs an extra: pip install 'cfai-sdk[numpy]'"
    )


async def _give_array() -> object:
    return Embeddings((1, 2), array("f", [1, 0.5])).numpy()


async def _run_job(ai: WorkersAI, **options: Any) -> object:
    async with ai.embed_many("@cf/baai/bge-m3", ["one"], **options) as job:
        return await job.numpy()


NEEDS: dict[str, tuple[str, str, Callable[[WorkersAI], Awaitable[object]]]] = {
    "numpy": ("numpy", "Embeddings.numpy()", lambda _: _give_array()),
    "numpy of a job": ("numpy", "EmbeddingJob.numpy()", _run_job),
    "tqdm": ("progress", "progress=True", lambda ai: _run_job(ai, progress=True)),
}
"""By the library that is missing: the extra, what needs it, and a use."""


@pytest.mark.parametrize("name", NEEDS)
async def test_what_needs_a_missing_library_names_its_extra(
    fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before anything is sent."""
    extra, needed_for, use = NEEDS[name]
    monkeypatch.setitem(sys.modules, name.split(maxsplit=1)[0], None)
    with pytest.raises(MissingExtra) as caught:
        await use(fake.client())
    assert str(caught.value) == f"{needed_for} needs an extra: pip install 'cfai-sdk[{extra}]'"
    assert not fake.requests


@pytest.mark.parametrize(
    ("now", "reset"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)),
        (
            datetime(2026, 2, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
    ],
)
def test_the_quota_resets_at_the_next_midnight_utc(now: datetime, reset: datetime) -> None:
    assert next_reset(now) == reset


def test_quota_exceeded_has_the_time_of_the_reset() -> None:
    before = next_reset(datetime.now(UTC))
    error = status_error(429, 4006, "you have used up your daily free allocation")
    after = next_reset(datetime.now(UTC))

    assert isinstance(error, QuotaExceeded)
    assert before <= error.resets_at <= after
    assert error.resets_at.utcoffset() == timedelta(0)


def test_the_message_of_a_status_error() -> None:
    error = status_error(
        429, 3040, "Capacity temporarily exceeded", ray_id="8f1-AMS", retry_after=30.0
    )

    assert str(error) == (
        "429 (code 3040): Capacity temporarily exceeded [retry after 30 s] [ray 8f1-AMS]\n"
        "The model is busy: try again soon, or use another model."
    )
    assert str(status_error(418, None, "short")) == "418: short"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, 10000, "Workers AI Read"),
        (401, None, "Workers AI Read"),
        (404, 7003, "account id"),
        (400, 5007, "name"),
        (403, 5016, "licence"),
        (413, 3006, "less"),
        (413, None, "less"),
        (400, 7000, "base URL"),
        (429, 3036, "00:00 UTC"),
    ],
)
def test_hints(status: int, code: int | None, words: str) -> None:
    error = status_error(status, code, "no")

    assert error.hint is not None
    assert words in error.hint
    assert error.hint in str(error)


@pytest.mark.parametrize(
    ("status", "code", "message", "words"),
    [
        # anomalyco/opencode, issue 35753.
        (400, 8006, "Invalid data for image - reason invalid base64 encoding", "data URI"),
        (400, 8006, "max_tokens is too small for a forced tool call", "max_tokens"),
        (400, 8006, "something else", None),
        # Captured live: the limit of one text, and that of a request.
        (400, 3030, "AiError: AiError: Sequence too long: 9003 > 8192 (f660)", "Shorten the text"),
        (
            400,
            3030,
            "Max context reached 85920 tokens but model supports only 60000",
            "fewer texts",
        ),
        (400, 3030, "output flagged", "safety filter"),
        (400, 3030, "input tensor not present", "schema"),
        (400, 3030, "something else", None),
        (400, 6003, "Invalid format for Authorization header (code 6111)", "token"),
        (400, 6003, "Invalid request headers", None),
        (403, 5035, "no", "Workers Paid"),
        (400, 5023, "no", "`run`"),
        (400, 5025, "This model doesn't support JSON Schema", "model with JSON mode"),
        (413, 5021, "no", "send less"),
        (500, 5030, "no", "string"),
        (429, None, "You have used up your daily free allocation of 10,000 neurons", "00:00 UTC"),
    ],
)
def test_a_hint_fits_the_message(
    status: int, code: int | None, message: str, words: str | None
) -> None:
    """A code with several meanings has a hint for each of them, and none for others."""
    hint = status_error(status, code, message).hint
    assert words in hint if words is not None and hint is not None else hint is words


@pytest.mark.parametrize("status", [None, 200, 400, 429, 500])
@pytest.mark.parametrize("code", [None, 12345])
def test_a_used_up_quota_is_recognised_by_its_text(status: int | None, code: int | None) -> None:
    """Source of the text: code 4006, live."""
    message = "you have used up your daily free allocation of 10,000 neurons"
    error = status_error(status, code, message)

    assert type(error) is QuotaExceeded
    assert (error.code, error.status) == (code, 429 if status in (None, 200) else status)


def test_the_code_decides_over_the_text() -> None:
    assert type(status_error(400, 5006, "prompt: 'daily free allocation'")) is BadRequest


def test_errors_keep_the_beginning_of_the_body() -> None:
    assert status_error(500, None, "no", body="x" * 10_000).body == "x" * BODY_LIMIT
    assert DecodeError("no", body=b"\xff" * 10_000).body == b"\xff" * BODY_LIMIT
    assert status_error(500, None, "no").body is None


@pytest.mark.parametrize("status", [None, 200, 201, 299])
@pytest.mark.parametrize("code", [None, 429])
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Rate limited", RateLimited),
        ("TOO MANY REQUESTS", RateLimited),
        ("Capacity temporarily exceeded, please try again.", CapacityExceeded),
    ],
)
def test_words_count_if_nothing_else_says_what_it_is(
    status: int | None, code: int | None, message: str, kind: type[StatusError]
) -> None:
    """Neither an error status nor a code of the service."""
    error = status_error(status, code, message)
    assert (type(error), error.status, error.code) == (kind, 429, code)
    assert type(status_error(status, 5006, message)) is BadRequest
    assert type(status_error(status, 777777, message)) is BadRequest
    assert type(status_error(500, code, message)) is ServerError
    assert type(status_error(300, code, message)) is StatusError
    assert type(status_error(199, code, message)) is StatusError


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (None, None, 500),
        (200, None, 200),
        (299, None, 299),
        (None, 399, 400),
        (None, 400, 400),
        (200, 599, 599),
        (200, 600, 400),
        (None, 777777, 400),
        (300, 503, 300),
        (199, 503, 199),
        (404, 503, 404),
    ],
)
def test_the_status_of_an_error_without_an_error_status(
    status: int | None, code: int | None, expected: int
) -> None:
    """That of a code that is itself a status, or else of a bad request."""
    assert status_error(status, code, "no").status == expected
