"""What all values have in common: how they compare, and how they show themselves."""

from typing import Any

import attrs


class Value:
    """The methods that attrs would write for each class, which is half of what its import costs."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash((type(self), *_compared(self)))

    def __repr__(self) -> str:
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in _fields(self) if one.repr)
        return f"{type(self).__name__}({', '.join(shown)})"


def _fields(value: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = attrs.fields(type(value))
    return found


def _compared(value: object) -> tuple[Any, ...]:
    return tuple([getattr(value, one.name) for one in _fields(value) if one.eq])
