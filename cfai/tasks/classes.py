"""The caller's classes as the questions of a `Decide`, and its answers as instances of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, Flag
from typing import Any, Final, Generic, Literal, NewType, TypeVar, get_args, is_typeddict

from attrs import frozen

from cfai._types.kinds import Field, fields_of, is_class, is_enum, origin_of
from cfai._types.schema import parameter_descriptions
from cfai.errors import DecodeError, InputError, ParseError
from cfai.tasks.decisions import Choice, Decisions, Noul, Question, Score
from cfai.tasks.task import Value

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

    def find(self, kind: Any) -> Any:
        """The first value of a kind inside `Annotated`; `None` if there is none."""
        return next((item for item in self.metadata if isinstance(item, kind)), None)


def class_fields(into: Any) -> Iterator[_ClassField]:
    """Read the fields of a class.

    Raises:
        InputError: It is not a class with fields, or its types can't be resolved.
    """
    if not is_class(into):
        raise InputError(
            f"into must be an attrs class, a dataclass, a TypedDict or a named tuple, got {into!r}"
        )
    try:
        fields = fields_of(into)
    except (NameError, TypeError) as exc:
        raise InputError(f"into: can't resolve the types of {into.__name__}: {exc}") from exc
    descriptions = parameter_descriptions(into.__doc__)
    for field in fields:
        kind, metadata = _unwrap(field.kind)
        texts = (item for item in metadata if isinstance(item, str))
        description = next(texts, "") or field.description or descriptions.get(field.name, "")
        path = f"{into.__name__}.{field.name}"
        yield _ClassField(field, path, kind, metadata, description)


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
        ParseError: The class refused them.
    """
    if is_typeddict(into):
        return dict(values)
    try:
        return into(**{field.alias or field.name: values[field.name] for field in fields_of(into)})
    except (TypeError, ValueError) as exc:
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
    instructions = item.description or item.field.name.replace("_", " ")
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
