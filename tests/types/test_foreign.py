"""Classes of pydantic and msgspec: their schemas among our own, their values, and their errors."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest
from annotated_types import Ge
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PositiveInt,
    RootModel,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict as ExtensionsDict

from cfai import InputError
from cfai._types.function import define_function
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import json_schema


class Step(BaseModel):
    """One step."""

    explanation: str
    seconds: int = Field(default=1, ge=1, description="How long it takes.")


class Tree(BaseModel):
    name: str
    children: "list[Tree]" = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    lives: int
    name: str = "Rex"


class Size(Enum):
    SMALL = "s"


class Zoo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    opened: date = Field(alias="since")
    price: Decimal = Decimal("1.5")
    sizes: set[Size] = set()


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    day: date
    pair: tuple[int, int]
    number: UUID


class Checked(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def check_name(cls, name: str) -> str:
        if name == "nobody":
            raise ValueError("nobody is no name")
        return name


@pydantic_dataclass
class Point:
    x: int = Field(ge=0, description="To the right.")


class Row(msgspec.Struct):
    number: int
    rows: "list[Row]" = []
    label: Annotated[str, msgspec.Meta(max_length=3)] = "x"


@attrs.frozen
class Own:
    """A class of ours around them."""

    step: Step
    again: Step
    stars: Annotated[int, Field(ge=1, le=5, description="From 1 to 5.")]
    row: Row | None = None
    tag: Annotated[str, "A word."] | Annotated[int, Field(ge=100)] = ""


ID = "01234567-89ab-cdef-0123-456789abcdef"

VALUES: list[tuple[Any, Any, Any]] = [
    (Step, {"explanation": "x"}, Step(explanation="x")),
    (Step, {"explanation": "x", "seconds": "3"}, Step(explanation="x", seconds=3)),
    (
        Tree,
        {"name": "a", "children": [{"name": "b"}]},
        Tree(name="a", children=[Tree(name="b")]),
    ),
    (
        Zoo,
        {"pets": [{"kind": "dog", "lives": 1}, {"kind": "cat", "lives": 9}], "since": "2026-01-31"},
        Zoo(pets=[Dog(kind="dog", lives=1), Cat(kind="cat", lives=9)], since=date(2026, 1, 31)),
    ),
    (
        Strict,
        {"day": "2026-01-31", "pair": [1, 2], "number": ID},
        Strict(day=date(2026, 1, 31), pair=(1, 2), number=UUID(ID)),
    ),
    (list[Step], [{"explanation": "x"}], [Step(explanation="x")]),
    (dict[str, Step], {"a": {"explanation": "x"}}, {"a": Step(explanation="x")}),
    (tuple[int, Step], [1, {"explanation": "x"}], (1, Step(explanation="x"))),
    (Step | None, None, None),
    (Step | None, {"explanation": "x"}, Step(explanation="x")),
    # Both would accept it without the tag.
    (Cat | Dog, {"kind": "dog", "lives": 1}, Dog(kind="dog", lives=1)),
    (Dog | Cat, {"kind": "cat", "lives": 1}, Cat(kind="cat", lives=1)),
    (Step | str, "x", "x"),
    (Step | Tree, {"name": "a"}, Tree(name="a")),
    # A class goes before an object with any keys, which would take every value.
    (dict[str, Any] | Step, {"explanation": "x"}, Step(explanation="x")),
    (Step | dict[str, Any], {"explanation": "x"}, Step(explanation="x")),
    (dict[str, Any] | Row, {"number": 1}, Row(1)),
    (Row | dict[str, Any], {"number": 1}, Row(1)),
    (RootModel[list[int]], [1, 2], RootModel[list[int]]([1, 2])),
    (RootModel[list[int]] | int, 3, 3),
    (RootModel[list[int]] | int, [3], RootModel[list[int]]([3])),
    (HttpUrl, "https://a.example/", HttpUrl("https://a.example/")),
    (PositiveInt, 3, 3),
    (Annotated[int, Field(ge=1, description="x")], 3, 3),
    (Annotated[int, Ge(1)], 3, 3),
    (list[Annotated[str, StringConstraints(pattern="^a")]], ["ab"], ["ab"]),
    (Point, {"x": 1}, Point(x=1)),
    (Row, {"number": 1, "rows": [{"number": 2}]}, Row(1, [Row(2)])),
    (list[Row], [{"number": 1}], [Row(1)]),
    (Annotated[int, msgspec.Meta(ge=1)], 3, 3),
    (
        Own,
        {
            "step": {"explanation": "x"},
            "again": {"explanation": "y"},
            "stars": 5,
            "row": {"number": 1},
            "tag": 200,
        },
        Own(Step(explanation="x"), Step(explanation="y"), 5, Row(1), 200),
    ),
    (Annotated[Own | None, Field(description="A description applies to any type.")], None, None),
]


@pytest.mark.parametrize(("kind", "value", "expected"), VALUES, ids=repr)
def test_values_are_read_by_their_own_library(kind: Any, value: Any, expected: Any) -> None:
    found = read_value(value, kind, "it")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("kind", "value", "expected"), VALUES, ids=repr)
def test_values_are_written_as_json_that_is_read_again(
    kind: Any, value: Any, expected: Any
) -> None:
    written = write_value(expected)
    assert json.loads(json.dumps(written)) == written
    if kind is not Zoo:  # Its aliases are for reading.
        assert read_value(written, kind, "it") == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Step, {}, "it.explanation is missing"),
        (Step, {"explanation": 5}, "it.explanation must be a valid string, got 5"),
        (
            Step,
            {"explanation": 5, "seconds": 0},
            "it.explanation must be a valid string, got 5; it.seconds must be greater than or ",
        ),
        (Step, [], "it must be an object"),
        (Tree, {"name": "a", "children": [{"name": "b"}, {}]}, "it.children[1].name is missing"),
        (Checked, {"name": "nobody"}, "it.name Value error, nobody is no name, got 'nobody'"),
        (Strict, {"day": 5, "pair": [1, 2], "number": ID}, "it.day must be a valid date, got 5"),
        (Cat | Dog, {"kind": "cow", "lives": 1}, 'it.kind must be one of "cat", "dog", got "cow"'),
        (list[Step], [{"explanation": "x"}, {}], "it[1].explanation is missing"),
        (list[Step], {}, "it must be a list, got {}"),
        (dict[str, Step], {"a": {}}, "it['a'].explanation is missing"),
        (RootModel[list[int]], [1, "a"], "it[1] must be a valid integer"),
        (HttpUrl, "x", "it must be a valid URL"),
        (Annotated[int, Field(ge=1)], 0, "it must be greater than or equal to 1, got 0"),
        (list[Annotated[int, Field(ge=1)]], [1, 0], "it[1] must be greater than or equal to 1"),
        (Annotated[str, Field(min_length=2)], "a", "it must have at least 2 characters"),
        (Point, {"x": -1}, "it.x must be greater than or equal to 0, got -1"),
        (Row, {"number": "a"}, "it.number Expected `int`, got `str`"),
        (Row, {"number": 1, "rows": [{}]}, "it.rows[0] Object missing required field `number`"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "it Expected `int` >= 1"),
        (
            Own,
            {"step": {}, "again": {"explanation": "x"}, "stars": 6},
            "it.step.explanation is missing; it.stars must be less than or equal to 5, got 6",
        ),
    ],
)
def test_an_error_has_the_place_and_the_rule(kind: Any, value: Any, message: str) -> None:
    """In the words of the library, at the path that our own errors have."""
    with pytest.raises(TypeMismatch) as caught:
        read_value(value, kind, "it")
    assert str(caught.value).startswith(message)


# Schemas


def references(schema: Any) -> set[str]:
    """All definitions that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(references, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*map(references, schema.values()))


