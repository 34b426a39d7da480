"""All exceptions of the SDK.

CfaiError                           (.failed_models)
├── ConfigError                     no account, no credentials, or settings that cannot work
├── InputError(ValueError)          an argument is invalid; nothing was sent
│   └── BudgetExceeded              the client's budget is used up (.budget, .spent)
├── TransportError                  no complete answer arrived
│   ├── ConnectError                no connection was made (.permanent)
│   ├── RequestTimeout              a limit of `Timeouts` was exceeded (.phase, .limit)
│   └── ConnectionLost              the connection ended before the answer did
│       ├── UploadInterrupted       during an upload (.sent, .size)
│       └── StreamInterrupted       before a stream was complete (.answer, .events)
├── StatusError                     the service answered with an error (.status, .code, .message, …)
│   ├── BadRequest                  400, 422; an unknown code without an HTTP error status
│   ├── AuthenticationError         401
│   ├── PermissionDenied            403
│   ├── NotFound                    404
│   ├── MethodNotAllowed            405
│   ├── ServiceTimeout              408; codes 3007, 3008, 3046
│   ├── Conflict                    409
│   ├── RequestTooLarge             413; code 3006
│   ├── RateLimited                 429
│   │   └── CapacityExceeded        code 3040
│   ├── QuotaExceeded               codes 3036, 4006 (.resets_at); retrying does not help
│   ├── ModelRetired                code 5028 (.model, .retired, .successor); use another model
│   └── ServerError                 5xx
├── DecodeError                     the answer has an undocumented form (.body, .meta)
│   ├── AnswerTooLarge              the answer exceeds a size limit (.limit)
│   └── ParseError                  the text is not the requested object (.text, .answer)
├── StreamUnsupported               the model does not stream; call `run`
├── ToolLoopExceeded                the model still called tools in the last step (.answer)
└── MissingExtra(ImportError)       an optional part of the SDK is not installed (.extra)

The service's code decides over the HTTP status; see `CODES`.

`ModelRetiredWarning` is a warning: the model of a call is known to be retired.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from cfai.meta import Meta

__all__ = ["CODES", "AnswerTooLarge", "AuthenticationError", "BadRequest", "BudgetExceeded",
    "CapacityExceeded", "CfaiError", "ConfigError", "Conflict", "ConnectError", "ConnectionLost",
    "DecodeError", "InputError", "MethodNotAllowed", "MissingExtra", "ModelRetired",
    "ModelRetiredWarning", "NotFound", "PermissionDenied", "Phase", "QuotaExceeded", "RateLimited",
    "RequestTimeout", "RequestTooLarge", "ServerError", "ServiceTimeout", "StatusError",
    "StreamInterrupted", "StreamUnsupported", "TransportError", "UploadInterrupted"]  # fmt: skip

BODY_LIMIT = 4096
"""How much of a body an error keeps, in characters or bytes."""

Phase = Literal["connect", "pool", "response", "idle", "content", "total"]


class CfaiError(Exception):
    """The base of all exceptions of the SDK.

    Attributes:
        failed_models: If the call named several models: those that failed before this error, in
            order, each with its own error. They are notes of the error, too.
    """

    failed_models: Mapping[str, "CfaiError"] = MappingProxyType({})

    def add_failed_models(self, failed: Mapping[str, "CfaiError"]) -> None:
        """Keep the errors of the models that were asked before."""
        if not failed:
            return
        self.failed_models = dict(failed)
        for model, error in failed.items():
            problem = str(error).partition("\n")[0]
            self.add_note(f"before that, {model} failed: {type(error).__name__}: {problem}")

    # The default would call the class with `args` only, without the keyword arguments.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class ConfigError(CfaiError):
    """The account, the credentials or another setting is missing or cannot work."""


class InputError(CfaiError, ValueError):
    """An argument is invalid; nothing was sent. The message names it."""


class BudgetExceeded(InputError):
    """The client's budget is used up; nothing was sent.

    Attributes:
        budget: The budget in neurons, as passed to `WorkersAI`.
        spent: The neurons that are spent.
    """

    def __init__(self, message: str, *, budget: float, spent: float) -> None:
        super().__init__(message)
        self.budget = budget
        self.spent = spent


class TransportError(CfaiError):
    """No complete answer arrived, so it is unknown what the service did."""


class ConnectError(TransportError):
    """No connection was made: DNS, the network, the proxy or TLS failed. Nothing was sent.

    Attributes:
        permanent: Whether another attempt would fail in the same way: the certificate of the other
            side is not trusted, or the proxy requires a login.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class RequestTimeout(TransportError):
    """A limit of `Timeouts` was exceeded.

    Attributes:
        phase: Which limit: its name in `Timeouts`.
        limit: Its length in seconds.
    """

    def __init__(self, message: str, *, phase: Phase, limit: float | None = None) -> None:
        super().__init__(message)
        self.phase: Phase = phase
        self.limit = limit


