"""Fields to extract: what is sent, and what is refused.

Source: clairic 0.1.0 (PyPI), PSAIClairic 0.2.0 (PowerShell Gallery), langchain-cloudflare 0.4.3 and
the docs of litellm; no official schema was available.
"""

import pickle
from datetime import date, datetime
from typing import Any

import pytest

from cfai import (
    DateField,
    DateTimeField,
    DurationField,
    EstimateField,
    Extract,
    ForecastField,
    InputError,
    ListField,
    NumberField,
    TextField,
    TimeField,
)
from cfai.tasks import rules

CLAIRIC = "@cf/cloudflare/clairic"
NAME = {"name": TextField()}
URL = "data:image/png;base64,iVBORw0KGgo="


def extract(state: Any, fields: Any, **rest: Any) -> Extract:
    """A task of arguments that a type checker would refuse."""
    return Extract(state, fields, **rest)


def build_field(kind: Any, **options: Any) -> Any:
    """A field with options that a type checker would refuse."""
    return kind(**options)


def test_all_fields_are_sent_as_known() -> None:
    task = Extract(
        "Paid on 3 May.",
        {
            "name": TextField("Who paid", null_threshold=1),
            "total": NumberField(unit="USD", decimals=2, integer=False),
            "paid": DateField(),
            "at": TimeField(),
            "sent_at": DateTimeField(null_threshold=0.001),
            "term": DurationField(unit="days", integer=True),
            "items": ListField("Amounts", items="number", decimals=0, integer=True, unit="USD"),
            "cost": EstimateField(min=10, max=10_000, scale="log", unit="USD"),
            "payment": EstimateField(min=date(2026, 10, 21), max="2027-01-18", step="month"),
            "orders": ForecastField(
                "Orders", min=0, max=250, step=1, horizon=64, interval="day", scale="linear"
            ),
            "_raw.x-1": {"type": "number", "integer": True, "new": 1},
            "flash": {"type": "enum", "options": ["a", "b"]},
        },
        images=[URL],
        reference_date=date(2026, 5, 4),
        include_quantiles=True,
    )
    assert task.payload_for(CLAIRIC) == {
        "model": "clairic",
        "state": "Paid on 3 May.",
        "fields": {
            "name": {"type": "text", "instructions": "Who paid", "null_threshold": 1},
            "total": {"type": "number", "unit": "USD", "decimals": 2, "integer": False},
            "paid": {"type": "date"},
            "at": {"type": "time"},
            "sent_at": {"type": "datetime", "null_threshold": 0.001},
            "term": {"type": "duration", "unit": "days", "integer": True},
            "items": {
                "type": "list",
                "instructions": "Amounts",
                "items": "number",
                "decimals": 0,
                "integer": True,
                "unit": "USD",
            },
            "cost": {"type": "estimate", "min": 10, "max": 10_000, "scale": "log", "unit": "USD"},
            "payment": {
                "type": "estimate",
                "min": "2026-10-21",
                "max": "2027-01-18",
                "step": "month",
            },
            "orders": {
                "type": "forecast",
                "instructions": "Orders",
                "min": 0,
                "max": 250,
                "step": 1,
                "horizon": 64,
                "interval": "day",
                "scale": "linear",
            },
            "_raw.x-1": {"type": "number", "integer": True, "new": 1},
            "flash": {"type": "enum", "options": ["a", "b"]},
        },
        "images": [URL],
        "reference_date": "2026-05-04",
        "options": {"include_quantiles": True},
    }
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301  # our own bytes


def test_the_options_of_the_request_are_kept() -> None:
    task = Extract("x", NAME, include_quantiles=False, extra={"options": {"state_text": True}})
    assert task.payload_for("@cf/cloudflare/clairic-flash") == {
        "model": "clairic-flash",
        "state": "x",
        "fields": {"name": {"type": "text"}},
        "options": {"state_text": True, "include_quantiles": False},
    }