@pytest.mark.parametrize("kind", [kind for kind, _, _ in VALUES], ids=repr)
def test_every_reference_has_a_definition(kind: Any) -> None:
    schema = json_schema(kind)
    assert references(schema) == {f"#/$defs/{name}" for name in schema.get("$defs", {})}
    assert "discriminator" not in json.dumps(schema)


def test_the_schema_is_that_of_the_library() -> None:
    assert json_schema(Step) == Step.model_json_schema()
    assert json_schema(Annotated[int, Field(ge=1)]) == {"type": "integer", "minimum": 1}
    assert json_schema(PositiveInt) == {"type": "integer", "exclusiveMinimum": 0}
    assert json_schema(Annotated[int, msgspec.Meta(ge=1)]) == {"type": "integer", "minimum": 1}


def test_a_recursive_model_is_defined_once() -> None:
    schema = json_schema(list[Tree])
    assert schema["items"] == {"$ref": "#/$defs/Tree"}
    assert list(schema["$defs"]) == ["Tree"]
    assert list(json_schema(Row)["$defs"]) == ["Row"]


def test_models_of_one_name_get_different_definitions() -> None:
    """Also if one of them is of our own kind."""

    def make(field: str) -> Any:
        class Item(BaseModel):
            __annotations__ = {field: str}

        class Pair(BaseModel):
            left: Item
            right: Item

        return Pair

    @dataclass
    class Item:
        own: int

    @dataclass
    class All:
        first: make("a")  # type: ignore[valid-type]  # made at runtime
        second: make("b")  # type: ignore[valid-type]
        mine: Item
        also_mine: Item

    definitions = json_schema(All)["$defs"]
    assert [list(each["properties"]) for each in definitions.values()] == [["a"], ["b"], ["own"]]