class ConnectionLost(TransportError):
    """The connection ended before the answer did."""


class UploadInterrupted(ConnectionLost):
    """An upload ended early: the connection was lost, or the file became shorter.

    Attributes:
        sent: Bytes sent at most.
        size: Bytes of the whole request body.
    """

    def __init__(self, message: str, *, sent: int, size: int) -> None:
        super().__init__(message)
        self.sent = sent
        self.size = size


class StreamInterrupted(ConnectionLost):
    """A stream ended before it was complete, or was closed. The exception keeps what arrived.

    Attributes:
        answer: The `cfai.Text` so far. It is empty if no token was read: before the first one, and
            if raw events were read. `None` if there was no `TokenStream` (`run` got a stream that
            it did not request), and in a tool run before the first answer. Of a session that
            listens, the `cfai.Transcript` so far.
        events: How many events were read.
    """

    def __init__(self, message: str, *, answer: Any = None, events: int = 0) -> None:
        super().__init__(message)
        self.answer = answer
        self.events = events


class StatusError(CfaiError):
    """The service answered with an error.

    Attributes:
        message: The message of the service, or a description of the status if it sent none.
        status: The HTTP status. It may be 200, if only the body reports the error.
        code: The service's own code (the first of several); see `CODES`.
        errors: All errors in the body, as received, with their `error_chain`. Of very many, it has
            the first hundred; of all, texts of up to 4096 characters, and at most 2,000 values.
        ray_id: Cloudflare's id of the request.
        retry_after: Seconds that the service asks to wait.
        body: The beginning of the body.
        meta: Ids, number of attempts and elapsed time of the exchange.
    """

    # Hints for a status apply to Workers AI only, not to other providers.
    _has_status_hints = True

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
        """What you can do about the error, if known."""
        entry = _find_code(self.code, self.message)
        hint = entry.hint_for(self.message) if entry is not None else ""
        return hint or (_STATUS_HINTS.get(self.status) if self._has_status_hints else None)

    def drop_status_hint(self) -> None:
        """Give no hint for the status: the error came from another provider."""
        self._has_status_hints = False

    def __str__(self) -> str:
        text = f"{self.status}: " if self.code is None else f"{self.status} (code {self.code}): "
        text += self.message
        if self.retry_after is not None:
            text += f" [retry after {self.retry_after:g} s]"
        if self.ray_id:
            text += f" [ray {self.ray_id}]"
        return f"{text}\n{self.hint}" if self.hint else text


class BadRequest(StatusError):
    """400 or 422: the service does not accept the input.

    So are codes 2016 and 2017 (guardrails), and an unknown code without an HTTP error status: in an
    item of a batch, in an event of a stream, or in a body under status 200.
    """


class AuthenticationError(StatusError):
    """401: the credentials are not valid, or they lack a permission."""


class PermissionDenied(StatusError):
    """403: the credentials are valid, but not allowed to do this."""


class NotFound(StatusError):
    """404: the model or resource does not exist."""


class MethodNotAllowed(StatusError):
    """405: the model or endpoint does not support this."""


class ServiceTimeout(StatusError):
    """408: the service timed out while computing. A retry may help."""


class Conflict(StatusError):
    """409: the request conflicts with the current state of the resource."""


class RequestTooLarge(StatusError):
    """413: the input is too large."""


class RateLimited(StatusError):
    """429: too many requests. A later retry may help."""


