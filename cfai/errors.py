"""Every exception of the SDK, and which of the service's codes becomes which of them.

CfaiError
├── ConfigError                     no account, no credentials, or credentials that cannot work
├── InputError(ValueError)          refused here; nothing was sent
├── TransportError                  no whole answer
│   ├── ConnectError                no connection was made
│   ├── RequestTimeout              a limit of `Timeouts` ran out (.phase, .limit)
│   └── ConnectionLost              the connection ended before the answer did
│       ├── UploadInterrupted       while a file was sent (.sent, .size)
│       └── StreamInterrupted       an answer began and did not end (.answer, .events)
├── StatusError                     the service said no (.status .code .message, and more)
│   ├── BadRequest                  400, 422
│   ├── AuthenticationError         401
│   ├── PermissionDenied            403
│   ├── NotFound                    404
│   ├── MethodNotAllowed            405
│   ├── ServiceTimeout              408; codes 3007, 3008
│   ├── Conflict                    409
│   ├── RequestTooLarge             413; code 3006
│   ├── RateLimited                 429
│   │   └── CapacityExceeded        code 3040
│   ├── QuotaExceeded               codes 3036, 4006 (.resets_at); trying again is of no use
│   └── ServerError                 5xx
├── DecodeError                     an answer nobody documented (.body, .meta)
│   ├── AnswerTooLarge              more than the limit allows (.limit)
│   └── ParseError                  a text that is not the object asked for (.text, .answer)
├── StreamUnsupported               the model does not stream; call `run`
├── ToolLoopExceeded                the model still calls tools at the last step (.answer)
└── MissingExtra(ImportError)       a part of the SDK that is installed on request
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal, NamedTuple

from cfai.meta import Meta

__all__ = ["CODES", "AnswerTooLarge", "AuthenticationError", "BadRequest", "CapacityExceeded",
    "CfaiError", "ConfigError", "Conflict", "ConnectError", "ConnectionLost", "DecodeError",
    "InputError", "MethodNotAllowed", "MissingExtra", "NotFound", "PermissionDenied", "Phase",
    "QuotaExceeded", "RateLimited", "RequestTimeout", "RequestTooLarge", "ServerError",
    "ServiceTimeout", "StatusError", "StreamInterrupted", "StreamUnsupported", "TransportError",
    "UploadInterrupted"]  # fmt: skip

BODY_LIMIT = 4096
"""How much of a body an error keeps, in characters or bytes."""

Phase = Literal["connect", "pool", "response", "idle", "content", "total"]


class CfaiError(Exception):
    """The root of everything that the SDK raises."""

    # The default would call the class with `args` alone, which lack the keywords.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__.copy())


class ConfigError(CfaiError):
    """The account or the credentials are missing, contradict each other, or cannot work."""


class InputError(CfaiError, ValueError):
    """A value was refused, and nothing sent. The message names it, the rule and the value."""


class TransportError(CfaiError):
    """There is no whole answer, and so nothing is known of what the service did."""


class ConnectError(TransportError):
    """No connection was made: the name, the network, the proxy or TLS failed. Nothing was sent."""


class RequestTimeout(TransportError):
    """A limit of `Timeouts` ran out: *phase* says which, *limit* is its length in seconds."""

    def __init__(self, message: str, *, phase: Phase, limit: float | None = None) -> None:
        super().__init__(message)
        self.phase: Phase = phase
        self.limit = limit


class ConnectionLost(TransportError):
    """The connection ended before the answer did."""


class UploadInterrupted(ConnectionLost):
    """A file was not sent to its end: after *sent* of *size* bytes, at most.

    The connection was lost, or the file became shorter meanwhile.
    """

    def __init__(self, message: str, *, sent: int, size: int) -> None:
        super().__init__(message)
        self.sent = sent
        self.size = size


class StreamInterrupted(ConnectionLost):
    """A stream began and did not end; what had arrived is not lost.

    Attributes:
        answer: The `cfai.tasks.Text` so far, or `None` where raw events were read.
        events: How many events had arrived.
    """

    def __init__(self, message: str, *, answer: Any = None, events: int = 0) -> None:
        super().__init__(message)
        self.answer = answer
        self.events = events


class StatusError(CfaiError):
    """The service answered: no.

    Attributes:
        message: What it said, or a description of the status where it said nothing.
        status: The HTTP status. It can be 200: a body may still say that it failed.
        code: The service's own code (the first, where there are several); see `CODES`.
        errors: All errors of the body, as they came.
        ray_id: Cloudflare's id of the request.
        retry_after: How long the service asks to wait, in seconds.
        body: The beginning of the body.
        meta: The facts around the exchange.
    """

    # Of another provider, a status alone doesn't mean what it means of Workers AI.
    _advised = True

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: int | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        ray_id: str | None = None,
        retry_after: float | None = None,
        body: str | bytes | None = None,
        meta: Meta | None = None,
    ) -> None:
        super().__init__(message)
        self.message: str = self.args[0]
        self.status = status
        self.code = code
        self.errors: tuple[Any, ...] = tuple(errors)
        self.ray_id = ray_id
        self.retry_after = retry_after
        self.body: str | bytes | None = body and body[:BODY_LIMIT]
        self.meta = meta

    @property
    def hint(self) -> str | None:
        """What to do about it, where that is known."""
        known = CODES[self.code].hint if self.code in CODES else ""
        return known or (_STATUS_HINTS.get(self.status) if self._advised else None)

    def from_elsewhere(self) -> None:
        """Give no advice by status: another provider said no."""
        self._advised = False

    def __str__(self) -> str:
        text = f"{self.status}: " if self.code is None else f"{self.status} (code {self.code}): "
        text += self.message
        if self.retry_after is not None:
            text += f" [retry after {self.retry_after:g} s]"
        if self.ray_id:
            text += f" [ray {self.ray_id}]"
        return f"{text}\n{self.hint}" if self.hint else text


class BadRequest(StatusError):
    """400 or 422: the service does not accept the input."""


class AuthenticationError(StatusError):
    """401: the service does not know the credentials, or they lack a permission."""


class PermissionDenied(StatusError):
    """403: the credentials are known and not allowed to do this."""


class NotFound(StatusError):
    """404: no such thing."""


class MethodNotAllowed(StatusError):
    """405: the model or endpoint does not do that."""


class ServiceTimeout(StatusError):
    """408: the service gave up computing. Worth trying again."""


class Conflict(StatusError):
    """409: it contradicts what is there already."""


class RequestTooLarge(StatusError):
    """413: the input is too large."""


class RateLimited(StatusError):
    """429: too many requests for now. Worth trying again, later."""


class CapacityExceeded(RateLimited):
    """Code 3040: all machines for this model are busy. Worth trying again."""


class QuotaExceeded(StatusError):
    """Codes 3036, 4006: the day's allocation is used up, and trying again is of no use.

    *resets_at* (aware) is the next 00:00 UTC: then there is a new one.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.resets_at: datetime = next_reset(datetime.now(UTC))


