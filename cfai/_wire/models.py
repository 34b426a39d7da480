"""The catalogue on the wire: models, their schemas, tasks and authors, each read as tolerantly."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cfai._wire.listings import get, rows
from cfai._wire.paths import model_path
from cfai._wire.requests import Request
from cfai._wire.responses import unwrapped
from cfai.errors import DecodeError, InputError
from cfai.listings import Author, Model, ModelSchema, ModelTask
from cfai.settings import Options, Settings

SEARCH: Final = "models/search"
TASKS: Final = "tasks/search"
AUTHORS: Final = "authors/search"


def filters(**given: str | float | bool | None) -> dict[str, str]:
    """What a search is narrowed by. What was left out is not sent.

    Raises:
        InputError: A filter is of another kind than its name says.
    """
    return {name: _said(name, value) for name, value in given.items() if value is not None}


def _said(name: str, value: object) -> str:
    if name in ("hide_experimental", "include_deprecated"):
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, got {value!r:.60}")
        return "true" if value else "false"
    if name == "source":
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"source must be a whole number, got {value!r:.60}")
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, got {value!r:.60}")
    return value


def schema(settings: Settings, options: Options | None, *, model: str) -> Request:
    """`GET /ai/models/schema?model=`. In a query, unlike in a path, a model's name is escaped."""
    return get(settings, options, "models/schema", {"model": model_path(model)})


def read_schema(document: Any) -> ModelSchema:
    """The two schemas of a model."""
    result = unwrapped(document)
    if not isinstance(result, Mapping):
        raise DecodeError(f"a model's schema is documented, got {type(result).__name__}")
    return ModelSchema(_object(result.get("input")), _object(result.get("output")), raw=result)


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _model(row: Any, where: str) -> Model:
    name = row.get("name") if isinstance(row, Mapping) else None
    if not isinstance(name, str) or not name:
        raise DecodeError(f"{where}: a model with its name is documented, got {row!r:.80}")
    source, task, tags = (row.get(key) for key in ("source", "task", "tags"))
    return Model(
        name,
        id=_text(row.get("id")),
        source=source if type(source) is int else None,
        description=_text(row.get("description")),
        task=None if _name(task) is None else _task(task, where),
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        properties=_properties(row.get("properties")),
        created_at=_moment(row.get("created_at")),
        raw=row,
    )


def _properties(value: Any) -> dict[str, Any]:
    """A list of `{property_id, value}`, as far as it is one. Values are left as they are."""
    if isinstance(value, Mapping):
        return dict(value)
    entries = value if isinstance(value, list) else []
    return {
        entry["property_id"]: entry.get("value")
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("property_id"), str)
    }


def _moment(value: Any) -> datetime | None:
    """A date as the catalogue writes it, "2024-12-06 17:09:18.338", which names no zone."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _name(row: Any) -> str | None:
    return _text(row.get("name")) if isinstance(row, Mapping) else _text(row)


def _task(row: Any, _: str) -> ModelTask:
    # The schema says "object" and no more, as of authors.
    said = row if isinstance(row, Mapping) else {}
    known = {key: _text(said.get(key)) for key in ("id", "description")}
    return ModelTask(_name(row), id=known["id"], description=known["description"], raw=row)


def _author(row: Any, _: str) -> Author:
    return Author(_name(row), raw=row)


model_rows: Final = rows(_model)
task_rows: Final = rows(_task)
author_rows: Final = rows(_author)
