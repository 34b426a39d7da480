"""Frozen classes whose values are made as fast as those of other classes.

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
        # Both, or Python looks for them in the class at each assignment.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    make_class: Any = type(cls)
    return make_class(cls.__name__, (cls,), namespace)


def fast_maker(cls: type[T]) -> Callable[..., T]:
    """A function that makes values of a frozen, slotted attrs class, in a third of the time.

    It takes the fields by position, those that are keyword-only last, or by name. It calls no
    converter, no validator and no `__attrs_post_init__`.
    """
    attributes: Sequence[Attribute[Any]] = attrs.fields(cls)  # type: ignore[arg-type]  # of attrs
    fields = sorted(attributes, key=lambda field: field.kw_only)
    open_class = _open_class(cls)  # type: ignore[arg-type]  # classes can be hashed
    names: dict[str, Any] = {"new": object.__new__, "open_class": open_class, "cls": cls}
    names |= {f"default_{field.name}": field.default for field in fields}
    parameters = ", ".join(
        field.name if field.default is NOTHING else f"{field.name}=default_{field.name}"
        for field in fields
    )
    lines = ["value = new(open_class)"]
    lines += [f"value.{field.name} = {field.name}" for field in fields]
    lines += ["value.__class__ = cls", "return value"]
    return write_function(f"make_{cls.__name__}", parameters, lines, names)


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
    names: dict[str, Any] = {
        "own_class": cls,
        "own_open_class": _open_class(cls),  # type: ignore[arg-type]  # classes can be hashed
        "open_class": _open_class,
        "set_attribute": object.__setattr__,
        "NOTHING": NOTHING,
    }
    positional, keywords = ["self"], ["*"]
    lines = [
        "cls = type(self)",
        "open = own_open_class if cls is own_class else open_class(cls)",
        "set_attribute(self, '__class__', open)",
    ]
    checks: list[str] = []
    for field in attrs.fields(cls):
        name = field.name
        default = "None" if field.default is None else f"default_{name}"
        has_factory = isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]  # a class
        names |= {default: field.default.factory if has_factory else field.default}
        names |= {f"convert_{name}": field.converter, f"validate_{name}": field.validator}
        names |= {f"field_{name}": field}
        unset = "NOTHING" if has_factory else default
        if not field.init:
            lines.append(f"self.{name} = {default}{'()' * has_factory}")
            continue
        is_required = field.default is NOTHING
        parameters = keywords if field.kw_only else positional
        parameters.append(name if is_required else f"{name}={unset}")
        is_given = "" if is_required else f"if {name} is not {unset}: "
        if field.converter is not None:
            lines.append(f"{is_given}{name} = convert_{name}({name})")
        if has_factory:
            lines.append(f"if {name} is NOTHING: {name} = {default}()")
        lines.append(f"self.{name} = {name}")
        if field.validator is not None:
            checks.append(f"{is_given}validate_{name}(self, field_{name}, self.{name})")
    if hasattr(cls, "__attrs_post_init__"):
        checks.append("self.__attrs_post_init__()")
    parameters = [*positional, *(keywords if len(keywords) > 1 else ())]
    return write_function(
        "__init__", ", ".join(parameters), [*lines, *checks, "self.__class__ = cls"], names
    )
