"""The catalogue: models, their tasks and authors, as the service lists them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen


@frozen
class ModelTask:
    """What a model does: "Text Generation", for one."""

    name: str | None
    """`None` where the service names it in a way of its own: then see *raw*."""

    id: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


@frozen
class Author:
    """Who made a model."""

    name: str | None
    """`None` where the service names them in a way of its own: then see *raw*."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


@frozen
class Price:
    """One price of a model: 0.29 USD "per M input tokens"."""

    price: float
    unit: str | None = None
    currency: str | None = None


@frozen
class Model:
    """A model of the catalogue.

    Source: Workers AI API, "Model Search"; github.com/cloudflare/workerd, `AiModelsSearchObject`.
    """

    name: str
    """What `run` takes: `@cf/meta/llama-3.1-8b-instruct`."""

    id: str | None = field(default=None, kw_only=True)
    source: int | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    task: ModelTask | None = field(default=None, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)

    properties: Mapping[str, Any] = field(factory=dict, kw_only=True, repr=False, hash=False)
    """By name. A value is a text ("true", "24000"), a list or an object."""

    created_at: datetime | None = field(default=None, kw_only=True)
    """Aware; UTC where the service names no zone."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)

    @property
    def context_window(self) -> int | None:
        """How many tokens of text it takes in, its own included; `None` where that is unsaid."""
        return _count(self.properties.get("context_window"))

    @property
    def lora(self) -> bool:
        """Whether it takes fine-tunes (`lora=`)."""
        return _true(self.properties.get("lora"))

    @property
    def price(self) -> tuple[Price, ...]:
        """Its prices by unit; empty where it has none."""
        named = self.properties.get("price")
        entries = named if isinstance(named, list) else [named]
        return tuple(price for entry in entries if (price := _price(entry)) is not None)

    @property
    def deprecated(self) -> bool:
        """Whether the service is about to drop it, or has."""
        said = self.raw.get("deprecated") if isinstance(self.raw, Mapping) else None
        return _true(said) or _true(self.properties.get("deprecated"))


@frozen
class ModelSchema:
    """What a model takes and answers, as JSON schemas."""

    input: Mapping[str, Any] | None
    output: Mapping[str, Any] | None
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


def _true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _count(value: object) -> int | None:
    if isinstance(value, str):
        digits = value.strip()
        # A number that is too long is none, and costs more than it is worth.
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if whole and value >= 0 and value == value // 1 else None  # type: ignore[operator]  # a number


def _price(entry: object) -> Price | None:
    if not isinstance(entry, Mapping):
        return None
    price, unit, currency = (entry.get(name) for name in ("price", "unit", "currency"))
    if isinstance(price, bool) or not isinstance(price, int | float):
        return None
    return Price(
        float(price),
        unit if isinstance(unit, str) else None,
        currency if isinstance(currency, str) else None,
    )
