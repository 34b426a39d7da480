"""Classes as questions or as fields to extract, and the answers as instances of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field as data_field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict

import attrs
import msgspec
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, HttpUrl, PositiveInt, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from cfai import (
    Choice,
    Decided,
    Decisions,
    DurationField,
    EstimateField,
    Extracted,
    Extraction,
    ForecastField,
    InputError,
    Noul,
    NumberField,
    ParseError,
    Score,
)
from cfai.testing import FakeWorkersAI

MODEL = "@cf/cloudflare/clef"


class Team(Enum):
    BILLING = "billing"
    NEW_SALES = 1


class Urgency(IntEnum):
    HIGH = 3
    CAN_WAIT = 1
    SOON = 2


Flagged = NewType("Flagged", bool)


@attrs.frozen
class Ticket:
    """A ticket.

    Args:
        spam: Is it spam?
        team: Not used.
    """

    spam: bool
    team: Annotated[Team, "Which team?"]
    urgency: Urgency
    language: Literal["de", "en", 3] = attrs.field(metadata={"description": "Written in?"})
    _is_public: Flagged = Flagged(False)
    refund: Annotated[float, Noul("Money back?", {"true": "yes"})] = 0.0
    mood: Annotated[int, Score("Mood?", ["bad", "so-so", "good"])] = 0
    heat: Annotated[float, Score("Heat?", ["low", "high"])] = 0.0
    plan: Annotated[str, Choice("Plan?", {"a": "the first", "b": None})] = ""
    size: Annotated[Literal["s", "m"], Score("Size?", ["small", "medium"])] = "s"
    area: Annotated[Literal["eu", "us"], Choice("Area?", {"us": "America", "eu": None})] = "eu"


QUESTIONS: dict[str, Any] = {
    "spam": {"type": "noul", "instructions": "Is it spam?"},
    "team": {
        "type": "choice",
        "instructions": "Which team?",
        "criteria": {"billing": None, "NEW_SALES": None},
    },
    "urgency": {
        "type": "score",
        "instructions": "urgency",
        "criteria": ["can wait", "soon", "high"],
    },
    "language": {
        "type": "choice",
        "instructions": "Written in?",
        "criteria": {"de": None, "en": None, "3": None},
    },
    "_is_public": {"type": "noul", "instructions": "is public"},
    "refund": {"type": "noul", "instructions": "Money back?", "criteria": {"true": "yes"}},
    "mood": {"type": "score", "instructions": "Mood?", "criteria": ["bad", "so-so", "good"]},
    "heat": {"type": "score", "instructions": "Heat?", "criteria": ["low", "high"]},
    "plan": {
        "type": "choice",
        "instructions": "Plan?",
        "criteria": {"a": "the first", "b": None},
    },
    "size": {"type": "score", "instructions": "Size?", "criteria": ["small", "medium"]},
    "area": {
        "type": "choice",
        "instructions": "Area?",
        "criteria": {"us": "America", "eu": None},
    },
}

ANSWERS: dict[str, Any] = {
    "spam": {"type": "noul", "noul": 0.5},
    "team": {"type": "choice", "choice": "NEW_SALES", "probabilities": {"NEW_SALES": 0.6}},
    "urgency": {"type": "score", "score": 1.6},
    "language": {"type": "choice", "choice": "3"},
    "_is_public": {"type": "noul", "noul": 0.49},
    "refund": {"type": "noul", "noul": 0.3},
    "mood": {"type": "score", "score": 0.5},
    "heat": {"type": "score", "score": 0.4},
    "plan": {"type": "choice", "choice": "b"},
    "size": {"type": "score", "score": 1.0},
    "area": {"type": "choice", "choice": "us"},
}


async def test_a_class_becomes_questions_and_the_answers_an_instance(fake: FakeWorkersAI) -> None:
    fake.answers({"model": "clef", "answers": ANSWERS, "usage": {"input_tokens": 9}})
    ticket = await fake.client().decide(MODEL, {"text": "Hi"}, into=Ticket)
    assert fake.requests[0].json() == {
        "model": "clef",
        "state": {"text": "Hi"},
        "questions": QUESTIONS,
    }
    assert ticket.value == Ticket(
        spam=True,
        team=Team.NEW_SALES,
        urgency=Urgency.HIGH,
        language=3,
        is_public=Flagged(False),
        refund=0.3,
        mood=1,
        heat=0.4,
        plan="b",
        size="m",
        area="us",
    )
    assert ticket.decisions.choice("team").probabilities == {"NEW_SALES": 0.6}
    assert ticket.decisions.usage is not None
    assert ticket.decisions.usage.prompt_tokens == 9
    assert isinstance(ticket, Decided)


@dataclass
class Data:
    spam: bool
    skipped: int = data_field(default=0, init=False)


class Typed(TypedDict):
    spam: bool


class Named(NamedTuple):
    spam: bool


@pytest.mark.parametrize("into", [Data, Typed, Named])
async def test_every_kind_of_class_can_be_decided(fake: FakeWorkersAI, into: Any) -> None:
    fake.answers({"answers": {"spam": {"type": "noul", "noul": 1}}})
    decided = await fake.client().decide(MODEL, "Hi", into=into, images=[])
    assert decided.value == into(spam=True)
    assert fake.requests[0].json()["questions"] == {
        "spam": {"type": "noul", "instructions": "spam"}
    }


def of_kind(kind: Any) -> Any:
    return attrs.make_class("Wrong", {"field": attrs.field(type=kind)})


class Empty:
    pass


class Many(IntEnum):
    A, B, C, D, E, F, G, H, I, J, K = range(11)  # noqa: E741


class Bits(Flag):
    A = 1
    B = 2


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (
            Empty,
            "into must be an attrs class, a dataclass, a TypedDict, a named tuple, a py",
        ),
        (bool, "into must be an attrs class"),
        (attrs.make_class("Nothing", {}), "questions must have at least 1 item"),
        (of_kind(str), "Wrong.field: str is no answer to a question; use bool, a Literal, an Enum"),
        (of_kind(float), "Wrong.field: float is no answer"),
        (of_kind(bool | None), "Wrong.field: bool | None is no answer"),
        (of_kind(list[bool]), r"Wrong.field: list\[bool\] is no answer"),
        (of_kind(Bits), "Wrong.field: Bits is no answer"),
        (of_kind(Literal["a"]), "Wrong.field: criteria must have at least 2 items"),
        (of_kind(Literal["1", 1]), "Wrong.field: its values must differ as text, got 1, 1"),
        (of_kind(Many), "Wrong.field: criteria must have at most 10 items, not 11"),
        (of_kind("Nowhere"), "into: can't resolve the types of Wrong"),
        (of_kind(Annotated[str, Noul("?")]), "Wrong.field: a Noul gives no str"),
        (of_kind(Annotated[bool, Score("?", ["a", "b"])]), "Wrong.field: a Score gives no bool"),
        (
            of_kind(Annotated[Literal["a", "b"], Choice.of("?", ["a", "c"])]),
            r"Wrong.field: a Choice gives no Literal\['a', 'b'\], whose values are a, b",
        ),
        (
            of_kind(Annotated[Urgency, Score("?", ["low", "high"])]),
            "Wrong.field: a Score gives no Urgency, whose values are can wait, soon, high",
        ),
    ],
)
async def test_a_class_that_is_no_set_of_questions_is_refused(
    fake: FakeWorkersAI, into: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        await fake.client().decide(MODEL, "Hi", into=into)
    assert not fake.requests


@attrs.frozen
class Strict:
    team: Literal["a", "b"]
    level: Urgency

    def __attrs_post_init__(self) -> None:
        if self.team == "b":
            raise ValueError("not b")


TEAM = {"type": "choice", "choice": "a"}
LEVEL = {"type": "score", "score": 0}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"level": LEVEL}, "the model decided no Strict: team: there is no answer"),
        ({"team": TEAM | {"choice": "c"}, "level": LEVEL}, "Strict: team: there is no option 'c'"),
        ({"team": TEAM | {"choice": None}, "level": LEVEL}, "team: the answer to 'team' is undoc"),
        ({"team": LEVEL, "level": LEVEL}, "team: the answer to 'team' must be a ChoiceDecision"),
        (
            {"team": TEAM, "level": {"type": "score", "score": 3}},
            "level: there is no level 3",
        ),
        ({"team": TEAM, "level": {"type": "score", "score": -1}}, "level: there is no level -1"),
        ({"team": TEAM | {"choice": "b"}, "level": LEVEL}, "Strict refused the values .*: not b"),
    ],
)
async def test_answers_that_are_no_instance_are_kept_in_the_error(
    fake: FakeWorkersAI, answers: Mapping[str, Any], message: str
) -> None:
    fake.answers({"answers": answers})
    with pytest.raises(ParseError, match=message) as error:
        await fake.client().decide(MODEL, "Hi", into=Strict)
    assert isinstance(error.value.answer, Decisions)
    assert error.value.answer.raw == {"answers": answers}
    assert error.value.meta is not None


# Extractions

CLAIRIC = "@cf/cloudflare/clairic"


@attrs.frozen
class Invoice:
    """An invoice.

    Args:
        number: The number of the invoice.
    """

    number: str
    total: Annotated[float, NumberField("With shipping", unit="USD", decimals=2)]
    count: int
    price: Annotated[Decimal, "Of one"]
    due: date | None
    at: time
    sent_at: datetime
    term: timedelta
    pause: Annotated[timedelta, DurationField(unit="days")]
    names: list[str]
    counts: tuple[int, ...]
    days: Sequence[date]
    cost: Annotated[float, EstimateField(min=0, max=9)]
    note: Optional[Annotated[str, "Anything else"]]  # noqa: UP045


FIELDS = {
    "number": {"type": "text", "instructions": "The number of the invoice."},
    "total": {"type": "number", "instructions": "With shipping", "unit": "USD", "decimals": 2},
    "count": {"type": "number", "integer": True},
    "price": {"type": "number", "instructions": "Of one"},
    "due": {"type": "date"},
    "at": {"type": "time"},
    "sent_at": {"type": "datetime"},
    "term": {"type": "duration", "unit": "seconds"},
    "pause": {"type": "duration", "unit": "days"},
    "names": {"type": "list", "items": "text"},
    "counts": {"type": "list", "items": "number", "integer": True},
    "days": {"type": "list", "items": "date"},
    "cost": {"type": "estimate", "min": 0, "max": 9},
    "note": {"type": "text", "instructions": "Anything else"},
}

VALUES: dict[str, Any] = {
    "number": "A1",
    "total": 12,
    "count": 3.0,
    "price": 4.5,
    "due": None,
    "at": "10:30",
    "sent_at": "2026-11-28T10:30:00Z",
    "term": 90,
    "pause": 2,
    "names": ["a"],
    "counts": [1, 2],
    "days": ["2026-11-28"],
    "cost": 2.5,
    "note": None,
}


def extracted(**changes: Any) -> dict[str, Any]:
    """The result of an extraction."""
    values = {**VALUES, **changes}
    return {"answers": {name: {"type": "?", "value": value} for name, value in values.items()}}


async def test_a_class_becomes_fields_and_the_answers_an_instance(fake: FakeWorkersAI) -> None:
    result = extracted()
    result["answers"]["term"]["unit"] = "minutes"
    result["answers"]["number"] |= {"span": [0, 2], "confidence": 0.9}
    fake.answers(result)
    invoice = await fake.client().extract(
        CLAIRIC, "A1", into=Invoice, reference_date=date(2026, 11, 28)
    )
    assert fake.requests[0].json() == {
        "model": "clairic",
        "state": "A1",
        "fields": FIELDS,
        "reference_date": "2026-11-28",
    }
    assert invoice.value == Invoice(
        number="A1",
        total=12.0,
        count=3,
        price=Decimal("4.5"),
        due=None,
        at=time(10, 30),
        sent_at=datetime(2026, 11, 28, 10, 30, tzinfo=UTC),
        term=timedelta(minutes=90),
        pause=timedelta(days=2),
        names=["a"],
        counts=(1, 2),
        days=[date(2026, 11, 28)],
        cost=2.5,
        note=None,
    )
    assert invoice.extraction["number"].span == (0, 2)
    assert invoice.extraction["number"].confidence == 0.9
    assert isinstance(invoice, Extracted)


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (Empty, "into must be an attrs class"),
        (attrs.make_class("Nothing", {}), "fields must have at least 1 item"),
        (of_kind(bool), "Wrong.field: bool can't be extracted; use str, int, float, Decimal, date"),
        (of_kind(Team), "Wrong.field: Team can't be extracted"),
        (of_kind(int | str), r"Wrong.field: int \| str can't be extracted"),
        (of_kind(int | str | None), r"Wrong.field: int \| str \| None can't be extracted"),
        (of_kind(None), "Wrong.field: .* can't be extracted"),
        (of_kind(dict[str, int]), "Wrong.field: .* can't be extracted"),
        (of_kind(tuple[int, str]), "Wrong.field: .* can't be extracted"),
        (
            of_kind(list[list[str]]),
            r"Wrong.field: a list of list\[str\] can't be extracted: use st",
        ),
        (of_kind(list[datetime]), "Wrong.field: a list of datetime can't be extracted"),
        (
            of_kind(Annotated[list[float], ForecastField(min=0, max=1)]),
            "Wrong.field: a forecast has no single value; run Extract and read steps",
        ),
        (
            of_kind(Annotated[timedelta, DurationField(unit="months")]),
            "Wrong.field: the unit must be up to weeks for timedelta, or use float",
        ),
    ],
)
async def test_a_class_that_is_no_set_of_fields_is_refused(
    fake: FakeWorkersAI, into: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        await fake.client().extract(CLAIRIC, "Hi", into=into)
    assert not fake.requests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": None}, "extracted no Invoice: number is null: the input does not determine it"),
        ({"count": 2.5}, "extracted no Invoice: count must be a whole number, got 2.5"),
        ({"due": "30 November"}, "extracted no Invoice: due must be a date"),
        ({"days": ["soon"]}, r"extracted no Invoice: days\[0\] must be a date"),
        ({"term": "PT1H"}, "extracted no Invoice: term must be a number"),
        ({"term": 1e300}, "extracted no Invoice: term is too long: 1e"),
    ],
)
async def test_values_that_are_no_instance_are_kept_in_the_error(
    fake: FakeWorkersAI, change: Mapping[str, Any], message: str
) -> None:
    fake.answers(extracted(**change))
    with pytest.raises(ParseError, match=message) as error:
        await fake.client().extract(CLAIRIC, "Hi", into=Invoice)
    assert isinstance(error.value.answer, Extraction)
    assert error.value.answer.raw == extracted(**change)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "extracted no Named: spam: the answer is no object: None"),
        ({"type": "number"}, "spam: the answer is undocumented: it has no value"),
        ({"value": 1, "unit": "months"}, "spam must be in a unit up to weeks, got months"),
    ],
)
async def test_answers_that_cannot_be_read_are_named(
    fake: FakeWorkersAI, entry: Any, message: str
) -> None:
    into = attrs.make_class("Named", {"spam": attrs.field(type=timedelta)})
    fake.answers({"answers": {"spam": entry}})
    with pytest.raises(ParseError, match=message):
        await fake.client().extract(CLAIRIC, "Hi", into=into)


UNITS = {
    "seconds": timedelta(seconds=3),
    "minutes": timedelta(minutes=3),
    "hours": timedelta(hours=3),
    "days": timedelta(days=3),
    "weeks": timedelta(weeks=3),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("said_by", ["the answer", "the request"])
async def test_a_duration_has_any_unit_up_to_weeks(
    fake: FakeWorkersAI, unit: Any, said_by: str
) -> None:
    """That of the answer, else the one that was asked for."""
    asked_for: Any = unit if said_by == "the request" else "hours"
    kind = Annotated[timedelta, DurationField(unit=asked_for)]
    into = attrs.make_class("Named", {"pause": attrs.field(type=kind)})
    answer = {"value": 3, **({"unit": unit} if said_by == "the answer" else {})}
    fake.answers({"answers": {"pause": answer}})
    extracted: Any = await fake.client().extract(CLAIRIC, "Hi", into=into)
    assert extracted.value.pause == UNITS[unit]


async def test_a_missing_answer_is_named(fake: FakeWorkersAI) -> None:
    into = attrs.make_class("Named", {"spam": attrs.field(type=str)})
    fake.answers({"answers": {}})
    with pytest.raises(ParseError, match="extracted no Named: spam: there is no answer"):
        await fake.client().extract(CLAIRIC, "Hi", into=into)


# Classes of other libraries


class Desk(Enum):
    BILLING = "billing"
    SALES = "sales"


class TicketModel(BaseModel):
    """A ticket.

    Args:
        spam: Is it spam?
    """

    model_config = ConfigDict(strict=True, frozen=True)

    spam: bool
    team: Desk = Field(description="Which team?")
    urgency: Urgency = Field(alias="Urgency")
    refund: Annotated[float, Noul("Money back?"), Field(ge=0, lt=0.5)] = 0.0


class TicketStruct(msgspec.Struct, rename="upper"):
    """A ticket.

    Args:
        spam: Is it spam?
    """

    spam: bool
    team: Annotated[Desk, msgspec.Meta(description="Which team?")]
    urgency: Urgency
    refund: Annotated[float, Noul("Money back?"), msgspec.Meta(ge=0, lt=0.5)] = 0.0


@pydantic_dataclass
class TicketDataclass:
    """A ticket.

    Args:
        spam: Is it spam?
    """

    spam: bool
    team: Annotated[Desk, "Which team?"]
    urgency: Urgency
    refund: Annotated[float, Noul("Money back?"), Field(ge=0, lt=0.5)] = 0.0


TICKETS = [TicketModel, TicketStruct, TicketDataclass]


@pytest.mark.parametrize("into", TICKETS)
async def test_a_class_of_another_library_is_decided(fake: FakeWorkersAI, into: Any) -> None:
    """Its descriptions are instructions, and it checks the answers itself."""
    fake.answers({"answers": {**ANSWERS, "team": {"type": "choice", "choice": "billing"}}})
    decided = await fake.client().decide(MODEL, "Hi", into=into)
    assert fake.requests[0].json()["questions"] == {
        "spam": QUESTIONS["spam"],
        "team": {**QUESTIONS["team"], "criteria": {"billing": None, "sales": None}},
        "urgency": QUESTIONS["urgency"],
        "refund": {"type": "noul", "instructions": "Money back?"},
    }
    assert isinstance(decided.value, into)
    shown = [decided.value.spam, decided.value.team, decided.value.urgency, decided.value.refund]
    assert shown == [True, Desk.BILLING, Urgency.HIGH, 0.3]


@pytest.mark.parametrize("into", TICKETS)
async def test_answers_that_such_a_class_refuses_are_kept_in_the_error(
    fake: FakeWorkersAI, into: Any
) -> None:
    answers = {
        **ANSWERS,
        "team": {"type": "choice", "choice": "sales"},
        "refund": {"type": "noul", "noul": 0.5},
    }
    fake.answers({"answers": answers})
    with pytest.raises(ParseError, match=f"{into.__name__} refused the values") as error:
        await fake.client().decide(MODEL, "Hi", into=into)
    assert error.value.answer["refund"].probability == 0.5


class InvoiceModel(BaseModel):
    number: str = Field(description="The number", pattern="^A")
    total: Annotated[float | None, NumberField(unit="USD")] = None
    count: PositiveInt = Field(validation_alias=AliasChoices("n", "count"))
    due: date | None
    site: HttpUrl
    term: timedelta
    names: list[str]


class InvoiceStruct(msgspec.Struct):
    number: Annotated[str, msgspec.Meta(description="The number", pattern="^A")]
    total: Annotated[float | None, NumberField(unit="USD")]
    count: Annotated[int, msgspec.Meta(gt=0)]
    due: date | None
    site: str
    term: timedelta
    names: list[str]


@dataclass
class InvoiceDataclass:
    number: Annotated[str, Field(description="The number", pattern="^A")]
    count: Annotated[int, msgspec.Meta(gt=0)]
    names: list[str]


@pytest.mark.parametrize("into", [InvoiceModel, InvoiceStruct])
async def test_a_class_of_another_library_is_extracted(fake: FakeWorkersAI, into: Any) -> None:
    fake.answers(extracted(site="https://a.example/", due="2026-11-30"))
    extraction = await fake.client().extract(CLAIRIC, "Hi", into=into)
    assert fake.requests[0].json()["fields"] == {
        "number": {"type": "text", "instructions": "The number"},
        "total": {"type": "number", "unit": "USD"},
        "count": {"type": "number", "integer": True},
        "due": {"type": "date"},
        "site": {"type": "text"},
        "term": {"type": "duration", "unit": "seconds"},
        "names": {"type": "list", "items": "text"},
    }
    value = extraction.value
    assert (value.number, value.total, value.count) == ("A1", 12.0, 3)
    assert (value.due, str(value.site)) == (date(2026, 11, 30), "https://a.example/")
    assert (value.term, value.names) == (timedelta(seconds=90), ["a"])


@pytest.mark.parametrize("into", [InvoiceModel, InvoiceStruct, InvoiceDataclass])
@pytest.mark.parametrize(
    ("change", "message"),
    [({"number": "B1"}, "number|refused"), ({"count": 0}, "count|refused")],
)
async def test_values_that_such_a_class_refuses_are_kept_in_the_error(
    fake: FakeWorkersAI, into: Any, change: Mapping[str, Any], message: str
) -> None:
    fake.answers(extracted(site="https://a.example/", **change))
    with pytest.raises(ParseError, match=message) as error:
        await fake.client().extract(CLAIRIC, "Hi", into=into)
    assert error.value.answer["names"].value == ["a"]


class Mixed(msgspec.Struct):
    team: Team


class Inner(BaseModel):
    a: str


class Outer(BaseModel):
    inner: Inner


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (Outer, "Outer.inner: Inner can't be extracted"),
        (RootModel[str], "into must be an attrs class"),
        (Mixed, "into: can't resolve the types of Mixed: Enums must contain either all str or"),
    ],
)
async def test_a_model_that_is_no_set_of_fields_is_refused(
    fake: FakeWorkersAI, into: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        await fake.client().extract(CLAIRIC, "Hi", into=into)
    assert not fake.requests
