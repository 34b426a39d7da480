"""Decides whether a failed attempt is repeated, and after how many seconds. Pure functions."""

from collections.abc import Callable

from cfai.errors import (
    CfaiError,
    ConnectError,
    ConnectionLost,
    RateLimited,
    RequestTimeout,
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
        case ConnectError() | RateLimited():
            return True
        case RequestTimeout():
            return error.phase == "connect"
        case StreamInterrupted():
            return repeatable and not error.events
        case ConnectionLost() | ServerError() | ServiceTimeout():
            return repeatable
    return False


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
    if attempt > retries.max or not should_retry(error, repeatable=repeatable):
        return None
    delay = backoff_delay(retries, attempt, error, random=random)
    return delay if delay is None or seconds_left is None or delay < seconds_left else None


def backoff_delay(
    retries: Retries, attempt: int, error: CfaiError, *, random: Callable[[], float]
) -> float | None:
    """Seconds to wait after a failed attempt: the `Retry-After` of the service, or random.

    `None` if the service asks for a longer delay than `retries.max_wait`.
    """
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    if retry_after is None:
        return random() * min(retries.cap, retries.base * 2.0 ** min(attempt - 1, 64))
    return retry_after if retry_after <= retries.max_wait else None
