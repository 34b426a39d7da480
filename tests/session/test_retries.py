"""Which failed attempts are repeated, and after which delay."""

import math

import pytest
from hypothesis import given, strategies as st

from cfai._session.retries import retry_delay, should_fall_back
from cfai.errors import (
    AnswerTooLarge,
    AuthenticationError,
    BadRequest,
    CapacityExceeded,
    CfaiError,
    ConfigError,
    Conflict,
    ConnectError,
    ConnectionLost,
    DecodeError,
    InputError,
    MissingExtra,
    ModelRetired,
    NotFound,
    PermissionDenied,
    Phase,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    StatusError,
    StreamInterrupted,
    StreamUnsupported,
    status_error,
)
from cfai.meta import Meta
from cfai.settings import Retries

RETRIES = Retries(max=3, max_busy=0, base=0.5, cap=8.0, max_wait=60.0)


def delay(
    error: CfaiError,
    attempt: int = 1,
    *,
    retries: Retries = RETRIES,
    repeatable: bool = True,
    seconds_left: float | None = None,
    fraction: float = 1.0,
) -> float | None:
    return retry_delay(
        retries,
        attempt,
        error,
        repeatable=repeatable,
        seconds_left=seconds_left,
        random=lambda: fraction,
    )


def status(number: int, code: int | None = None, retry_after: float | None = None) -> StatusError:
    return status_error(number, code, "no", retry_after=retry_after)


# Error, whether a repeatable request is retried, and whether any other request is.
ERRORS: list[tuple[CfaiError, bool, bool]] = [
    # Nothing was carried out.
    (ConnectError("no"), True, True),
    (RequestTimeout("slow", phase="connect"), True, True),
    (status(429), True, True),
    (status(429, 3040), True, True),
    # It may have been carried out.
    (ConnectionLost("cut"), True, False),
    (StreamInterrupted("cut"), True, False),
    (status(408), True, False),
    (status(408, 3007), True, False),
    (status(408, 3008), True, False),
    (status(400, 3007), True, False),
    (status(200, 3008), True, False),
    (status(500), True, False),
    (status(500, 8005), True, False),
    (status(502), True, False),
    (status(503), True, False),
    (status(504), True, False),
    (status(529), True, False),
    # It is not implemented; 90001 is a code of the local server.
    (status(501), False, False),
    (status(501, 90001), False, False),
    # Code 3040 means that nothing was carried out, with any status.
    (status(200, 3040), True, True),
    (status(503, 3040), True, True),
    # The daily allocation is only renewed at midnight.
    (status(429, 3036), False, False),
    (status(429, 4006), False, False),
    (status(503, 4006), False, False),
    (status(429, 3036, retry_after=1.0), False, False),
    # A retired model does not come back.
    *[(status(number, 5028), False, False) for number in (200, 400, 410, 429, 500)],
    # After the first event, another attempt would repeat it.
    (StreamInterrupted("cut", events=1), False, False),
    # A limit set by the user.
    *[
        (RequestTimeout("slow", phase=phase), False, False)
        for phase in ("pool", "response", "idle", "content", "total")
    ],
    # The service would answer the same again.
    *[(status(number), False, False) for number in (300, 304, 400, 401, 402, 403, 404, 405, 409)],
    *[(status(number), False, False) for number in (410, 413, 415, 418, 422, 451)],
    (status(200), False, False),
    (DecodeError("what?"), False, False),
    # Only the words of the message say what it is.
    (status_error(200, None, "rate limited", meta=Meta(status=200)), False, False),
    (status_error(429, None, "rate limited", meta=Meta(status=429)), True, True),
    (status_error(200, 3040, "busy", meta=Meta(status=200)), True, True),
    (AnswerTooLarge("much", limit=1), False, False),
    (StreamUnsupported("no"), False, False),
    (InputError("no"), False, False),
    (ConfigError("no"), False, False),
    (MissingExtra("numpy", needed_for="that"), False, False),
    (CfaiError("what?"), False, False),
]


