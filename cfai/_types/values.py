"""Frozen classes: comparison, hash and `repr` written once, and values made as fast as others.

attrs sets each field of a frozen value with `object.__setattr__`, which costs four times as much as
an assignment. Here a value is made in a subclass that is not frozen, and changes its class then.
As attrs does, this module writes functions: a loop over fields costs 300 instructions a field more
than a line for each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, update_wrapper, wraps
from typing import Any, TypeVar

import attrs
from attrs import NOTHING, Attribute

C = TypeVar("C", bound=type[Any])
T = TypeVar("T")

_FACTORY: Any = attrs.Factory


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


# Making values


def write_function(
    name: str, parameters: str, lines: Sequence[str], names: Mapping[str, Any]
) -> Callable[..., Any]:
    """Compile a function of these *lines*, in which *names* are known."""
    namespace = dict(names)
    source = "\n    ".join([f"def {name}({parameters}):", *lines])
    exec(compile(source, f"<cfai {name}>", "exec"), namespace)  # noqa: S102  # our own lines
    function: Callable[..., Any] = namespace[name]
    return function


@cache
def _open_class(cls: Any) -> Any:
    """A subclass of a frozen, slotted class that is not frozen, and has the same fields."""
    namespace = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__init__": object.__init__,
        # Both, or Python looks for them in the class at each assignment.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    make_class: Any = type(cls)
    return make_class(cls.__name__, (cls,), namespace)


def fast_maker(cls: type[T]) -> Callable[..., T]:
    """A function that makes values of a slotted attrs class, in a half or a third of the time.

    It takes the fields as the class does, those that are keyword-only also by position, at last. It
    calls no converter, no validator, no factory and no `__attrs_post_init__`.
    """
    attributes: Sequence[Attribute[Any]] = attrs.fields(cls)  # type: ignore[arg-type]  # of attrs
    names: dict[str, Any] = {"new": object.__new__, "cls": cls}
    parameters, lines = [], []
    for field in sorted(attributes, key=lambda field: field.kw_only):
        name, default = field.name, f"default_{field.name}"
        names[default] = field.default
        lines.append(f"value.{name} = {name if field.init else default}")
        if field.init:
            is_required = field.default is NOTHING or isinstance(field.default, _FACTORY)
            parameters.append(name if is_required else f"{name}={default}")
    if cls.__setattr__ is object.__setattr__:
        lines = ["value = new(cls)", *lines]
    else:  # It is frozen.
        names["open_class"] = _open_class(cls)  # type: ignore[arg-type]  # classes can be hashed
        lines = ["value = open_class()", *lines, "value.__class__ = cls"]
    lines.append("return value")
    return write_function(f"make_{cls.__name__}", ", ".join(parameters), lines, names)


def fast_init(cls: C) -> C:
    """Let a frozen class of many optional fields make its values in a third of the time.

    Converters and validators are not called for defaults, so they must accept the defaults and
    return them unchanged.
    """
    attrs_init = cls.__init__

    @wraps(attrs_init)
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        # Most classes of a program make no values: the first value has the function written.
        cls.__init__ = update_wrapper(_write_init(cls), attrs_init)
        cls.__init__(self, *args, **options)

    cls.__init__ = __init__
    return cls


def _write_init(cls: type[Any]) -> Callable[..., None]:
    fields = attrs.fields(cls)
    positional, keywords, assignments, checks = ["self"], ["*"], [], []
    for field in fields:
        name, default = field.name, _default(field)
        if field.init:
            parameter = name if field.default is NOTHING else f"{name}={default}"
            (keywords if field.kw_only else positional).append(parameter)
        assignments += _assignment(field)
        if field.validator is not None:
            condition = "" if field.default is NOTHING else f"if {name} is not {default}: "
            checks.append(f"{condition}validate_{name}(self, field_{name}, self.{name})")
    if hasattr(cls, "__attrs_post_init__"):
        checks.append("self.__attrs_post_init__()")
    lines = [
        "cls = type(self)",
        "open = own_open_class if cls is own_class else open_class(cls)",
        "set_attribute(self, '__class__', open)",
        *assignments,
        *checks,
        "self.__class__ = cls",
    ]
    names: dict[str, Any] = {
        "own_class": cls,
        "own_open_class": _open_class(cls),  # type: ignore[arg-type]  # classes can be hashed
        "open_class": _open_class,
        "set_attribute": object.__setattr__,
        "NOTHING": NOTHING,
    }
    for field in fields:
        has_factory = isinstance(field.default, _FACTORY)
        names[f"default_{field.name}"] = field.default.factory if has_factory else field.default
        names[f"convert_{field.name}"] = field.converter
        names[f"validate_{field.name}"] = field.validator
        names[f"field_{field.name}"] = field
    parameters = [*positional, *(keywords if len(keywords) > 1 else ())]
    return write_function("__init__", ", ".join(parameters), lines, names)


def _default(field: "Attribute[Any]") -> str:
    """What stands for the default of a field in a written function."""
    if isinstance(field.default, _FACTORY):
        return "NOTHING"
    # A comparison with the constant takes half of the time of one with a variable.
    return "None" if field.default is None else f"default_{field.name}"


def _assignment(field: "Attribute[Any]") -> list[str]:
    """The lines that convert a field and set it."""
    name, default = field.name, _default(field)
    has_factory = isinstance(field.default, _FACTORY)
    if not field.init:
        return [f"self.{name} = {f'default_{name}()' if has_factory else default}"]
    lines = []
    if field.converter is not None:
        condition = "" if field.default is NOTHING else f"if {name} is not {default}: "
        lines.append(f"{condition}{name} = convert_{name}({name})")
    if has_factory:
        lines.append(f"if {name} is NOTHING: {name} = default_{name}()")
    return [*lines, f"self.{name} = {name}"]
