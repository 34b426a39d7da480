"""Typed extraction (the Clairic models): fields of a text, and their values with their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, ClassVar, Final, Literal

from attrs import field, frozen

from cfai._types.values import Value
from cfai.errors import InputError
from cfai.tasks.decisions import StateTask
from cfai.tasks.generation import Usage
from cfai.tasks.task import (
    Answer,
    Declared,
    choice,
    flag,
    integer as whole_number,
    mapping,
    nested,
    number,
    shorten,
    string,
    task,
)

DurationUnit = Literal["seconds", "minutes", "hours", "days", "weeks", "months", "years"]
Interval = Literal["step", "minute", "hour", "day", "week", "month", "quarter", "year"]
Bound = float | date | str
"""A number, a date, or a date such as "2026-01-31"."""


def _parse_date(value: Any, expected: str = "a date such as 2026-01-31") -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        try:
            date.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise InputError(f"it must be {expected}, got {shorten(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_bound(value: Any) -> Any:
    return value if _is_number(value) else _parse_date(value, "a number or a date")


def _parse_step(value: Any) -> Any:
    if value in ("month", "year") or (_is_number(value) and value > 0):
        return value
    raise InputError(f"it must be a number above 0, month or year, got {shorten(value)}")


# Fields


class ExtractionField(Declared):
    """The base of the fields: `TextField`, `NumberField` and the others."""

    __slots__ = ()

    type: ClassVar[str] = ""
    """The type in the request."""

    def payload(self) -> dict[str, Any]:
        """Give the field as JSON."""
        return {"type": self.type, **Declared.payload(self)}


@task
class _FieldOptions(ExtractionField):
    """The options of all fields."""

    instructions: str | None = string(default=None, kw_only=False)
    """What to extract, if the name of the field does not say so."""

    null_threshold: float | None = number(0, 1, default=None)
    """The value is null from this probability that the input does not determine it: above 0, up to
    1; 0.5 by default."""

    def __attrs_post_init__(self) -> None:
        if self.null_threshold == 0:
            raise InputError("null_threshold must be above 0 and at most 1, got 0")


@task
class TextField(_FieldOptions):
    """A text. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "text"


@task
class NumberField(_FieldOptions):
    """A number. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "number"

    unit: str | None = string(default=None)
    """The unit of the value, such as "USD"."""

    integer: bool | None = flag(default=None)
    """True for whole numbers only."""

    decimals: int | None = whole_number(0, 6, default=None)
    """The number of decimals, from 0 to 6."""


@task
class DateField(_FieldOptions):
    """A date. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "date"


@task
class TimeField(_FieldOptions):
    """A time of day. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "time"


@task
class DateTimeField(_FieldOptions):
    """A date with a time. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "datetime"


@task
class DurationField(_FieldOptions):
    """A duration. Compiled from clients of Clairic; no official schema was available."""

    type: ClassVar[str] = "duration"

    unit: DurationUnit | None = choice(
        "seconds", "minutes", "hours", "days", "weeks", "months", "years", default=None
    )
    """The unit of the value."""

    integer: bool | None = flag(default=None)
    """True for whole numbers only."""


@task
class ListField(_FieldOptions):
    """A list of texts, numbers or dates. Compiled from clients of Clairic, like `TextField`."""

    type: ClassVar[str] = "list"

    items: Literal["text", "number", "date"] | None = choice("text", "number", "date", default=None)
    """The type of the items."""

    unit: str | None = string(default=None)
    """The unit of numbers, such as "USD"."""

    integer: bool | None = flag(default=None)
    """True for whole numbers only."""

    decimals: int | None = whole_number(0, 6, default=None)
    """The number of decimals of numbers, from 0 to 6."""


@task
class EstimateField(_FieldOptions):
    """An estimate of a number or a date that the input does not state, as a distribution.

    Compiled from clients of Clairic; no official schema was available.
    """

    type: ClassVar[str] = "estimate"

    min: Bound = nested(_parse_bound, kind="JSON")
    """The lowest value: a number, or a date."""

    max: Bound = nested(_parse_bound, kind="JSON")
    """The highest value, of the type of *min*."""

    step: float | Literal["month", "year"] | None = nested(_parse_step, kind="JSON", default=None)
    """The distance of two values: a number above 0; of dates also `"month"` or `"year"`."""

    scale: Literal["linear", "log"] | None = choice("linear", "log", default=None)
    """How the values are spread; "log" needs a *min* above 0."""

    unit: str | None = string(default=None)
    """The unit of the value, such as "USD"."""

    def __attrs_post_init__(self) -> None:
        _FieldOptions.__attrs_post_init__(self)
        if _is_number(self.min) != _is_number(self.max):
            raise InputError(
                f"min and max must both be numbers or dates, got {self.min!r} and {self.max!r}"
            )
        if self.scale == "log" and not (_is_number(self.min) and float(self.min) > 0):  # type: ignore[arg-type]
            raise InputError(f"min must be above 0 if scale is log, got {self.min!r}")


@task
class ForecastField(EstimateField):
    """Estimates for the next steps in time. Compiled from clients of Clairic, like `TextField`."""

    type: ClassVar[str] = "forecast"

    horizon: int | None = whole_number(1, 64, default=None)
    """The number of steps, from 1 to 64."""

    interval: Interval | None = choice(
        "step", "minute", "hour", "day", "week", "month", "quarter", "year", default=None
    )
    """The time between two steps."""


