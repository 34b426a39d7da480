"""How the local server says no: the codes, messages and bodies that Workers AI uses.

90001 to 90003 are codes of this server alone: the service has none for them, or none that is known.
Sources: developers.cloudflare.com/workers-ai/platform/errors; bodies recorded from the service.
"""

from typing import Any
from uuid import uuid4

from cfai.errors import InputError


class Fault(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: int, message: str, *, by_model: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.by_model = by_model
        """Whether the request came as far as the models: their errors have a form of their own."""

    def body(self) -> dict[str, Any]:
        """Give the body of the answer."""
        if not self.by_model:
            return envelope(None, errors=[{"code": self.code, "message": self.message}])
        message = f"AiError: AiError: {self.message} ({uuid4()})"
        return envelope({}, errors=[{"message": message, "code": self.code}])


def envelope(result: Any, *, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Give the JSON around every result, or around the errors."""
    return {"result": result, "success": not errors, "errors": errors or [], "messages": []}


# Refused before a model is asked...


def foreign_page() -> Fault:
    """403: a page of another site asks, which nobody on this machine meant to."""
    return Fault(403, 10000, "cfai local: pages of other sites are refused", by_model=False)


def not_authenticated() -> Fault:
    """401: no credentials, or not the ones that the server was started with."""
    return Fault(401, 10000, "Authentication error", by_model=False)


def no_route() -> Fault:
    """400: a path of the API with a model that is not written with plain slashes."""
    return Fault(400, 7000, "No route for that URI", by_model=False)


def not_routed(path: str) -> Fault:
    """404: another path."""
    message = f"Could not route to {path}, perhaps your object identifier is invalid?"
    return Fault(404, 7003, message, by_model=False)


def wrong_method(method: str) -> Fault:
    """405: another method; models are run with POST only."""
    return Fault(405, 7001, f"Method {method} not available for that URI.", by_model=False)


# Refused for what is in the request...


def no_such_model(model: str) -> Fault:
    """400: a model that the service does not have."""
    return Fault(400, 5007, f"No such model {model} or task")


def no_body() -> Fault:
    """400: nothing was sent."""
    return Fault(400, 3003, "Missing headers or body")


def bad_input(reason: str | InputError) -> Fault:
    """400: the body breaks a rule; *reason* names the field, the rule and the value."""
    return Fault(400, 5006, f"Bad input: Error: {reason}")


def too_large(limit: int) -> Fault:
    """413: a body of more than *limit* bytes."""
    return Fault(413, 3006, f"Request is too large: the limit is {limit} bytes")


def no_such_finetune(name: object) -> Fault:
    """400: a LoRA that nobody has made."""
    return Fault(400, 3037, f"Finetune {name} not found")


def finetune_without_files(name: object) -> Fault:
    """400: a LoRA whose two files have not both been uploaded."""
    return Fault(400, 3039, f"Finetune {name} is missing required files")


def unknown_finetune(name: object) -> Fault:
    """404: files for a fine-tune that nobody has made. The service's own code is not known."""
    return Fault(404, 90003, f"Finetune {name} not found", by_model=False)


def no_such_batch(known: str) -> Fault:
    """404: a batch that nobody has queued. The service's own code is not known."""
    return Fault(404, 90003, f"Batch {known} not found", by_model=False)


def against_rule(reason: str) -> Fault:
    """400: what is no run breaks a rule: a fine-tune, a file or a list. *reason* says which."""
    return Fault(400, 90003, reason, by_model=False)


# Refused for what the models can do...


def busy() -> Fault:
    """429: everything computes, and enough requests wait already."""
    return Fault(429, 3040, "Capacity temporarily exceeded, please try again.")


def refused_by_model(reason: str) -> Fault:
    """400: the model itself said no, for example to a text that is too long."""
    return Fault(400, 5006, reason)


def no_json() -> Fault:
    """400: what the model wrote is not the JSON that was asked for."""
    return Fault(400, 90002, "JSON Mode couldn't be met")


def not_here(reason: str) -> Fault:
    """501: nothing on this machine can answer that, and *reason* says why."""
    return Fault(501, 90001, f"cfai local: {reason}", by_model=False)


def broken(exc: BaseException) -> Fault:
    """500: a mistake of this server."""
    return Fault(500, 8005, f"Internal Server Error: {type(exc).__name__}: {exc}")
