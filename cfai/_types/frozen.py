"""Frozen classes whose values are made as fast as those of other classes.

attrs sets each field of a frozen value with `object.__setattr__`, which costs four times as much as
an assignment. A stream may have a `Usage`, with six fields, in each event.
"""

from typing import Any

from attrs import define


def unfrozen(cls: type[Any]) -> Any:
    """A subclass of a frozen, slotted attrs class that is not frozen, and has the same fields.

    Its values become values of *cls* by `value.__class__ = cls`. *cls* must not have an
    `__attrs_post_init__`.
    """
    namespace = {
        "__slots__": (),
        "__module__": cls.__module__,
        # Both, or Python looks for them in the class at each assignment.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    make_class: Any = type(cls)
    subclass = make_class(cls.__name__, (cls,), namespace)
    return define(eq=False, repr=False, getstate_setstate=False, on_setattr=None)(subclass)
