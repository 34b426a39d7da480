"""Frozen classes whose values are made as fast as those of other classes.

attrs sets each field of a frozen value with `object.__setattr__`, which costs four times as much as
an assignment. Here a value is made in a subclass that is not frozen, and changes its class then.
"""

from functools import cache, wraps
from typing import Any, TypeVar

import attrs
from attrs import Attribute, define

C = TypeVar("C", bound=type[Any])


def unfrozen(cls: type[Any], *, checked: bool = True) -> Any:
    """A subclass of a frozen, slotted attrs class that is not frozen, and has the same fields.

    Its values become values of *cls* by `value.__class__ = cls`. `__attrs_post_init__` is not
    called, and converters and validators only if *checked*.
    """
    generate = define(
        eq=False,
        repr=False,
        getstate_setstate=False,
        on_setattr=None,
        field_transformer=None if checked else _uncheck,
    )
    return generate(_subclass(cls, __attrs_post_init__=None))


def _uncheck(_: Any, fields: "list[Attribute[Any]]") -> "list[Attribute[Any]]":
    return [field.evolve(converter=None, validator=None) for field in fields]


def _subclass(cls: type[Any], **members: Any) -> Any:
    namespace = {
        "__slots__": (),
        "__module__": cls.__module__,
        # Both, or Python looks for them in the class at each assignment.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    make_class: Any = type(cls)
    return make_class(cls.__name__, (cls,), {**namespace, **members})


@cache
def _open_class(cls: Any) -> Any:
    return _subclass(cls)


def fast_init(cls: C) -> C:
    """Let a frozen class of many optional fields make its values in a third of the time.

    Converters are called for the arguments that are passed only, so they must return the defaults
    unchanged.
    """
    fields = [field for field in attrs.fields(cls) if field.init]
    positional = [field.name for field in fields if not field.kw_only]
    converters = {field.name: field.converter for field in fields if field.converter is not None}
    validators = [(field, field.validator) for field in fields if field.validator is not None]
    post_init = getattr(cls, "__attrs_post_init__", None)
    set_fields: Any = None

    @wraps(cls.__init__)
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        nonlocal set_fields
        if set_fields is None:  # Most classes of a program make no values.
            set_fields = unfrozen(cls, checked=False).__init__
        object.__setattr__(self, "__class__", _open_class(type(self)))  # type: ignore[arg-type]  # classes can be hashed
        set_fields(self, *args, **options)
        for name in (*positional[: len(args)], *options):
            if name in converters:
                setattr(self, name, converters[name](getattr(self, name)))
        for field, validate in validators:
            validate(self, field, getattr(self, field.name))
        if post_init is not None:
            post_init(self)
        self.__class__ = type(self).__base__

    cls.__init__ = __init__
    return cls