def test_our_own_classes_keep_their_rules_around_them() -> None:
    schema = json_schema(Own)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["stars"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "description": "From 1 to 5.",
    }
    assert schema["$defs"]["Step"] == Step.model_json_schema()


def test_the_parameters_of_a_tool() -> None:
    def walk(
        step: Step,
        stars: Annotated[int, Field(ge=1, description="How good.")] = 3,
        day: date | None = None,
    ) -> str:
        """Walk."""
        return f"{step} {stars} {day}"

    schema = define_function(walk).parameters
    assert schema["required"] == ["step"]
    assert schema["properties"]["step"] == Step.model_json_schema()
    assert schema["properties"]["stars"] == {
        "type": "integer",
        "minimum": 1,
        "description": "How good.",
        "default": 3,
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Annotated[list[Own], Field(min_length=1)], "pydantic can't check .*list.*Own"),
        (list[Annotated[Own, Ge(1)]], r"list\[\]: pydantic can't check .*Own"),
        (
            Annotated[dict[str, Callable[[], int]], Field(min_length=1)],
            "Annotated: .* has no JSON schema: Cannot generate",
        ),
    ],
)
def test_constraints_that_nobody_checks_are_refused(kind: Any, message: str) -> None:
    """Pydantic does not know attrs classes."""
    with pytest.raises(InputError, match=message):
        json_schema(kind)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic knows them")
def test_constraints_of_a_typed_dict_are_refused() -> None:
    with pytest.raises(InputError, match=r"pydantic can't check .* use `typing_extensions"):
        json_schema(Annotated[list[LooseDict], Field(max_length=9)])