class ServerError(StatusError):
    """5xx: it failed on the service's side. Worth trying again."""


class DecodeError(CfaiError):
    """The answer has a form that nobody documented; *body* is the beginning of it."""

    def __init__(self, message: str, *, body: Any = None, meta: Meta | None = None) -> None:
        super().__init__(message)
        self.body: str | bytes | None = body and body[:BODY_LIMIT]
        self.meta = meta


class AnswerTooLarge(DecodeError):
    """The answer, or one event of a stream, is above *limit* bytes. The rest was not read."""

    def __init__(self, message: str, *, limit: int, meta: Meta | None = None) -> None:
        super().__init__(message, meta=meta)
        self.limit = limit


class ParseError(DecodeError):
    """What the model wrote is not what was asked for; the message says what is wrong with it.

    Attributes:
        text: What it wrote, all of it.
        answer: The `cfai.Text`, with what it cost.
    """

    def __init__(self, message: str, *, answer: Any = None) -> None:
        self.text: str = getattr(answer, "text", "")
        super().__init__(message, body=self.text, meta=getattr(answer, "meta", None))
        self.answer = answer


class ToolLoopExceeded(CfaiError):
    """The model still called tools in its last step.

    Attributes:
        limit: How many steps it had.
        answer: The `cfai.Text` of the last of them; its calls were not carried out.
        messages: The `cfai.Conversation` up to it: with more steps, it can go on.
    """

    def __init__(self, message: str, *, limit: int, answer: Any = None, messages: Any = ()) -> None:
        super().__init__(message)
        self.limit = limit
        self.answer = answer
        self.messages = messages


class StreamUnsupported(CfaiError):
    """The model answered a request for a stream with nothing. Call `run` instead."""


class MissingExtra(CfaiError, ImportError):
    """A part of the SDK, *extra*, is not installed; the message says how to."""

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs more: pip install 'cfai[{extra}]'")
        self.extra = extra


class Code(NamedTuple):
    """What one of the service's own codes means."""

    status: int | None
    """The HTTP status that belongs to it, if there is one."""
    overrides: bool
    """Whether this status replaces the one of the response."""
    hint: str
    """What the user can do about it."""