class CapacityExceeded(RateLimited):
    """Code 3040: all machines for this model are busy. A retry may help."""


class QuotaExceeded(StatusError):
    """Codes 3036, 4006: the daily allocation is used up. Retrying does not help.

    Without a known code, so does a message with "daily free allocation".

    Attributes:
        resets_at: When the next allocation starts (aware): the next 00:00 UTC.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.resets_at: datetime = next_reset(datetime.now(UTC))


class ModelRetired(StatusError):
    """Code 5028 (410, or 400): the model is retired. Retrying does not help; use another model.

    Attributes:
        model: The name of the model, if known.
        retired: The day of its retirement, from the message or the catalogue; `None` if unknown.
        successor: The model that replaces it, if Cloudflare named one.

    Source: Cloudflare docs, Workers AI changelog, 2026-05-08; sepandhaghighi/mytext#95.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.model: str | None = None
        self.retired: date | None = _retirement_date(message)
        self.successor: str | None = None

    @property
    def hint(self) -> str:
        """What you can do about it."""
        day = f" on {self.retired}" if self.retired else ""
        instead = self.successor or "another model (`cfai models` lists them)"
        return f"{self.model or 'The model'} was retired{day}: use {instead}."


class ModelRetiredWarning(UserWarning):
    """A call uses a model that is known to be retired. Emitted once per process and model."""


def _retirement_date(message: str) -> date | None:
    match = re.search(r"\bdeprecated on (\d{4}-\d\d-\d\d)\b", message, re.ASCII)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


class ServerError(StatusError):
    """5xx: the service failed. A retry may help."""


class DecodeError(CfaiError):
    """The answer has an undocumented form.

    Attributes:
        body: The beginning of the answer.
        meta: Ids, number of attempts and elapsed time of the exchange.
    """

    def __init__(self, message: str, *, body: Any = None, meta: Meta | None = None) -> None:
        super().__init__(message)
        self.body: str | bytes | None = body and body[:BODY_LIMIT]
        self.meta = meta


class AnswerTooLarge(DecodeError):
    """The answer, or one event of a stream, exceeds *limit* bytes. The rest was not read."""

    def __init__(self, message: str, *, limit: int, meta: Meta | None = None) -> None:
        super().__init__(message, meta=meta)
        self.limit = limit


class ParseError(DecodeError):
    """The text of the model is not the requested object; the message says why.

    Attributes:
        text: The complete text.
        answer: The `cfai.Text`, with its usage; of `decide` the `cfai.Decisions`, and of
            `extract` the `cfai.Extraction`.
    """

    def __init__(self, message: str, *, answer: Any = None) -> None:
        self.text: str = getattr(answer, "text", "")
        super().__init__(message, body=self.text, meta=getattr(answer, "meta", None))
        self.answer = answer


class ToolLoopExceeded(CfaiError):
    """The model still called tools in the last step.

    Attributes:
        limit: The maximum number of steps.
        answer: The `cfai.Text` of the last step; its tool calls were not executed.
        messages: The `cfai.Conversation` up to that step. A run with more steps can continue it.
    """

    def __init__(self, message: str, *, limit: int, answer: Any = None, messages: Any = ()) -> None:
        super().__init__(message)
        self.limit = limit
        self.answer = answer
        self.messages = messages


class StreamUnsupported(CfaiError):
    """The model answered a request for a stream with an empty stream. Call `run` instead."""


class MissingExtra(CfaiError, ImportError):
    """An optional dependency, *extra*, is not installed; the message says how to install it."""

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs an extra: pip install 'cfai-sdk[{extra}]'")
        self.extra = extra


class Code(NamedTuple):
    """What one of the service's own codes means."""

    status: int | None
    """The HTTP status that belongs to it, if there is one."""
    overrides: bool
    """Whether this status replaces the one of the response."""
    hint: str = ""
    """What the user can do about it, whatever the message says."""
    hints: tuple[tuple[str, str], ...] = ()
    """For a code of several meanings: words of a message, in lower case, and the hint for it."""
    kind: type[StatusError] | None = None
    """The class of the error, if it is not that of the status."""

    def hint_for(self, message: str) -> str:
        """The hint for an error with this message; empty if there is none."""
        words = message.lower() if self.hints else ""
        return next((hint for word, hint in self.hints if word in words), self.hint)


