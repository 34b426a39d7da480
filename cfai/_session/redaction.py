"""What an error must not carry, whatever a service says: the credentials that it was sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, evolve

from cfai.errors import CfaiError
from cfai.meta import Meta

_HIDDEN = "***"


def conceal(error: CfaiError, secrets: Sequence[str]) -> None:
    """Take *secrets* out of all that *error* says and keeps, and out of what it came from."""
    # In any case: a Content-Type is kept in small letters. With no secrets, nothing matches.
    told = re.compile("|".join(map(re.escape, secrets)) or r"(?!)", re.IGNORECASE)
    error.args = tuple(_without(told, one) for one in error.args)
    for name, value in vars(error).items():
        setattr(error, name, _without(told, value))
    if any(told.search(text) for text in _origins(error)):
        error.__cause__ = error.__context__ = None


def _without(told: re.Pattern[str], value: Any) -> Any:
    match value:
        case str():
            # A header's stray bytes are read as half characters, which no file or terminal takes.
            return told.sub(_HIDDEN, value).encode("utf-8", "replace").decode()
        case bytes():
            return told.sub(_HIDDEN, value.decode("latin-1")).encode("latin-1")
        case Mapping():
            return {_without(told, key): _without(told, one) for key, one in value.items()}
        case tuple() | list():
            return type(value)(_without(told, one) for one in value)
        case Meta():
            facts = asdict(value)
            return evolve(value, **{name: _without(told, one) for name, one in facts.items()})
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