_QUOTA = "The day's allocation is used up: wait for 00:00 UTC, or use a paid plan."
_PRIVATE = "The model is private, and not open to this account."
_NO_MODEL = "Check the model's name: developers.cloudflare.com/workers-ai/models lists all."

# Source: developers.cloudflare.com/workers-ai/platform/errors for the codes down to 3040. The rest
# were observed, some of them with several statuses; for those the status of the response counts.
CODES: dict[int, Code] = {
    5007: Code(400, True, _NO_MODEL),
    5004: Code(400, True, "The model takes this media in another form; see `media_form`."),
    3039: Code(400, True, "Upload both adapter_config.json and adapter_model.safetensors."),
    3003: Code(400, True, ""),
    5018: Code(403, True, _PRIVATE),
    3041: Code(403, True, _PRIVATE),
    5016: Code(403, True, 'Accept the model\'s licence: run it with Prompt("agree").'),
    3023: Code(403, True, "The account is blocked: ask Cloudflare's support."),
    5019: Code(405, True, ""),
    5005: Code(405, True, "The model takes no LoRA: choose one that does."),
    3042: Code(404, True, _NO_MODEL),
    3006: Code(413, True, "Send less in one request: a smaller file, or fewer texts."),
    3007: Code(408, True, "Ask for less in one request (`max_tokens`), or stream."),
    3008: Code(408, True, ""),
    3036: Code(429, True, _QUOTA),
    3040: Code(429, True, "The model is busy: try again soon, or take another model."),
    4006: Code(429, True, _QUOTA),
    3037: Code(400, False, "Check the fine-tune's id and account, and that both files are there."),
    5006: Code(400, False, "Look up the model's own input schema, on its page of the catalogue."),
    8001: Code(400, False, ""),
    8005: Code(500, False, ""),
    8006: Code(400, False, "Raise `max_tokens`: reasoning left none for the forced tool call."),
    1001: Code(400, False, ""),
    7000: Code(400, False, "No such endpoint: check the model's name and `base_url`."),
    7003: Code(404, False, "Check the account id: 32 hexadecimal digits, and not the token."),
    10000: Code(401, False, 'The token needs the permission "Workers AI Read" on this account.'),
    2001: Code(400, False, "Create the AI Gateway first, or check its name."),
    2009: Code(401, False, "The AI Gateway asks for a token of its own (cf-aig-authorization)."),
    2016: Code(None, False, "The guardrails of the AI Gateway blocked the prompt."),
    2017: Code(None, False, "The guardrails of the AI Gateway blocked the answer."),
    2021: Code(402, False, "There is no credit for unified billing on this account."),
}
"""The service's own codes."""

_STATUSES: dict[int, type[StatusError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    405: MethodNotAllowed,
    408: ServiceTimeout,
    409: Conflict,
    413: RequestTooLarge,
    422: BadRequest,
    429: RateLimited,
}
_OF_CODES: dict[int | None, type[StatusError]] = {
    3036: QuotaExceeded,
    4006: QuotaExceeded,
    3040: CapacityExceeded,
}
_STATUS_HINTS = {401: CODES[10000].hint, 413: CODES[3006].hint}


def status_error(status: int, code: int | None, message: str, **facts: Any) -> StatusError:
    """Make the error that the service meant: its code decides, and where that is silent its status.

    Args:
        status: The HTTP status, also where it is 200 (`success: false`, or an event in a stream).
        code: The first of the service's codes.
        message: What it said.
        facts: The other keywords of `StatusError`.
    """
    known = CODES.get(code) if code is not None else None
    meant = known.status if known and known.status and (known.overrides or status < 400) else status
    kind = ServerError if meant >= 500 else _STATUSES.get(meant, StatusError)
    kind = _OF_CODES.get(code, kind)
    return kind(message, status=status, code=code, **facts)


def status_of(code: int) -> int | None:
    """Give the HTTP status that a code belongs to, for an error that comes without one."""
    known = CODES.get(code)
    return known.status if known else None


def next_reset(now: datetime) -> datetime:
    """Give the first 00:00 UTC after *now* (aware): when the day's allocation begins anew."""
    tomorrow = now.astimezone(UTC).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time.min, UTC)


def _restored(kind: type[CfaiError], args: tuple[Any, ...], state: dict[str, Any]) -> CfaiError:
    error = kind.__new__(kind)
    super(CfaiError, error).__init__(*args)
    error.__dict__.update(state)
    return error