@pytest.mark.parametrize(("error", "repeatable", "always"), ERRORS, ids=repr)
def test_which_errors_are_retried(error: CfaiError, repeatable: bool, always: bool) -> None:
    """Depends on class, code and status, and on whether the request may be carried out twice."""
    for attempt in (1, 2, 3):
        assert (delay(error, attempt) is not None) is repeatable
        assert (delay(error, attempt, repeatable=False) is not None) is always
    assert delay(error, 4) is None
    assert delay(error, retries=Retries(max=0)) is None


# The service's codes: code, HTTP status, class, whether it is retried.
# Source: developers.cloudflare.com/workers-ai/platform/errors down to 3040; the others were
# observed: cloudflare-docs issues 14757, 29731 and 32574, cloudflare/ai changelogs 3.1.6 and 3.2.0,
# cloudflare-python issue 2718, and Cloudflare's own gateway client.
CODES: list[tuple[int | None, int, type[StatusError], bool]] = [
    (5007, 400, BadRequest, False),
    (5004, 400, BadRequest, False),
    (3039, 400, BadRequest, False),
    (3003, 400, BadRequest, False),
    (5018, 403, PermissionDenied, False),
    (3041, 403, PermissionDenied, False),
    (5016, 403, PermissionDenied, False),
    (3023, 403, PermissionDenied, False),
    (5019, 405, StatusError, False),
    (5005, 405, StatusError, False),
    (3042, 404, NotFound, False),
    (3006, 413, RequestTooLarge, False),
    (3007, 408, StatusError, True),
    (3008, 408, StatusError, True),
    (3036, 429, QuotaExceeded, False),
    (3040, 429, CapacityExceeded, True),
    (4006, 429, QuotaExceeded, False),
    (5028, 410, ModelRetired, False),
    (5028, 400, ModelRetired, False),
    (3037, 400, BadRequest, False),
    (5006, 400, BadRequest, False),
    (8001, 400, BadRequest, False),
    (8005, 500, ServerError, True),
    (8005, 400, BadRequest, False),
    (8006, 400, BadRequest, False),
    (1001, 400, BadRequest, False),
    (None, 400, BadRequest, False),
    (7000, 400, BadRequest, False),
    (7003, 404, NotFound, False),
    (10000, 401, AuthenticationError, False),
    (10000, 403, PermissionDenied, False),
    (9109, 403, PermissionDenied, False),
    (2001, 400, BadRequest, False),
    (2009, 401, AuthenticationError, False),
    (2016, 400, BadRequest, False),
    (2017, 400, BadRequest, False),
    (2021, 402, StatusError, False),
    (2003, 400, BadRequest, False),
    (2008, 400, BadRequest, False),
    (3010, 500, ServerError, True),
    (3030, 400, BadRequest, False),
    (3046, 408, StatusError, True),
    (5012, 422, BadRequest, False),
    (5012, 529, ServerError, True),
    (5021, 413, RequestTooLarge, False),
    (5023, 400, BadRequest, False),
    (5025, 400, BadRequest, False),
    (5030, 500, BadRequest, False),
    (5035, 403, PermissionDenied, False),
    (6003, 400, BadRequest, False),
    (None, 409, Conflict, False),
    (None, 429, RateLimited, True),
]


@pytest.mark.parametrize(("code", "number", "kind", "is_retried"), CODES)
def test_which_codes_are_retried(
    code: int | None, number: int, kind: type[StatusError], is_retried: bool
) -> None:
    """The code decides, not the status, which is the same for a used-up quota and a busy model."""
    error = status(number, code)
    assert isinstance(error, kind)
    assert (delay(error) is not None) is is_retried


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (2000, 8.0)],
)
def test_the_delay_has_full_jitter_up_to_a_cap(attempt: int, longest: float) -> None:
    """Uniform from 0 to a bound that doubles, so that many clients do not return at once."""
    many = Retries(max=5000, base=0.5, cap=8.0)
    for fraction in (0.0, 0.25, 0.999):
        assert delay(status(500), attempt, retries=many, fraction=fraction) == fraction * longest