def test_the_bounds_are_the_known_ones() -> None:
    assert (rules(Extract)["fields"].min_items, rules(Extract)["fields"].max_items) == (1, 100)
    assert len(
        Extract("x", {f"f{number}".ljust(64, "_"): TextField() for number in range(100)}).fields
    )
    assert NumberField(decimals=6).payload() == {"type": "number", "decimals": 6}
    assert Extract("", NAME, images=[URL]).payload()["state"] == ""


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: extract("", NAME), "state must not be empty unless there are images"),
        (lambda: extract({"a": 1}, NAME), "state must be a string"),
        (lambda: extract("x", {}), "fields must have at least 1 item"),
        (
            lambda: extract("x", {f"f{number}": TextField() for number in range(101)}),
            "fields must have at most 100 items, not 101",
        ),
        (lambda: extract("x", {"1st": TextField()}), "fields must have names that match"),
        (lambda: extract("x", {"a b": TextField()}), "fields must have names that match"),
        (lambda: extract("x", {"a" * 65: TextField()}), "fields must have names that match"),
        (lambda: extract("x", {"a": "text"}), r"fields\['a'\]: it must be one of TextField, Numb"),
        (lambda: extract("x", {"a": {"unit": "USD"}}), r"fields\['a'\]: it must be one of Text"),
        (
            lambda: extract("x", {"a": {"type": "number", "decimals": 7}}),
            r"fields\['a'\]: decimals must be between 0 and 6, got 7",
        ),
        (
            lambda: extract("x", {"a": {"type": "estimate", "min": 0}}),
            r"fields\['a'\]: max: it must be a number or a date, got None",
        ),
        (lambda: extract("x", NAME, images=[URL] * 5), "images must have at most 4 items, not 5"),
        (
            lambda: extract("x", NAME, reference_date="tomorrow"),
            "reference_date: it must be a date such as 2026-01-31, got 'tomorrow'",
        ),
        (
            lambda: extract("x", NAME, reference_date=datetime(2026, 1, 1)),  # noqa: DTZ001
            "reference_date: it must be a date",
        ),
        (
            lambda: build_field(TextField, null_threshold=0),
            "null_threshold must be above 0 and at most 1, got 0",
        ),
        (
            lambda: build_field(TextField, null_threshold=1.1),
            "null_threshold must be between 0 and 1, got 1.1",
        ),
        (lambda: build_field(NumberField, decimals=-1), "decimals must be between 0 and 6, got -1"),
        (
            lambda: build_field(NumberField, decimals=1.5),
            "decimals must be a whole number, got 1.5",
        ),
        (
            lambda: build_field(DurationField, unit="years ago"),
            "unit must be one of seconds, minutes, hours",
        ),
        (
            lambda: build_field(ListField, items="time"),
            "items must be one of text, number, date, got 'time'",
        ),
        (
            lambda: build_field(EstimateField, min=0, max="2026-01-01"),
            "min and max must both be numbers or dat",
        ),
        (
            lambda: build_field(EstimateField, min=None, max=1),
            "min: it must be a number or a date, got None",
        ),
        (
            lambda: build_field(EstimateField, min=True, max=1),
            "min: it must be a number or a date, got True",
        ),
        (
            lambda: build_field(EstimateField, min=0, max=1, scale="log"),
            "min must be above 0 if scale is log",
        ),
        (
            lambda: build_field(EstimateField, min=0, max=1, step=0),
            "step: it must be a number above 0, month or",
        ),
        (
            lambda: build_field(EstimateField, min=0, max=1, step="day"),
            "step: it must be a number above 0",
        ),
        (
            lambda: build_field(ForecastField, min=0, max=1, horizon=0),
            "horizon must be between 1 and 64, got 0",
        ),
        (
            lambda: build_field(ForecastField, min=0, max=1, horizon=65),
            "horizon must be between 1 and 64",
        ),
        (
            lambda: build_field(ForecastField, min=0, max=1, interval="daily"),
            "interval must be one of step, min",
        ),
    ],
)
def test_bad_input_is_refused_when_the_task_is_created(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_a_model_of_another_family_is_refused() -> None:
    with pytest.raises(InputError, match="model must be a Clairic model for Extract, such as @cf/"):
        Extract("x", NAME).payload_for("@cf/cloudflare/clef")
