"""Classes of the caller: as the questions of a `Decide` or the fields of an `Extract`, and as the
values that are read from their answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from types import NoneType
from typing import Any, Final, Generic, Literal, NewType, TypeVar, get_args

from attrs import evolve, frozen

from cfai._types.foreign import (
    build_foreign,
    contains_foreign_metadata,
    foreign_fields,
    foreign_type,
)
from cfai._types.kinds import (
    Field,
    fields_of,
    is_class,
    is_enum,
    is_fixed_tuple,
    is_list,
    is_typed_dict,
    is_union,
    origin_of,
)
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import description_in, parameter_descriptions
from cfai._types.values import Value
from cfai.errors import DecodeError, InputError, ParseError
from cfai.tasks.decisions import Choice, Decisions, Noul, Question, Score
from cfai.tasks.extraction import (
    DateField,
    DateTimeField,
    DurationField,
    ExtractedField,
    Extraction,
    ExtractionField,
    ForecastField,
    ListField,
    NumberField,
    TextField,
    TimeField,
)

T = TypeVar("T")

_USE: Final = (
    "use bool, a Literal, an Enum or an IntEnum, or put a Noul, a Choice or a Score into Annotated"
)


@frozen(eq=False, repr=False)
class Decided(Value, Generic[T]):
    """An instance of a class, and the decisions that it was made from."""

    value: T
    """The instance."""

    decisions: Decisions
    """The probabilities of every field by its name, and `usage`, `meta` and `raw`."""


@frozen(eq=False, repr=False)
class Extracted(Value, Generic[T]):
    """An instance of a class, and the extraction that it was made from."""

    value: T
    """The instance."""

    extraction: Extraction
    """The span and the confidence of every field by its name, and `usage`, `meta` and `raw`."""


@frozen
class _ClassField:
    """A field of a class, with the parts of its type."""

    field: Field
    path: str
    kind: Any
    """The type without `Annotated` and `NewType`."""

    metadata: tuple[Any, ...]
    """The values inside `Annotated`."""

    description: str

    def of_kind(self, kind: Any) -> _ClassField:
        """Give the field with a type, whose first text is its description."""
        kind, metadata = _unwrap(kind)
        texts = filter(None, map(description_in, metadata))
        return evolve(
            self,
            kind=kind,
            metadata=(*self.metadata, *metadata),
            description=next(texts, self.description),
        )

    def find(self, kind: Any) -> Any:
        """The first value of a kind inside `Annotated`; `None` if there is none."""
        return next((item for item in self.metadata if isinstance(item, kind)), None)


def class_fields(into: Any) -> Iterator[_ClassField]:
    """Read the fields of a class.

    Raises:
        InputError: It is not a class with fields, or its types can't be resolved.
    """
    try:
        fields = fields_of(into) if is_class(into) else foreign_fields(into)
    except (NameError, TypeError) as exc:
        raise InputError(f"into: can't resolve the types of {into.__name__}: {exc}") from exc
    if fields is None:
        raise InputError(
            "into must be an attrs class, a dataclass, a TypedDict, a named tuple, a pydantic "
            f"model or a msgspec struct, got {into!r}"
        )
    descriptions = parameter_descriptions(into.__doc__)
    for field in fields:
        description = field.description or descriptions.get(field.name, "")
        path = f"{into.__name__}.{field.name}"
        yield _ClassField(field, path, Any, (), description).of_kind(field.kind)


def _unwrap(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    metadata: tuple[Any, ...] = ()
    while isinstance(kind, NewType) or hasattr(kind, "__metadata__"):
        if isinstance(kind, NewType):
            kind = kind.__supertype__
        else:
            kind, metadata = get_args(kind)[0], (*kind.__metadata__, *metadata)
    return kind, metadata


def build_instance(into: Any, values: Mapping[str, Any], answer: Any) -> Any:
    """Create an instance of a class from the values of its fields.

    Raises:
        ParseError: The class does not accept them.
    """
    if is_typed_dict(origin_of(into)):
        return dict(values)
    is_ours = is_class(into)
    fields = fields_of(into) if is_ours else foreign_fields(into) or ()
    arguments = {field.alias or field.name: values[field.name] for field in fields}
    try:
        return into(**arguments) if is_ours else build_foreign(into, arguments)
    except Exception as exc:  # The class is the caller's own code, which can raise anything.
        message = f"{into.__name__} refused the values of the answer: {exc}"
        raise ParseError(message, answer=answer) from exc


# Decisions


@frozen
class _Decider:
    """The question for one field, and how its answer becomes the value of the field."""

    question: Question
    kind: Any
    members: Mapping[str, Any]
    """The values of the field by the ids of options, or in the order of levels, if it has few."""

    def fits(self) -> bool:
        """Whether every answer to the question is a value of the field."""
        match self.question:
            case Noul():
                return self.kind in (bool, float)
            case Choice(criteria=options):
                return self.kind is str or self.members.keys() == options.keys()
            case Score(criteria=levels):
                return self.kind in (int, float) or len(self.members) == len(levels)
        return False

    def read(self, decisions: Decisions, name: str) -> Any:
        """Give the value of the field.

        Raises:
            DecodeError: The answer could not be read.
            LookupError: There is no answer, or it is none of the options or levels.
        """
        if isinstance(self.question, Noul):
            noul = decisions.noul(name)
            return noul.yes if self.kind is bool else noul.probability
        if isinstance(self.question, Choice):
            option = decisions.choice(name).choice
            if option not in self.question.criteria:
                raise LookupError(f"there is no option {option!r}")
            return self.members[option] if self.members else option
        score = decisions.score(name)
        if not self.members:
            return score.score if self.kind is float else score.level
        if not 0 <= score.level < len(self.members):
            raise LookupError(f"there is no level {score.level}")
        return list(self.members.values())[score.level]


def questions_of(into: Any) -> dict[str, _Decider]:
    """Build the questions for the fields of a class.

    Raises:
        InputError: A field has a type that is no answer to a question.
    """
    return {item.field.name: _build_decider(item) for item in class_fields(into)}


def read_decided(into: Any, deciders: Mapping[str, _Decider], decisions: Decisions) -> Any:
    """Create an instance of a class from the answers to its questions.

    Raises:
        ParseError: An answer is missing, or is no value of its field.
    """
    values = {}
    for name, decider in deciders.items():
        try:
            values[name] = decider.read(decisions, name)
        except (DecodeError, LookupError) as exc:
            reason = "there is no answer" if isinstance(exc, KeyError) else exc
            message = f"the model decided no {into.__name__}: {name}: {reason}"
            raise ParseError(message, answer=decisions) from exc
    return build_instance(into, values, decisions)


def _build_decider(item: _ClassField) -> _Decider:
    question = item.find(Question)
    instructions = item.description or item.field.name.replace("_", " ").strip()
    try:
        members = _members(item)
        if question is None:
            question = _build_question(item, instructions, members)
    except InputError as exc:
        raise InputError(f"{item.path}: {exc}") from exc
    decider = _Decider(question, item.kind, members)
    if decider.fits():
        return decider
    expected = f", whose values are {', '.join(members)}" if members else ""
    raise InputError(
        f"{item.path}: a {type(question).__name__} gives no {_type_name(item.kind)}{expected}"
    )


def _build_question(item: _ClassField, instructions: str, members: Mapping[str, Any]) -> Question:
    if item.kind is bool:
        return Noul(instructions)
    if not members:
        raise InputError(f"{_type_name(item.kind)} is no answer to a question; {_USE}")
    if is_enum(item.kind) and issubclass(item.kind, int):
        return Score(instructions, list(members))
    return Choice.of(instructions, members)


def _members(item: _ClassField) -> dict[str, Any]:
    """The values of an enumeration or a `Literal`, by the ids of their options.

    An `IntEnum` is ordered by its values, and its ids are the names of its members, as words.
    """
    kind = item.kind
    if is_enum(kind) and issubclass(kind, int) and not issubclass(kind, Flag):
        ordered = sorted(kind, key=int)
        return {member.name.lower().replace("_", " "): member for member in ordered}
    if is_enum(kind) and not issubclass(kind, Flag):
        pairs = [(m.value if isinstance(m.value, str) else m.name, m) for m in kind]
    elif origin_of(kind) is Literal:
        pairs = [(str(v.value if isinstance(v, Enum) else v), v) for v in get_args(kind)]
    else:
        return {}
    members = dict(pairs)
    if len(members) < len(pairs):
        raise InputError(f"its values must differ as text, got {', '.join(k for k, _ in pairs)}")
    return members


def _type_name(kind: Any) -> str:
    is_simple = isinstance(kind, type) and not get_args(kind)
    return kind.__name__ if is_simple else str(kind).replace("typing.", "")


# Extractions

_SECONDS: Final = {
    "seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800,
}  # fmt: skip
"""The length of each unit of durations, except for months and years, whose length varies."""

_FIELD_TYPES: Final[Mapping[Any, type[ExtractionField]]] = {
    str: TextField,
    int: NumberField,
    float: NumberField,
    Decimal: NumberField,
    date: DateField,
    time: TimeField,
    datetime: DateTimeField,
    timedelta: DurationField,
}

_JSON_TYPES: Final[Mapping[Any, Any]] = {"string": str, "number": float}
"""The types that stand for those of other libraries, such as an email address of pydantic."""

_ITEMS: Final = {str: "text", int: "number", float: "number", Decimal: "number", date: "date"}

_USE_FIELD: Final = (
    "use str, int, float, Decimal, date, time, datetime, timedelta or a list, or None beside them"
)


@frozen
class _Extractor:
    """The request for one field, and how its answer becomes the value of the field."""

    request: ExtractionField
    kind: Any
    annotation: Any
    """The kind with its metadata, which may be constraints."""

    is_optional: bool

    def read(self, answer: ExtractedField, name: str) -> Any:
        """Give the value of the field.

        Raises:
            TypeMismatch: The value is null, or of another type.
        """
        if answer.value is None:
            if self.is_optional:
                return None
            raise TypeMismatch(f"{name} is null: the input does not determine it")
        if self.kind is timedelta:
            return self._read_duration(answer, name)
        value = read_value(answer.value, self.kind, name)
        if contains_foreign_metadata(self.annotation):
            read_value(write_value(value), self.annotation, name)
        return value

    def _read_duration(self, answer: ExtractedField, name: str) -> timedelta:
        unit = answer.unit or getattr(self.request, "unit", None) or "seconds"
        if unit not in _SECONDS:
            raise TypeMismatch(f"{name} must be in a unit up to weeks, got {unit}")
        number = read_value(answer.value, float, name)
        try:
            return timedelta(seconds=number * _SECONDS[unit])
        except OverflowError as exc:
            raise TypeMismatch(f"{name} is too long: {number} {unit}") from exc


def extractors_of(into: Any) -> dict[str, _Extractor]:
    """Build the fields to extract for the fields of a class.

    Raises:
        InputError: A field has a type that can't be extracted.
    """
    return {item.field.name: _build_extractor(item) for item in class_fields(into)}


def read_extracted(into: Any, extractors: Mapping[str, _Extractor], extraction: Extraction) -> Any:
    """Create an instance of a class from the answers to its fields.

    Raises:
        ParseError: An answer is missing, or is no value of its field.
    """
    values = {}
    for name, extractor in extractors.items():
        try:
            if name not in extraction:
                reason = extraction.unread.get(name)
                problem = "there is no answer" if reason is None else f"the answer is {reason}"
                raise TypeMismatch(f"{name}: {problem}")
            values[name] = extractor.read(extraction[name], name)
        except TypeMismatch as exc:
            message = f"the model extracted no {into.__name__}: {exc}"
            raise ParseError(message, answer=extraction) from exc
    return build_instance(into, values, extraction)


def _build_extractor(item: _ClassField) -> _Extractor:
    members = get_args(item.kind) if is_union(item.kind) else (item.kind,)
    others = [member for member in members if member is not NoneType]
    is_optional = len(members) > len(others) == 1
    if is_optional:
        item = item.of_kind(others[0])
    kind, request = item.kind, item.find(ExtractionField)
    try:
        if request is None:
            request = _build_field(kind, item.description or None)
    except InputError as exc:
        raise InputError(f"{item.path}: {exc}") from exc
    if isinstance(request, ForecastField):
        raise InputError(f"{item.path}: a forecast has no single value; run Extract and read steps")
    if kind is timedelta and getattr(request, "unit", None) in ("months", "years"):
        raise InputError(f"{item.path}: the unit must be up to weeks for timedelta, or use float")
    return _Extractor(request, kind, item.field.kind, is_optional)


def _build_field(kind: Any, instructions: str | None) -> ExtractionField:
    if kind is int:
        return NumberField(instructions, integer=True)
    if kind is timedelta:
        return DurationField(instructions, unit="seconds")
    if is_list(kind) and not is_fixed_tuple(kind):
        item_kind = _unwrap((get_args(kind) or (str,))[0])[0]
        items: Any = _ITEMS.get(item_kind)
        if items is None:
            name = _type_name(item_kind)
            raise InputError(f"a list of {name} can't be extracted: use str, numbers or date")
        return ListField(instructions, items=items, integer=True if item_kind is int else None)
    foreign = foreign_type(kind)
    json_type = None if foreign is None else foreign.json_schema().get("type")
    try:
        build: Any = _FIELD_TYPES[_JSON_TYPES.get(json_type, kind)]
    except (KeyError, TypeError):
        raise InputError(f"{_type_name(kind)} can't be extracted; {_USE_FIELD}") from None
    request: ExtractionField = build(instructions)
    return request