@pytest.mark.parametrize(
    ("retry_after", "seconds_left", "seconds"),
    [
        # A Retry-After is obeyed exactly, up to max_wait, but is not shorter than the backoff.
        (0.0, None, 0.5),
        (0.001, None, 0.5),
        (1.5, None, 1.5),
        (60.0, None, 60.0),
        (60.001, None, None),
        (300.0, None, None),
        # No delay that ends at the deadline or later.
        (None, 0.5, None),
        (None, 0.501, 0.5),
        (None, 0.0, None),
        (10.0, 10.0, None),
        (10.0, 10.001, 10.0),
        (0.0, 0.0, None),
        (0.0, 0.501, 0.5),
        (0.0, 0.001, None),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(429, None), (429, 3040), (503, None), (408, 3007)])
def test_retry_after_and_the_deadline_are_kept(
    retry_after: float | None,
    seconds_left: float | None,
    seconds: float | None,
    number: int,
    code: int | None,
) -> None:
    assert delay(status(number, code, retry_after), seconds_left=seconds_left) == seconds


# Error, and whether it says that the service is busy.
BUSY: list[tuple[CfaiError, bool]] = [
    (status(429), True),
    (status(429, 3040), True),
    (status(200, 3040), True),
    (status(503), True),
    (status(503, 3040), True),
    (status(529), True),
    (status(529, 5012), True),
    (status(500), False),
    (status(500, 3010), False),
    (status(500, 8005), False),
    (status(502), False),
    (status(504), False),
    (status(408, 3007), False),
    (status(408, 3046), False),
    (ConnectError("no"), False),
    (ConnectionLost("cut"), False),
    (StreamInterrupted("cut"), False),
    (RequestTimeout("slow", phase="connect"), False),
]


@pytest.mark.parametrize(("error", "busy"), BUSY, ids=repr)
def test_a_busy_service_is_waited_for(error: CfaiError, busy: bool) -> None:
    """More attempts, whose delays have a lower bound: six of them could be over in a second."""
    retries = Retries()
    bounds = [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (4.0, 8.0), (4.0, 8.0)]
    if not busy:
        bounds = [(0.0, 0.5), (0.0, 1.0)]
    for attempt, (shortest, longest) in enumerate(bounds, 1):
        assert delay(error, attempt, retries=retries, fraction=0.0) == shortest
        assert delay(error, attempt, retries=retries, fraction=1.0) == longest
    assert delay(error, len(bounds) + 1, retries=retries) is None


@pytest.mark.parametrize(
    ("retries", "attempts", "first_delay"),
    [
        (Retries(max=0), 0, None),
        (Retries(max=0, max_busy=9), 0, None),
        (Retries(max=1, max_busy=0), 1, 0.5),
        (Retries(max=2, max_busy=2), 2, 0.5),
        (Retries(max=2, max_busy=3), 3, 1.0),
        (Retries(max=1), 6, 1.0),
        (Retries(max=5), 6, 1.0),
        (Retries(max=6), 6, 0.5),
        (Retries(max=8), 8, 0.5),
        (Retries(base=0), 6, 0.0),
        (Retries(base=6), 6, 8.0),
        (Retries(cap=0.25), 6, 0.25),
    ],
    ids=repr,
)
def test_max_busy_counts_if_it_is_larger_than_max(
    retries: Retries, attempts: int, first_delay: float | None
) -> None:
    delays = [delay(status(429, 3040), attempt, retries=retries) for attempt in range(1, 10)]
    assert delays[0] == first_delay
    assert [found is not None for found in delays] == [True] * attempts + [False] * (9 - attempts)


@pytest.mark.parametrize(("retry_after", "seconds"), [(20.0, 20.0), (61.0, None)])
def test_a_busy_service_that_names_a_delay_is_obeyed(
    retry_after: float, seconds: float | None
) -> None:
    for attempt in range(1, 7):
        found = delay(status(429, 3040, retry_after), attempt, retries=Retries())
        assert found == seconds


