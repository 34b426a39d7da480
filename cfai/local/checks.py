"""Whether a request's JSON keeps the rules of its model: the bounds stand in `cfai.tasks`."""

from collections.abc import Mapping
from typing import Any

import orjson

from cfai.errors import InputError
from cfai.local.faults import Fault, bad_input, no_body
from cfai.tasks import Task, rules

Body = Mapping[str, Any]


def decoded(raw: bytes) -> Body:
    """Decode the body of a request.

    Raises:
        Fault: Nothing was sent, or it is no JSON object.
    """
    if not raw.strip():
        raise no_body()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise bad_input(f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise bad_input("the body must be a JSON object")
    return body


def check(task: type[Task[Any]], body: Body) -> None:
    """Check what *body* says against the rules of *task*; a null counts as left out.

    Raises:
        Fault: A field is missing, or breaks its rule.
    """
    for name, rule in rules(task).items():
        value = body.get(name)
        if value is None:
            if rule.required:
                raise missing(name)
            continue
        try:
            rule.check(value)
        except InputError as exc:
            raise bad_input(exc) from exc


def missing(*names: str) -> Fault:
    """Give the fault of a request with none of these fields, in the service's words."""
    return bad_input(f"required properties at '/' are '{','.join(names)}'")


def texts(name: str, value: Any, *, at_most: int | None) -> list[str]:
    """Give the one text or the texts in the field *name*, each of at least 1 character.

    Raises:
        Fault: It is something else, or more than *at_most*.
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise bad_input(f"{name} must be text or a list of texts")
    if at_most is not None and len(found) > at_most:
        raise bad_input(f"{name} must have at most {at_most} items, got {len(found)}")
    if not all(found):
        raise bad_input(f"{name} must have at least 1 character, got ''")
    return found


def contexts(body: Body) -> list[str]:
    """Give the texts in `contexts`, a list of objects that each hold one.

    Raises:
        Fault: It is missing or something else.
    """
    found = body.get("contexts")
    if found is None:
        raise missing("contexts")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise bad_input("contexts must be a list of objects with a text")
    held = [item.get("text") for item in found]
    for at, text in enumerate(held):
        if not isinstance(text, str) or not text:
            raise bad_input(f"contexts[{at}].text must have at least 1 character, got {text!r}")
    return [str(text) for text in held]