_QUOTA = "The daily allocation is used up: wait until 00:00 UTC, or use a paid plan."
_PRIVATE = "The model is private, and this account has no access to it."
_NO_MODEL = "Check the name of the model: `cfai models` lists all."
_BAD_IMAGE = "Send images as parts of a message: a data URI inside a text is read as an image, too."
_COPY_AGAIN = "The API token is malformed: copy it again, without spaces."
_RAISE_MAX_TOKENS = "Raise `max_tokens`: reasoning used all of it before the forced call."

# Source: developers.cloudflare.com/workers-ai/platform/errors for the codes down to 3040. The rest
# were observed, some of them with several statuses; for those the status of the response counts.
CODES: dict[int, Code] = {
    5007: Code(400, True, _NO_MODEL),
    5004: Code(
        400,
        True,
        "The model needs this media in another form: `cfai models schema MODEL` prints its input, "
        "and the task's `media_form` chooses the form.",
    ),
    3039: Code(400, True, "Upload both adapter_config.json and adapter_model.safetensors."),
    3003: Code(400, True),
    5018: Code(403, True, _PRIVATE),
    3041: Code(403, True, _PRIVATE),
    5016: Code(403, True, 'Accept the model\'s licence: run it with the prompt "agree".'),
    3023: Code(403, True, "The account is blocked: contact Cloudflare's support."),
    5019: Code(405, True),
    5005: Code(405, True, "The model does not support LoRA: choose one that does."),
    3042: Code(404, True, _NO_MODEL),
    3006: Code(413, True, "Send less in one request: a smaller file, or fewer texts."),
    3007: Code(408, True, "Request less at once (`max_tokens`), or stream."),
    3008: Code(408, True),
    3036: Code(429, True, _QUOTA, kind=QuotaExceeded),
    3040: Code(
        429, True, "The model is busy: try again soon, or use another model.", kind=CapacityExceeded
    ),
    4006: Code(429, True, _QUOTA, kind=QuotaExceeded),
    3037: Code(400, False, "Check the fine-tune's id and account, and that both files are there."),
    5006: Code(400, False, "`cfai models schema MODEL` prints the input that the model expects."),
    8001: Code(400, False),
    8005: Code(500, False),
    # cloudflare/ai, pull 575 (no message is known); anomalyco/opencode, issues 35753 and 35879.
    8006: Code(
        400,
        False,
        hints=(
            ("image", _BAD_IMAGE),
            ("max_tokens", _RAISE_MAX_TOKENS),
            ("tool", _RAISE_MAX_TOKENS),
        ),
    ),
    1001: Code(400, False),
    7000: Code(400, False, "No such endpoint: check the name of the model and the base URL."),
    7003: Code(404, False, "Check the account id: 32 hexadecimal digits, not the token."),
    10000: Code(401, False, 'The token needs the permission "Workers AI Read" on this account.'),
    2001: Code(400, False, "Create the AI Gateway first, or check its name."),
    # For a third-party model, since 2026-10-06: cloudflare-docs, changelog of AI Gateway.
    2009: Code(
        401,
        False,
        "The AI Gateway needs its own token (cf-aig-authorization), or a provider refused its key.",
    ),
    2016: Code(None, False, "The AI Gateway's guardrails blocked the prompt.", kind=BadRequest),
    2017: Code(None, False, "The AI Gateway's guardrails blocked the answer.", kind=BadRequest),
    2021: Code(402, False, "The account has no credit for unified billing."),
    # Error responses of the AI Gateway, with several 4xx statuses. Their meaning is not documented.
    2003: Code(400, False),
    2008: Code(400, False),
    # Captured live by several public projects: bge-m3 ("Sequence too long: 9003 > 8192", "Max
    # context reached 85920 tokens but model supports only 60000"), "output flagged", "input tensor
    # not present".
    3030: Code(
        400,
        False,
        hints=(
            ("sequence too long", "Shorten the text, or cut it into parts."),
            ("max context reached", "Send fewer texts in one request."),
            ("flagged", "The model's safety filter refused the result: change the prompt."),
            ("not present", "The model needs another input: see the schema on its page."),
        ),
    ),
    3046: Code(408, True, "Request less at once (`max_tokens`), or stream."),
    3010: Code(500, True),
    # Clef: 422 if the input is not valid, 529 if the inference failed. The status decides.
    # Source for the next two: juspay/neurolink, cloudflare-clef.md (live, October 2026).
    5012: Code(422, False),
    5021: Code(413, False, "The input is larger than the model's context: send less."),
    # cloudflare/agents, issue 1685.
    5023: Code(400, False, "Call `run` instead of `stream`, or leave out `response_format`."),
    # cloudflare/cloudflare-docs, issue 21316.
    5025: Code(
        400,
        False,
        "Ask a model with JSON mode, or leave out `response_format` (`cfai chat --schema`) and ask "
        "for JSON in the prompt.",
    ),
    # cloudflare-docs, changelog of 2026-05-08; sepandhaghighi/mytext#95. One report has 400.
    5028: Code(410, False, kind=ModelRetired),
    # With status 500, but it is the request that is at fault.
    5030: Code(400, True, "Every parameter of a WebSocket must be a string."),
    # cloudflare-docs, changelog of 2026-07-28.
    5035: Code(403, True, "The model needs the Workers Paid plan."),
    # cloudflare/workers-sdk, issue 5175 (6111, in `error_chain`); a body that is not JSON.
    6003: Code(400, False, hints=(("authorization header", _COPY_AGAIN),)),
}
"""The service's own codes."""

