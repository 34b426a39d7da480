"""Which member of a union a value is meant for, told by its keys and its choices.

Each value is read once as each union, so that members which hold one another take no more time
than there is to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, NewType, get_args
from uuid import UUID

from attrs import frozen

from cfai._types.kinds import (
    bare,
    fields,
    is_class,
    is_enum,
    is_list,
    is_mapping,
    is_union,
)
from cfai._types.scalars import Hook, Wrong, choose, same

if TYPE_CHECKING:
    from cattrs import Converter

_Read = dict[tuple[int, int], tuple[Any, list[Exception]]]

_READ: ContextVar[_Read | None] = ContextVar("_READ", default=None)
"""What was read so far as which union, by the id of the value and of the union's hook."""

_NEVER: Final = (9.0,)
_ANYTHING: Final = (8.0,)

_NUMBERS: Final = frozenset({int, float})
_FORMS: Final[dict[Any, frozenset[type[Any]]]] = {
    NoneType: frozenset({NoneType}),
    None: frozenset({NoneType}),
    str: frozenset({str}),
    int: _NUMBERS,
    float: _NUMBERS,
    bool: frozenset({bool}),
    Decimal: _NUMBERS | {str},
    **dict.fromkeys((datetime, date, time, UUID), frozenset({str})),
}


@contextmanager
def one_reading() -> Iterator[None]:
    """Keep what is read as a member of a union, until the whole value is read."""
    token = _READ.set({})
    try:
        yield
    finally:
        _READ.reset(token)


def union_hook(kind: Any, converter: Converter) -> Hook:
    """Read a value as the member that it looks most like; else as the next one."""
    members = [_Member.of(one) for one in get_args(kind)]

    def first_that_fits(value: Any) -> tuple[Any, list[Exception]]:
        wrong: list[Exception] = list(_no_choice(value, members, kind))
        if wrong:
            return None, wrong
        for one in sorted(members, key=lambda member: member.unlikeliness(value)):
            try:
                return converter.structure(value, one.kind), []
            except Exception as exc:
                wrong.append(exc)
        return None, wrong

    def hook(value: Any, _: Any) -> Any:
        seen = _READ.get()
        key = id(value), id(members)
        if seen is None or not isinstance(value, dict | list):
            found, wrong = first_that_fits(value)
        elif key in seen:
            found, wrong = seen[key]
        else:
            found, wrong = seen[key] = first_that_fits(value)
        if wrong:
            # The member that the value looks most like says best what is wrong with it.
            raise wrong[0]
        return found

    return hook


def _no_choice(value: Any, members: list[_Member], kind: Any) -> Iterator[Exception]:
    """Say what all members together allow, where a field that tells them apart is none of it."""
    from cattrs.errors import AttributeValidationNote, ClassValidationError

    if not isinstance(value, dict):
        return
    meant = [one for one in members if one.forms is None or dict in one.forms]
    told = [name for name in value if meant and all(name in one.choices for one in meant)]
    for name in told:
        try:
            choose(value[name], (some for one in meant for some in one.choices[name]))
        except Wrong as exc:
            exc.add_note(AttributeValidationNote(f"field {name}", name, Any))
            yield ClassValidationError("no member", [exc], kind)


@frozen
class _Member:
    """One type of a union, with what tells its values from others'."""

    kind: Any
    known: Any
    """Without what it holds, and what is said of it."""

    forms: frozenset[type[Any]] | None
    """What JSON has for it; `None` is anything."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    choices: Mapping[str, tuple[Any, ...]] = {}
    """Of the fields that are one of a few values."""

    shapes: Mapping[str, frozenset[type[Any]]] = {}
    """What JSON has for the other fields."""

    @classmethod
    def of(cls, kind: Any) -> _Member:
        plain = _plain(kind)
        if not is_class(plain):
            return cls(kind, bare(plain), _forms(plain))
        found = {one.name: _plain(one.kind) for one in fields(plain)}
        required = frozenset(one.name for one in fields(plain) if one.required)
        choices = {name: _choices(one) for name, one in found.items()}
        shapes = {name: forms for name, one in found.items() if (forms := _forms(one))}
        few = {name: some for name, some in choices.items() if some}
        return cls(kind, plain, frozenset({dict}), frozenset(found), required, few, shapes)

    def unlikeliness(self, value: Any) -> tuple[float, ...]:
        """How unlikely a value is to be meant for this one: the likeliest goes first."""
        if self.forms is None:
            return _ANYTHING
        if type(value) not in self.forms:
            return _NEVER
        if isinstance(value, dict):
            # A class says more than an object of any keys, which takes what is in no class.
            return self._as_object(value) if is_class(self.known) else (0, 0, 0, math.inf)
        if self.known is Literal or is_enum(self.known):
            return (0,)
        # Every date is a text, and every number a decimal: what says more goes first.
        exact = self.known is type(value)
        return (2,) if self.known is str else (1,) if exact else (1.5,)

    def _as_object(self, value: dict[str, Any]) -> tuple[float, ...]:
        chosen = sum(
            not any(same(one, value[name]) for one in some)
            for name, some in self.choices.items()
            if name in value
        )
        odd = len(value.keys() - self.names) + len(self.required - value.keys())
        shaped = sum(
            type(value[name]) not in forms for name, forms in self.shapes.items() if name in value
        )
        return chosen, odd, shaped, len(self.names - value.keys())


def _plain(kind: Any) -> Any:
    """A type without what is said of it, and without its own name."""
    while isinstance(kind, NewType) or hasattr(kind, "__metadata__"):
        kind = kind.__supertype__ if isinstance(kind, NewType) else get_args(kind)[0]
    return kind


def _choices(kind: Any) -> tuple[Any, ...]:
    if is_enum(kind):
        return tuple(one.value for one in kind)
    if bare(kind) is Literal:
        return tuple(one.value if isinstance(one, Enum) else one for one in get_args(kind))
    return ()


def _forms(kind: Any) -> frozenset[type[Any]] | None:
    kind = _plain(kind)
    if is_union(kind):
        members = [_forms(one) for one in get_args(kind)]
        return None if None in members else frozenset().union(*filter(None, members))
    if is_enum(kind) or bare(kind) is Literal:
        made = frozenset(type(one) for one in _choices(kind))
        return made | _NUMBERS if made & _NUMBERS else made
    if is_class(kind) or is_mapping(kind):
        return frozenset({dict})
    return frozenset({list}) if is_list(kind) else _FORMS.get(bare(kind))
