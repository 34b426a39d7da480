"""`Value`: comparison, hash and `repr` of frozen classes, written once."""

from typing import Any

import attrs


class Value:
    """Comparison, hash and repr of all values.

    attrs would generate these for each class, which is half of the cost of importing it.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _comparison_key(self) == _comparison_key(other)

    def __hash__(self) -> int:
        hashed = [a.name for a in fields_of(self) if (a.eq if a.hash is None else a.hash)]
        return hash((type(self), *(getattr(self, name) for name in hashed)))

    def __repr__(self) -> str:
        parts = (f"{a.name}={getattr(self, a.name)!r}" for a in fields_of(self) if a.repr)
        return f"{type(self).__name__}({', '.join(parts)})"


def fields_of(value: Any) -> tuple[Any, ...]:
    """The fields of the class of a value."""
    attributes: tuple[Any, ...] = attrs.fields(type(value))
    return attributes


def _comparison_key(value: object) -> tuple[Any, ...]:
    return tuple([getattr(value, a.name) for a in fields_of(value) if a.eq])