_QUOTA_WORDS = "daily free allocation"
"""In the message of codes 3036 and 4006, which was also seen without a code."""

_WORDS = (
    ("rate limit", Code(429, False)),
    ("too many requests", Code(429, False)),
    ("capacity temporarily exceeded", CODES[3040]),
)
"""What the message of an error says that has neither a status nor a code. `{"errors":["rate
limited"]}` was seen under status 200."""

_STATUS_CLASSES: dict[int, type[StatusError]] = {
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
_STATUS_HINTS = {401: CODES[10000].hint, 413: CODES[3006].hint}


def status_error(status: int | None, code: int | None, message: str, **details: Any) -> StatusError:
    """The error for a status and a code, of the class that the code or else the status names.

    If there is no HTTP error status, the error has the status of its code; an unknown code then
    counts as a bad request, and not as a failure of the service.

    Args:
        status: The HTTP status; `None` if there is none (an item of a batch, an event of a stream).
        code: The first of the service's codes.
        message: The message of the service.
        details: Other keyword arguments of `StatusError`.
    """
    entry = _find_code(code, message)
    if entry is None and (status is None or 200 <= status < 300) and code in (None, 429):
        words = message.lower()
        entry = next((entry for word, entry in _WORDS if word in words), None)
    code_status = entry.status if entry is not None else None
    if status is None or 200 <= status < 300:
        if code_status is None and code is not None:
            # vLLM puts the status into the code of an error event.
            code_status = code if 400 <= code < 600 else 400
        status = effective = code_status or status or 500
    else:
        effective = code_status if code_status and entry is not None and entry.overrides else status
    kind = ServerError if effective >= 500 else _STATUS_CLASSES.get(effective, StatusError)
    if entry is not None and entry.kind is not None:
        kind = entry.kind
    return kind(message, status=status, code=code, **details)


def _find_code(code: int | None, message: str) -> Code | None:
    """What a code means, or else the message; `None` if both are unknown."""
    if code not in CODES and _QUOTA_WORDS in message.lower():
        return CODES[4006]
    return CODES.get(code) if code is not None else None


def is_quota_code(code: int | None) -> bool:
    """Whether a code says that the account's quota is used up."""
    return code in CODES and CODES[code].kind is QuotaExceeded


def next_reset(now: datetime) -> datetime:
    """The first 00:00 UTC after *now* (aware), when the next daily allocation starts."""
    tomorrow = now.astimezone(UTC).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time.min, UTC)


def _restore(kind: type[CfaiError], args: tuple[Any, ...], state: dict[str, Any]) -> CfaiError:
    error = kind.__new__(kind)
    super(CfaiError, error).__init__(*args)
    error.__dict__.update(state)
    return error