def test_a_model_without_a_schema_is_named() -> None:
    class Callback(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        done: type(print)  # type: ignore[valid-type]  # on purpose

    with pytest.raises(InputError, match="Callback: Callback has no JSON schema: Cannot generate"):
        json_schema(Callback)


def test_a_field_as_the_default_of_a_parameter_is_refused() -> None:
    """The function itself would get it as the argument."""

    def walk(stars: int = Field(ge=1)) -> str:
        return str(stars)

    with pytest.raises(InputError, match=r"walk: the default of stars must be a value: put"):
        define_function(walk)


def test_classes_with_the_two_methods_are_models() -> None:
    """Whichever library they come from."""

    class Duck:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"type": "object", "properties": {"quack": {"type": "string"}}}

        @classmethod
        def model_validate(cls, value: Any) -> "Duck":
            if "quack" not in value:
                raise ValueError("it does not quack")
            return cls()

    assert json_schema(Duck) == Duck.model_json_schema()
    assert isinstance(read_value([{"quack": "!"}], list[Duck], "it")[0], Duck)
    with pytest.raises(TypeMismatch, match=r"^it\[0\] it does not quack$"):
        read_value([{}], list[Duck], "it")


def test_neither_library_is_imported() -> None:
    code = (
        "import sys; from cfai import objects; from dataclasses import dataclass\n"
        "from typing import Annotated\n"
        "@dataclass\nclass A:\n    x: Annotated[int, 'A number.']\n"
        "objects.schema(list[A])\n"
        "assert not {'pydantic', 'msgspec'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Loose(BaseModel):
    a: int | None = None
    b: str = "x"


class Renamed(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    a: int | None = Field(default=None, validation_alias=AliasChoices("first", "uno"))


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int | None = None


@pydantic_dataclass
class LoosePoint:
    a: int | None = None
    b: str = "x"


class LooseRow(msgspec.Struct, rename="camel"):
    a: int | None = None
    long_name: str = "x"


@dataclass
class LooseOwn:
    a: int | None = None
    b: str = "x"


class Nothing(BaseModel):
    pass


class LooseDict(TypedDict, total=False):
    a: int


class LooseExtensionsDict(ExtensionsDict, total=False):
    a: int


LOOSE = [
    Loose,
    Renamed,
    LoosePoint,
    LooseRow,
    LooseOwn,
    Nothing,
    Annotated[Loose, Field(description="d")],
    Annotated[LooseRow, msgspec.Meta(description="d")],
    LooseDict,
    LooseExtensionsDict,
]


@pytest.mark.parametrize("kind", LOOSE, ids=repr)
@pytest.mark.parametrize("value", [{"zzz": 1}, {"value": {"a": 5}}, {"error": "I can't"}], ids=str)
def test_an_object_with_only_unknown_keys_matches_no_class(kind: Any, value: Any) -> None:
    """Not even if all its fields have defaults: an unrelated object would match."""
    with pytest.raises(TypeMismatch, match=r"^it must be an object with(out keys| [abf])"):
        read_value(value, kind, "it")
    with pytest.raises(TypeMismatch, match="must be an object with"):
        read_value([value], list[kind], "it")
    assert read_value(value, kind | dict[str, Any], "it") == value
    read_value({}, kind, "it")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Loose, {"a": None}),
        (Loose, {"zzz": 1, "b": "x"}),
        (Renamed, {"first": 5}),
        (Renamed, {"uno": 5}),
        (Renamed, {"a": 5}),
        (Open, {"zzz": 1}),
        (LoosePoint, {"a": 5, "zzz": 1}),
        (LooseRow, {"longName": "y"}),
        (RootModel[dict[str, int]], {"zzz": 1}),
        (Annotated[dict[str, int], Field(min_length=1)], {"zzz": 1}),
        (Annotated[dict[str, int], msgspec.Meta(min_length=1)], {"zzz": 1}),
    ],
)
def test_an_object_with_a_known_key_matches(kind: Any, value: Any) -> None:
    """By any of its names; or every object, if the class says so."""
    read_value(value, kind, "it")


