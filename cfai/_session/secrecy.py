"""What an error must not carry, whatever a service says: the credentials that it was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, evolve

from cfai.errors import CfaiError
from cfai.meta import Meta

_HIDDEN = "***"


def conceal(error: CfaiError, secrets: Sequence[str]) -> None:
    """Take *secrets* out of all that *error* says and keeps, and out of what it came from."""
    error.args = tuple(_without(one, secrets) for one in error.args)
    for name, value in vars(error).items():
        setattr(error, name, _without(value, secrets))
    if any(secret in text for text in _origins(error) for secret in secrets):
        error.__cause__ = error.__context__ = None


def _without(value: Any, secrets: Sequence[str]) -> Any:
    match value:
        case str():
            for secret in secrets:
                value = value.replace(secret, _HIDDEN)
            # A header's stray bytes are read as half characters, which no file or terminal takes.
            return value.encode("utf-8", "replace").decode()
        case bytes():
            for secret in secrets:
                value = value.replace(secret.encode(), _HIDDEN.encode())
        case Mapping():
            return {key: _without(one, secrets) for key, one in value.items()}
        case tuple() | list():
            return type(value)(_without(one, secrets) for one in value)
        case Meta():
            facts = asdict(value)
            return evolve(value, **{name: _without(one, secrets) for name, one in facts.items()})
    return value


def _origins(error: BaseException) -> list[str]:
    """What the errors say that led to this one."""
    said = []
    seen: set[int] = set()
    waiting = [error.__cause__, error.__context__]
    while waiting:
        origin = waiting.pop()
        if origin is not None and id(origin) not in seen:
            seen.add(id(origin))
            said.append(f"{origin} {origin!r}")
            waiting += [origin.__cause__, origin.__context__]
    return said
