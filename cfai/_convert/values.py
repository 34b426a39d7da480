"""Values of a user's own types <-> JSON: what a tool takes and gives, and what is parsed.

As strict as `service`, and in words that a model can act on: it reads them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache, partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, is_typeddict
from uuid import UUID

from cfai._convert.kinds import (
    LISTS,
    SETS,
    bare,
    fields,
    is_class,
    is_list,
    is_mapping,
    is_named_tuple,
    is_union,
)
from cfai._convert.scalars import HOOKS, Hook, literal, null, refuse

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
    fixed = origin is tuple and arguments and arguments[-1] is not Ellipsis

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
    from cattrs.cols import namedtuple_dict_structure_factory
    from cattrs.gen import make_dict_structure_fn

    if is_typeddict(kind):
        return _object(partial(_typed_dict, converter))
    if is_named_tuple(kind):
        return _object(namedtuple_dict_structure_factory(kind, converter))
    return _object(make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=False))


def _typed_dict(converter: Converter, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    from cattrs.errors import AttributeValidationNote, ClassValidationError

    read, wrong = {}, []
    for one in fields(kind):
        try:
            if one.required or one.name in value:
                read[one.name] = converter.structure(value[one.name], one.kind)
        except Exception as exc:
            exc.add_note(AttributeValidationNote(f"key {one.name}", one.name, one.kind))
            wrong.append(exc)
    if wrong:
        raise ClassValidationError("wrong keys", wrong, kind)
    return read


def _object(read: Hook) -> Hook:
    def hook(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            refuse("an object", value)
        return read(value, kind)

    return hook


def _union_hook(kind: Any, converter: Converter) -> Hook:
    members = get_args(kind)

    def hook(value: Any, _: Any) -> Any:
        wrong: list[Exception] = []
        for one in sorted(members, key=partial(_unlikeliness, value)):
            try:
                return converter.structure(value, one)
            except Exception as exc:
                wrong.append(exc)
        # The member that the value looks most like says best what is wrong with it.
        raise wrong[0]

    return hook


def _unlikeliness(value: Any, kind: Any) -> tuple[int, int]:
    """How unlikely a value is to be meant for a member of a union: the likeliest goes first."""
    known = bare(kind)
    if hasattr(kind, "__metadata__"):  # Annotated
        return _unlikeliness(value, get_args(kind)[0])
    if known is NoneType:
        return (0, 0) if value is None else (9, 0)
    if isinstance(value, dict) and is_class(known):
        names = {one.name for one in fields(known)}
        return len(value.keys() - names), len(names - value.keys())
    if known is str:
        # Every date is a text, too: what says more goes first.
        return 1, 0
    if known is type(value) or known is Literal or (isinstance(value, list) and known in LISTS):
        return 0, 0
    return (0, 1) if isinstance(value, str) else (2, 0)


@cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.cols import namedtuple_dict_unstructure_factory

    converter = Converter(
        detailed_validation=True, unstruct_collection_overrides=dict.fromkeys(SETS, list)
    )
    for kind, hook in HOOKS.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: kind is NoneType, null)
    converter.register_structure_hook_func(lambda kind: bare(kind) is Literal, literal)
    for suits, factory in (
        (is_mapping, _mapping_hook),
        (is_list, _list_hook),
        (is_union, _union_hook),
        (is_class, _class_hook),
    ):
        converter.register_structure_hook_factory(suits, factory)
    for said in (datetime, date, time):
        converter.register_unstructure_hook(said, said.isoformat)
    for shown in (UUID, Decimal):
        converter.register_unstructure_hook(shown, str)
    converter.register_unstructure_hook_factory(is_named_tuple, namedtuple_dict_unstructure_factory)
    return converter


def read(value: Any, kind: Any, what: str) -> Any:
    """Read decoded JSON as a value of *kind*; *what* names it in the error.

    Raises:
        Misfit: It does not fit, or the class itself refused it.
    """
    from cattrs import transform_error

    try:
        return _converter().structure(value, kind)
    except Exception as exc:
        reasons = transform_error(exc, path=what, format_exception=_reason)
        raise Misfit("; ".join(_sentence(reason) for reason in reasons[:5])) from exc


def _reason(exc: BaseException, _: Any) -> str:
    return "is missing" if isinstance(exc, KeyError) else str(exc) or type(exc).__name__


def _sentence(reason: str) -> str:
    said, _, path = reason.rpartition(" @ ")
    return f"{path} {said}"


def plain(value: Any) -> Any:
    """Give a value as what JSON has: objects, lists, texts, numbers, true, false and null."""
    return _converter().unstructure(value)
