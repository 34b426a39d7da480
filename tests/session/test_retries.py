"""Whether and when a failed attempt is repeated: one table."""

import math

import pytest
from hypothesis import given, strategies as st

from cfai._session.retries import retry_delay
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
from cfai.settings import Retries

RETRIES = Retries(max=3, base=0.5, cap=8.0, max_wait=60.0)


def asked(
    failure: CfaiError,
    attempt: int = 1,
    *,
    retries: Retries = RETRIES,
    repeatable: bool = True,
    left: float | None = None,
    chance: float = 1.0,
) -> float | None:
    return retry_delay(
        retries, attempt, failure, repeatable=repeatable, left=left, random=lambda: chance
    )


def status(number: int, code: int | None = None, wait: float | None = None) -> StatusError:
    return status_error(number, code, "no", retry_after=wait)


# Failure, whether a repeatable request is sent again, and whether one that is not.
FAILURES: list[tuple[CfaiError, bool, bool]] = [
    # Nothing was carried out.
    (ConnectError("no"), True, True),
    (RequestTimeout("slow", phase="connect"), True, True),
    (status(429), True, True),
    (status(429, 3040), True, True),
    # It may have been.
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
    # 3040 says by itself that nothing was done, under whatever status.
    (status(200, 3040), True, True),
    (status(503, 3040), True, True),
    # A day's allocation comes back at midnight and not before.
    (status(429, 3036), False, False),
    (status(429, 4006), False, False),
    (status(503, 4006), False, False),
    (status(429, 3036, wait=1.0), False, False),
    # Once an event was read, a second attempt would say it twice.
    (StreamInterrupted("cut", events=1), False, False),
    # A limit that the user set.
    *[
        (RequestTimeout("slow", phase=phase), False, False)
        for phase in ("pool", "response", "idle", "content", "total")
    ],
    # It would be said again.
    *[(status(number), False, False) for number in (300, 304, 400, 401, 402, 403, 404, 405, 409)],
    *[(status(number), False, False) for number in (410, 413, 415, 418, 422, 451)],
    (status(200), False, False),
    (DecodeError("what?"), False, False),
    (AnswerTooLarge("much", limit=1), False, False),
    (StreamUnsupported("no"), False, False),
    (InputError("no"), False, False),
    (ConfigError("no"), False, False),
    (MissingExtra("numpy", needed_for="that"), False, False),
    (CfaiError("what?"), False, False),
]


@pytest.mark.parametrize(("failure", "again", "again_anyway"), FAILURES, ids=repr)
def test_what_is_repeated(failure: CfaiError, again: bool, again_anyway: bool) -> None:
    """By class, code and status; what must not be carried out twice, only if it was not at all."""
    for attempt in (1, 2, 3):
        assert (asked(failure, attempt) is not None) is again
        assert (asked(failure, attempt, repeatable=False) is not None) is again_anyway
    assert asked(failure, 4) is None
    assert asked(failure, retries=Retries(max=0)) is None


# The service's code table: code, HTTP status, class, whether it is repeated.
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
    (None, 409, Conflict, False),
    (None, 429, RateLimited, True),
]


@pytest.mark.parametrize(("code", "number", "kind", "again"), CODES)
def test_every_code_is_repeated_or_not(
    code: int | None, number: int, kind: type[StatusError], again: bool
) -> None:
    """The code decides over the status, which is the same for a quota and for a busy machine."""
    failure = status(number, code)
    assert isinstance(failure, kind)
    assert (asked(failure) is not None) is again


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (2000, 8.0)],
)
def test_the_pause_is_full_jitter_up_to_a_cap(attempt: int, longest: float) -> None:
    """Evenly from 0 to a bound that doubles, so that many clients do not come back at once."""
    many = Retries(max=5000, base=0.5, cap=8.0)
    for chance in (0.0, 0.25, 0.999):
        assert asked(status(500), attempt, retries=many, chance=chance) == chance * longest


@pytest.mark.parametrize(
    ("wait", "left", "seconds"),
    [
        # The service names a wait: obeyed to the second, up to the longest that is accepted.
        (0.0, None, 0.0),
        (1.5, None, 1.5),
        (60.0, None, 60.0),
        (60.001, None, None),
        (300.0, None, None),
        # The deadline: what would end at it or later is not begun.
        (None, 0.5, None),
        (None, 0.501, 0.5),
        (None, 0.0, None),
        (10.0, 10.0, None),
        (10.0, 10.001, 10.0),
        (0.0, 0.0, None),
        (0.0, 0.001, 0.0),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(429, None), (429, 3040), (503, None), (408, 3007)])
def test_a_wait_that_the_service_names_and_the_deadline_are_kept(
    wait: float | None, left: float | None, seconds: float | None, number: int, code: int | None
) -> None:
    assert asked(status(number, code, wait), left=left) == seconds


def test_a_deadline_is_kept_by_connections_too() -> None:
    for failure in (ConnectError("no"), ConnectionLost("cut")):
        assert asked(failure, left=0.4) is None
        assert asked(failure, left=0.6) == 0.5


@given(
    st.sampled_from(FAILURES),
    st.integers(1, 6),
    st.none() | st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.builds(
        Retries,
        max=st.integers(0, 5),
        base=st.floats(0, 100),
        cap=st.floats(0, 100),
        max_wait=st.floats(0, 100),
    ),
)
def test_a_pause_is_never_longer_than_allowed(
    row: tuple[CfaiError, bool, bool],
    attempt: int,
    left: float | None,
    chance: float,
    retries: Retries,
) -> None:
    """Whatever the settings: finite, none below zero, within the deadline and the bounds."""
    seconds = asked(row[0], attempt, retries=retries, left=left, chance=chance)
    if seconds is not None:
        assert attempt <= retries.max
        assert 0 <= seconds <= max(retries.cap, retries.max_wait)
        assert math.isfinite(seconds)
        assert left is None or seconds < left


def test_every_phase_is_in_the_table() -> None:
    known = {failure.phase for failure, _, _ in FAILURES if isinstance(failure, RequestTimeout)}
    assert known == set(Phase.__args__)  # type: ignore[attr-defined]  # a Literal has them
