"""Whether a failed attempt is repeated, and after how long: one pure function."""

from collections.abc import Callable
from typing import Final

from cfai.errors import (
    CapacityExceeded,
    CfaiError,
    ConnectError,
    ConnectionLost,
    QuotaExceeded,
    RequestTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.settings import Retries

# Cloudflare docs, Workers AI, "Errors": 3007 timeout, 3008 aborted, 3040 out of capacity.
_REPEATED_CODES: Final = frozenset({3007, 3008, 3040})
_REFUSALS: Final = frozenset({429})


def again(failure: CfaiError, *, repeatable: bool) -> bool:
    """Whether a repetition could help and does no harm, time aside."""
    match failure:
        case QuotaExceeded():
            return False
        case ConnectError() | CapacityExceeded():
            return True
        case RequestTimeout():
            return failure.phase == "connect"
        case StreamInterrupted():
            return repeatable and not failure.events
        case ConnectionLost():
            return repeatable
        case StatusError():
            if failure.status in _REFUSALS:
                return True
            worth = failure.status >= 500 or failure.status == 408
            return repeatable and (worth or failure.code in _REPEATED_CODES)
    return False


def pause(
    retries: Retries,
    attempt: int,
    failure: CfaiError,
    *,
    repeatable: bool,
    left: float | None,
    random: Callable[[], float],
) -> float | None:
    """Seconds to wait before the next attempt; `None` where there is to be none.

    Args:
        attempt: Which attempt failed; 1 is the first.
        repeatable: Whether the request may be carried out twice. If not, only a refusal (429) and a
            failed connect are repeated: then nothing was carried out.
        left: Seconds to the deadline of the call; `None` is no deadline.
        random: Even over [0, 1): full jitter, so that many clients don't return at once.
    """
    if attempt > retries.max or not again(failure, repeatable=repeatable):
        return None
    seconds = wait(retries, attempt, failure, random=random)
    return seconds if seconds is None or left is None or seconds < left else None


def wait(
    retries: Retries, attempt: int, failure: CfaiError, *, random: Callable[[], float]
) -> float | None:
    """Seconds to wait after an attempt that failed: what the service named, or by chance.

    `None` where the service named more than *retries* wants to wait.
    """
    named = failure.retry_after if isinstance(failure, StatusError) else None
    if named is None:
        return random() * min(retries.cap, retries.base * 2.0 ** min(attempt - 1, 64))
    return named if named <= retries.max_wait else None
