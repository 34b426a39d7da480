"""Values of a user's own types <-> JSON: what a tool takes and gives, and what is parsed.

As strict as `service`, and in words that a model can act on: it reads them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, is_typeddict
from uuid import UUID

from attrs import evolve

from cfai._types.kinds import (
    SETS,
    Field,
    bare,
    fields,
    is_class,
    is_fixed,
    is_list,
    is_mapping,
    is_union,
    stored,
    unsaid,
)
from cfai._types.scalars import HOOKS, Hook, Wrong, literal, null, refuse
from cfai._types.unions import one_reading, union_hook

if TYPE_CHECKING:
    from cattrs import Converter


class Misfit(ValueError):
    """A value that does not fit its type. The message says where, and the rule."""


def _each(converter: Converter, pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    """Read (value, type) pairs, and say of each that is wrong where it stands."""
    from cattrs.errors import IterableValidationError, IterableValidationNote

    read, wrong = [], []
    for index, (value, kind) in enumerate(pairs):
        try:
            read.append(converter.structure(value, kind))
        except Exception as exc:
            exc.add_note(IterableValidationNote(f"item {index}", index, kind))
            wrong.append(exc)
    if wrong:
        raise IterableValidationError("wrong items", wrong, list)
    return read


def _list_hook(kind: Any, converter: Converter) -> Hook:
    """Read a list as a list, tuple or set: never a text or an object, which have items, too."""
    origin, arguments = bare(kind), get_args(kind)
    makes: Callable[[list[Any]], Any] = list
    if origin in (tuple, frozenset):
        makes = origin
    elif origin in SETS:
        makes = set
    fixed = is_fixed(kind)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            refuse("a list", value)
        if not fixed:
            inner = arguments[0] if arguments else Any
            return makes(_each(converter, ((item, inner) for item in value)))
        if len(value) != len(arguments):
            refuse(f"a list of {len(arguments)}", value)
        return makes(_each(converter, zip(value, arguments, strict=True)))

    return hook


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    from cattrs.cols import mapping_structure_factory

    inner: Any = dict[get_args(kind) or (str, Any)]  # type: ignore[misc]  # made at runtime
    return _object(mapping_structure_factory(inner, converter))


def _class_hook(kind: Any, converter: Converter) -> Hook:
    found = [evolve(one, kind=unsaid(one.kind)) for one in fields(kind)]
    names = [one.name for one in found]
    makes = dict if is_typeddict(kind) else kind
    # Where nothing is required, what has nothing to do with the class would be one, too.
    lax = not any(one.required for one in found)

    def hook(value: dict[str, Any], _: Any) -> Any:
        if lax and value and value.keys().isdisjoint(names):
            refuse(f"an object of {', '.join(names)}" if names else "an object of no keys", value)
        return makes(**_parts(converter, found, value, kind))

    return _object(hook)


def _parts(
    converter: Converter, found: Iterable[Field], value: dict[str, Any], kind: Any
) -> dict[str, Any]:
    from cattrs.errors import AttributeValidationNote, ClassValidationError

    read, wrong = {}, []
    for one in found:
        try:
            if one.name in value:
                read[one.given or one.name] = converter.structure(value[one.name], one.kind)
            elif one.required:
                raise Wrong("is missing")
        except Exception as exc:
            exc.add_note(AttributeValidationNote(f"field {one.name}", one.name, one.kind))
            wrong.append(exc)
    if wrong:
        raise ClassValidationError("wrong fields", wrong, kind)
    return read


def _object(read: Hook) -> Hook:
    def hook(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            refuse("an object", value)
        return read(value, kind)

    return hook


def _as_object(kind: Any, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    """Write a value by what it holds: its annotations may be quoted, or be wrong."""
    names = stored(kind)
    return lambda value: {name: converter.unstructure(getattr(value, name)) for name in names}


def _has_names(kind: Any) -> bool:
    return is_class(kind) and not is_typeddict(kind)


@cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(
        detailed_validation=True, unstruct_collection_overrides=dict.fromkeys(SETS, list)
    )
    for kind, hook in HOOKS.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: kind is NoneType, null)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    converter.register_structure_hook_func(lambda kind: bare(kind) is Literal, literal)
    for suits, factory in (
        (is_mapping, _mapping_hook),
        (is_list, _list_hook),
        (is_union, union_hook),
        (is_class, _class_hook),
    ):
        converter.register_structure_hook_factory(suits, factory)
    for said in (datetime, date, time):
        converter.register_unstructure_hook(said, said.isoformat)
    for shown in (UUID, Decimal):
        converter.register_unstructure_hook(shown, str)
    converter.register_unstructure_hook_factory(_has_names, _as_object)
    return converter


def read(value: Any, kind: Any, what: str) -> Any:
    """Read decoded JSON as a value of *kind*; *what* names it in the error.

    Raises:
        Misfit: It does not fit, or the class itself refused it.
    """
    from cattrs import transform_error

    try:
        with one_reading():
            return _converter().structure(value, unsaid(kind))
    except Exception as exc:
        reasons = transform_error(exc, path=what, format_exception=_reason)
        raise Misfit("; ".join(_sentence(reason) for reason in reasons[:5])) from exc


def _reason(exc: BaseException, _: Any) -> str:
    return str(exc) or type(exc).__name__


def _sentence(reason: str) -> str:
    said, _, path = reason.rpartition(" @ ")
    return f"{path} {said}"


def plain(value: Any) -> Any:
    """Give a value as what JSON has: objects, lists, texts, numbers, true, false and null."""
    return _converter().unstructure(value)
