"""The model catalogue: models, their tasks, authors and schemas (`WorkersAI.models`)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from cfai._session.client import Account
from cfai._session.pagination import Pager
from cfai._types.excerpts import format_value
from cfai._wire.pagination import NumberCursor, SinglePage, read_page
from cfai._wire.requests import build_get_request, check_model_name
from cfai._wire.responses import unwrap_result
from cfai._wire.text import read_number
from cfai.errors import DecodeError, InputError
from cfai.settings import Options

_MODELS: Final = "models/search"
_TASKS: Final = "tasks/search"
_AUTHORS: Final = "authors/search"
_SCHEMA: Final = "models/schema"


@frozen
class ModelTask:
    """What a model does, such as "Text Generation"."""

    name: str | None
    """`None` if the service names it in an undocumented form; see *raw*."""

    id: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


@frozen
class Author:
    """The author of a model."""

    name: str | None
    """`None` if the service names them in an undocumented form; see *raw*."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


@frozen
class Price:
    """One price of a model, such as 0.29 USD "per M input tokens"."""

    price: float
    unit: str | None = None
    currency: str | None = None


@frozen
class Model:
    """A model of the catalogue.

    Source: Workers AI API, "Model Search"; github.com/cloudflare/workerd, `AiModelsSearchObject`.
    """

    name: str
    """What `run` takes: `@cf/meta/llama-3.1-8b-instruct-fast`. Empty if the service sends none; see
    *raw*."""

    id: str | None = field(default=None, kw_only=True)
    source: int | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    task: ModelTask | None = field(default=None, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)

    properties: Mapping[str, Any] = field(factory=dict, kw_only=True, repr=False, hash=False)
    """By name. A value is a string ("true", "24000"), a list or an object."""

    created_at: datetime | None = field(default=None, kw_only=True)
    """With a time zone; UTC if the service names none."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)

    @property
    def context_window(self) -> int | None:
        """The most tokens in a request, input and output together; `None` if unknown."""
        value = self.properties.get("context_window")
        if isinstance(value, str):
            digits = value.strip()
            # Longer numbers make no sense here, and are slow to convert.
            is_count = digits.isascii() and digits.isdigit() and len(digits) < 20
            return int(digits) if is_count else None
        number = read_number(value)
        return None if number is None or number < 0 or number % 1 else int(number)

    @property
    def lora(self) -> bool:
        """Whether the model takes fine-tunes (`lora=`)."""
        return _is_true(self.properties.get("lora"))

    @property
    def price(self) -> tuple[Price, ...]:
        """The prices, one per unit; empty if there are none."""
        rows = self.properties.get("price")
        prices = []
        for row in rows if isinstance(rows, list) else [rows]:
            match row:
                case {"price": amount, **rest} if (price := read_number(amount)) is not None:
                    unit, currency = _text(rest.get("unit")), _text(rest.get("currency"))
                    prices.append(Price(price, unit, currency))
        return tuple(prices)

    @property
    def deprecated(self) -> bool:
        """Whether the service has removed the model, or is about to."""
        flag = self.raw.get("deprecated") if isinstance(self.raw, Mapping) else None
        return _is_true(flag) or _is_true(self.properties.get("deprecated"))


@frozen
class ModelSchema:
    """The input and the output of a model, as JSON schemas."""

    input: Mapping[str, Any] | None
    output: Mapping[str, Any] | None
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


class Models:
    """The models that the service lists.

    ```python
    async for model in ai.models.search(task="Text Generation"):
        print(model.name, model.context_window, model.lora)
    ```
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def search(  # the filters of the API
        self,
        search: str | None = None,
        *,
        task: str | None = None,
        author: str | None = None,
        source: int | None = None,
        hide_experimental: bool | None = None,
        include_deprecated: bool | None = None,
        page_size: int | None = None,
        options: Options | None = None,
    ) -> Pager[Model]:
        """List models. Omitted filters are not sent.

        Args:
            search: Words from the name or the description.
            task: The name of a task: "Text Generation".
            author: The name of an author.
            source: The number of a source.
            hide_experimental: True omits experimental models.
            include_deprecated: True includes models that are about to be removed.
            page_size: Rows per page, 1 or more. If omitted, the service chooses.
            options: Options for this call only.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/models/search`.
        """
        filters = {
            "search": search,
            "task": task,
            "author": author,
            "source": source,
            "hide_experimental": hide_experimental,
            "include_deprecated": include_deprecated,
        }
        query = {
            name: _encode_filter(name, value)
            for name, value in filters.items()
            if value is not None
        }
        return self._account.pager(
            _MODELS,
            lambda document: read_page(document, _read_model),
            NumberCursor(size=page_size),
            query,
            options,
        )

    async def schema(self, model: str, *, options: Options | None = None) -> ModelSchema:
        """Return the input and output of a model, as JSON schemas.

        Raises:
            InputError: *model* is not a valid model name. Nothing was sent.
            StatusError: The service does not know the model.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/models/schema`.
        """
        settings = self._account.for_call(options)
        # In a query, unlike in a path, the name is escaped.
        request = build_get_request(settings, options, _SCHEMA, {"model": check_model_name(model)})
        return await self._account.send(request, settings, _read_schema)

    def tasks(self, *, options: Options | None = None) -> Pager[ModelTask]:
        """List the tasks of the catalogue's models.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/tasks/search`.
        """
        return self._account.pager(
            _TASKS, lambda document: read_page(document, _read_task), SinglePage(), options=options
        )

    def authors(self, *, options: Options | None = None) -> Pager[Author]:
        """List the authors of the catalogue's models.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/authors/search`.
        """
        return self._account.pager(
            _AUTHORS,
            lambda document: read_page(document, _read_author),
            SinglePage(),
            options=options,
        )