def holders(kind: Any) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Types of both libraries that contain the type, with a value of theirs around an object."""

    class Inside(BaseModel):
        name: str = "n"
        inner: kind | None = None

    class Deep(BaseModel):
        model_config = ConfigDict(extra="forbid")

        rows: list[Inside]

    class Recursive(BaseModel):
        inner: kind
        next: "Recursive | None" = None

    Recursive.model_rebuild(_types_namespace={"Recursive": Recursive})

    @pydantic_dataclass
    class Data:
        rows: tuple[int, kind]

    class Plain(ExtensionsDict):
        inner: kind

    class Lists(BaseModel):
        rows: Sequence[list[kind]]

    class Keyed(BaseModel):
        inner: dict[Annotated[str, StringConstraints(pattern="^k")], kind]

    own = attrs.make_class("OwnClass", {"inside": attrs.field(type=list[Inside])})
    return {
        "field": (Inside, lambda value: {"inner": value}),
        "with a known key": (Inside, lambda value: {"name": "x", "inner": value}),
        "two levels": (Deep, lambda value: {"rows": [{}, {"name": "y"}, {"inner": value}]}),
        "recursive": (Recursive, lambda value: {"inner": {}, "next": {"inner": value}}),
        "dataclass": (Data, lambda value: {"rows": [1, value]}),
        "lists": (Lists, lambda value: {"rows": [[], [{}, value]]}),
        "keys of a pattern": (Keyed, lambda value: {"inner": {"k": value}}),
        "root": (RootModel[list[kind]], lambda value: [{}, value]),
        "described": (Annotated[list[kind], Field(max_length=9)], lambda value: [value]),
        "dict": (Annotated[dict[str, kind], Field(min_length=1)], lambda value: {"k": value}),
        "typed dict": (Annotated[Plain, Field(title="t")], lambda value: {"inner": value}),
        "union": (RootModel[kind | list[kind] | int], lambda value: value),
        "union of classes": (RootModel[Step | kind | None], lambda value: value),
        "union with any object": (RootModel[kind | dict[str, int]], lambda value: value),
        "own class": (own, lambda value: {"inside": [{"inner": value}]}),
    }


def struct_holders(kind: Any) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """The same for msgspec."""
    inside = msgspec.defstruct("Inside", [("name", str, "n"), ("inner", kind | None, None)])
    deep = msgspec.defstruct("Deep", [("rows", list[inside])], forbid_unknown_fields=True)  # type: ignore[valid-type]
    rows = msgspec.defstruct("Rows", [("rows", tuple[int, kind])], array_like=True)
    keyed = msgspec.defstruct("Keyed", [("rows", dict[str, kind])])
    described = Annotated[list[kind], msgspec.Meta(max_length=9)]
    return {
        "field": (inside, lambda value: {"inner": value}),
        "with a known key": (inside, lambda value: {"name": "x", "inner": value}),
        "two levels": (deep, lambda value: {"rows": [{}, {"name": "y"}, {"inner": value}]}),
        "array": (rows, lambda value: [[1, value]]),
        "dict": (keyed, lambda value: {"rows": {"k": value}}),
        "described": (described, lambda value: [{}, value]),
    }


NESTED = [
    pytest.param(holder, wrap, id=f"{name}, {kind.__name__}")
    for kinds, make in (
        ([Loose, Renamed, LoosePoint, Nothing, LooseOwn, LooseExtensionsDict], holders),
        ([LooseRow, LooseOwn, LooseDict], struct_holders),
    )
    for kind in kinds
    for name, (holder, wrap) in make(kind).items()
]


@pytest.mark.parametrize(("holder", "wrap"), NESTED)
@pytest.mark.parametrize("value", [{"zzz": 1}, {"error": "I can't"}], ids=str)
def test_an_object_with_only_unknown_keys_matches_no_class_inside(
    holder: Any, wrap: Callable[[Any], Any], value: Any
) -> None:
    with pytest.raises(TypeMismatch, match=r"^it.* must be an object with"):
        read_value(wrap(value), holder, "it")
    read_value(wrap({}), holder, "it")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Loose, {"a": None}),
        (Loose, {"zzz": 1, "b": "x"}),
        (Renamed, {"first": 5}),
        (Renamed, {"uno": 5}),
        (Renamed, {"a": 5}),
        (Open, {"zzz": 1}),
        (LoosePoint, {"a": None}),
        (LooseOwn, {"a": None}),
    ],
    ids=str,
)
def test_an_object_with_a_known_key_matches_inside(kind: Any, value: Any) -> None:
    for name, (holder, wrap) in holders(kind).items():
        try:
            read_value(wrap(value), holder, "it")
        except TypeMismatch as exc:
            pytest.fail(f"{name}: {exc}")


def test_the_place_of_unknown_keys_is_named() -> None:
    class Inside(BaseModel):
        inner: Loose

    class Outer(BaseModel):
        rows: list[Inside]

    value = {"rows": [{"inner": {"a": 1}}, {"inner": {"zzz": 1}}]}
    rule = r"it\.rows\[1\]\.inner must be an object with a, b, got \{'zzz': 1\}"
    with pytest.raises(TypeMismatch, match=f"^{rule}$"):
        read_value(value, Outer, "it")


def test_any_object_of_a_union_keeps_its_unknown_keys() -> None:
    """Which member a value belongs to is decided by the library."""

    class Outer(BaseModel):
        inner: Annotated[dict[str, int] | Loose, Field(union_mode="left_to_right")]

    value = {"inner": {"zzz": 1}}
    assert read_value(value, Outer, "it") == Outer(inner={"zzz": 1})


def test_a_validator_may_read_other_keys() -> None:
    class Nested(BaseModel):
        a: int = 0

        @model_validator(mode="before")
        @classmethod
        def unwrap(cls, value: Any) -> Any:
            return value.get("value", value)

    class Outer(BaseModel):
        rows: list[Nested]

    found = read_value({"rows": [{"value": {"a": 5}}]}, Outer, "it")
    assert found == Outer(rows=[Nested(a=5)])


def test_many_objects_with_other_names_are_read_twice() -> None:
    """Not each of them again, which would take time in proportion to their square."""
    values: list[Any] = []

    class Nested(Renamed):
        @model_validator(mode="before")
        @classmethod
        def count(cls, value: Any) -> Any:
            values.append(value)
            return value

    class Outer(BaseModel):
        rows: list[Nested]

    found = read_value({"rows": [{"uno": index} for index in range(100)]}, Outer, "it")
    assert [row.a for row in found.rows] == list(range(100))
    assert len(values) == 200


class Refused(ValueError):
    """An error of a library, which lists its parts as those of pydantic do."""

    def __init__(self, *parts: tuple[Any, ...]) -> None:
        super().__init__("refused")
        self.parts = parts

    def errors(self, *, include_url: bool) -> list[dict[str, Any]]:
        assert not include_url
        return [{"loc": part, "msg": f"Value should be {i}", "input": 7}
                for i, part in enumerate(self.parts)]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([()], "it must be 0, got 7"),
        ([(), ()], "it must be 0, got 7"),
        ([(), (), ("a",)], "it must be 0, got 7"),
        ([("a",), ("b",)], "it.a must be 0, got 7; it.b must be 1, got 7"),
        ([("a",), ()], "it.a must be 0, got 7"),
        ([("a", 0), ("a", 1)], "it.a[0] must be 0, got 7; it.a[1] must be 1, got 7"),
        ([(0,), (2,)], "it[0] must be 0, got 7; it[2] must be 1, got 7"),
    ],
)
def test_errors_of_a_library_keep_their_places(parts: list[Any], message: str) -> None:
    """All that are inside of the same kind of container; one without a place is about the whole."""

    class Model:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"type": "object", "properties": {}}

        @classmethod
        def model_validate(cls, value: Any) -> Any:
            raise Refused(*parts)

    with pytest.raises(TypeMismatch) as caught:
        read_value({}, Model, "it")
    assert str(caught.value) == message
