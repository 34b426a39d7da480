"""Decides whether and when a failed attempt is repeated, and whether another model is asked.

All functions are pure.
"""

from collections.abc import Callable
from typing import Final

from cfai.errors import (
    CODES,
    AnswerTooLarge,
    BadRequest,
    CapacityExceeded,
    CfaiError,
    ConnectError,
    ConnectionLost,
    ModelRetired,
    PermissionDenied,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.settings import Retries


def should_retry(error: CfaiError, *, repeatable: bool) -> bool:
    """Whether another attempt may help and does no harm, regardless of time.

    The class of an error counts and not its status, because the service's code decides over the
    status: a used-up quota is a 429, too, and a bad parameter of a WebSocket is a 500.

    Args:
        repeatable: Whether the request may be carried out twice. If not, only 429s and
            failed connects are retried, because then nothing was carried out.
    """
    match error:
        case ConnectError():
            return not error.permanent
        case RateLimited():
            return not _is_known_by_words(error)
        case RequestTimeout():
            return error.phase == "connect"
        case StreamInterrupted():
            return repeatable and not error.events
        case ServerError(status=501):
            return False  # What is not implemented now is not implemented a second later.
        case ConnectionLost() | ServerError() | ServiceTimeout():
            return repeatable
    return False


def _is_known_by_words(error: StatusError) -> bool:
    """Whether only the message of an error says what it is, and neither its status nor a code.

    Such a message may be about something else: `{"errors":["rate limited"]}` under status 200. A
    job waits nevertheless, since it has other texts to wait for.
    """
    return error.code is None and _has_status_of_success(error)


def _has_status_of_success(error: StatusError) -> bool:
    """Whether only the body of a response reports the error, and its HTTP status is 2xx."""
    status = None if error.meta is None else error.meta.status
    return status is not None and 200 <= status < 300


_BUSY_STATUSES: Final = frozenset({503, 529})
"""503: "a temporary overload or scheduled maintenance, which will likely be alleviated after some
delay" (RFC 9110, section 15.6.4). 529: `overloaded_error` (Anthropic API, "Errors"); of Clef, too.
"""


def waits_for_capacity(retries: Retries, error: CfaiError) -> bool:
    """Whether *error* says that the service is busy, and *retries* are more patient with that.

    A blip is over after a second, and lack of capacity is not (NousResearch/hermes-agent#100470).
    """
    is_patient = retries.max_busy > retries.max > 0
    if not is_patient or not isinstance(error, RateLimited | ServerError):
        return False
    return isinstance(error, RateLimited) or error.status in _BUSY_STATUSES


def is_service_fault(error: CfaiError) -> bool:
    """Whether the service or the network failed for now, and did not answer the request."""
    if isinstance(error, RateLimited):
        return False
    is_late = isinstance(error, RequestTimeout) and error.phase == "response"
    return is_late or should_retry(error, repeatable=True)


def blames_input(error: CfaiError) -> bool:
    """Whether the service answered, and says that the input of the request is the reason."""
    if isinstance(error, BadRequest):
        return _is_own_refusal(error)
    return isinstance(error, RequestTooLarge | AnswerTooLarge)


def _is_own_refusal(error: BadRequest) -> bool:
    """Whether a 400 or 422 is an answer of the service, and not a page of what is before it.

    The errors of the service are JSON. Under status 200, only known codes say what is wrong: with
    others, the service was seen to ask for fewer requests, and to refuse a token.
    """
    if error.body is None:  # Of an item of a batch.
        return True
    if _has_status_of_success(error):
        return error.code in CODES or error.code == error.status
    return error.code is not None or str(error.body).lstrip().startswith(("{", "["))


def retry_delay(
    retries: Retries,
    attempt: int,
    error: CfaiError,
    *,
    repeatable: bool,
    seconds_left: float | None,
    random: Callable[[], float],
) -> float | None:
    """Seconds to wait before the next attempt; `None` if there is none.

    Args:
        attempt: Number of the failed attempt; 1 is the first.
        repeatable: Whether the request may be carried out twice; see `should_retry`.
        seconds_left: Seconds to the deadline of the call; `None` if it has no deadline.
        random: Uniform over [0, 1): full jitter, so that many clients don't return at once.
    """
    limit = retries.max_busy if waits_for_capacity(retries, error) else retries.max
    if attempt > limit or not should_retry(error, repeatable=repeatable):
        return None
    delay = backoff_delay(retries, attempt, error, random=random)
    return delay if delay is None or seconds_left is None or delay < seconds_left else None


_CODE_OF_PAID_PLANS: Final = 5035


def should_fall_back(error: CfaiError) -> bool:
    """Whether another model may answer what one model failed at, after its retries.

    It may if the model is retired, not part of the account's plan or busy, or if the service failed
    on its way there. It would fail, too, because of the request (400, 413, 422) or the account
    (401, 403, the quota, a rate limit), and it must not be asked if the first one may still answer
    (`Timeouts.response`), or has (`DecodeError`).
    """
    if isinstance(error, ModelRetired | CapacityExceeded | ServerError):
        return True
    if isinstance(error, PermissionDenied):
        return error.code == _CODE_OF_PAID_PLANS
    return not isinstance(error, RateLimited) and should_retry(error, repeatable=True)


def backoff_delay(
    retries: Retries, attempt: int, error: CfaiError, *, random: Callable[[], float]
) -> float | None:
    """Seconds to wait after a failed attempt: random, and at least the service's `Retry-After`.

    A `Retry-After` of 0 or in the past alone would let all clients return at once.

    `None` if the service asks for a longer delay than `retries.max_wait`.
    """
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    doublings = min(attempt - 1, 64)
    if waits_for_capacity(retries, error):
        # Full jitter could use up all attempts within a second.
        longest = min(retries.cap, retries.base * 2.0 ** (doublings + 1))
        delay = longest * (1 + random()) / 2
    else:
        delay = random() * min(retries.cap, retries.base * 2.0**doublings)
    if retry_after is None:
        return delay
    return max(delay, retry_after) if retry_after <= retries.max_wait else None