def test_a_busy_service_is_waited_for_within_the_deadline() -> None:
    assert delay(status(429, 3040), 5, retries=Retries(), seconds_left=8.0) is None
    assert delay(status(429, 3040), 5, retries=Retries(), seconds_left=8.1) == 8.0


# Error, and whether another model is asked after it.
FALLBACK: list[tuple[CfaiError, bool]] = [
    *[(status(number, 5028), True) for number in (200, 400, 410)],
    (status(403, 5035), True),
    *[(status(number, 3040), True) for number in (200, 429, 503)],
    *[(status(number), True) for number in (500, 501, 502, 503, 504, 520, 524, 529)],
    (status(500, 3010), True),
    (status(500, 8005), True),
    (status(501, 90001), True),
    (status(529, 5012), True),
    (status(408), True),
    *[(status(408, code), True) for code in (3007, 3008, 3046)],
    (ConnectError("no"), True),
    (RequestTimeout("slow", phase="connect"), True),
    (ConnectionLost("cut"), True),
    (StreamInterrupted("cut"), True),
    # The reader has a part of the answer.
    (StreamInterrupted("cut", events=1), False),
    # The account.
    (status(429), False),
    (status(429, 3036), False),
    (status(429, 4006), False),
    (status(503, 4006), False),
    (status(401, 10000), False),
    (status(401, 2009), False),
    (status(402, 2021), False),
    (status(403), False),
    *[(status(403, code), False) for code in (5016, 5018, 3041, 3023, 10000)],
    # The request.
    *[(status(number), False) for number in (300, 400, 404, 405, 409, 410, 413, 415, 422, 451)],
    *[(status(400, code), False) for code in (5004, 5006, 5007, 3030, 5023, 7000, 8006, 2016)],
    (status(404, 3042), False),
    (status(405, 5005), False),
    (status(413, 5021), False),
    (status(422, 5012), False),
    (status(500, 5030), False),
    # The model may still answer, or has.
    *[
        (RequestTimeout("slow", phase=phase), False)
        for phase in ("pool", "response", "idle", "content", "total")
    ],
    (DecodeError("what?"), False),
    (AnswerTooLarge("much", limit=1), False),
    (StreamUnsupported("no"), False),
    # Nothing was sent.
    (InputError("no"), False),
    (ConfigError("no"), False),
    (CfaiError("what?"), False),
]


@pytest.mark.parametrize(("error", "falls_back"), FALLBACK, ids=repr)
def test_after_which_errors_another_model_is_asked(error: CfaiError, falls_back: bool) -> None:
    """What is wrong with the model or on the way to it, and not with the request or the account."""
    assert should_fall_back(error) is falls_back


def test_the_deadline_is_kept_after_connection_errors() -> None:
    for error in (ConnectError("no"), ConnectionLost("cut")):
        assert delay(error, seconds_left=0.4) is None
        assert delay(error, seconds_left=0.6) == 0.5


@given(
    st.sampled_from(ERRORS),
    st.integers(1, 10),
    st.none() | st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.builds(
        Retries,
        max=st.integers(0, 5),
        max_busy=st.integers(0, 8),
        base=st.floats(0, 100),
        cap=st.floats(0, 100),
        max_wait=st.floats(0, 100),
    ),
)
def test_a_delay_is_never_longer_than_allowed(
    row: tuple[CfaiError, bool, bool],
    attempt: int,
    seconds_left: float | None,
    fraction: float,
    retries: Retries,
) -> None:
    """For any settings: finite, not negative, within the deadline and the bounds."""
    seconds = delay(row[0], attempt, retries=retries, seconds_left=seconds_left, fraction=fraction)
    if seconds is not None:
        assert attempt <= max(retries.max, retries.max_busy)
        assert 0 <= seconds <= max(retries.cap, retries.max_wait)
        assert math.isfinite(seconds)
        assert seconds_left is None or seconds < seconds_left


def test_the_table_covers_every_phase() -> None:
    phases = {error.phase for error, _, _ in ERRORS if isinstance(error, RequestTimeout)}
    assert phases == set(Phase.__args__)  # type: ignore[attr-defined]  # a Literal has them