_FILTER_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "source": (int, "an integer"),
    "hide_experimental": (bool, "True or False"),
    "include_deprecated": (bool, "True or False"),
}
"""The types of the filters of a search that are not strings."""


def _encode_filter(name: str, value: object) -> str:
    kind, rule = _FILTER_TYPES.get(name, (str, "a string"))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")
    return value if isinstance(value, str) else json.dumps(value)


# Responses: a field of an unexpected type is None, and the row is still usable.


def _read_schema(document: Any) -> ModelSchema:
    result = unwrap_result(document)
    if not isinstance(result, Mapping):
        raise DecodeError(f"a model's schema must be an object, got {type(result).__name__}")
    schemas = (result.get("input"), result.get("output"))
    read = (schema if isinstance(schema, Mapping) else None for schema in schemas)
    return ModelSchema(*read, raw=result)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _read_model(row: Any, where: str) -> Model:
    if not isinstance(row, Mapping):
        raise DecodeError(f"{where} must be a model, got {format_value(row)}")
    source, task, tags = (row.get(key) for key in ("source", "task", "tags"))
    return Model(
        _text(row.get("name")) or "",
        id=_text(row.get("id")),
        source=source if type(source) is int else None,
        description=_text(row.get("description")),
        task=None if _name(task) is None else _read_task(task, where),
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        properties=_read_properties(row.get("properties")),
        created_at=_read_time(row.get("created_at")),
        raw=row,
    )


def _read_properties(value: Any) -> dict[str, Any]:
    """The entries `{property_id, value}` of a list by their names; other entries are skipped."""
    if isinstance(value, Mapping):
        return dict(value)
    entries = value if isinstance(value, list) else []
    return {
        entry["property_id"]: entry.get("value")
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("property_id"), str)
    }


def _read_time(value: Any) -> datetime | None:
    """A time as the catalogue writes it, without a time zone: "2024-12-06 17:09:18.338"."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _name(row: Any) -> str | None:
    return _text(row.get("name")) if isinstance(row, Mapping) else _text(row)


def _read_task(row: Any, _: str) -> ModelTask:
    # The API's schema only says "object", as for authors.
    fields = row if isinstance(row, Mapping) else {}
    id, description = _text(fields.get("id")), _text(fields.get("description"))  # noqa: A001
    return ModelTask(_name(row), id=id, description=description, raw=row)


def _read_author(row: Any, _: str) -> Author:
    return Author(_name(row), raw=row)