_FIELDS: Final[Mapping[str, type[ExtractionField]]] = {
    kind.type: kind
    for kind in (
        TextField, NumberField, DateField, TimeField, DateTimeField, DurationField, ListField,
        EstimateField, ForecastField,
    )
}  # fmt: skip


def _parse_field(value: Any) -> Any:
    """Accept a field, or its JSON, whose known options are checked and which is sent unchanged.

    Other types pass: clairic-flash has some of its own.
    """
    if isinstance(value, ExtractionField):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        names = ", ".join(kind.__name__ for kind in _FIELDS.values())
        raise InputError(
            f"it must be one of {names}, or a mapping with a type, got {shorten(value)}"
        )
    kind = _FIELDS.get(value["type"])
    for name, rule in kind._rules.items() if kind else ():
        rule.read(value.get(name))
    return value


# Answers


@frozen(eq=False, repr=False)
class Estimate(Value):
    """A distribution of numbers, or of dates as text. `None` where the service sent nothing."""

    value: float | str | None = None
    """The value of a step of a forecast."""

    mean: float | str | None = None
    median: float | str | None = None

    p10: float | str | None = None
    """The value is below this one with a probability of 10 %."""

    p90: float | str | None = None
    """The value is below this one with a probability of 90 %."""

    p_below: float | None = None
    """The probability that the value is below the field's `min`."""

    p_above: float | None = None
    """The probability that the value is above the field's `max`."""

    quantiles: tuple[float | str, ...] = ()
    """The 99 percentiles, if *include_quantiles* was set."""


@frozen(eq=False, repr=False)
class ExtractedField(Value):
    """The value of one field. Side fields are `None` or empty if the service sent none."""

    type: str
    """The type of the field."""

    value: Any
    """The value as JSON; dates and times are text. `None` if the input does not determine it."""

    guess: Any = None
    """The most probable value, also if *value* is `None`."""

    p_null: float | None = None
    """The probability that the input does not determine the value."""

    confidence: float | None = None
    """How certain the model is, from 0 to 1."""

    span: tuple[int, int] | None = None
    """Where the value is in the text: `state[start:end]`, in characters."""

    source: str | None = None
    """Where the value is from: "image" if it has no span for that reason."""

    spans: tuple[tuple[int, int] | None, ...] = ()
    """The spans of the items of a list."""

    confidences: tuple[float | None, ...] = ()
    """The confidences of the items of a list."""

    unit: str | None = None
    """The unit of a duration."""

    estimate: Estimate | None = None
    """The distribution of an estimate."""

    steps: tuple[Estimate, ...] = ()
    """The distributions of a forecast, one for each step."""

    raw: Any = field(default=None, repr=False, eq=False)
    """The complete answer as the service sent it, with what clairic-flash adds."""


@frozen(eq=False, repr=False)
class Extraction(Answer, Mapping[str, ExtractedField]):
    """The values of fields, by the names of the fields.

    Compiled from clients of Clairic; no official schema was available.
    """

    answers: Mapping[str, ExtractedField]
    """The values by the names of their fields."""

    unread: Mapping[str, str] = field(factory=dict)
    """Why an answer could not be read, by the name of its field. `raw` has the answer itself."""

    truncated: bool | None = None
    """Whether the text was too long and only its beginning was read."""

    state_text: str | None = None
    """The text that spans refer to, if the service sent it."""

    model: str | None = None
    """The model that answered."""

    usage: Usage | None = None
    """The tokens; `raw["usage"]` has further counts."""

    def __getitem__(self, name: str) -> ExtractedField:
        return self.answers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)


# The task


@task
class Extract(StateTask[Extraction]):
    """Extract typed fields from a text or images (the Clairic models).

    `WorkersAI.extract` builds the fields from a class.

    The facts are compiled and not official: from clairic 0.1.0 (PyPI), PSAIClairic 0.2.0
    (PowerShell Gallery), langchain-cloudflare 0.4.3 and the docs of litellm. Pass what they do not
    know in *extra*, or as a mapping in the place of a field.
    """

    answer: ClassVar[type[Extraction]] = Extraction
    family: ClassVar[str] = "clairic"

    state: str = string(kw_only=False)
    """The text. It may be empty only if there are images."""

    fields: Mapping[str, ExtractionField | Mapping[str, Any]] = mapping(
        _parse_field,
        names=r"[A-Za-z_][A-Za-z0-9_.-]{0,63}",
        at_least=1,
        at_most=100,
        kw_only=False,
    )
    """From 1 to 100 fields by their names: a letter or `_`, then up to 63 letters, digits, `_`, `.`
    or `-`."""

    reference_date: date | str | None = nested(_parse_date, kind="JSON", default=None)
    """The date that "tomorrow" and the like refer to: a date, or a text such as "2026-01-31"."""

    include_quantiles: bool | None = flag(default=None)
    """True to receive the 99 percentiles of estimates. Sent inside `options`."""

    def __attrs_post_init__(self) -> None:
        if not self.state and not self.images:
            raise InputError("state must not be empty unless there are images")

    def payload(self) -> dict[str, Any]:
        """Give the JSON body of the request, except for the model. Reads the files among it."""
        body = StateTask.payload(self)
        if self.include_quantiles is not None:
            quantiles = {"include_quantiles": body.pop("include_quantiles")}
            body["options"] = {**body.get("options", {}), **quantiles}
        return body
