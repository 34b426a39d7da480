"""The errors of the API: status, code, message and body as Workers AI sends them.

Codes 90001 to 90006 exist only in this server: the service's codes for them are unknown.
Sources: developers.cloudflare.com/workers-ai/platform/errors; bodies recorded from the service.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import uuid4

from cfai.errors import InputError


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        by_model: bool = True,
        prefix: str = "AiError: AiError: ",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.by_model = by_model
        """Whether the model layer raised it: its errors have a format of their own."""
        self.prefix = prefix
        """What stands before the message of an error of the model layer."""
        self.retry_after = retry_after
        """The header Retry-After, in seconds; `None` for no header."""

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        if not self.by_model:
            return envelope(None, errors=[{"code": self.code, "message": self.message}])
        message = f"{self.prefix}{self.message} ({uuid4()})"
        return envelope({}, errors=[{"message": message, "code": self.code}])


def with_openai_error(body: Mapping[str, Any]) -> dict[str, Any]:
    """Add the error in OpenAI's form, of which its clients show the message.

    Whether the service does this is not known.
    """
    message, code = body["errors"][0]["message"], body["errors"][0]["code"]
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": str(code),
    }
    return {**body, "error": error}


def envelope(result: Any, *, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Wrap a result or errors in the JSON envelope of every response."""
    return {"result": result, "success": not errors, "errors": errors or [], "messages": []}


# Rejected before a model is involved


def forbidden_origin() -> ApiError:
    """403: sent by a web page of another origin."""
    message = "cfai local: requests from web pages of other origins are refused"
    return ApiError(403, 10000, message, by_model=False)


def not_authenticated() -> ApiError:
    """401: no credentials, or not those of this server."""
    return ApiError(401, 10000, "Authentication error", by_model=False)


def no_route() -> ApiError:
    """400: a model name with percent-encoded slashes."""
    return ApiError(400, 7000, "No route for that URI", by_model=False)


def path_not_found(path: str) -> ApiError:
    """404: an unknown path."""
    message = f"Could not route to {path}, perhaps your object identifier is invalid?"
    return ApiError(404, 7003, message, by_model=False)


def method_not_allowed(method: str) -> ApiError:
    """405: a method that the path does not allow."""
    return ApiError(405, 7001, f"Method {method} not available for that URI.", by_model=False)


def unreadable_request(status: int, reason: str) -> ApiError:
    """400 or 417: not HTTP, or HTTP that this server does not understand. The code is not known."""
    return ApiError(status, 90003, f"cfai local: cannot read the request: {reason}", by_model=False)


# Rejected because of the request's content


def unknown_model(model: str) -> ApiError:
    """400: a model that the service does not have."""
    return ApiError(400, 5007, f"No such model {model} or task")


def retired_model(day: date) -> ApiError:
    """410: a model that the service has retired. Source: sepandhaghighi/mytext#95."""
    message = (
        f"Model has been deprecated: This model was deprecated on {day}. "
        "Please use an alternative model."
    )
    return ApiError(410, 5028, message, prefix="AiError: ")


def missing_body() -> ApiError:
    """400: an empty body."""
    return ApiError(400, 3003, "Missing headers or body")


def bad_input(reason: str | InputError) -> ApiError:
    """400: the body of a run breaks a rule; *reason* names the field, the rule and the value."""
    return ApiError(400, 5006, f"Bad input: Error: {reason}")


def request_too_large(limit: int) -> ApiError:
    """413: a body of more than *limit* bytes."""
    return ApiError(413, 3006, f"Request is too large: the limit is {limit} bytes")


def unknown_lora(name: object) -> ApiError:
    """400: a run with an unknown LoRA."""
    return ApiError(400, 3037, f"Finetune {name} not found")


def incomplete_lora(name: object) -> ApiError:
    """400: a run with a LoRA that lacks one of its two files."""
    return ApiError(400, 3039, f"Finetune {name} is missing required files")


def unknown_finetune(name: object) -> ApiError:
    """404: a file for an unknown fine-tune. The service's own code is unknown."""
    return ApiError(404, 90003, f"Finetune {name} not found", by_model=False)


def unknown_batch(batch_id: str) -> ApiError:
    """404: an unknown batch. The service's own code is unknown."""
    return ApiError(404, 90003, f"Batch {batch_id} not found", by_model=False)


def invalid_request(reason: str) -> ApiError:
    """400: a request other than a run (fine-tune, file, list) breaks a rule; *reason* names it."""
    return ApiError(400, 90003, reason, by_model=False)


# Rejected because of the models


def capacity_exceeded(retry_after: int | None = None) -> ApiError:
    """429: every worker is busy and the queue is full."""
    message = "Capacity temporarily exceeded, please try again."
    return ApiError(429, 3040, message, retry_after=retry_after)


def quota_used_up(allocation: str = "10,000 neurons") -> ApiError:
    """429: the daily allocation is used up. Source: Cloudflare docs, Workers AI, "Errors"."""
    return ApiError(429, 3036, f"You have used up your daily free allocation of {allocation}")


def rejected_by_model(reason: str) -> ApiError:
    """400: the model rejected the input, for example because it is too long."""
    return ApiError(400, 5006, reason)


def text_too_long(field: str, characters: int, limit: int) -> ApiError:
    """400: the text of a *field* is longer than the local model reads."""
    return rejected_by_model(
        f"{field} has {characters} characters, more than the {limit} that the local model reads"
    )


def context_exceeded(tokens: int, limit: int) -> ApiError:
    """400: the texts have at least so many *tokens* together. Source: bge-m3, captured live."""
    message = f"Max context reached {tokens} tokens but model supports only {limit}"
    return ApiError(400, 3030, message)


def json_mode_failed() -> ApiError:
    """400: the model's output is not the requested JSON."""
    return ApiError(400, 90002, "JSON Mode couldn't be met")


def truncated_call(tokens: int) -> ApiError:
    """400: a tool call that ended at the limit of tokens."""
    return ApiError(400, 8006, f"max_tokens is too low for the tool call: it ended after {tokens}")


def not_supported(reason: str) -> ApiError:
    """501: no local model can answer this; *reason* says why."""
    return ApiError(501, 90001, f"cfai local: {reason}", by_model=False)


def upstream_failed(reason: str) -> ApiError:
    """502: the upstream server failed; *reason* says how."""
    return ApiError(502, 90004, f"cfai local: the upstream server failed: {reason}", by_model=False)


def internal_error(exc: BaseException) -> ApiError:
    """500: a bug in this server."""
    return ApiError(500, 8005, f"Internal Server Error: {type(exc).__name__}: {exc}")


def not_recorded(reason: str) -> ApiError:
    """400: a recording has no response to the request; *reason* shows the nearest one."""
    return ApiError(400, 90005, f"cfai local: {reason}", by_model=False)


def too_many_requests(limit: int, seconds: float, retry_after: int) -> ApiError:
    """429: more requests than the API allows. Source: lablabs/cloudflare-exporter#74."""
    message = (
        f"More than {limit} requests per {seconds:g} seconds reached. "
        "Please wait and consider throttling your request speed"
    )
    return ApiError(429, 90006, message, by_model=False, retry_after=retry_after)
